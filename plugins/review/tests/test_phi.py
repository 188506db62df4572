from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugin import Choice, Completion, Prompt, Request, Text, ToolCall
from gateway_review.identifiers import identifiers
from gateway_review.phi import Phi, disjoint
from gateway_review.rules import _nhs

FOUND = (
    ("Patient Name: John A. Smith", "NAME", "John A. Smith"),
    ("PatientName=SMITH^JOHN^A", "NAME", "SMITH^JOHN^A"),
    ("Mrs. O'Connor was seen today", "NAME", "O'Connor"),
    ("The patient, Mary Brown, aged 54, fell", "NAME", "Mary Brown"),
    ("The patient is named Ana María López", "NAME", "Ana María López"),
    ("Referring physician: Dr. Alan Grant", "NAME", "Dr. Alan Grant"),
    ("MRN: 00483921", "MRN", "00483921"),
    ("mrn 4839211", "MRN", "4839211"),
    ("Patient ID: AB-1234", "MRN", "AB-1234"),
    ("Medical record number is 778899", "MRN", "778899"),
    ("DOB 03/14/1962", "DOB", "03/14/1962"),
    ("born on 4 May 1971", "DOB", "4 May 1971"),
    ("seen on 12 March 2024.", "DATE", "12 March 2024"),
    ("admitted 2024-03-12", "DATE", "2024-03-12"),
    ("call 555-867-5309", "PHONE", "555-867-5309"),
    ("(617) 555-0199", "PHONE", "(617) 555-0199"),
    ("+44 20 7946 0958", "PHONE", "+44 20 7946 0958"),
    ("j.smith@example.org", "EMAIL", "j.smith@example.org"),
    ("SSN 123-45-6789", "SSN", "123-45-6789"),
    ("social security number: 123456789", "SSN", "123456789"),
    ("12 Elm Street, Springfield, IL 62704", "ADDRESS", "12 Elm Street, Springfield, IL 62704"),
    ("SW1A 1AA", "POSTCODE", "SW1A 1AA"),
    ("Accession #: A-20391-22", "ACCESSION", "A-20391-22"),
    ("NHS number 943 476 5919", "NHS", "943 476 5919"),
    ("943 476 5919", "NHS", "943 476 5919"),
    ("from 192.168.10.4", "IP", "192.168.10.4"),
    ("2001:db8:85a3:0:0:8a2e:370:7334", "IP", "2001:db8:85a3:0:0:8a2e:370:7334"),
    ("https://ris.local/patient/1234", "URL", "https://ris.local/patient/1234"),
    ("Insurance ID: XYZ123456789", "ACCOUNT", "XYZ123456789"),
    ("account number: 4417-22910", "ACCOUNT", "4417-22910"),
)
CLEAN = (
    "A 5 mm nodule at T12; disc protrusion at L4-L5 and C5/C6.",
    "Blood pressure 120/80, glucose 10.5 mg/dL, heart rate 72, SUV 4.2, EF 55-60%.",
    "On day 3 the patient improved; control after 6/12 weeks, then in 2019 to 2021.",
    "ICD-10 I63.9, CPT 74177, stage T2N0M0, BI-RADS 4B, Gleason 3+4=7, PI-RADS 4.",
    "MRI at 3 T, TE 90 ms, TR 4000 ms, matrix 512 x 512, slices of 1.5-2.0 mm, ratio 3:1.",
    "Parkinson disease, Crohn's disease, Kerley B lines, Hodgkin lymphoma, Baker cyst, Dr. Google.",
    "The Mann-Whitney test, Child-Pugh B, Ziehl-Neelsen stain, Hounsfield units of -100 to 400.",
    "Patient presents with pain. Patient is a 54-year-old man. Patient: 45-year-old male.",
    "Patient Positioning: supine. Patient History: none. Name the layers. Clinical: cough.",
    "Software version 2.1.0.4; 24/7; 1/2 tablet; 3/4 of cases; 500 to 1000 cells; 0.4 mSv.",
    "The policy is 12 hours of fasting; account for 30% of cases; 10/12 lesions; 1,000,000 units.",
    "Noradrenaline 0.05-0.1 ug/kg/min; pH 7.35-7.45; 12-lead ECG; 99mTc; 18F-FDG; HbA1c 48 mmol/mol.",
    "123 456 7890 is no NHS number.",
    "",
)


@pytest.mark.parametrize(("text", "kind", "value"), FOUND, ids=[f"{k}-{v}" for _, k, v in FOUND])
def test_identifiers_are_found_at_their_place(text: str, kind: str, value: str) -> None:
    before = "Report. "
    found = disjoint(list(identifiers(before + text + " and more")))
    spans = [((before + text + " and more")[i.start : i.end], i.kind) for i in found if i.score >= 0.5]
    assert (value, kind) in spans


@pytest.mark.parametrize("text", CLEAN)
def test_clinical_text_is_clean(text: str) -> None:
    assert [i for i in identifiers(text) if i.score >= 0.5] == []


def test_a_public_reference_is_only_noted() -> None:
    (found,) = identifiers("see https://radiopaedia.org/articles/subdural-haemorrhage.")
    assert found.score < 0.5


@given(st.integers(0, 10**9 - 1))
def test_nhs_check_digit_catches_a_changed_digit(body: int) -> None:
    digits = f"{body:09}"
    valid = [d for d in "0123456789" if _nhs(digits + d)]
    assert len(valid) <= 1


async def test_findings_redact_exactly() -> None:
    text = "Patient Name: John Smith, MRN: 00483921, shows no fracture."
    request = Request(id="1", department="d", model="m", turns=())
    call = ToolCall(id="c", name=Text(id="n", text="store"), arguments=Text(id="a", text='{"email": "j@example.org"}'))
    choice = Choice(index=0, text=Text(id="choices[0]", text=text), tool_calls=(call,))
    findings = await Phi().audit(Prompt(request=request), Completion(model="m", choices=(choice,)))
    cleaned = text
    for finding in sorted((f for f in findings if f.part == "choices[0]"), key=lambda f: -(f.start or 0)):
        assert finding.start is not None
        cleaned = cleaned[: finding.start] + str(finding.replacement) + cleaned[finding.end :]
    assert cleaned == "Patient Name: [REDACTED:NAME], MRN: [REDACTED:MRN], shows no fracture."
    assert [(f.part, f.label) for f in findings if f.part != "choices[0]"] == [("a", "email")]


@given(st.text(max_size=2000) | st.text("0123456789.-/:()+ @aAbBMRNname^\n", max_size=500))
def test_it_never_raises_and_spans_are_disjoint(text: str) -> None:
    end = 0
    for one in disjoint(list(identifiers(text))):
        assert end <= one.start < one.end <= len(text)
        assert text[one.start : one.end].strip()
        end = one.end


@pytest.mark.parametrize(
    "unit", ["1 ", "1.", "12-", "Aa ", "a@", "ab:", "Patient Name: ", "1 Aa ", "http://a", "+1 ", "A^B"]
)
def test_long_texts_take_linear_time(unit: str) -> None:
    start = time.perf_counter()
    for _ in identifiers(unit * (300_000 // len(unit))):
        pass
    assert time.perf_counter() - start < 4
