"""Answers of a batch as FHIR DiagnosticReports, of R4 or R5, one JSON object a line (NDJSON).

A report is `preliminary` and labelled as asserted by an artificial intelligence: a person has still to read it. Lines
that have no whole answer make no report; `without` is told each of them, as an OperationOutcome.
See https://hl7.org/fhir/R4/diagnosticreport.html; the label is ``AIAST`` of HL7 Terminology's v3-ObservationValue.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway import __version__
from gateway.intake.facts import Facts, Index, lines_of
from gateway.records.fhir import Release, codes, words

LABEL = codes.coding(codes.OBSERVATION, "AIAST", "Artificial Intelligence asserted")
"""The security label of every report."""

IMAGING = codes.coding("http://loinc.org", "18748-4", "Diagnostic imaging study")
"""The code of a report whose line says no other."""

_SECTIONS = "http://terminology.hl7.org/CodeSystem/v2-0074"
_SECTION_NAMES = {
    "RAD": "Radiology",
    "IMG": "Diagnostic Imaging",
    "CT": "CAT Scan",
    "NMR": "Nuclear Magnetic Resonance",
    "NMS": "Nuclear Medicine Scan",
    "RUS": "Radiology Ultrasound",
    "SP": "Surgical Pathology",
}
_SECTION = {"CT": "CT", "MR": "NMR", "NM": "NMS", "PT": "NMS", "US": "RUS", "SM": "SP", "GM": "SP"}
_NO_RADIOLOGY = {"SM", "GM", "OP", "OPT", "OPM", "ES", "DMS", "XC"}
_ORDER = re.compile(r"(https?://[^\s]+/)?ServiceRequest/[A-Za-z0-9.-]{1,64}|urn:uuid:[0-9a-fA-F-]{36}")
_LOINC = re.compile(r"[0-9]{1,7}-[0-9]")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_UID = re.compile(r"[0-9.]{1,64}")


class Response(Struct):
    """The answer to a line: HTTP status, decision id, and OpenAI's body."""

    status_code: int
    request_id: str = ""
    body: Any = None


class _Error(Struct):
    code: str = ""


class _Output(Struct):
    custom_id: str | None = None
    response: Response | None = None
    error: _Error | None = None


_outputs = msgspec.json.Decoder(_Output)


class _Why(Struct, frozen=True):
    """Why a line makes no report: a code of FHIR's issue types, and words."""

    code: str
    text: str


_NONE = {
    "batch_expired": _Why("timeout", "the batch expired before the line was worked off; submit it again"),
    "batch_cancelled": _Why("incomplete", "the batch was cancelled before the line was worked off; submit it again"),
}
_FILTERED = _Why("suppressed", "the question was refused, or the answer was withheld")
_FAILED = _Why("transient", "the model gave no answer; submit the line again")
_CUT = _Why("incomplete", "the answer was cut off at its longest; ask for more tokens")
_SEVERAL = _Why("not-supported", "there are several answers, or none; ask for one")
_NO_TEXT = _Why("not-supported", "the answer is no text")
_NO_CHAT = _Why("not-supported", "the line is no chat completion")
_UNREADABLE = _Why("structure", "the line is no line of a batch's output")


def convert(
    inputs: Path | Iterable[bytes],
    outputs: Iterable[bytes],
    version: Release = "R4",
    *,
    without: Callable[[bytes], object] | None = None,
) -> Iterator[bytes]:
    """Give a report, with a newline, for each answered line of `outputs`, in their order.

    `inputs` are the lines of the batch's input file, or the file; they say of whom and for what each report is. They
    are read to their end first. `without` is given an OperationOutcome, with a newline, for each other line.

    Raises:
        ConfigurationError: the file can not be read.
    """
    yield from reports_of(lines_of(inputs), outputs, version=version, without=without)


def reports_of(
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    *,
    version: Release = "R4",
    without: Callable[[bytes], object] | None = None,
) -> Iterator[bytes]:
    """Do what `convert` does, for lines alone."""
    index = Index(inputs)
    for raw in outputs:
        if not raw.strip():
            continue
        try:
            output = _outputs.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            output = _Output()
        response, answer = output.response, _answer(output)
        if response is not None and isinstance(answer, str):
            yield _written(report(index.of(output.custom_id or ""), response, answer, version))
        elif without is not None and isinstance(answer, _Why):
            without(_written(_outcome(output, answer)))


def _written(resource: dict[str, Any]) -> bytes:
    return msgspec.json.encode(words.lean(resource)) + b"\n"


def _answer(output: _Output) -> str | _Why:
    """Give the text of the answer, or why there is none that could be reported."""
    response = output.response
    if response is None:
        code = output.error.code if output.error is not None else ""
        other = _Why("invalid", f"the line was not answered (`{code}`)") if code else _UNREADABLE
        return _NONE.get(code, other)
    body = response.body if isinstance(response.body, dict) else {}
    if response.status_code != 200:
        error = body.get("error")
        filtered = isinstance(error, dict) and error.get("code") == "content_filter"
        failed = _FAILED if response.status_code >= 500 or response.status_code == 429 else _invalid(response)
        return _FILTERED if filtered else failed
    if body.get("object") != "chat.completion" or words.text(response.request_id) is None:
        return _NO_CHAT
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return _SEVERAL
    return _text(choices[0])


def _invalid(response: Response) -> _Why:
    return _Why("invalid", f"the line was not answered (status {response.status_code})")


def _text(choice: dict[str, Any]) -> str | _Why:
    """Give the text of a choice that came to its end."""
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    match choice.get("finish_reason"):
        case "content_filter":
            return _FILTERED
        case "length":
            return _CUT
        case "stop":
            return (words.text(content) if isinstance(content, str) else None) or _NO_TEXT
        case _:
            return _NO_TEXT


def _named(output: _Output) -> str:
    decision = output.response.request_id if output.response is not None else ""
    parts = [f"line {output.custom_id}" if output.custom_id else "", f"decision {decision}" if decision else ""]
    return ", ".join(part for part in parts if part)


def _outcome(output: _Output, why: _Why) -> dict[str, Any]:
    """Make the OperationOutcome of a line without a report; it tells nothing of what was asked or answered."""
    named = _named(output)
    issue = {"severity": "error", "code": why.code, "details": {"text": why.text}, "diagnostics": words.text(named)}
    own = hashlib.sha256(named.encode()).hexdigest()[:32] if named else None
    return {"resourceType": "OperationOutcome", "id": own, "issue": [issue]}


def _time(created: object) -> str | None:
    if not isinstance(created, int) or isinstance(created, bool) or not 0 < created < 1 << 36:
        return None
    return dt.datetime.fromtimestamp(created, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def report(facts: Facts, response: Response, answer: str, release: Release) -> dict[str, Any]:
    """Make the DiagnosticReport of an answer. The same line makes the same report, to the byte."""
    decision, body = response.request_id, response.body
    at = _time(body.get("created"))
    code = {"coding": [_code(facts)]}
    subject = _subject(facts)
    answered = {
        "resourceType": "Observation",
        "id": "answer",
        "status": "preliminary",
        "code": code,
        "subject": subject,
        "effectiveDateTime": at,
        "valueString": answer,
        "device": {"reference": "#gateway", "type": "Device"},
    }
    return {
        "resourceType": "DiagnosticReport",
        "id": words.resource_id(decision),
        "meta": {"security": [LABEL]},
        "contained": [_device(body.get("model"), release), answered],
        "identifier": [{"system": f"{codes.OURS}:record", "value": words.text(decision)}],
        "basedOn": _based_on(facts),
        "status": "preliminary",
        "category": [{"coding": [codes.coding(_SECTIONS, one, _SECTION_NAMES[one])]} for one in _sections(facts)],
        "code": code,
        "subject": subject,
        "effectiveDateTime": at,
        "issued": at,
        "result": [{"reference": "#answer", "type": "Observation"}],
        "imagingStudy" if release == "R4" else "study": _studies(facts),
        "conclusion": answer,
    }


def _device(model: object, release: Release) -> dict[str, Any]:
    """Tell what answered: the gateway that wrote the report, and the model behind it."""
    name, kind = "Med-VLM Safety Gateway", {"text": "medical vision-language model behind a safety gateway"}
    made: dict[str, Any] = {"resourceType": "Device", "id": "gateway"}
    if release == "R4":
        made |= {"deviceName": [{"name": name, "type": "user-friendly-name"}], "type": kind}
    else:
        made |= {"name": [{"value": name, "type": "user-friendly-name"}], "type": [kind]}
    return made | {
        "modelNumber": words.text(model) if isinstance(model, str) else None,
        "version": [{"type": {"text": "gateway that wrote the report"}, "value": __version__}],
    }


def _sections(facts: Facts) -> list[str]:
    modality = facts.modality.upper()
    return ["IMG" if modality in _NO_RADIOLOGY else "RAD", *filter(None, [_SECTION.get(modality)])]


def _code(facts: Facts) -> codes.Coding:
    if not _LOINC.fullmatch(facts.report_code):
        return IMAGING
    return codes.coding("http://loinc.org", facts.report_code, words.text(facts.report_display))


def _subject(facts: Facts) -> dict[str, Any] | None:
    """Refer to the patient by the number that the line's context said, its issuer apart where that is known."""
    issuer = facts.patient_issuer
    value = words.text(facts.patient.removeprefix(f"{issuer}|") if issuer else facts.patient)
    if value is None:
        return None
    held: dict[str, Any] = {"value": value}
    if _URI.fullmatch(issuer):
        held = {"system": issuer} | held
    elif words.text(issuer):
        held["assigner"] = {"display": words.text(issuer)}
    return {"type": "Patient", "identifier": held}


def _based_on(facts: Facts) -> list[dict[str, Any]] | None:
    """Refer to the order: by its reference where it came from one, by its accession number where there is one."""
    order: dict[str, Any] = {}
    if _ORDER.fullmatch(facts.based_on):
        order["reference"] = facts.based_on
    if words.text(facts.accession):
        kind = {"coding": [codes.coding("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN", "Accession ID")]}
        order["identifier"] = {"type": kind, "value": words.text(facts.accession)}
    return [order | {"type": "ServiceRequest"}] if order else None


def _studies(facts: Facts) -> list[dict[str, Any]] | None:
    """Refer to the study: by its DICOM UID where that is known, else by the number that the line's context said."""
    value = words.text(facts.study)
    if _UID.fullmatch(facts.study_uid):
        held = {"system": "urn:dicom:uid", "value": f"urn:oid:{facts.study_uid}"}
    elif value is not None and not facts.accession:
        held = {"value": value}
    else:
        return None
    return [{"type": "ImagingStudy", "identifier": held}]
