"""A record in short, for lists of what was found: what it was found by, and for a look who looked, how and why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Any

from gateway.records import ALL, AccessV1, Caller, DecisionV1, HoldV1, OpenedV1, ReauditV1, Record, ReviewV1
from gateway.store.search import Found
from gateway.store.search_traits import DIMENSIONS, traits_of


def summary(found: Found, viewer: Caller, subjects: Collection[str] = ()) -> dict[str, Any]:
    """Give a record in short; what says nothing is left out.

    Of a record that may name decisions of other departments, only those of `subjects` are named: what was asked for.
    """
    record, stored = found.stored.record, found.stored
    traits = traits_of(record)
    values: dict[str, Any] = {
        "id": stored.id,
        "at": _text(record.at),
        "position": found.position,
        "sequence": found.stored.sequence,
        "leaf": stored.leaf,
        **{name: value for name, value in zip(DIMENSIONS, traits.dimensions, strict=True) if name != "band"},
        "person": traits.person,
        "roles": list(record.caller.roles),
    }
    if isinstance(record, DecisionV1):
        values |= {
            "patient": traits.patient,
            "study": traits.study,
            "risk": traits.risk,
            "reasons": [one.code for one in getattr(record.final, "reasons", ())],
            "ms": record.ms,
        }
        if record.streamed is not None:
            values |= {"streamed": record.streamed.mode, "stream_ended": record.streamed.ended, "left": record.left}
    else:
        values |= _event(record, open_to(record, viewer), subjects)
    return {name: value for name, value in values.items() if value is not None}


def open_to(record: Record, viewer: Caller) -> bool:
    """Tell whether all that a record names belongs to what `viewer` may see, so that they may have it whole.

    A look of a caller who sees one department names decisions of that department alone.
    """
    if viewer.department == ALL or "admin" in viewer.roles:
        return True
    if isinstance(record, DecisionV1 | OpenedV1 | ReviewV1 | ReauditV1):
        return record.department == viewer.department
    caller = record.caller
    return caller.department == viewer.department and "admin" not in caller.roles and caller.grant is None


def _event(record: Record, whole: bool, subjects: Collection[str]) -> dict[str, Any]:
    named = traits_of(record).subjects
    values: dict[str, Any] = {
        "about": [one for one in named if whole or one in subjects],
        "via": record.caller.via,
        "grant": record.caller.grant,
        "why": getattr(record, "reason", None),
    }
    match record:
        case AccessV1():
            values |= {"why": record.why, "rows": record.rows, "filter": record.filter if whole else None}
        case ReviewV1():
            values |= {"verdict": record.verdict, "confirms": record.confirms, "assignee": record.assignee}
        case OpenedV1():
            values |= {"hold_back": record.hold_back}
        case HoldV1():
            values |= {"hold": record.hold}
        case ReauditV1():
            values |= {"batch": record.batch, "before": record.before, "after": record.after, "source": record.source}
        case _:
            pass
    return values


def _text(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
