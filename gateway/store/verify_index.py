"""Verifies the index against the records: whoever changes how a record is found hides it without touching the log.

Each row of the index is derived again from its record's bytes and compared, and what counts rows is counted. It follows
a verification that found every record as it was signed, since that is what it compares with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.records import parse
from gateway.records.review_plan import is_due
from gateway.store.indexing import Placed, entry_values
from gateway.store.review_index import review_problem
from gateway.store.search_traits import DIMENSIONS, traits_of
from gateway.store.tables import decision_log, entries, entry_subjects, facets, review_states

_CHUNK = 2000  # records compared at once
_AGAIN = "run `gateway log reindex`"


class Counted(Struct, kw_only=True):
    """What the rows of the index come to, counted over the records so far."""

    subjects: int = 0
    due: int = 0
    facets: Counter[int]


async def index_problem_of(engine: AsyncEngine, size: int, progress: Callable[[int], object]) -> str | None:
    """Tell the first place where the index of the first `size` records does not say what they say; None where it does.

    Raises what SQLAlchemy raises.
    """
    counted = Counted(facets=Counter())
    start = 0
    while start < size:
        end = min(start + _CHUNK, size)
        # A snapshot each: what a gateway writes meanwhile is no damage, and a long one would keep the WAL growing.
        problem = await _in_snapshot(engine, partial(_chunk, start=start, end=end, counted=counted))
        if problem is not None:
            return problem
        progress(end - start)
        start = end
    return await _in_snapshot(engine, partial(_totals, size=size, counted=counted))


async def _in_snapshot(engine: AsyncEngine, work: Callable[[Connection], str | None]) -> str | None:
    if engine.dialect.name == "postgresql":
        async with engine.execution_options(isolation_level="REPEATABLE READ").connect() as connection:
            return await connection.run_sync(work)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("BEGIN")
        try:
            return await connection.run_sync(work)
        finally:
            await connection.exec_driver_sql("ROLLBACK")


def _chunk(connection: Connection, start: int, end: int, counted: Counted) -> str | None:
    query = (
        sa.select(entries, decision_log.c.body, *(facets.c[name].label(f"facet_{name}") for name in DIMENSIONS))
        .join(decision_log, decision_log.c.sequence == entries.c.sequence)
        .outerjoin(facets, facets.c.id == entries.c.facet)
        .where(entries.c.position >= start, entries.c.position < end)
        .order_by(entries.c.position)
    )
    rows = connection.execute(query).all()
    spoken: set[tuple[str, int]] = set()
    for row in rows:
        placed = Placed(position=row.position, sequence=row.sequence, record=parse(bytes(row.body)))
        traits = traits_of(placed.record)
        problem = _row_problem(row, entry_values(placed, traits, row.facet), traits.dimensions)
        if problem is None and (is_due(placed.record) or placed.record.id.startswith("rev_")):
            problem = review_problem(connection, placed)
        if problem is not None:
            return f"record {row.sequence} (id `{row.id}`): {problem}"
        spoken |= {(subject, row.position) for subject in traits.subjects}
        counted.due += is_due(placed.record)
        counted.facets[row.facet] += 1
    counted.subjects += len(spoken)
    missing = spoken - _subjects(connection, {subject for subject, _ in spoken}, start, end)
    if missing:
        return f"the index does not say that position {min(missing)[1]} speaks of `{min(missing)[0]}`; {_AGAIN}"
    return None


def _row_problem(row: sa.Row[Any], due: dict[str, object], dimensions: Sequence[object]) -> str | None:
    for name, value in due.items():
        if getattr(row, name) != value:
            return f"its index has another `{name}` than the record; {_AGAIN}"
    for name, value in zip(DIMENSIONS, dimensions, strict=True):
        if getattr(row, f"facet_{name}") != value:
            return f"its index has another `{name}` than the record; {_AGAIN}"
    return None


def _subjects(connection: Connection, wanted: set[str], start: int, end: int) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    names = sorted(wanted)
    for first in range(0, len(names), 500):
        query = sa.select(entry_subjects.c.subject, entry_subjects.c.position).where(
            entry_subjects.c.subject.in_(names[first : first + 500]),
            entry_subjects.c.position >= start,
            entry_subjects.c.position < end,
        )
        found |= {(row.subject, row.position) for row in connection.execute(query)}
    return found


def _totals(connection: Connection, size: int, counted: Counted) -> str | None:
    """Compare what counts rows; what has come since the comparison began is above `size`, and left out."""
    subjects = sa.select(sa.func.count()).select_from(entry_subjects).where(entry_subjects.c.position < size)
    if connection.scalar(subjects) != counted.subjects:
        return f"the index names other decisions than the records speak of; {_AGAIN}"
    reviews = sa.select(sa.func.count()).select_from(review_states).where(review_states.c.position < size)
    if connection.scalar(reviews) != counted.due:
        return f"the review queue holds other decisions than are due; {_AGAIN}"
    above = sa.select(entries.c.facet, sa.func.count()).where(entries.c.position >= size).group_by(entries.c.facet)
    later: dict[int, int] = {facet: count for facet, count in connection.execute(above)}  # noqa: C416 - rows are no pairs to `dict`
    for id_, total in connection.execute(sa.select(facets.c.id, facets.c.total)):
        if total != counted.facets[id_] + later.get(id_, 0):
            return f"the index counts {total} records of a combination that has {counted.facets[id_]}; {_AGAIN}"
    return None
