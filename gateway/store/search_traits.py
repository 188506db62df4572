"""By what a record is found: which field of each kind of record goes into which column of the index. Pure.

=============  ==========================================================================================
`model`        of the last answer; of a decision without one, and of a stream, the model that was asked for
`rule`         of the final decision; of a re-audit, the candidate's
`reason`       code of the first reason; verdict of a review; cause of an erasure
`modality`     of the first image, by DICOM; else as the modality stage saw it
`action`       of a look, review or hold; what was changed; ``erased``; ``break-glass``; ``reaudit``; ``opened``
`application`  of the caller; else the one that the request claimed
`person`       of the caller; else on whose behalf; else the one that the request claimed
`department`   of the decision, stream, review, re-audit or emergency; else the caller's
=============  ==========================================================================================
"""

from __future__ import annotations

import hashlib
import math

import msgspec
from msgspec import Struct

from gateway.records import (
    AccessV1,
    BreakGlassV1,
    ChangeV1,
    ContextV1,
    DecisionV1,
    ErasureV1,
    HoldV1,
    OpenedV1,
    ReauditV1,
    Record,
    ReviewV1,
)
from gateway.records.shapes import CompletedV1, ScreenedV1
from gateway.store.tables import entries, entry_subjects, facets
from gateway.store.writer import columns_of

DIMENSIONS = (
    "kind",
    "department",
    "outcome",
    "endpoint",
    "key",
    "application",
    "purpose",
    "model",
    "modality",
    "task",
    "rule",
    "reason",
    "policy",
    "revision",
    "policy_digest",
    "gateway",
    "action",
    "mode",
    "band",
)
"""The columns of `facets` that tell one combination from another."""

BANDS = 4
"""Into how many equal parts the risk, 0..1, is cut."""

_LARGEST = 2**31 - 1  # what an integer column holds
_NO_CONTEXT = ContextV1()


class Traits(Struct, frozen=True, kw_only=True):
    """By what a record is found. `dimensions` are the values of `DIMENSIONS`; `subjects` the ids that it speaks of."""

    dimensions: tuple[str | int | None, ...]
    person: str | None
    patient: str | None = None
    study: str | None = None
    risk: float | None = None
    subjects: tuple[str, ...] = ()


def _widths(table: object, names: tuple[str, ...]) -> dict[str, int]:
    columns = getattr(table, "c")  # noqa: B009 - tables are not typed by their columns
    return {name: getattr(columns[name].type, "length", None) or 0 for name in names}


_WIDTHS = _widths(facets, DIMENSIONS)
_PERSON = _widths(entries, ("person",))["person"]
_SUBJECT = _widths(entry_subjects, ("subject",))["subject"]


def fit(value: str, width: int) -> str:
    """Give `value` as a column of `width` characters holds it: cut, without the character NUL.

    One record that does not fit must not keep the records after it out of the index.
    """
    return (value.replace("\x00", "�") if "\x00" in value else value)[:width]


def fit_dimension(name: str, value: str) -> str:
    """Give `value` as the column `name` of `facets` holds it."""
    return fit(value, _WIDTHS[name])


def fit_person(value: str) -> str:
    """Give `value` as `entries.person` holds it."""
    return fit(value, _PERSON)


def band_of(risk: float | None) -> int | None:
    """Tell in which of the `BANDS` parts of 0..1 a risk lies."""
    return None if risk is None else min(BANDS - 1, max(0, int(risk * BANDS)))


def digest_of(dimensions: tuple[str | int | None, ...]) -> bytes:
    """Give the digest by which a combination is unique."""
    return hashlib.sha256(msgspec.json.encode(dimensions)).digest()


def traits_of(record: Record) -> Traits:
    """Tell by what `record` is found."""
    match record:
        case DecisionV1():
            return _decision(record)
        case OpenedV1():
            return _opened(record)
        case AccessV1():
            return _event(record, record.decisions, endpoint=record.endpoint, action=record.action)
        case ReviewV1():
            about = (record.decision, *_given(record.refers))
            return _event(record, about, action=record.action, reason=record.verdict)
        case HoldV1():
            about = (record.hold, *(record.scope.decisions if record.scope is not None else ()))
            return _event(record, about, action=record.action)
        case ErasureV1():
            return _event(record, record.decisions, action="erased", reason=record.cause)
        case ChangeV1():
            return _event(record, (record.subject,), action=record.what)
        case BreakGlassV1():
            return _event(record, (), action="break-glass")
        case ReauditV1():
            return _event(
                record,
                (record.decision,),
                action="reaudit",
                reason=record.reasons[0].partition(":")[0] if record.reasons else None,
                rule=record.rule,
                policy_digest=record.policy,
            )


def _given(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _dimensions(values: dict[str, str | int | None]) -> tuple[str | int | None, ...]:
    found = (values.get(name) for name in DIMENSIONS)
    return tuple(
        fit_dimension(name, value) if isinstance(value, str) else value
        for name, value in zip(DIMENSIONS, found, strict=True)
    )


def _subjects(record: Record, about: tuple[str, ...]) -> tuple[str, ...]:
    given = (*about, *_given(record.caller.grant))
    return tuple(sorted({one for one in given if len(one) <= _SUBJECT and "\x00" not in one and one != record.id}))


def _event(
    record: OpenedV1 | AccessV1 | ReviewV1 | HoldV1 | ErasureV1 | ChangeV1 | BreakGlassV1 | ReauditV1,
    about: tuple[str, ...],
    **more: str | int | None,
) -> Traits:
    """Gather the traits of a record that is no decision; `more` are the dimensions that its kind has besides."""
    columns = columns_of(record)
    values: dict[str, str | int | None] = {
        "kind": str(columns["kind"]),
        "department": str(columns["department"]),
        "key": record.caller.key,
        "application": record.caller.application,
        **more,
    }
    person = record.caller.person
    return Traits(
        dimensions=_dimensions(values),
        person=None if person is None else fit_person(person),
        subjects=_subjects(record, about),
    )


def _opened(record: OpenedV1) -> Traits:
    return _event(
        record,
        (record.decision,),
        action="opened",
        endpoint=record.endpoint,
        model=record.model,
        policy=record.policy.department,
        revision=_fitting(record.policy.revision),
        policy_digest=record.policy.digest,
        gateway=record.gateway,
    )


def _fitting(revision: int) -> int:
    return min(max(revision, -_LARGEST), _LARGEST)


def _decision(record: DecisionV1) -> Traits:
    said = record.context or _NO_CONTEXT
    reasons = getattr(record.final, "reasons", ())
    risk = record.admission.risk
    if risk is not None and not math.isfinite(risk):
        risk = None
    values: dict[str, str | int | None] = {
        "kind": "decision.v1",
        "department": record.department,
        "outcome": record.outcome,
        "endpoint": record.endpoint,
        "key": record.caller.key,
        "application": record.caller.application or said.claimed_application,
        "purpose": said.purpose,
        "model": _model(record),
        "modality": _modality(record),
        "task": said.task,
        "rule": record.final.rule,
        "reason": reasons[0].code if reasons else None,
        "policy": record.policy.department,
        "revision": _fitting(record.policy.revision),
        "policy_digest": record.policy.digest,
        "gateway": record.gateway,
        "mode": record.mode,
        "band": band_of(risk),
    }
    person = record.caller.person or said.on_behalf_of or said.claimed_person
    return Traits(
        dimensions=_dimensions(values),
        person=None if person is None else fit_person(person),
        patient=None if said.patient is None else fit(said.patient, 64),
        study=None if said.study is None else fit(said.study, 64),
        risk=risk,
        subjects=_subjects(record, ()),
    )


def _model(record: DecisionV1) -> str:
    for attempt in reversed(record.attempts):
        if isinstance(attempt.completed, CompletedV1):
            return attempt.completed.model
    return record.model


def _modality(record: DecisionV1) -> str | None:
    for image in record.images:
        if image.modality is not None:
            return image.modality
    for word in record.screening:
        if isinstance(word, ScreenedV1):
            for finding in word.findings:
                if finding.kind == "mismatch" and finding.label is not None:
                    return finding.label
    return None
