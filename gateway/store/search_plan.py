"""Finds the positions of the records that meet a filter, newest or oldest first, without reading what does not.

Combinations (`facets`) are few, so a filter is first answered there. Then one of these ways is taken:

- by a field with very many values (a patient, what a record speaks of), which has its own index;
- along the positions, where so many records meet the filter that a page is soon full, or a time window is small;
- by combinations: one probe into the index of each gives its next record; the page's records lie in those combinations
  whose next record is nearest, at most as many as the page has rows, and only these are read further. (The threshold
  argument of R. Fagin, A. Lotem, M. Naor: Optimal aggregation algorithms for middleware, 2003.) A person's records are
  found so too, among the combinations that the person has.
"""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection

from gateway.store.filters import Filter
from gateway.store.search_source import MINE, lead_values, leading, source_of
from gateway.store.search_spans import NEWEST, Order, Span, spans_of
from gateway.store.search_where import Where, indexed, of_facets, of_listed, of_times, run

_WALK = 20_000  # positions that a page may be expected to walk over
_GROUP = 16  # combinations in one statement


def find(connection: Connection, filter_: Filter, within: Span, limit: int, order: Order = NEWEST) -> list[int]:
    """Give at most `limit` positions within `within` of records that meet the filter, in that order."""
    if filter_.nothing or limit < 1:
        return []
    spans = spans_of(connection, filter_, within)
    if not spans:
        return []
    whole = Span(spans[0].low, spans[-1].high)
    lead = leading(connection, filter_)
    if lead == "person":
        return _by_person(connection, filter_, whole, limit, order)
    if lead is not None:
        return _by_list(connection, filter_, lead, whole, limit, order)
    found: list[int] = []
    for span in reversed(spans) if order.newest_first else spans:
        found += _in_span(connection, filter_, span, limit - len(found), order)
        if len(found) >= limit:
            break
    return found


def _by_list(connection: Connection, filter_: Filter, lead: str, span: Span, limit: int, order: Order) -> list[int]:
    source = source_of(connection, filter_, lead)
    at = "s.position" if lead == "subject" else "e.position"
    sql = (
        f"{source.before}SELECT {at} AS position FROM {source.tables} WHERE 1 = 1{source.where.sql}"  # noqa: S608 - no value of a caller is in it
        f" ORDER BY {at} {order.sql} LIMIT :limit"
    )
    found: set[int] = set()
    for value in lead_values(filter_, lead):
        rows = run(connection, sql, source.where, value=value, low=span.low, high=span.high, limit=limit)
        found |= {row.position for row in rows}
    return order.best(list(found), limit)


def _by_person(connection: Connection, filter_: Filter, span: Span, limit: int, order: Order) -> list[int]:
    asked, rest = of_facets(filter_), of_times(filter_) + of_listed(filter_, but="person")
    asked += Where(("f.id = mine.facet",))
    rest = Where(("e.person = :value",)) + rest
    found: list[int] = []
    for person in filter_.person:
        found += _by_facets(connection, asked, rest, span, limit, order, person)
    return order.best(found, limit)


class _Summary(Struct, frozen=True):
    number: int
    total: int
    low: int
    high: int


def _summary(connection: Connection, asked: Where, span: Span) -> _Summary:
    """Tell how many combinations meet the filter, and how many records they have and where, at most."""
    sql = (
        "SELECT count(*) AS number, coalesce(sum(f.total), 0) AS total, coalesce(min(f.oldest), 0) AS low,"  # noqa: S608 - no value of a caller is in it
        f" coalesce(max(f.newest) + 1, 0) AS high FROM facets f WHERE f.oldest < :high AND f.newest >= :low{asked.sql}"
    )
    row = run(connection, sql, asked, low=span.low, high=span.high)[0]
    low, high = max(span.low, row.low), min(span.high, row.high)
    return _Summary(row.number, int(row.total), low, high)


def _in_span(connection: Connection, filter_: Filter, span: Span, limit: int, order: Order) -> list[int]:
    asked, rest = of_facets(filter_), of_times(filter_) + of_listed(filter_)
    if not asked:
        return _walk(connection, asked, rest, span, limit, order)
    seen = _summary(connection, asked, span)
    span = Span(seen.low, seen.high)
    if seen.number == 0 or span.low >= span.high:
        return []
    width = span.high - span.low
    found: list[int] = []
    expected = limit * width // max(seen.total, 1)
    if width <= 2 * _WALK or expected <= _WALK:
        first, span = order.first(span, max(2 * _WALK if width <= 2 * _WALK else 0, 2 * expected + 1000))
        found = _walk(connection, asked, rest, first, limit, order)
        if len(found) >= limit or span.low >= span.high:
            return found
    return found + _by_facets(connection, asked, rest, span, limit - len(found), order)


def _walk(connection: Connection, asked: Where, rest: Where, span: Span, limit: int, order: Order) -> list[int]:
    where = asked + rest
    joined, on = (" CROSS JOIN facets f", " AND f.id = e.facet") if asked else ("", "")
    sql = (
        f"SELECT e.position FROM entries e{joined} WHERE e.position >= :low AND e.position < :high{on}{where.sql}"  # noqa: S608 - no value of a caller is in it
        f" ORDER BY e.position {order.sql} LIMIT :limit"
    )
    return [row.position for row in run(connection, sql, where, low=span.low, high=span.high, limit=limit)]


def _by_facets(
    connection: Connection,
    asked: Where,
    rest: Where,
    span: Span,
    limit: int,
    order: Order,
    person: str | None = None,
) -> list[int]:
    entries_ = (
        f"entries e {indexed(connection, 'ix_entries_facet_position' if person is None else 'ix_entries_person')}"
    )
    before, facets = ("", "facets f") if person is None else (MINE, "mine CROSS JOIN facets f")
    values = {"low": span.low, "high": span.high, "limit": limit} | ({} if person is None else {"value": person})
    known, outside = ("f.newest", "f.newest < :high") if order.newest_first else ("f.oldest", "f.oldest >= :low")
    probe = (
        f"(SELECT e.position FROM {entries_} WHERE e.facet = f.id AND e.position >= :low AND e.position < :high"  # noqa: S608 - no value of a caller is in it
        f"{rest.sql} ORDER BY e.position {order.sql} LIMIT 1)"
    )
    if not rest:
        probe = f"CASE WHEN {outside} THEN {known} ELSE {probe} END"
    sql = (
        f"{before}SELECT f.id, {probe} AS next FROM {facets} WHERE f.oldest < :high AND f.newest >= :low{asked.sql}"  # noqa: S608 - no value of a caller is in it
        f" ORDER BY next {order.sql} NULLS LAST LIMIT :limit"
    )
    heads = [(row.id, row.next) for row in run(connection, sql, asked + rest, **values) if row.next is not None]
    best: list[int] = []
    for start in range(0, len(heads), _GROUP):
        group = heads[start : start + _GROUP]
        if len(best) >= limit:
            span = order.down_to(span, best[-1])
            if not span.low <= group[0][1] < span.high:
                break
        merged = " UNION ALL ".join(
            f"SELECT * FROM (SELECT e.position FROM {entries_} WHERE e.facet = {int(facet)} AND e.position >= :low"  # noqa: S608 - a number of ours
            f" AND e.position < :high{rest.sql} ORDER BY e.position {order.sql} LIMIT :limit) t{number}"
            for number, (facet, _) in enumerate(group)
        )
        rows = run(connection, merged, rest, **values | {"low": span.low, "high": span.high})
        best = order.best([*best, *(row.position for row in rows)], limit)
    return best
