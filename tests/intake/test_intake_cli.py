"""`gateway batch intake`: what is shown, what is written, and how it ends; and its page in the documentation."""

import errno
import json
import re
import shlex
import tracemalloc

import numpy as np
import pytest
from intake.kit import PATIENT, binary, bundle, dicom, patient, png, reader, request, run, save
from support import ROOT

from gateway.cli.batch_intake import masked
from gateway.intake import writing


@pytest.fixture
def table(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    return save(tmp_path / "x.csv", f"question,image,patient\nWhat is it?,a.png,{PATIENT}\nAnd this?,b.png,\nlast,,\n")


def test_a_dry_run_shows_lines_and_problems_and_writes_nothing(tmp_path, table):
    before = sorted(tmp_path.iterdir())
    out, err = run("csv", table, "--images-root", tmp_path, "--dry-run", "--task", "screen", code=2)
    assert sorted(tmp_path.iterdir()) == before
    assert PATIENT not in out
    assert "•••••••••45" in out
    for word in (
        "row-2",
        "What is it?",
        "8 x 8",
        "task=screen",
        "row-4",
        "2 lines with 1 image,",
        "nothing was written",
    ):
        assert word in out
    assert "problem: row 3: `b.png` is not there" in err
    assert "1 problem, 0 skipped" in err


def test_the_table_of_a_dry_run_ends_and_the_count_goes_on(tmp_path):
    save(tmp_path / "x.csv", "question\n" + "a\n" * 30)
    out, _ = run("csv", tmp_path / "x.csv", "--dry-run", "--rows", "3")
    assert "row-4" in out and "row-5" not in out
    assert "… and 27 more lines" in out
    assert "30 lines" in out


def test_good_lines_are_written_and_problems_make_the_exit_code(tmp_path, table):
    out = tmp_path / "lines.jsonl"
    printed, err = run("csv", table, "--images-root", tmp_path, "--out", out, code=2)
    assert printed == ""
    assert "2 lines" in err and "problem: row 3" in err
    found = [reader(data)[0]["custom_id"] for data in out.read_bytes().splitlines()]
    assert found == ["row-2", "row-4"]
    assert out.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "lines.jsonl.part").exists()
    _, err = run("csv", table, "--images-root", tmp_path, "--out", out, code=1)
    kept = out.read_bytes()
    assert len(kept.splitlines()) == 2


def test_lines_go_to_standard_output(tmp_path):
    save(tmp_path / "x.csv", "question\na\nb\n")
    printed, err = run("csv", tmp_path / "x.csv", "--out", "-")
    assert [json.loads(line)["custom_id"] for line in printed.splitlines()] == ["row-2", "row-3"]
    assert "2 lines" in err


def test_without_a_good_line_there_is_no_file(tmp_path):
    save(tmp_path / "x.csv", "question\n")
    _, err = run("csv", tmp_path / "x.csv", "--out", tmp_path / "out", code=2)
    assert "no line was made" in err
    assert [one.name for one in tmp_path.iterdir()] == ["x.csv"]


def test_what_is_being_written_is_left_alone_and_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    save(tmp_path / "x.csv", "question\na\nb\n")
    (tmp_path / "out.part").write_text("another's")
    run("csv", tmp_path / "x.csv", "--out", tmp_path / "out", code=1)
    assert (tmp_path / "out.part").read_text() == "another's"
    (tmp_path / "out.part").unlink()
    write, calls = writing.Writer.write, []

    def full(self, data):
        calls.append(data)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data)

    monkeypatch.setattr(writing.Writer, "write", full)
    run("csv", tmp_path / "x.csv", "--out", tmp_path / "out", code=1)
    assert [one.name for one in tmp_path.iterdir()] == ["x.csv"]


def test_the_lines_limit_is_the_gateways(tmp_path, monkeypatch):
    monkeypatch.setenv("GATEWAY_MAX_BODY_BYTES", "2000")
    save(tmp_path / "x.csv", "question\n" + "a" * 3_000 + "\nb\n")
    _, err = run("csv", tmp_path / "x.csv", "--out", tmp_path / "out", code=2)
    assert "over 2,000" in err and "GATEWAY_MAX_BODY_BYTES" in err


def test_a_folder_of_dicom_files(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").write_bytes(dicom(modality="US"))
    (tmp_path / "s" / "b.txt").write_text("x")
    (tmp_path / "s" / "esc\x1b[2Jape").write_text("x")
    out, err = run("dicom", tmp_path / "s", "--question", "What?", "--dry-run")
    assert "ultrasound 16 x 16" in out and "series-1.2.3.4" in out
    assert "skipped: b.txt: it is no DICOM file" in err
    assert "\x1b" not in err
    run("dicom", tmp_path / "s", "--dry-run", code=2)
    run("dicom", tmp_path / "s", "--question", "a", "--questions", "b", "--dry-run", code=2)
    run("dicom", tmp_path / "s", "--question", "a", code=2)


def test_a_bundle(tmp_path):
    asked = [request("r", "Binary/b1"), request("bad", "http://a/b"), request("old", status="completed")]
    path = save(tmp_path / "b.json", bundle(patient(), binary(), *asked))
    _, err = run("fhir", path, "--out", tmp_path / "out", "--question", "Look.", code=2)
    assert "1 problem, 1 skipped" in err
    (line,) = (tmp_path / "out").read_bytes().splitlines()
    assert reader(line)[1].turns[0].parts[0].text.startswith("Look.\n")
    save(path, bundle(patient()))
    run("fhir", path, "--out", tmp_path / "out2", code=1)
    run("fhir", path, "--out", tmp_path / "out2", "--images-root", tmp_path / "gone", code=1)


def test_a_number_is_masked():
    assert masked("12345") == "•••45"
    assert masked("1234") == "••••"
    assert masked("HOSP|12345") == "HOSP|•••45"
    assert masked("a|b|123456") == "a|b|••••56"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "intake.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(compile(code, "intake.md", "exec"), {})
    commands = [
        line.removeprefix("$ ")
        for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["gateway", "batch", "intake"]
        run(*words[3:])
    written = {path.name: path.read_bytes().splitlines() for path in tmp_path.glob("*.jsonl")}
    assert {name: len(lines) for name, lines in written.items()} == {"dicom.jsonl": 2, "fhir.jsonl": 1, "csv.jsonl": 1}
    for lines in written.values():
        for line in lines:
            reader(line)
    from gateway.intake.questions import read_questions

    (rules,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(read_questions(save(tmp_path / "rules.yaml", rules))) == 3


def test_wrong_options_stop_before_anything_is_read(tmp_path):
    save(tmp_path / "x.csv", "question\na\n")
    for option, value in (("--task", "two words"), ("--purpose", "FUN"), ("--on-behalf-of", "Dr. Who Else")):
        _, err = run("csv", tmp_path / "x.csv", "--dry-run", option, value, code=2)
        assert f"`{option}` is" in err
        assert "Who" not in err


def test_one_line_is_held_at_a_time(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 4096, (256, 256), dtype=np.uint16)
    for k in range(30):
        (tmp_path / f"{k}").write_bytes(dicom(pixels, series=f"1.2.3.{k}"))
    words = ("dicom", tmp_path, "--question", "What?", "--out", tmp_path / "out")
    run(*words[:-1], tmp_path / "first")
    tracemalloc.start()
    run(*words)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size > 5 << 20
    assert peak < 3 << 20
