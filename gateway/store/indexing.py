"""Writes the index of records that have their place in the tree: `entries`, `facets` and what counts them.

It is derived: `gateway log reindex` makes it again from the log. It runs inside the sequencer's transaction, so a
place in the tree and its index row are there together, or neither is.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records import Record
from gateway.store.review_index import index_reviews, review_problem
from gateway.store.search_traits import DIMENSIONS, Traits, digest_of, traits_of
from gateway.store.tables import entries, entry_blocks, entry_subjects, facet_days, facets

BLOCK = 4096
"""Positions in one row of `entry_blocks`."""

_TOGETHER = 500  # values in one IN list
_REMEMBERED = 200_000  # digests that are kept, at most
_T = TypeVar("_T")
_digests: dict[tuple[str | int | None, ...], bytes] = {}  # pure, so a rolled back transaction leaves nothing wrong here


class Placed(Struct, frozen=True, kw_only=True):
    """A record with its place in the tree, from 0. `sequence` is its number in the log."""

    position: int
    sequence: int
    record: Record


def index(connection: Connection, rows: Sequence[Placed]) -> None:
    """Write the index of `rows` in the transaction of `connection`.

    Rows whose position is in the index are passed over, so that doing it again does nothing. Raises what SQLAlchemy
    raises; the transaction must be rolled back then.
    """
    rows = _new(connection, rows)
    if not rows:
        return
    traits = [traits_of(row.record) for row in rows]
    ids = _facet_ids(connection, rows, traits)
    connection.execute(entries.insert(), [entry_values(*one) for one in zip(rows, traits, ids, strict=True)])
    subjects = [
        {"subject": subject, "position": row.position}
        for row, trait in zip(rows, traits, strict=True)
        for subject in trait.subjects
    ]
    if subjects:
        connection.execute(entry_subjects.insert(), subjects)
    _count(connection, rows, ids)
    _blocks(connection, rows)
    index_reviews(connection, rows)


def entry_values(row: Placed, traits: Traits, facet: int) -> dict[str, object]:
    """Give the row of `entries` of a record, whose combination is `facet`."""
    return {
        "position": row.position,
        "sequence": row.sequence,
        "id": row.record.id,
        "at": row.record.at,
        "facet": facet,
        "person": traits.person,
        "patient": traits.patient,
        "study": traits.study,
        "risk": traits.risk,
    }


def _new(connection: Connection, rows: Sequence[Placed]) -> Sequence[Placed]:
    if not rows:
        return rows
    low, high = min(row.position for row in rows), max(row.position for row in rows)
    query = sa.select(entries.c.position).where(entries.c.position.between(low, high))
    there = set(connection.execute(query).scalars())
    return [row for row in rows if row.position not in there] if there else rows


def _digest(dimensions: tuple[str | int | None, ...]) -> bytes:
    found = _digests.get(dimensions)
    if found is None:
        if len(_digests) >= _REMEMBERED:
            _digests.clear()
        found = _digests[dimensions] = digest_of(dimensions)
    return found


def _facet_ids(connection: Connection, rows: Sequence[Placed], traits: Sequence[Traits]) -> list[int]:
    """Find or make the combinations. Their ids are asked for each time: one query is cheap, a stale id is not."""
    digests = [_digest(one.dimensions) for one in traits]
    wanted = dict(zip(digests, zip(rows, traits, strict=True), strict=True))
    known = _known(connection, wanted)
    missing = [
        {
            "digest": digest,
            **dict(zip(DIMENSIONS, trait.dimensions, strict=True)),
            "total": 0,
            "oldest": row.position,
            "newest": row.position,
        }
        for digest, (row, trait) in wanted.items()
        if digest not in known
    ]
    if missing:
        connection.execute(insert_of(connection, facets).on_conflict_do_nothing(index_elements=["digest"]), missing)
        known |= _known(connection, [one["digest"] for one in missing])  # type: ignore[misc] # a dict of mixed values
    return [known[digest] for digest in digests]


def _known(connection: Connection, digests: Iterable[bytes]) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for some in parts(list(digests)):
        query = sa.select(facets.c.digest, facets.c.id).where(facets.c.digest.in_(some))
        found |= {bytes(row.digest): row.id for row in connection.execute(query)}
    return found


def _count(connection: Connection, rows: Sequence[Placed], ids: Sequence[int]) -> None:
    days: Counter[tuple[str, int]] = Counter()
    spans: dict[int, tuple[int, int, int]] = {}
    for row, facet in zip(rows, ids, strict=True):
        day = day_of(row.record.at)
        days[day, facet] += 1
        days[month_of(day), facet] += 1
        count, low, high = spans.get(facet, (0, row.position, row.position))
        spans[facet] = (count + 1, min(low, row.position), max(high, row.position))
    upsert = insert_of(connection, facet_days)
    upsert = upsert.on_conflict_do_update(
        index_elements=["day", "facet"], set_={"count": facet_days.c["count"] + upsert.excluded["count"]}
    )
    connection.execute(upsert, [{"day": d, "facet": f, "count": n} for (d, f), n in sorted(days.items())])
    lowest, highest = sa.bindparam("low", type_=sa.BigInteger()), sa.bindparam("high", type_=sa.BigInteger())
    update = (
        facets.update()
        .where(facets.c.id == sa.bindparam("facet"))
        .values(
            total=facets.c.total + sa.bindparam("count"),
            oldest=sa.case((facets.c.oldest < lowest, facets.c.oldest), else_=lowest),
            newest=sa.case((facets.c.newest > highest, facets.c.newest), else_=highest),
        )
    )
    values = [{"facet": f, "count": n, "low": a, "high": b} for f, (n, a, b) in sorted(spans.items())]
    connection.execute(update, values)


def _blocks(connection: Connection, rows: Sequence[Placed]) -> None:
    spans: dict[int, tuple[dt.datetime, dt.datetime]] = {}
    for row in rows:
        at, block = row.record.at, row.position // BLOCK
        earliest, latest = spans.get(block, (at, at))
        spans[block] = (min(earliest, at), max(latest, at))
    table = entry_blocks.c
    upsert = insert_of(connection, entry_blocks)
    new = upsert.excluded
    upsert = upsert.on_conflict_do_update(
        index_elements=["block"],
        set_={
            "earliest": sa.case((table.earliest < new.earliest, table.earliest), else_=new.earliest),
            "latest": sa.case((table.latest > new.latest, table.latest), else_=new.latest),
        },
    )
    values = [{"block": block, "earliest": low, "latest": high} for block, (low, high) in sorted(spans.items())]
    connection.execute(upsert, values)


def day_of(at: dt.datetime) -> str:
    """Give the day of a time, in UTC."""
    return at.astimezone(dt.UTC).date().isoformat()


def month_of(day: str) -> str:
    """Give the key of a day's month in `facet_days`: it sorts after all days, so that a range holds one kind alone."""
    return f"M{day[:7]}"


def insert_of(connection: Connection | AsyncConnection, table: sa.Table) -> Any:
    """Make an insert that may say what to do on a conflict: SQLite and PostgreSQL have the same words for it."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def parts(values: Sequence[_T], size: int = _TOGETHER) -> Iterator[Sequence[_T]]:
    """Cut into pieces that one statement may hold."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def index_problem(connection: Connection, placed: Placed) -> str | None:
    """Tell in what the index does not say of a record what its bytes say; None where it does.

    Raises what SQLAlchemy raises.
    """
    found = connection.execute(sa.select(entries).where(entries.c.position == placed.position)).first()
    if found is None:
        return f"position {placed.position} is not in the index; run `gateway log reindex`"
    traits = traits_of(placed.record)
    facet = connection.execute(sa.select(facets).where(facets.c.id == found.facet)).first()
    if facet is None:
        return f"the index of position {placed.position} names a combination that is not there"
    due: dict[str, object] = entry_values(placed, traits, found.facet)
    for name, value in due.items():
        if getattr(found, name) != value:
            return f"the index of position {placed.position} has another `{name}` than the record"
    for name, dimension in zip(DIMENSIONS, traits.dimensions, strict=True):
        if getattr(facet, name) != dimension:
            return f"the index of position {placed.position} has another `{name}` than the record"
    query = sa.select(entry_subjects.c.subject).where(entry_subjects.c.position == placed.position)
    if traits.subjects:
        there = set(connection.execute(query.where(entry_subjects.c.subject.in_(traits.subjects))).scalars())
        if there != set(traits.subjects):
            return f"the index of position {placed.position} does not name what the record speaks of"
    return review_problem(connection, placed)
