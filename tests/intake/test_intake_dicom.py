"""A folder of DICOM studies becomes lines: which images, what is said of them, and what is left out."""

import io
import json
import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from intake.kit import NAME, PATIENT, RAMP, dataset, dicom, reader, sent, written
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from gateway.errors import ConfigurationError
from gateway.images import decode_bytes
from gateway.intake.dicom import lines
from gateway.intake.line import Line, Options, Problem, Skipped, Unfit, spread
from gateway.intake.people import without_people
from gateway.intake.questions import Question, pick, read_questions
from gateway.intake.scan import scan

ASKED = (Question(question="What does the image show?"),)


def made(folder, rules=ASKED, **options):
    """Give lines, problems and skipped files of a folder."""
    found = list(lines(folder, scan(folder), rules, Options(**options)))
    return [[one for one in found if isinstance(one, kind)] for kind in (Line, Problem, Skipped)]


def fill(folder, count=5, **tags):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        (folder / f"{number:03}").write_bytes(dicom(RAMP + number, number=number, **tags))
    return folder


def test_one_line_for_each_series_with_its_middle_image(tmp_path):
    fill(tmp_path / "a", series="1.2.3.4", SeriesNumber=2, AccessionNumber="ACC7", IssuerOfPatientID="HOSP")
    fill(tmp_path / "b" / "deep", series="1.2.3.5", modality="MR", count=2)
    found, problems, skipped = made(tmp_path, task="report-draft", purpose="TREAT")
    assert (problems, skipped) == ([], [])
    assert [one.custom_id for one in found] == ["series-1.2.3.5", "series-1.2.3.4"]
    line, request, said = reader(found[1].data)
    assert request.turns[0].parts[0].text == "What does the image show?"
    assert (said.patient, said.study, said.task, said.purpose) == (f"HOSP|{PATIENT}", "ACC7", "report-draft", "TREAT")
    middle = pydicom.dcmread(tmp_path / "a" / "003")
    (image,) = sent(line)
    assert decode_bytes(image, id="x").digest == decode_bytes((tmp_path / "a" / "003").read_bytes(), id="x").digest
    assert pydicom.dcmread(io.BytesIO(image)).PixelData == middle.PixelData
    assert [one.modality for one in request.turns[0].parts[1:]] == ["ct"]
    assert line["body"]["metadata"]["study_uid"] == "1.2.3"
    assert reader(found[0].data)[2].study == "1.2.3"


def test_the_same_folder_makes_the_same_lines(tmp_path):
    fill(tmp_path)
    assert [one.data for one in made(tmp_path)[0]] == [one.data for one in made(tmp_path)[0]]


def test_nothing_of_the_header_is_in_the_prompt_and_nobody_in_the_file(tmp_path):
    fill(tmp_path, count=1, PatientComments="Marker comment", SeriesDescription="Chest Marker", IssuerOfPatientID="H")
    for options in ({}, {"pixels_only": True}, {"bare_patient": True}):
        (found,) = made(tmp_path, **options)[0]
        line, request, said = reader(found.data)
        assert said.patient == (PATIENT if "bare_patient" in options else f"H|{PATIENT}")
        del line["context"]
        told = json.dumps(line) + repr(request.turns) + repr(sent(line))
        for word in (PATIENT, NAME, "Marker comment", "Roe", "19700102"):
            assert word not in told
        assert ("Chest Marker" in repr(sent(line))) == (not options.get("pixels_only", False))
        assert request.turns[0].parts[1].source == ("png" if options.get("pixels_only") else "dicom")


def test_several_images_are_evenly_spaced(tmp_path):
    fill(tmp_path, count=9)
    (found,) = made(tmp_path, images=3)[0]
    digests = [decode_bytes(image, id="x").digest for image in sent(json.loads(found.data))]
    files = [decode_bytes((tmp_path / f"{k:03}").read_bytes(), id="x").digest for k in (2, 5, 8)]
    assert digests == files
    assert spread(40, 99) == spread(40, 16)
    assert spread(2, 5) == (0, 1)
    assert (spread(1, 1), spread(4, 1), spread(0, 3)) == ((0,), (2,), ())
    for count in range(1, 40):
        for wanted in range(1, 17):
            places = spread(count, wanted)
            assert len(set(places)) == min(count, wanted)
            assert 0 <= places[0] <= places[-1] < count


def test_files_go_by_instance_number_and_not_by_name(tmp_path):
    for name, number in (("a", 30), ("b", 2), ("c", 10)):
        (tmp_path / name).write_bytes(dicom(RAMP + number, number=number))
    (found,) = made(tmp_path)[0]
    assert sent(json.loads(found.data))[0] == without_people((tmp_path / "c").read_bytes())


def test_what_is_no_image_is_skipped_and_what_is_broken_is_a_problem(tmp_path):
    fill(tmp_path / "good", count=3)
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "DICOMDIR").write_bytes(written(dataset(SOPClassUID="1.2.840.10008.1.3.10")))
    (tmp_path / "report.dcm").write_bytes(dicom(modality="SR", PixelData=None, Rows=None, Columns=None))
    (tmp_path / "twice.dcm").write_bytes((tmp_path / "good" / "001").read_bytes())
    (tmp_path / "nameless.dcm").write_bytes(dicom(series="", number=9))
    (tmp_path / "words.dcm").write_bytes(dicom(series="Jane Doe", number=9))
    whole = dicom(series="1.2.9", number=1)
    (tmp_path / "cut.dcm").write_bytes(whole[:-100])
    (tmp_path / "noise.dcm").write_bytes(whole[:140] + bytes(range(256)) * 4)
    long = dicom(series="1.2.10", PatientID="x" * 5_000)
    (tmp_path / "long.dcm").write_bytes(long)
    found, problems, skipped = made(tmp_path)
    assert [one.custom_id for one in found] == ["series-1.2.3.4"]
    why = {one.where: one.why for one in skipped}
    assert why["notes.txt"] == why["empty"] == "it is no DICOM file"
    assert "DICOMDIR" in why["DICOMDIR"]
    assert "without an image (`SR`)" in why["report.dcm"]
    assert "the same instance" in why["good/001"]
    why = {one.where: one.why for one in problems}
    assert set(why) - {"noise.dcm"} == {"nameless.dcm", "words.dcm", "series 1.2.9", "long.dcm"}
    assert ("noise.dcm" in why) != ("noise.dcm" in {one.where for one in skipped})
    assert "names no study and series by UID" in why["words.dcm"]
    assert "`cut.dcm`" in why["series 1.2.9"]
    assert "PatientID is longer" in why["long.dcm"]


def test_links_are_not_followed_and_loops_end(tmp_path):
    outside = tmp_path / "outside"
    fill(outside, series="1.2.99", count=1)
    inside = fill(tmp_path / "inside", count=1)
    (inside / "loop").symlink_to(inside)
    (inside / "away").symlink_to(outside)
    (inside / "file").symlink_to(outside / "001")
    os.mkfifo(inside / "pipe")
    found, problems, skipped = made(inside)
    assert [one.custom_id for one in found] == ["series-1.2.3.4"]
    assert problems == []
    assert sorted(one.where for one in skipped) == ["away", "file", "loop", "pipe"]


def test_a_series_of_two_patients_or_studies_is_a_problem(tmp_path):
    fill(tmp_path / "a", count=1)
    (tmp_path / "b").write_bytes(dicom(number=2, PatientID="another"))
    (tmp_path / "c").write_bytes(dicom(series="1.2.8", number=1))
    (tmp_path / "d").write_bytes(dicom(series="1.2.8", number=2, study="1.2.77"))
    found, problems, _ = made(tmp_path)
    assert found == []
    assert "more than one patient" in problems[0].why + problems[1].why
    assert "more than one study" in problems[0].why + problems[1].why
    assert "another" not in problems[0].why + problems[1].why


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_other_transfer_syntaxes(tmp_path, syntax):
    data = dataset()
    if syntax == RLELossless:
        meta = written(data)
        data = pydicom.dcmread(io.BytesIO(meta))
        data.compress(RLELossless)
        (tmp_path / "x").write_bytes(written(data, syntax))
    else:
        (tmp_path / "x").write_bytes(written(data, syntax))
    ((found,), problems, _) = made(tmp_path)
    assert problems == []
    line, request, _ = reader(found.data)
    assert request.turns[0].parts[1].digest == decode_bytes(dicom(), id="x").digest
    assert PATIENT.encode() not in sent(line)[0]


@pytest.mark.parametrize("element", [b"\x08\x00\x60\x00UN\x00\x00" + (200 << 20).to_bytes(4, "little"), b""])
def test_a_deflated_bomb_costs_no_memory(tmp_path, element):
    """One element of 200 MB, or millions of empty ones."""
    head = dicom(syntax=DeflatedExplicitVRLittleEndian)
    head = head[: 144 + pydicom.dcmread(io.BytesIO(head)).file_meta.FileMetaInformationGroupLength]
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -15)
    coded = squeeze.compress(element) + b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(200))
    (tmp_path / "bomb").write_bytes(head + coded + squeeze.flush())
    tracemalloc.start()
    found, problems, skipped = made(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found, skipped) == ([], [])
    assert [one.where for one in problems] == ["bomb"]
    assert peak < 64 << 20


@pytest.mark.parametrize(
    "pixels",
    [
        np.arange(64, dtype=np.int16).reshape(8, 8) - 32,
        np.arange(64, dtype=np.uint8).reshape(8, 8),
        np.arange(192, dtype=np.uint8).reshape(8, 8, 3),
    ],
    ids=["signed", "8-bit", "colour"],
)
def test_kinds_of_pixels(tmp_path, pixels):
    (tmp_path / "x").write_bytes(dicom(pixels, modality="US"))
    (found,) = made(tmp_path)[0]
    assert reader(found.data)[1].turns[0].parts[1].modality == "ultrasound"
    assert (found.images[0].width, found.images[0].height) == (8, 8)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "examples_ybr_color.dcm", "rtdose.dcm"]
)
def test_files_of_scanners_are_sent_without_people(name):
    raw = Path(get_testdata_file(name)).read_bytes()
    kept = without_people(raw)
    assert decode_bytes(kept, id="x").digest == decode_bytes(raw, id="x").digest
    assert not [one for one in pydicom.dcmread(io.BytesIO(kept)) if one.tag.group == 0x10 or one.VR == "PN"]


def test_too_large_a_line_says_what_to_do(tmp_path):
    fill(tmp_path, count=4)
    (problem,) = made(tmp_path, images=4, most=2_500)[1]
    assert "over 2,500" in problem.why
    assert "--pixels-only" in problem.why
    assert made(tmp_path, images=1, most=2_500)[1] == []


def test_questions_by_modality_and_description(tmp_path):
    (tmp_path / "questions.yaml").write_text(
        "- {question: 'chest?', modality: [CR, dx], description: ['*chest*', '*thorax*'], task: draft}\n"
        "- {question: 'ct?', modality: CT, images: 2}\n"
    )
    rules = read_questions(tmp_path / "questions.yaml")
    assert pick(rules, "DX", "PA Chest").question == "chest?"
    assert pick(rules, "DX", "hand") is None
    assert pick(rules, "CT", "").question == "ct?"
    folder = fill(tmp_path / "s", count=3)
    fill(folder / "dx", series="1.2.6", modality="DX", SeriesDescription="Thorax a.p.", count=1)
    fill(folder / "hand", series="1.2.7", modality="DX", SeriesDescription="hand", count=1)
    found, problems, _ = made(folder, rules)
    asked = {one.custom_id: (one.question, len(one.images), one.context.get("task")) for one in found}
    assert asked == {"series-1.2.3.4": ("ct?", 2, None), "series-1.2.6": ("chest?", 1, "draft")}
    assert [one.where for one in problems] == ["series 1.2.7"]
    assert "`hand`" in problems[0].why


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("question: a", "expected"),
        ("[]", "holds no rule"),
        ("- {modality: CT}", "question: missing"),
        ("- {question: ' '}", "write what is asked"),
        ("- {question: a, modalities: CT}", "did you mean `modality`"),
        ("- {question: a, images: 17}", "from 1 to 16"),
        ("- {question: a, question: b}", "stands twice"),
        ("- &a {question: a}\n- *a", "alias"),
    ],
)
def test_a_wrong_file_of_questions_stops_with_its_line(tmp_path, text, told):
    (tmp_path / "q.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"q\.yaml") as caught:
        read_questions(tmp_path / "q.yaml")
    assert told in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(Unfit, match="no folder"):
        scan(tmp_path / "x")
