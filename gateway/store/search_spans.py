"""Pieces of the log by position, the two ways to go along them, and the pieces that a time window may touch."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection

from gateway.store.filters import Filter
from gateway.store.indexing import BLOCK
from gateway.store.search_where import Where, of_times, run

_RUNS = 16  # pieces of the log that a time window is made of; above, the rest is taken as one


class Span(Struct, frozen=True):
    """Positions from `low` on and before `high`."""

    low: int
    high: int


class Order(Struct, frozen=True):
    """Which way a page goes."""

    newest_first: bool

    @property
    def sql(self) -> str:
        """Give the word of it."""
        return "DESC" if self.newest_first else "ASC"

    def best(self, positions: Sequence[int], limit: int) -> list[int]:
        """Give the first `limit` of `positions`, in this order."""
        return heapq.nlargest(limit, positions) if self.newest_first else heapq.nsmallest(limit, positions)

    def after(self, span: Span, position: int) -> Span:
        """Give what of `span` comes after a page that ended at `position`."""
        return Span(span.low, position) if self.newest_first else Span(position + 1, span.high)

    def down_to(self, span: Span, position: int) -> Span:
        """Give what of `span` comes before `position`, and that itself."""
        if self.newest_first:
            return Span(max(span.low, position), span.high)
        return Span(span.low, min(span.high, position + 1))

    def first(self, span: Span, width: int) -> tuple[Span, Span]:
        """Cut `span` in two, of which the first has `width` positions."""
        if self.newest_first:
            cut = max(span.low, span.high - width)
            return Span(cut, span.high), Span(span.low, cut)
        cut = min(span.high, span.low + width)
        return Span(span.low, cut), Span(cut, span.high)


NEWEST, OLDEST = Order(True), Order(False)


def size_of(connection: Connection) -> int:
    """Count the records in the index."""
    return int(run(connection, "SELECT coalesce(max(position) + 1, 0) AS size FROM entries")[0].size)


def spans_of(connection: Connection, filter_: Filter, within: Span) -> list[Span]:
    """Give the pieces of `within`, in their order, outside of which no record has a time that the filter asks for.

    They come of `entry_blocks`, and so hold for any order of times.
    """
    if filter_.since is None and filter_.until is None:
        return [within] if within.low < within.high else []
    times = of_times(filter_)
    terms = [term.replace("e.at >=", "latest >=").replace("e.at <", "earliest <") for term in times.terms]
    where = Where((*terms, "block >= :first", "block <= :last"), times.binds)
    bounds = {"first": within.low // BLOCK, "last": within.high // BLOCK}
    sql = f"FROM entry_blocks WHERE 1 = 1{where.sql}"
    found = run(connection, f"SELECT min(block) AS low, max(block) AS high, count(*) AS number {sql}", where, **bounds)[
        0
    ]
    if not found.number:
        return []
    pieces = [(found.low, found.high)]
    if found.number != found.high - found.low + 1:
        pieces = _pieces([row.block for row in run(connection, f"SELECT block {sql} ORDER BY block", where, **bounds)])
    spans = (Span(max(within.low, a * BLOCK), min(within.high, (b + 1) * BLOCK)) for a, b in pieces)
    return [span for span in spans if span.low < span.high]


def _pieces(blocks: Sequence[int]) -> list[tuple[int, int]]:
    pieces: list[tuple[int, int]] = []
    for block in blocks:
        if pieces and (pieces[-1][1] == block - 1 or len(pieces) >= _RUNS):
            pieces[-1] = (pieces[-1][0], block)
        else:
            pieces.append((block, block))
    return pieces
