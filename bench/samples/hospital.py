"""A hospital as the samples have it: its departments and keys, what they ask for, and what becomes of it."""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """What was decided, by which rule and for which reason, and in which quarter of 0..1 the risk lay."""

    outcome: str
    rule: str
    reason: str | None
    band: int | None


class Combination(NamedTuple):
    """What one template is made for."""

    word: Word
    department: str
    key: str
    revision: int = 0
    version: str = ""
    modality: str | None = None
    model: str = ""
    purpose: str | None = None
    task: str | None = None


class Habit(NamedTuple):
    """What a key is used for: an application has one task and few models."""

    modalities: tuple[str | None, ...]
    models: tuple[str, ...]
    purposes: tuple[str | None, ...]
    task: str | None


DEPARTMENTS = (
    "radiology",
    "pathology",
    "dermatology",
    "cardiology",
    "oncology",
    "emergency",
    "orthopaedics",
    "neurology",
    "ophthalmology",
    "paediatrics",
    "gynaecology",
    "research",
)
KEYS = 8
"""API keys of each department."""
PERSONS = 60
"""People of each department who sign in."""

MODALITIES = ("ct", "mr", "xray", "ultrasound", None)
MODELS = ("medgemma-4b-it", "medgemma-27b-it", "SmolLM2-135M-Instruct")
PURPOSES = ("TREAT", "TREAT", "TREAT", "TREAT", "TREAT", "HOPERAT", "ETREAT", "HPAYMT", None)
TASKS = ("report-draft", "triage", "coding", None)
WORDS = {
    Word("released", "audit", None, 0): 700,
    Word("released", "audit", None, 1): 120,
    Word("refused", "tiers", "risk", 2): 20,
    Word("refused", "tiers", "risk", 3): 60,
    Word("refused", "prescreen[0].on_failure", "stage-failed", None): 5,
    Word("refused", "unreadable", "not-inspected", None): 5,
    Word("withheld", "audit[0]", "finding", 0): 30,
    Word("withheld", "audit[1]", "finding", 1): 25,
    Word("withheld", "backend", "model-failed", 0): 10,
    Word("withheld", "audit[3]", "stage-failed", 0): 1,
    Word("", "", None, None): 24,
}
"""What happens, and how often, of a thousand records; a look at the log last."""
