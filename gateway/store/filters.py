"""What records are searched for: fields and their values, as a query string gives them."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from gateway.errors import InvalidRequest
from gateway.records import ALL, Caller
from gateway.store.search_traits import BANDS, DIMENSIONS, fit_dimension

ABSENT = "-"
"""Stands for records in which a field has no value, such as a purpose that was not given."""

EVERY = "*"
"""Stands, as a kind, for every kind."""

LONGEST = 256
"""Characters of one value."""

MOST = 100
"""Values in one filter."""

_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "kind": "kinds",
        "department": "departments",
        "outcome": "outcomes",
        **{name: name for name in (*DIMENSIONS[3:-1], "person", "patient", "study", "subject")},
    }
)
_BOUNDS = ("since", "until", "min_risk")

LISTED = ("person", "patient", "study", "subject")
"""Fields with very many values; each has an index of its own."""

COUNTED = tuple(name for name in _FIELDS if name not in LISTED)
"""Fields with few values, which can be counted by value."""

FIELDS = (*_FIELDS, *_BOUNDS)
"""Every field of a filter, by its name in a query."""

_SPAN = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TIME = "expected RFC 3339 with a zone (`2026-01-31T08:00:00Z`), a date (`2026-01-31`), or a span back from now (`7d`)"
_FIRST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)  # no record is older, and no older time sorts as text


class Filter(Struct, frozen=True, kw_only=True):
    """What records are searched for. Fields that are given must all hold; of a field's several values any may.

    `since` is inclusive, `until` is not, both of a record's `at`. `subject` are ids that a record speaks of, `kinds`
    such as ``decision.v1``. `min_risk` keeps decisions whose risk is at least that. `-` stands for no value.
    `nothing` is a filter that no record meets.
    """

    kinds: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    endpoint: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    application: tuple[str, ...] = ()
    person: tuple[str, ...] = ()
    purpose: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    rule: tuple[str, ...] = ()
    reason: tuple[str, ...] = ()
    policy: tuple[str, ...] = ()
    revision: tuple[str, ...] = ()
    policy_digest: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    patient: tuple[str, ...] = ()
    study: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    min_risk: float | None = None
    nothing: bool = False

    def values(self, field: str) -> tuple[str, ...]:
        """Give the values of a field, by its name in a query; empty where it is not filtered by."""
        found: tuple[str, ...] = getattr(self, _FIELDS[field])
        return found

    def pairs(self, *, times: bool = True) -> tuple[tuple[str, str], ...]:
        """Give the filter as a query has it: fields in their order, values sorted."""
        found = [(name, value) for name in _FIELDS for value in sorted(self.values(name))]
        if times:
            for name, at in (("since", self.since), ("until", self.until)):
                if at is not None:
                    found.append((name, at.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")))
        if self.min_risk is not None:
            found.append(("min_risk", repr(self.min_risk)))
        return tuple(found)

    def text(self, *, times: bool = True) -> str:
        """Give the filter as ``field=value&field=value``: the same filter always gives the same text."""
        return urlencode(self.pairs(times=times))

    def within(self, caller: Caller) -> Filter:
        """Narrow to what `caller` may see: their own department, unless they look after all."""
        if caller.department == ALL or "admin" in caller.roles:
            return self
        if self.departments and caller.department not in self.departments:
            return msgspec.structs.replace(self, nothing=True)
        return msgspec.structs.replace(self, departments=(caller.department,))

    @property
    def whole_bands(self) -> bool:
        """Tell whether `min_risk` lies on the edge of a band, so that combinations alone answer it."""
        return self.min_risk is None or (self.min_risk < 1.0 and (self.min_risk * BANDS).is_integer())

    def of_decisions(self) -> Filter:
        """Narrow to decisions, unless it says which kinds it wants, or asks for what only other kinds have."""
        if self.kinds or self.subject or self.action:
            return self
        return msgspec.structs.replace(self, kinds=("decision.v1",))


def parse_filter(pairs: Iterable[tuple[str, str]], *, now: dt.datetime | None = None) -> Filter:
    """Read a filter from the fields of a query; spans such as ``7d`` count back from `now`.

    A field that is repeated means any of its values. Raises InvalidRequest naming the field.
    """
    now = now or dt.datetime.now(dt.UTC)
    several: dict[str, list[str]] = {}
    bounds: dict[str, Any] = {}
    for number, (name, value) in enumerate(pairs):
        if number >= MOST:
            raise InvalidRequest(f"a filter has at most {MOST} values; send several requests")
        if name not in FIELDS:
            raise InvalidRequest(_unknown(name), param=name[:64])
        if not value or len(value) > LONGEST or not value.isprintable():
            raise InvalidRequest(f"`{name}`: expected 1 to {LONGEST} printable characters", param=name)
        if name in _BOUNDS:
            if name in bounds:
                raise InvalidRequest(f"`{name}` is given twice; give it once", param=name)
            bounds[name] = _risk(value) if name == "min_risk" else _time(name, value, now)
        else:
            several.setdefault(_FIELDS[name], []).append(_value(name, value))
    since, until = bounds.get("since"), bounds.get("until")
    if since is not None and until is not None and since >= until:
        raise InvalidRequest(
            "`since` must lie before `until`; a filter takes what is from `since` on and before `until`"
        )
    given: dict[str, Any] = {name: tuple(dict.fromkeys(values)) for name, values in several.items()}
    return Filter(**given, **bounds)


def _unknown(name: str) -> str:
    shown = "".join(c if c.isprintable() and c != "`" else "�" for c in name[:64])
    close = difflib.get_close_matches(shown, FIELDS, n=1, cutoff=0.7)
    hint = f", did you mean `{close[0]}`?" if close else ""
    return f"`{shown}` is no field of a filter{hint}; the fields are: {', '.join(FIELDS)}"


def _value(name: str, value: str) -> str:
    if name == "revision" and value != ABSENT and not re.fullmatch(r"-?\d{1,9}", value, re.ASCII):
        raise InvalidRequest("`revision`: expected a whole number", param=name)
    if name in LISTED or value == ABSENT or name == "revision":
        return value
    return fit_dimension(name, value)  # a longer value was cut in the index as well


def _risk(value: str) -> float:
    if re.fullmatch(r"[01](\.\d{1,17})?|\.\d{1,17}", value, re.ASCII) and 0.0 <= float(value) <= 1.0:
        return float(value)
    raise InvalidRequest("`min_risk`: expected a number from 0 to 1", param="min_risk")


def _time(name: str, value: str, now: dt.datetime) -> dt.datetime:
    try:
        if span := _SPAN.fullmatch(value):
            return max(_FIRST, now - dt.timedelta(**{_UNITS[span[2]]: int(span[1])}))
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            return max(_FIRST, dt.datetime.combine(dt.date.fromisoformat(value), dt.time(), dt.UTC))
        at = dt.datetime.fromisoformat(value.replace(" ", "+"))  # a plus that a query did not escape reads as a space
        if at.tzinfo is not None:
            return max(_FIRST, at.astimezone(dt.UTC))
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"`{name}`: {_TIME}", param=name)
