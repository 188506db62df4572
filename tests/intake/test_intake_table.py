"""CSV becomes lines: encodings, delimiters, wrong headers and rows; and whatever a spreadsheet may write."""

import csv
import io
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intake.kit import dicom, png, reader, sent

from gateway.errors import ConfigurationError
from gateway.intake.line import Line, Options, Problem
from gateway.intake.places import Root
from gateway.intake.table import COLUMNS, Table


def made(path, data, root=None, **options):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    opened = Table(path)
    try:
        return list(opened.lines(None if root is None else Root(root), Options(**options)))
    finally:
        opened.close()


def test_every_column_goes_to_its_place(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.dcm").write_bytes(dicom())
    text = (
        "question,image,patient,study,task,purpose,on_behalf_of,model,max_tokens,custom_id\n"
        "What is it?,a.png;b.dcm,P1,S1,draft,TREAT,dr-7,med,64,mine\n"
        "And this?,,,,,,,,,\n"
    )
    first, second = made(tmp_path / "x.csv", text, tmp_path, model="other", task="screen")
    line, request, said = reader(first.data)
    assert (line["custom_id"], request.model, request.sampling.max_tokens) == ("mine", "med", 64)
    assert (said.patient, said.study, said.task, said.purpose, said.on_behalf_of) == (
        "P1", "S1", "draft", "TREAT", "dr-7",
    )  # fmt: skip
    assert sent(line)[0] == png()
    assert [one.source for one in request.turns[0].parts[1:]] == ["png", "dicom"]
    line, request, said = reader(second.data)
    assert (line["custom_id"], request.model, said.task, said.patient) == ("row-3", "other", "screen", None)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_delimiters_marks_and_newlines(tmp_path, delimiter, bom, newline):
    rows = [["Question ", "patient"], ["ä, ö; ü?", "P1"]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=newline).writerows(rows)
    (found,) = made(tmp_path / "x.csv", bom + out.getvalue().encode())
    assert found.question == "ä, ö; ü?"
    assert found.context == {"patient": "P1"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "first row is empty"),
        (b"\n\nquestion\n", "first row is empty"),
        (b"patient,study\nP1,S1\n", "no column `question`"),
        (b"question,pateint\na,b\n", "did you mean `patient`"),
        (b"question,colour,shape\na,b,c\n", "unknown column `colour`"),
        (b"question,colour,shape\na,b,c\n", "unknown column `shape`"),
        (b"question,question\na,b\n", "stands twice"),
        ("question\na\n".encode("utf-16"), "UTF-16"),
        (b"\xff\xfeq\x00", "UTF-16"),
        (b"question,\na,b\n", "unknown column ``"),
        (b"PK\x03\x04\x14\x00", "no column `question`"),
        (b'question,"pat\nient"\na,b\n', "unknown column"),
    ],
)
def test_a_wrong_header_stops_and_names_what_is_wrong(tmp_path, data, told):
    with pytest.raises(ConfigurationError) as caught:
        made(tmp_path / "x.csv", data)
    assert told in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="can not be read"):
        Table(tmp_path / "x.csv")


def test_rows_that_are_wrong_are_told_by_number_and_the_others_go_on(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "bad.png").write_bytes(png()[:-8])
    (tmp_path / "out.png").symlink_to("/etc/hostname")
    rows = [
        b"question,image,patient,purpose,max_tokens,custom_id",
        b"fine,a.png,P1,TREAT,5,",
        b",a.png,,,,",
        b"two,a.png",
        b"",
        b"three,b.png,,,,",
        b"four,../a.png,,,,",
        b"five,out.png,,,,",
        b"six,bad.png,,,,",
        b"seven,,,FUN,,",
        b"eight,,,,0,",
        b"nine,,,,many,",
        b"ten,,\xff,,,",
        b"eleven,,,,,row-2",
        b"twelve,,\xc3\xa4\xc3\xb6,,,",
        b'"thirt\neen",,,,,',
        b"fourteen,,,,," + b"x" * 513,
        b"fifteen,a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png;a.png,,,,",
        b"last,,,,,",
    ]
    found = made(tmp_path / "x.csv", b"\n".join(rows), tmp_path)
    good = {one.custom_id: one.question for one in found if isinstance(one, Line)}
    assert good == {"row-2": "fine", "row-16": "thirt\neen", "row-19": "last"}
    told = {one.where: one.why for one in found if isinstance(one, Problem)}
    for row, words in {
        3: "nothing is asked",
        4: "2 cells, and the header 6",
        6: "`b.png` is not there",
        7: "no relative path",
        8: "leads out of the folder",
        9: "`bad.png`: the PNG",
        10: "context.purpose",
        11: "`max_tokens` is `0`",
        12: "`max_tokens` is `many`",
        13: "not UTF-8",
        14: "that of row 2",
        15: "context.patient",
        17: "513 characters",
        18: "more than 16 images",
    }.items():
        assert words in told.pop(f"row {row}")
    assert told == {}


def test_after_a_broken_quote_nothing_is_asked(tmp_path):
    found = made(tmp_path / "x.csv", 'question,patient\nfine,1\n"is "this\nright?",2\nlast,3\n')
    assert [getattr(one, "question", None) for one in found] == ["fine", None]
    assert "no row after it was read" in found[1].why
    found = made(tmp_path / "x.csv", 'question\n"never closed\n' + "and on\n" * 40_000)
    assert [type(one) for one in found] == [Problem]


def test_an_image_needs_a_root(tmp_path):
    (found,) = made(tmp_path / "x.csv", "question,image\na,b.png\n")
    assert "--images-root" in found.why


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
NUMBER = st.text(string.ascii_letters + string.digits + " -", max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELL, NUMBER, NUMBER), max_size=8), st.sampled_from(",;\t"), st.booleans(), st.booleans())
def test_what_was_written_is_what_is_asked(tmp_path_factory, rows, delimiter, bom, quoted):
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting)
    writer.writerow(["patient", "question", "study"])
    writer.writerows([patient, question, study] for question, patient, study in rows)
    data = out.getvalue().encode("utf-8-sig" if bom else "utf-8")
    found = made(tmp_path_factory.getbasetemp() / "x.csv", data)
    lines = {one.custom_id: one for one in found if isinstance(one, Line)}
    expected = {f"row-{k}": row for k, row in enumerate(rows, 2) if row[0].strip()}
    assert set(lines) == set(expected)
    for custom_id, (question, patient, study) in expected.items():
        _, request, said = reader(lines[custom_id].data)
        assert request.turns[0].parts[0].text == question.strip()
        assert (said.patient or "", said.study or "") == (patient.strip(), study.strip())
    assert {one.where for one in found if isinstance(one, Problem)} == {
        f"row {k}" for k, row in enumerate(rows, 2) if not row[0].strip() and any(cell.strip() for cell in row)
    }


def test_the_columns_are_those_of_the_documentation():
    from support import ROOT

    page = (ROOT / "docs" / "intake.md").read_text()
    assert all(f"| `{name}` |" in page for name in COLUMNS)
