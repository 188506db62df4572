"""The query of the decisions page: fields of its form, presets, and the links that add or take away a value."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from urllib.parse import urlencode

from msgspec import Struct

PATH = "/console/decisions"

TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "department": "Department",
        "rule": "Rule",
        "reason": "Reason",
        "revision": "Policy revision",
        "person": "Person",
        "key": "Key",
        "application": "Application",
        "model": "Model",
        "modality": "Modality",
        "purpose": "Purpose of use",
        "task": "Task",
    }
)
"""Fields of the form that take a word, by their names in a filter."""

OUTCOMES = ("released", "refused", "withheld", "screened")

BOUNDS: Mapping[str, str] = MappingProxyType({"since": "From", "until": "Before", "min_risk": "Risk at least"})

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "outcome": "Outcome",
        **TEXTS,
        **BOUNDS,
        "patient": "Patient",
        "study": "Study",
        "policy": "Policy",
        "policy_digest": "Policy digest",
        "gateway": "Gateway version",
        "endpoint": "Endpoint",
        "mode": "Mode",
    }
)
"""Every field that a decision is found by here, as people read it."""

FACETS = ("outcome", "department", "rule", "reason", "revision", "key", "model", "modality", "purpose", "application")
"""The fields whose values are counted beside the list."""

Pairs = tuple[tuple[str, str], ...]


class Chip(Struct, frozen=True, kw_only=True):
    """A value that is filtered by, and the address without it."""

    label: str
    value: str
    without: str


class Preset(Struct, frozen=True, kw_only=True):
    """A question that is asked often, its address, and whether it is the one that is shown."""

    name: str
    path: str
    current: bool


def address(pairs: Iterable[tuple[str, str]]) -> str:
    """Give the address of the decisions that `pairs` filter for."""
    query = urlencode(tuple(pairs))
    return f"{PATH}?{query}" if query else PATH


def chosen(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """Keep what was filled in: a form sends its empty fields as well, and the cursor is no part of a filter."""
    return tuple(
        (name, value.strip()) for name, value in pairs if value.strip() and name not in ("cursor", "kind", "subject")
    )


def chips(pairs: Pairs) -> tuple[Chip, ...]:
    """Give what is filtered by, each with the address without it."""
    return tuple(
        Chip(
            label=LABELS.get(name, name),
            value="not given" if value == "-" else value,
            without=address(pair for other, pair in enumerate(pairs) if other != number),
        )
        for number, (name, value) in enumerate(pairs)
    )


def with_value(pairs: Pairs, name: str, value: str) -> str:
    """Give the address that filters by this value of a field, in place of others of the field."""
    return address((*(pair for pair in pairs if pair[0] != name), (name, value)))


def presets(pairs: Pairs, now: dt.datetime) -> tuple[Preset, ...]:
    """Give the questions that are asked often; a week begins on Monday, 00:00 UTC."""
    monday = now.astimezone(dt.UTC).date() - dt.timedelta(days=now.weekday())
    before = monday - dt.timedelta(days=7)
    last_week = (("since", before.isoformat()), ("until", monday.isoformat()))
    asked: dict[str, Pairs] = {
        "All decisions": (),
        f"Refused last week ({before:%d %b} to {monday - dt.timedelta(days=1):%d %b})": (
            ("outcome", "refused"),
            *last_week,
        ),
        "Refused in the last 7 days": (("outcome", "refused"), ("since", "7d")),
        "Withheld in the last 7 days": (("outcome", "withheld"), ("since", "7d")),
        "A check failed, last 7 days": (("reason", "stage-failed"), ("since", "7d")),
    }
    return tuple(
        Preset(name=name, path=address(wanted), current=sorted(wanted) == sorted(pairs))
        for name, wanted in asked.items()
    )
