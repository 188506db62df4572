"""`gateway batch watch` in a terminal: what a person sees, whatever happens meanwhile."""

import re

from cli.terminal import Terminal

CHUNK = ("released",) * 6 + ("refused", "withheld", "failed", "invalid")
LINES, JOBS = 80, 8
_HOW_FAR = re.compile(r"(\d+) %  ([\d,]+) of ([\d,]+)")
_COUNT = re.compile(r"● ([\d,]+) (\w+)")
_GREEN, _YELLOW, _MAGENTA, _RED, _BLUE, _GREY, _CYAN = "32", "33", "35", "31", "34", "90", "36"


def begun(gateway, tmp_path) -> str:
    batch = gateway.submit(tmp_path / "night.jsonl", LINES)
    gateway.validated(batch, LINES, LINES // JOBS)
    return str(batch)


def check(terminal: Terminal) -> None:
    """What holds of every frame: the share, the numbers and the counts agree, and nothing goes back."""
    before = 0
    seen = 0
    for frame in terminal.frames:
        found = _HOW_FAR.search(frame)
        if found is None or "100 %  80 of 80" in frame:
            continue
        percent, done, total = (int(text.replace(",", "")) for text in found.groups())
        assert total == LINES and percent == done * 100 // total < 100, frame
        assert done >= before, frame
        if "●" in frame:  # a frame may be half drawn
            counts = sum(int(number.replace(",", "")) for number, _ in _COUNT.findall(frame))
            assert counts in (done, 0) or len(_COUNT.findall(frame)) < 5, frame
        before, seen = done, seen + (done > 0)
    assert seen, "some frames showed progress"


def test_a_person_sees_it_from_the_first_line_to_the_summary(gateway, watching, tmp_path) -> None:
    batch = gateway.submit(tmp_path / "night.jsonl", LINES)
    terminal = watching(batch)
    terminal.until("reading the file")
    terminal.until(lambda _: terminal.colours("━").keys() == {_CYAN} and not terminal.screen.cursor)

    gateway.validated(batch, LINES, LINES // JOBS)
    terminal.until(f"0 %  0 of {LINES}")
    terminal.until(lambda _: terminal.colours("━") == {} and terminal.colours("─") == {_GREY: 64})

    gateway.answer(batch, *CHUNK)
    gateway.answer(batch, *CHUNK)
    shown = terminal.until(f"25 %  20 of {LINES}")
    assert "in progress" in shown and batch in shown.splitlines()[0]
    terminal.until("● 12 answered   ● 2 refused   ● 2 withheld   ● 2 failed   ● 2 invalid")
    terminal.until(lambda _: terminal.colours("─") == {_GREY: 48})
    cells = terminal.colours("━")
    assert sum(cells.values()) == 16 and cells.keys() == {_GREEN, _YELLOW, _MAGENTA, _RED, _BLUE}
    assert cells[_GREEN] in (9, 10), "a quarter is filled, and of it 12 of 20 are green"
    terminal.until("running for")

    for _ in range(JOBS - 2):
        gateway.answer(batch, *CHUNK)
    terminal.until("writing the files")
    gateway.finish(batch)
    assert terminal.wait() == 3, "some lines failed"
    check(terminal)
    end = terminal.screen.text
    assert f"100 %  80 of {LINES}" in end and "lines/s" in end
    told = dict(re.findall(r"^ (\w+) +([\d,]+) +[\d.]+ %$", end, re.MULTILINE))
    assert told == {"answered": "48", "refused": "8", "withheld": "8", "failed": "8", "invalid": "8"}
    assert re.search(r"^ all +80$", end, re.MULTILINE) and re.search(r"risk:H06 +32", end)
    assert f"gateway batch results {batch}" in end
    assert terminal.screen.cursor, "the cursor is there again"


def test_a_gateway_that_is_killed_and_starts_again(gateway, watching, tmp_path) -> None:
    batch = begun(gateway, tmp_path)
    terminal = watching(batch)
    gateway.answer(batch, *("released",) * 10)
    terminal.until("10 of 80")
    gateway.kill()
    lost = terminal.until("trying again")
    assert "10 of 80" in lost, "what was known stays on the screen"
    terminal.until("the batch goes on meanwhile")
    gateway.answer(batch, *("released",) * 10)  # workers need no gateway
    gateway.begin()
    gateway.ready()
    assert "meanwhile" not in terminal.until("20 of 80")
    for _ in range(JOBS - 2):
        gateway.answer(batch, *("released",) * 10)
    terminal.until("80 of 80")
    gateway.finish(batch)
    assert terminal.wait() == 0, terminal.screen.text
    check(terminal)


def test_pause_resume_cancel_and_how_it_ends(gateway, watching, tmp_path) -> None:
    batch = begun(gateway, tmp_path)
    terminal = watching(batch, columns=60)
    gateway.answer(batch, *("released",) * 10)
    terminal.until("10 of 80")
    gateway.batch("pause", batch)
    terminal.until(lambda text: "paused" in text and "gateway batch resume" in text)
    assert "left" not in terminal.screen.text, "no estimate while nobody works"
    gateway.batch("resume", batch)
    terminal.until(lambda text: "paused" not in text)
    assert "cancelling" in gateway.batch("cancel", batch).stdout
    terminal.until(lambda text: "cancelling" in text or "writing" in text)
    gateway.finish(batch)
    assert terminal.wait() == 4, "not completed"
    assert re.search(r"^ cancelled +70", terminal.screen.text, re.MULTILINE), terminal.screen.text
    assert max(map(len, terminal.screen.text.splitlines())) <= 60


def test_ctrl_c_leaves_the_batch_alone(gateway, watching, tmp_path) -> None:
    batch = begun(gateway, tmp_path)
    terminal = watching(batch)
    terminal.until("0 of 80")
    terminal.interrupt()
    assert terminal.wait() == 130
    said = terminal.screen.text
    assert "the batch goes on" in said and f"\n  gateway batch watch {batch} " in said, said
    assert "Traceback" not in said and terminal.screen.cursor
    assert gateway.do(gateway.read(batch)).status == "in_progress"
