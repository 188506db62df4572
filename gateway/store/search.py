"""Search over the log: pages, counts, and streams of the records that meet a filter.

These methods record nothing: what people ask goes through `gateway.store.office`. The index is written by the sequencer
and lags the log by up to a second: `complete` says how far it goes.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hmac
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TypeVar

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import InvalidRequest, Unavailable
from gateway.records import Digester, HoldV1
from gateway.store import faults
from gateway.store.filters import EVERY, Filter, parse_filter
from gateway.store.indexing import parts
from gateway.store.log import Stored, stored_of
from gateway.store.migrate import TROUBLE
from gateway.store.search_counts import Tally, Value, tally
from gateway.store.search_plan import find
from gateway.store.search_reindex import reindex
from gateway.store.search_spans import NEWEST, OLDEST, Span, size_of
from gateway.store.tables import decision_log, entries, facets

PAGE_LONGEST = 1000
"""Records of one page, at most."""

COUNTED_SINGLY = 10_000
"""Up to how many records are counted where they must be counted one by one."""

ABOUT_MOST = 500
"""Records about one decision that are given at once; a search by `subject` gives the rest."""

_OPENED = "opened.v1"
_PLACE = 8  # bytes of a position in a cursor
_MARK = 12  # bytes of a cursor's keyed digest
_PLANNED = sa.text(
    # Each question is planned for its own values: how rare they are decides. Compiling takes longer than it saves.
    "SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)"
)
_T = TypeVar("_T")


class Found(Struct, frozen=True, kw_only=True):
    """A record that was found, with its place in the tree, from 0."""

    position: int
    stored: Stored


class Complete(Struct, frozen=True, kw_only=True):
    """How far the index goes: it holds `size` records, up to number `sequence` of the log, which came at `at`."""

    size: int
    sequence: int
    at: dt.datetime | None


class Page(Struct, frozen=True, kw_only=True):
    """Records, newest first by their place in the tree. `next` is the cursor of the next page, None on the last.

    `tally` counts what the whole filter finds, None where that was not asked for.
    """

    rows: tuple[Found, ...]
    next: str | None
    complete: Complete
    tally: Tally | None = None


class Search:
    """The search over the log of one database."""

    def __init__(self, engine: AsyncEngine, digester: Digester) -> None:
        self._engine = engine
        self._digester = digester

    async def page(self, filter_: Filter, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Give at most `limit` records that meet the filter, after those of the page whose `next` was `cursor`.

        A record that is appended meanwhile comes before the first page, and so is on none. Raises InvalidRequest for a
        cursor that is none of this filter, LogDamaged where a record is not as it was written, and Unavailable.
        """
        if not 1 <= limit <= PAGE_LONGEST:
            raise InvalidRequest(f"`limit`: expected a number from 1 to {PAGE_LONGEST}", param="limit")
        before = None if cursor is None else self._position(cursor, filter_)

        def work(connection: Connection) -> tuple[list[int], tuple[Found, ...], Complete]:
            complete = _complete(connection)
            high = complete.size if before is None else min(before, complete.size)
            found = find(connection, filter_, Span(0, high), limit + 1, NEWEST)
            return found, _read(connection, found[:limit]), complete

        found, rows, complete = await self._run(work)
        following = self._cursor(found[limit - 1], filter_) if len(found) > limit else None
        return Page(rows=rows, next=following, complete=complete)

    async def stream(self, filter_: Filter, *, chunk: int = 1000) -> AsyncGenerator[tuple[Found, ...], None]:
        """Give all records that meet the filter, oldest first, in chunks; those in the index when it begins.

        Raises as `page` does.
        """
        high = (await self.complete()).size
        low = 0
        while low < high:
            span = Span(low, high)

            def work(connection: Connection, span: Span = span) -> tuple[Found, ...]:
                return _read(connection, find(connection, filter_, span, chunk, OLDEST))

            rows = await self._run(work)
            if rows:
                yield rows
            if len(rows) < chunk:
                return
            low = rows[-1].position + 1

    async def ids(self, filter_: Filter, *, chunk: int = 5000) -> AsyncGenerator[tuple[str, ...], None]:
        """Give the ids of all records that meet the filter, as `stream` gives the records; Unavailable."""
        high = (await self.complete()).size
        low = 0
        while low < high:
            span = Span(low, high)

            def work(connection: Connection, span: Span = span) -> tuple[tuple[int, str], ...]:
                return _ids(connection, find(connection, filter_, span, chunk, OLDEST))

            rows = await self._run(work)
            if rows:
                yield tuple(id_ for _, id_ in rows)
            if len(rows) < chunk:
                return
            low = rows[-1][0] + 1

    async def count(self, filter_: Filter) -> int:
        """Count the records that meet the filter, exactly. Raises Unavailable."""
        return (await self._run(lambda connection: tally(connection, filter_))).total

    async def tally(self, filter_: Filter, fields: Sequence[str] = ()) -> Tally:
        """Count the records that meet the filter, by the values of `fields`; up to `COUNTED_SINGLY` one by one.

        Raises InvalidRequest for a field that can not be counted by value, and Unavailable.
        """
        return await self._run(lambda connection: tally(connection, filter_, fields, most=COUNTED_SINGLY))

    async def facets(self, filter_: Filter, fields: Sequence[str]) -> Mapping[str, tuple[tuple[Value, int], ...]]:
        """Give for each of `fields` its values with how many records have them, most first; see `tally`."""
        return (await self.tally(filter_, fields)).facets

    async def about(self, decision_id: str) -> tuple[Found, ...]:
        """Give the records that speak of a decision, oldest first: looks, reviews, holds and their release, erasures.

        Of more than `ABOUT_MOST`, the latest. Raises as `page` does.
        """
        rows = (await self.page(_speaking_of(decision_id), limit=ABOUT_MOST)).rows
        holds = [row.stored.id for row in rows if isinstance(row.stored.record, HoldV1)]
        if holds:  # a hold's release names the hold alone
            rows += (await self.page(_speaking_of(*holds), limit=ABOUT_MOST)).rows
        ordered = sorted({row.position: row for row in rows}.items())
        return tuple(row for _, row in ordered)

    async def department(self, id: str) -> str | None:
        """Give the department of the record with this id, None where there is none. Raises Unavailable.

        A decision whose stream was opened and never closed has no record; the department of the stream is given then.
        """

        def work(connection: Connection) -> str | None:
            query = sa.select(decision_log.c.department).where(decision_log.c.id == id)
            # Both are always asked: the time that an answer takes must not tell a record of others from none.
            own, opened = connection.execute(query).scalar(), _opened_in(connection, id)
            return opened if own is None else own

        return await self._run(work)

    async def opening(self, decision_id: str) -> Stored | None:
        """Give the record that the stream of a decision was opened, None where there is none. Raises as `page` does."""
        rows = (await self.page(_opening_of(decision_id), limit=1)).rows
        return rows[0].stored if rows else None

    async def complete(self) -> Complete:
        """Tell how far the index goes. Raises Unavailable."""
        return await self._run(_complete)

    async def reindex(self, progress: Callable[[int], object] = lambda _: None) -> int:
        """Make the index again from the log; give the number of records. See `gateway.store.search_reindex`."""
        return await reindex(self._engine, progress)

    async def _run(self, work: Callable[[Connection], _T]) -> _T:
        try:
            async with self._engine.connect() as connection:
                if connection.dialect.name == "postgresql":
                    await connection.execute(_PLANNED)
                return await connection.run_sync(work)
        except TROUBLE as exc:
            raise Unavailable(f"the decision log can not be searched; {faults.hint(exc)}") from None

    def _mark(self, place: bytes, filter_: Filter) -> bytes:
        # Times are left out: `7d` is another time on the next page, which is to go on where this one ended.
        text = place + filter_.text(times=False).encode()
        return bytes.fromhex(self._digester.digest("cursor", text))[:_MARK]

    def _cursor(self, position: int, filter_: Filter) -> str:
        place = position.to_bytes(_PLACE, "big")
        return base64.urlsafe_b64encode(place + self._mark(place, filter_)).decode().rstrip("=")

    def _position(self, cursor: str, filter_: Filter) -> int:
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        place = raw[:_PLACE]
        if len(raw) != _PLACE + _MARK or not hmac.compare_digest(raw[_PLACE:], self._mark(place, filter_)):
            raise InvalidRequest(
                "`cursor` is none of this filter; send the `next` of the page before, with the same filter",
                param="cursor",
            )
        return int.from_bytes(place, "big")


def _speaking_of(*subjects: str) -> Filter:
    return Filter(kinds=(EVERY,), subject=subjects)


def _opening_of(decision_id: str) -> Filter:
    return Filter(kinds=(_OPENED,), subject=(decision_id,))


def _opened_in(connection: Connection, decision_id: str) -> str | None:
    """Give the department of the stream of a decision."""
    found = find(connection, _opening_of(decision_id), Span(0, size_of(connection)), 1, NEWEST)
    query = sa.select(facets.c.department).join(entries, entries.c.facet == facets.c.id)
    return connection.execute(query.where(entries.c.position == found[0])).scalar() if found else None


def _complete(connection: Connection) -> Complete:
    size = size_of(connection)
    query = sa.select(entries.c.sequence, entries.c.at).where(entries.c.position == size - 1)
    last = connection.execute(query).first()
    return Complete(size=size, sequence=0 if last is None else last.sequence, at=None if last is None else last.at)


def _ids(connection: Connection, positions: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """Give places with the ids of their records, in order."""
    query = sa.select(entries.c.position, entries.c.id)
    rows = [row for some in parts(positions) for row in connection.execute(query.where(entries.c.position.in_(some)))]
    return tuple(sorted((int(position), str(id_)) for position, id_ in rows))


def _read(connection: Connection, positions: Sequence[int]) -> tuple[Found, ...]:
    """Read records, in the order of `positions`."""
    found: dict[int, Found] = {}
    joined = entries.join(decision_log, decision_log.c.sequence == entries.c.sequence)
    for some in parts(positions):
        query = sa.select(entries.c.position, decision_log).select_from(joined).where(entries.c.position.in_(some))
        for row in connection.execute(query):
            found[row.position] = Found(position=row.position, stored=stored_of(row))
    missing = [position for position in positions if position not in found]
    if missing:
        raise Unavailable(
            f"the record at position {missing[0]} is in the index and not in the log; run `gateway log verify`"
        )
    return tuple(found[position] for position in positions)


__all__ = [
    "ABOUT_MOST",
    "COUNTED_SINGLY",
    "PAGE_LONGEST",
    "Complete",
    "Filter",
    "Found",
    "Page",
    "Search",
    "Tally",
    "parse_filter",
]
