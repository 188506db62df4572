"""What a caller says of a request: why, for whom, about which patient. Kept as codes, ids and pseudonyms."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from gateway.policy.validate import is_code
from gateway.records.digest import Digester
from gateway.records.outcome import NOTHING_SAID, Context
from gateway.records.record import ContextV1

PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        "TREAT": "treatment",
        "ETREAT": "emergency treatment",
        "BTG": "break the glass",
        "ERTREAT": "emergency room treatment",
        "CLINTRL": "clinical trial",
        "COC": "coordination of care",
        "POPHLTH": "population health",
        "HPAYMT": "healthcare payment",
        "CLMATTCH": "claim attachment",
        "COVAUTH": "coverage authorization",
        "COVERAGE": "coverage under policy or program",
        "ELIGDTRM": "eligibility determination",
        "ELIGVER": "eligibility verification",
        "ENROLLM": "enrollment",
        "MILDCRG": "military discharge",
        "REMITADV": "remittance advice",
        "HOPERAT": "healthcare operations",
        "CAREMGT": "care management",
        "DONAT": "donation",
        "FRAUD": "fraud",
        "GOV": "government",
        "HACCRED": "health accreditation",
        "HCOMPL": "health compliance",
        "HDECD": "decedent",
        "HDIRECT": "directory",
        "HDM": "healthcare delivery management",
        "HLEGAL": "legal",
        "HOUTCOMS": "health outcome measure",
        "HPRGRP": "health program reporting",
        "HQUALIMP": "health quality improvement",
        "HSYSADMIN": "health system administration",
        "LABELING": "labeling",
        "METAMGT": "metadata management",
        "MEMADMIN": "member administration",
        "MILCDM": "military command",
        "PATADMIN": "patient administration",
        "PATSFTY": "patient safety",
        "PERFMSR": "performance measure",
        "RECORDMGT": "records management",
        "SYSDEV": "system development",
        "HTEST": "test health data",
        "TRAIN": "training",
        "HMARKT": "healthcare marketing",
        "HRESCH": "healthcare research",
        "BIORCH": "biomedical research",
        "CLINTRCH": "clinical trial research",
        "CLINTRCHNPC": "clinical trial research without patient care",
        "CLINTRCHPC": "clinical trial research with patient care",
        "PRECLINTRCH": "preclinical trial research",
        "DSRCH": "disease specific healthcare research",
        "POARCH": "population origins or ancestry healthcare research",
        "TRANSRCH": "translational healthcare research",
        "PATRQT": "patient requested",
        "FAMRQT": "family requested",
        "PWATRNY": "power of attorney",
        "SUPNWK": "support network",
        "PUBHLTH": "public health",
        "DISASTER": "disaster",
        "THREAT": "threat",
    }
)
"""HL7's codes for the purpose of use (value set v3-PurposeOfUse of FHIR R4), with their names."""

Pseudonymised = Literal["patient", "study", "user"]
"""What is kept as a pseudonym alone."""

NUMBER_LONGEST = 256
"""Characters of a patient's, study's or user's number."""
PERSON_LONGEST = 128
"""Characters of a person's id."""
APPLICATION_LONGEST = 64
"""Characters of an application's id."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+|=-]*")
_UNFIT = "unfit"


def is_id(value: str, longest: int) -> bool:
    """Tell whether `value` is an id of a person or an application: no spaces, so that it can carry no sentence."""
    return len(value) <= longest and _ID.fullmatch(value) is not None


def pseudonym(digester: Digester, kind: Pseudonymised, value: str) -> str:
    """Give the pseudonym of a patient's, study's or user's number: 64 hex characters, the same for the same number.

    Spaces around the number do not count, nor how its characters are composed (Unicode NFC).
    """
    return digester.digest(kind, unicodedata.normalize("NFC", value).strip().encode("utf-8", "surrogatepass"))


def context_of(said: Context, digester: Digester) -> ContextV1 | None:
    """Make what is kept of what was said; None where nothing was.

    What has not the form of a code or an id could carry content, so the word ``unfit`` takes its place.
    """
    if said == NOTHING_SAID:
        return None
    return ContextV1(
        purpose=None if said.purpose is None else said.purpose if said.purpose in PURPOSES else _UNFIT,
        on_behalf_of=_id(said.on_behalf_of, PERSON_LONGEST),
        patient=None if said.patient is None else pseudonym(digester, "patient", said.patient),
        study=None if said.study is None else pseudonym(digester, "study", said.study),
        task=None if said.task is None else said.task if is_code(said.task) else _UNFIT,
        user=None if said.user is None else pseudonym(digester, "user", said.user),
        claimed_person=_id(said.claimed_person, PERSON_LONGEST),
        claimed_application=_id(said.claimed_application, APPLICATION_LONGEST),
    )


def _id(value: str | None, longest: int) -> str | None:
    return None if value is None else value if is_id(value, longest) else _UNFIT
