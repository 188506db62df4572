"""Answers as DiagnosticReports, validated by HL7's own definitions; and which lines make no report.

Over 300 lines, because the table of broken reports stands beside what makes them.
"""

import copy
import json
import tracemalloc
from pathlib import Path

import pytest
from fhir.validate import Validator
from hypothesis import given, settings
from hypothesis import strategies as st
from intake.kit import PATIENT, binary, bundle, patient, request, save

from gateway.errors import ConfigurationError
from gateway.intake.fhir import lines, requests
from gateway.intake.fhir_bundle import Bundle
from gateway.intake.line import Options
from gateway.intake.report import convert, reports_of

LABELS = "http://hl7.org/fhir/ValueSet/security-labels"
OBSERVATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"


def _descend(value):
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _descend(inner)


def _referred(value, _):
    told = {one["reference"] for one in _descend(value) if isinstance(one, dict) and "reference" in one}
    return all(f"#{one['id']}" in told for one in value.get("contained", ()))


INVARIANTS = {
    "dom-3": _referred,
    "obs-6": lambda value, _: "dataAbsentReason" not in value or not any(name.startswith("value") for name in value),
    "obs-7": lambda value, _: "component" not in value,  # narrower than HL7's: no answer here has components
    "obs-8": lambda value, _: "bodyStructure" not in value,
    "dgr-1": lambda value, _: "composition" not in value,
    "dev-1": lambda value, _: len([one for one in value.get("name", ()) if one.get("display")]) <= 1,
}


def validator(release):
    made = Validator(release, Path(__file__).parent, INVARIANTS)
    # The label came into HL7 Terminology after the snapshot of 2018 that R4 carries: v3-ObservationValue 4.0.0 has it,
    # https://terminology.hl7.org/CodeSystem-v3-ObservationValue.html, "Artificial Intelligence asserted".
    assert "AIAST" not in made._sets[LABELS][OBSERVATION]
    made._sets[LABELS][OBSERVATION].append("AIAST")
    return made


VALIDATORS = {release: validator(release) for release in ("R4", "R5")}
DECISION = "dec_01hqzz3k2m4n5p6q7r8s9tabcd"


def asked(custom_id="a", context=None, **metadata):
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions"}
    line["body"] = {"model": "auto", "messages": [{"role": "user", "content": "secret question"}]}
    line["body"] |= {"metadata": metadata} if metadata else {}
    line |= {"context": context} if context else {}
    return json.dumps(line).encode()


def answered(custom_id="a", text="No pneumothorax.", finish="stop", status=200, decision=DECISION, **body):
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    made = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": "medgemma"}
    made |= {"choices": [choice]} | body
    response = {"status_code": status, "request_id": decision, "body": made}
    return json.dumps({"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}).encode()


def failed(code, custom_id="a"):
    error = {"code": code, "message": "line 7: secret words", "line": 7}
    return json.dumps({"id": "batch_req_1", "custom_id": custom_id, "response": None, "error": error}).encode()


def converted(inputs, outputs, version="R4"):
    left = []
    made = [json.loads(one) for one in convert(inputs, outputs, version, without=left.append)]
    return made, [json.loads(one) for one in left]


def report(inputs, outputs, version="R4"):
    (made,), left = converted(inputs, outputs, version)
    assert left == []
    assert VALIDATORS[version].problems(made) == []
    return made


FULL = {
    "patient_issuer": "urn:oid:1.2.36",
    "study_uid": "1.2.3",
    "accession": "ACC-9",
    "based_on": "ServiceRequest/r1",
    "modality": "CT",
    "report_code": "36643-5",
    "report_display": "XR Chest 2 Views",
}


@pytest.mark.parametrize("version", ["R4", "R5"])
def test_a_full_report(version):
    inputs = [asked(context={"patient": f"urn:oid:1.2.36|{PATIENT}", "study": "ACC-9", "purpose": "TREAT"}, **FULL)]
    made = report(inputs, [answered()], version)
    assert made["id"] == DECISION.replace("_", "-")
    assert made["identifier"] == [{"system": "urn:medvlm-gateway:record", "value": DECISION}]
    assert made["status"] == "preliminary"
    assert [one["code"] for one in made["meta"]["security"]] == ["AIAST"]
    assert made["subject"] == {"type": "Patient", "identifier": {"system": "urn:oid:1.2.36", "value": PATIENT}}
    assert made["basedOn"][0]["reference"] == "ServiceRequest/r1"
    assert made["basedOn"][0]["identifier"]["value"] == "ACC-9"
    assert made["code"]["coding"] == [{"system": "http://loinc.org", "code": "36643-5", "display": "XR Chest 2 Views"}]
    assert [one["coding"][0]["code"] for one in made["category"]] == ["RAD", "CT"]
    study = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
    assert made["imagingStudy" if version == "R4" else "study"] == [{"type": "ImagingStudy", "identifier": study}]
    assert made["conclusion"] == "No pneumothorax."
    assert made["issued"] == made["effectiveDateTime"] == "2026-09-21T14:13:20Z"
    device, answer = made["contained"]
    assert device["modelNumber"] == "medgemma"
    assert answer["device"]["reference"] == "#gateway"
    assert answer["valueString"] == "No pneumothorax."
    assert "performer" not in made and "extension" not in json.dumps(made)
    assert "secret" not in json.dumps(made)


@pytest.mark.parametrize("version", ["R4", "R5"])
def test_a_report_of_a_line_that_said_nothing(version):
    made = report([asked()], [answered()], version)
    assert made["code"]["coding"][0]["code"] == "18748-4"
    assert made["category"][0]["coding"][0]["code"] == "RAD"
    assert not {"subject", "basedOn", "imagingStudy", "study"} & set(made)
    assert report([], [answered()], version) == made


@pytest.mark.parametrize("version", ["R4", "R5"])
@pytest.mark.parametrize("modality", ["CT", "MR", "US", "NM", "PT", "SM", "OP", "DX", "XX", ""])
def test_categories_are_of_hl7s_table(version, modality):
    made = report([asked(modality=modality)], [answered()], version)
    known = VALIDATORS["R4"]._sets["http://hl7.org/fhir/ValueSet/diagnostic-service-sections"]
    for one in made["category"]:
        assert one["coding"][0]["code"] in known[one["coding"][0]["system"]]


def test_the_same_line_makes_the_same_report_and_others_make_others():
    inputs = [asked("a", {"patient": "P1"}), asked("b", {"patient": "P2"})]
    outputs = [answered("b", decision="dec_2"), answered("a", decision="dec_1")]
    made = list(convert(inputs, outputs))
    assert made == list(convert(inputs, outputs)) == list(reports_of(inputs, outputs))
    told = {json.loads(one)["id"]: json.loads(one)["subject"]["identifier"]["value"] for one in made}
    assert told == {"dec-1": "P1", "dec-2": "P2"}


@pytest.mark.parametrize(
    ("patient_number", "issuer", "expected"),
    [
        ("HOSP|7", "HOSP", {"value": "7", "assigner": {"display": "HOSP"}}),
        ("7", "HOSP", {"value": "7", "assigner": {"display": "HOSP"}}),
        ("urn:x:y|7|8", "urn:x:y", {"system": "urn:x:y", "value": "7|8"}),
        ("a|7", "", {"value": "a|7"}),
        ("7", "has space: no", {"value": "7", "assigner": {"display": "has space: no"}}),
    ],
)
def test_the_patient_is_named_as_the_line_named_it(patient_number, issuer, expected):
    made = report([asked(context={"patient": patient_number}, patient_issuer=issuer)], [answered()])
    assert made["subject"]["identifier"] == expected


@pytest.mark.parametrize(
    ("output", "code"),
    [
        (answered(finish="content_filter", text="refused, because secret"), "suppressed"),
        (answered(status=400, error={"code": "content_filter"}), "suppressed"),
        (answered(status=400, error={"code": "invalid_json"}), "invalid"),
        (answered(status=502), "transient"),
        (answered(status=504), "transient"),
        (answered(finish="length"), "incomplete"),
        (answered(finish="tool_calls", text=None), "not-supported"),
        (answered(text=None), "not-supported"),
        (answered(text=" \n\x00"), "not-supported"),
        (answered(choices=[]), "not-supported"),
        (answered(choices=json.loads(answered())["response"]["body"]["choices"] * 2), "not-supported"),
        (answered(choices="secret"), "not-supported"),
        (answered(object="moderation"), "not-supported"),
        (answered(decision=""), "not-supported"),
        (failed("batch_expired"), "timeout"),
        (failed("batch_cancelled"), "incomplete"),
        (failed("invalid_line"), "invalid"),
        (b'{"custom_id": "a", "response": null, "error": null}', "structure"),
        (b"no json secret", "structure"),
        (b'{"custom_id": 5}', "structure"),
        (b'{"response": {"status_code": "200"}}', "structure"),
        (b"[" * 100_000, "structure"),
    ],
)
def test_a_line_without_a_whole_answer_makes_no_report(output, code):
    for version in ("R4", "R5"):
        made, left = converted([asked(context={"patient": PATIENT})], [output], version)
        assert made == []
        assert [one["issue"][0]["code"] for one in left] == [code]
        assert VALIDATORS[version].problems(left[0]) == []
        assert PATIENT not in json.dumps(left)
        assert "secret" not in json.dumps(left)


def test_without_a_listener_other_lines_are_left_out():
    assert [json.loads(one)["id"] for one in convert([], [failed("x"), b"", answered()])] == [
        "dec-01hqzz3k2m4n5p6q7r8s9tabcd"
    ]


def test_the_input_may_be_a_file_and_hold_lines_that_are_none(tmp_path):
    good = asked("a", {"patient": "P1"})
    twice = asked("a", {"patient": "P2"})
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\nnonsense\n\xff\n{}\n" + twice)
    made = report(tmp_path / "in.jsonl", [answered()])
    assert made["subject"]["identifier"]["value"] == "P1"
    with pytest.raises(ConfigurationError, match="can not be read"):
        list(convert(tmp_path / "gone", []))


def test_from_the_request_to_the_report(tmp_path):
    content = bundle(patient(), binary(), request("r1", "Binary/b1", identifier=[{"value": "ORD-1"}]))
    opened = Bundle(save(tmp_path / "b.json", content))
    (line,) = lines(opened, requests(opened), None, "", Options())
    made = report([line.data], [answered("request-r1")])
    assert made["basedOn"] == [{"reference": "ServiceRequest/r1", "type": "ServiceRequest"}]
    assert made["subject"]["identifier"] == {"system": "urn:oid:1.2.36", "value": PATIENT}
    assert made["imagingStudy"][0]["identifier"] == {"value": "ORD-1"}


def test_many_lines_take_little_memory():
    count = 4_000
    inputs = (
        asked(f"series-1.2.840.113619.2.{k}", {"patient": f"P{k}", "study": f"S{k}"}, modality="CT")
        for k in range(count)
    )
    outputs = (answered(f"series-1.2.840.113619.2.{k}", decision=f"dec_{k}") for k in range(count))
    tracemalloc.start(1)
    made = sum(1 for _ in convert(inputs, outputs))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made == count
    assert peak < 600 * count


BROKEN = {
    "no status": (lambda one: one.pop("status"), "status: missing"),
    "no code": (lambda one: one.pop("code"), "code: missing"),
    "status not in the set": (lambda one: one.update(status="ready"), "diagnostic-report-status"),
    "wrong subject": (lambda one: one["subject"].update(type="Practitioner"), "refers to Practitioner"),
    "wrong order": (lambda one: one["basedOn"][0].update(type="Task"), "refers to Task"),
    "device as performer": (lambda one: one.update(performer=[{"reference": "Device/1"}]), "refers to Device"),
    "dangling result": (lambda one: one["result"][0].update(reference="#nobody"), "ref-1"),
    "unused contained": (lambda one: one.pop("result"), "dom-3"),
    "label inside": (lambda one: one["contained"][1].update(meta=one["meta"]), "dom-5"),
    "unknown label": (lambda one: one["meta"]["security"][0].update(code="AIAS"), "security-labels"),
    "no value of version": (lambda one: one["contained"][0]["version"][0].pop("value"), "value: missing"),
    "wrong kind of name": (lambda one: one["contained"][0]["deviceName"][0].update(type="nick"), "device-nametype"),
    "absent and there": (lambda one: one["contained"][1].update(dataAbsentReason={"text": "x"}), "obs-6"),
    "issued without zone": (lambda one: one.update(issued="2026-01-01T00:00:00"), "issued: does not match"),
}


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault.replace(" ", "-"))
def test_the_definitions_find(fault):
    change, told = BROKEN[fault]
    (made,), _ = converted([asked(context={"patient": PATIENT}, **FULL)], [answered()])
    broken = copy.deepcopy(made)
    change(broken)
    assert any(told in problem for problem in VALIDATORS["R4"].problems(broken)), VALIDATORS["R4"].problems(broken)


@pytest.mark.parametrize(("release", "version"), [("R4", "4.0.1"), ("R5", "5.0.0")])
def test_the_definitions_are_hl7s(release, version):
    body = json.loads(Path(__file__).with_name(f"{release.lower()}.json").read_text())
    assert {one["version"] for one in body["structures"].values()} == {body["version"]} == {version}
    required = {one["path"] for one in body["structures"]["DiagnosticReport"]["elements"] if one["min"]}
    assert {path for path in required if path.count(".") == 1} == {"DiagnosticReport.status", "DiagnosticReport.code"}


WORDS = st.text(max_size=12) | st.sampled_from(
    ["1.2.3", "ServiceRequest/a", "urn:a:b", "urn: a", "CT", "\x00", " ", "36643-5"]
)


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(FULL, WORDS)),
    st.fixed_dictionaries({}, optional={"patient": WORDS, "study": WORDS}),
    st.text(max_size=20),
    WORDS | st.integers(),
    st.integers() | st.booleans() | st.floats() | st.none(),
    st.text(min_size=1, max_size=70),
    st.sampled_from(["R4", "R5"]),
)
def test_whatever_was_said_and_answered_validates(metadata, context, text, model, created, decision, version):
    inputs = [asked(context=context, **metadata)]
    made, left = converted(inputs, [answered(text=text, model=model, created=created, decision=decision)], version)
    assert len(made) + len(left) == 1
    for one in made + left:
        assert VALIDATORS[version].problems(one) == []
