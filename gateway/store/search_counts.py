"""Counts the records that meet a filter, and how many have each value of a field.

Whole days and months are counted already (`facet_days`), and so is all time (`facets.total`); what is left of a time
window at its ends is counted from the index of times. Fields with very many values are counted record by record, up to
a bound.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection

from gateway.errors import InvalidRequest
from gateway.store.filters import COUNTED, Filter
from gateway.store.indexing import month_of
from gateway.store.search_source import lead_values, leading_to_count, source_of
from gateway.store.search_spans import size_of
from gateway.store.search_where import Where, of_facets, of_listed, run
from gateway.store.tables import Instant

Value = str | int | None
_TOGETHER = 4  # fields that are counted at once
_FOREVER = dt.date(9999, 12, 31)
_BEGINNING = dt.date(1970, 1, 1)


class Tally(Struct, frozen=True, kw_only=True):
    """How many records meet a filter, and for each field asked for its values with their numbers, most first.

    Where `exact` is false there are more: what is told is a lower bound.
    """

    total: int
    exact: bool
    facets: Mapping[str, tuple[tuple[Value, int], ...]]


def tally(connection: Connection, filter_: Filter, fields: Sequence[str] = (), *, most: int | None = None) -> Tally:
    """Count; what must be counted record by record, up to `most` where that is given.

    Raises InvalidRequest for a field that can not be counted by value.
    """
    fields = tuple(dict.fromkeys(fields))
    for name in fields:
        if name not in COUNTED:
            raise InvalidRequest(f"`{_shown(name)}` can not be counted by value; choose from {', '.join(COUNTED)}")
    if filter_.nothing:
        return Tally(total=0, exact=True, facets=dict.fromkeys(fields, ()))
    exact = True
    if of_listed(filter_):
        rows, exact = _listed(connection, filter_, fields, most)
        groups = [(fields, rows)]
    else:
        groups = _counted(connection, filter_, fields)
    by_value: dict[str, Counter[Value]] = {name: Counter() for name in fields}
    for names, rows in groups:
        for *values, number in rows:
            for name, value in zip(names, values, strict=True):
                by_value[name][value] += int(number or 0)
    total = sum(int(row[-1] or 0) for row in groups[0][1])
    if not exact and most is not None:
        total = most
    return Tally(total=total, exact=exact, facets={name: _most_first(counts) for name, counts in by_value.items()})


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() and c != "`" else "�" for c in name[:64])


def _most_first(counts: Counter[Value]) -> tuple[tuple[Value, int], ...]:
    return tuple(sorted(counts.items(), key=lambda one: (-one[1], one[0] is None, str(one[0]))))


def _grouped(fields: Sequence[str]) -> tuple[str, str]:
    names = ", ".join(f"f.{name}" for name in fields)
    return (f"{names}, " if names else ""), (f" GROUP BY {names}" if names else "")


def _counted(connection: Connection, filter_: Filter, fields: Sequence[str]) -> list[tuple[tuple[str, ...], list[Any]]]:
    """Count by combinations; a few fields at a time, since sorting by many costs more than reading again."""
    groups = [fields[start : start + _TOGETHER] for start in range(0, len(fields), _TOGETHER)] or [()]
    return [(tuple(group), _by_values(connection, filter_, group)) for group in groups]


def _by_values(connection: Connection, filter_: Filter, fields: Sequence[str]) -> list[Any]:
    asked = of_facets(filter_)
    names, group = _grouped(fields)
    if filter_.since is None and filter_.until is None:
        sql = f"SELECT {names}coalesce(sum(f.total), 0) AS number FROM facets f WHERE 1 = 1{asked.sql}{group}"  # noqa: S608 - no value of a caller is in it
        return run(connection, sql, asked)
    pieces, binds = _pieces(filter_)
    if not pieces:
        return []
    by_facet = f"SELECT facet, sum(number) AS number FROM ({' UNION ALL '.join(pieces)}) p GROUP BY facet"  # noqa: S608 - no value of a caller is in it
    sql = (
        f"SELECT {names}coalesce(sum(c.number), 0) AS number FROM ({by_facet}) c CROSS JOIN facets f"  # noqa: S608 - no value of a caller is in it
        f" WHERE f.id = c.facet{asked.sql}{group}"
    )
    return run(connection, sql, Where(binds=(*asked.binds, *binds)))


def _pieces(filter_: Filter) -> tuple[list[str], tuple[sa.BindParameter[Any], ...]]:
    """Cut a time window into months and days that are counted already, and what is left of it."""
    first = _BEGINNING if filter_.since is None else _next_day(filter_.since)
    last = _FOREVER if filter_.until is None else filter_.until.astimezone(dt.UTC).date()
    times: list[tuple[dt.datetime | None, dt.datetime | None]] = []
    counted: list[tuple[str, str]] = []
    if first >= last:
        times.append((filter_.since, filter_.until))
    else:
        times.append((filter_.since, None if filter_.since is None else _midnight(first)))
        times.append((None if filter_.until is None else _midnight(last), filter_.until))
        counted = _counted_ranges(first, last)
    sql: list[str] = []
    binds: list[sa.BindParameter[Any]] = []
    for number, (low, high) in enumerate(counted):
        sql.append(
            f"SELECT facet, count AS number FROM facet_days WHERE day >= :day{number} AND day < :end{number}"  # noqa: S608 - no value of a caller is in it
        )
        binds += [sa.bindparam(f"day{number}", low), sa.bindparam(f"end{number}", high)]
    for number, (since, until) in enumerate(times):
        if since is None or until is None or since >= until:
            continue
        sql.append(
            f"SELECT facet, count(*) AS number FROM entries WHERE at >= :at{number} AND at < :to{number} GROUP BY facet"  # noqa: S608 - no value of a caller is in it
        )
        binds += [
            sa.bindparam(f"at{number}", since, type_=Instant()),
            sa.bindparam(f"to{number}", until, type_=Instant()),
        ]
    return sql, tuple(binds)


def _counted_ranges(first: dt.date, last: dt.date) -> list[tuple[str, str]]:
    """Give the keys of `facet_days`, from and before, that make the days from `first` on and before `last`."""
    month = first if first.day == 1 else (first.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
    final = last.replace(day=1)
    if month >= final:
        return [(first.isoformat(), last.isoformat())]
    ranges = [
        (first.isoformat(), month.isoformat()),
        (month_of(month.isoformat()), month_of(final.isoformat())),
        (final.isoformat(), last.isoformat()),
    ]
    return [(low, high) for low, high in ranges if low < high]


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _next_day(at: dt.datetime) -> dt.date:
    at = at.astimezone(dt.UTC)
    return at.date() if at.time() == dt.time() else at.date() + dt.timedelta(days=1)


def _listed(connection: Connection, filter_: Filter, fields: Sequence[str], most: int | None) -> tuple[list[Any], bool]:
    """Count record by record, by the index that leads; up to `most`, and one more, which tells that there are more."""
    lead = leading_to_count(connection, filter_)
    source = source_of(connection, filter_, lead)
    values = lead_values(filter_, lead)
    names, group = _grouped(fields)
    limit = "" if most is None else f" LIMIT {int(most) + 1}"
    rows_of = f"SELECT e.position, e.facet FROM {source.tables} WHERE 1 = 1{source.where.sql}{limit}"  # noqa: S608 - no value of a caller is in it
    one = f"SELECT * FROM ({source.before}{rows_of}) v"  # noqa: S608 - no value of a caller is in it
    # A union, for a record may speak of several of the subjects asked for.
    each = " UNION ".join(one.replace(":value", f":value{number}") for number in range(len(values)))
    found = f"SELECT p.facet, count(*) AS number FROM (SELECT * FROM ({each}) u{limit}) p GROUP BY p.facet"  # noqa: S608 - no value of a caller is in it
    sql = f"SELECT {names}sum(c.number) AS number FROM ({found}) c CROSS JOIN facets f WHERE f.id = c.facet{group}"  # noqa: S608 - no value of a caller is in it
    bound = {} if lead is None else {f"value{number}": value for number, value in enumerate(values)}
    rows = run(connection, sql, source.where, low=0, high=size_of(connection), **bound)
    return rows, most is None or sum(int(row[-1] or 0) for row in rows) <= most
