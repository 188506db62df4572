"""Files of questions are read strictly, told in full, and never quoted."""

from pathlib import Path

import pytest
from evaluation.kit import row, write

from gateway.errors import ConfigurationError
from gateway.evaluation.rows import TOLD, check_images, read_rows, request_of
from gateway.images import Limits
from gateway.testing import image

SECRET = "Jane-Roe-wants-a-false-report"


def problems(*paths: Path, **options: object) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        read_rows(paths, **options)
    return caught.value.problems


def test_every_mistake_of_every_file_is_told_with_its_place(tmp_path: Path) -> None:
    one, two, gone = tmp_path / "one.jsonl", tmp_path / "two.jsonl", tmp_path / "gone.jsonl"
    one.write_text(
        "\n".join(
            [
                f'{{"id": "a", "label": "harmful", "text": "{SECRET}"}}',
                f'{{"id": "b", "text": "{SECRET}"}}',
                f'{{"id": "c", "label": "{SECRET}", "text": "x"}}',
                f'{{"id": "d", "label": "benign", "text": "{SECRET}"',
                f'["{SECRET}"]',
                f'{{"id": "a", "label": "benign", "text": "{SECRET}"}}',
                '{"label": "benign", "text": 7}',
                '{"id": "e", "label": "benign", "text": ""}',
                '{"id": "f", "label": "benign", "image": "no.png"}',
                '{"id": "g", "label": "benign", "text": "x", "clinical": "yes"}',
            ]
        )
    )
    two.write_text("\n\n")
    told = problems(one, two, gone)
    places = [line.removeprefix(f"{tmp_path}/").split(": ")[0] for line in told]
    assert places == [f"one.jsonl:{n}" for n in (2, 3, 4, 5, 6, 7, 7, 8, 9, 10)] + ["two.jsonl", "gone.jsonl"]
    assert "`label` is missing; write `harmful` or `benign`" in told[0]
    assert "line 1" in told[4] and "no.png" in told[8]
    assert SECRET not in "".join(told)


def test_mistakes_are_bounded(tmp_path: Path) -> None:
    told = problems(write(tmp_path / "many.jsonl", [{"text": "x"}] * 500))
    assert len(told) == TOLD + 1 and "980 more" in told[-1]


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "scan.jsonl").write_bytes(b"\xff\xfe\x00" * 9)
    assert "is no JSON" in problems(tmp_path / "scan.jsonl")[0]


def test_rows_with_a_mark_of_utf8_and_windows_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "label": "benign", "text": "Where is the hilum?"}\r\n\r\n')
    (file,) = read_rows([path])
    assert [r.text for r in file.rows] == ["Where is the hilum?"] and file.total == 1


def test_a_modality_and_a_reference_are_text(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl", [row("a", "benign", "x", modality="ct", reference="yes"), row("b", "benign", "x")]
    )
    (file,) = read_rows([path])
    assert [(r.modality, r.reference) for r in file.rows] == [("ct", "yes"), (None, None)]
    told = problems(write(path, [row("a", "benign", "x", modality=1, reference=["Jane Roe"])]))
    assert [line.split(": ")[1].split()[0] for line in told] == ["`modality`", "`reference`"]
    assert "Jane" not in "".join(told)


def test_a_limit_draws_whole_pairs_and_always_the_same(tmp_path: Path) -> None:
    rows = [row(f"{label}{n}", label, "x", pair_id=str(n)) for n in range(50) for label in ("harmful", "benign")]
    path = write(tmp_path / "twins.jsonl", rows)
    (one,), (two,) = read_rows([path], limit=21), read_rows([path], limit=21)
    assert one == two and len(one.rows) == 20 and one.total == 100
    assert len({r.pair for r in one.rows}) == 10
    assert len(read_rows([path], limit=1)[0].rows) == 2  # one pair at least
    assert [r.line for r in one.rows] == sorted(r.line for r in one.rows)


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(write(tmp_path / folder / "x.jsonl", [row("1", "benign", "x")]))
    assert [f.name for f in read_rows(paths)] == [str(p) for p in paths]


def test_a_file_for_one_label_needs_none(tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl", [{"id": "1", "text": "x"}, {"id": "2", "text": "y", "label": "harmful"}])
    assert ":2: `label` is not `benign`" in problems(path, only="benign")[0]
    (file,) = read_rows([write(path, [{"id": "1", "text": "x"}])], only="benign")
    assert not file.rows[0].harmful


def test_requests_have_the_ids_of_the_wire(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(image(32, 32).data)
    rows = [
        row("text", "benign", "Where?"),
        row("both", "benign", "Where?", image="scan.png"),
        row("image", "benign", "", image="scan.png"),
    ]
    (file,) = read_rows([write(tmp_path / "rows.jsonl", rows)])
    made = [[p.id for p in request_of(r, department="ct", limits=Limits()).parts()] for r in file.rows]
    assert made == [
        ["messages[0].content"],
        ["messages[0].content[0]", "messages[0].content[1]"],
        ["messages[0].content[0]"],
    ]


def test_images_that_can_not_be_had_are_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(image(32, 32).data)
    (tmp_path / "bad.png").write_bytes(b"GIF89a")
    rows = [row(str(n), "benign", "x", image=name) for n, name in enumerate(["good.png", "bad.png", "bad.png"])]
    files, done = read_rows([write(tmp_path / "rows.jsonl", rows)]), []
    with pytest.raises(ConfigurationError) as caught:
        check_images(files, limits=Limits(), jobs=2, progress=done.append)
    assert len(caught.value.problems) == 2 and len(done) == 3
    assert "rows.jsonl:2: `image`" in caught.value.problems[0] and "a GIF" in caught.value.problems[0]
