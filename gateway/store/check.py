"""Reads the whole log and checks every record against its leaf hash: what one record can show of itself.

A row that was rewritten together with its leaf hash is not found this way; that needs a tree over all leaves whose root
is kept elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.records import parse
from gateway.stages import in_thread
from gateway.store.tables import decision_log
from gateway.store.writer import columns_of, leaf_of

_CHUNK = 2000  # records read at once
log = logging.getLogger("gateway.store")


class CheckReport(Struct, frozen=True, kw_only=True):
    """What a check found.

    `records` counts those that hold, `problem` names the first bad one, with its number in `sequence`; both None where
    all hold. `gaps` counts numbers that no record has: on PostgreSQL a transaction that was rolled back leaves one, on
    SQLite none is ever left, so one is a problem there.
    """

    records: int
    problem: str | None = None
    sequence: int | None = None
    gaps: int = 0

    @property
    def ok(self) -> bool:
        """Tell whether every record is as it was written."""
        return self.problem is None


def problem_of(row: sa.Row[Any]) -> str | None:
    """Tell what is wrong with one row, None where nothing is."""
    body = bytes(row.body)
    if leaf_of(body) != bytes(row.leaf):
        return "its bytes do not have its leaf hash"
    try:
        due = columns_of(parse(body))
    except ValueError as exc:
        return str(exc)
    for name, value in due.items():
        if getattr(row, name) != value:
            return f"its column `{name}` does not say what its bytes say"
    return None


def _judge(rows: Sequence[sa.Row[Any]], last: int, gapless: bool) -> tuple[CheckReport, int]:
    gaps = 0
    for number, row in enumerate(rows):
        missing = row.sequence - last - 1
        if missing and gapless:
            problem = f"{missing} records are missing before record {row.sequence}"
            return CheckReport(records=number, problem=problem, sequence=last + 1), last
        gaps += missing
        problem_here = problem_of(row)
        if problem_here is not None:
            problem = f"record {row.sequence} (id `{row.id}`): {problem_here}"
            return CheckReport(records=number, problem=problem, sequence=row.sequence), last
        last = row.sequence
    return CheckReport(records=len(rows), gaps=gaps), last


async def check(engine: AsyncEngine, progress: Callable[[int], object] | None = None) -> CheckReport:
    """Check every record that is in the log now, in order, and stop at the first that does not hold."""
    gapless = engine.dialect.name == "sqlite"
    records, gaps, last = 0, 0, 0
    async with engine.connect() as connection:
        given = (
            await connection.scalar(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'decision_log'"))
            if gapless
            else None
        )
        end = (await connection.scalar(sa.select(sa.func.max(decision_log.c.sequence)))) or 0
    while last < end:
        query = sa.select(decision_log).where(decision_log.c.sequence > last, decision_log.c.sequence <= end)
        async with (
            engine.connect() as connection
        ):  # a transaction for each chunk: a long one would keep the WAL growing
            rows = (await connection.execute(query.order_by(decision_log.c.sequence).limit(_CHUNK))).all()
        if not rows:
            return CheckReport(
                records=records, problem=f"records after {last} vanished while they were read", sequence=last + 1
            )
        report, last = await in_thread(_judge, rows, last, gapless)
        records, gaps = records + report.records, gaps + report.gaps
        if progress is not None:
            progress(len(rows))
        if report.problem is not None:
            return CheckReport(records=records, problem=report.problem, sequence=report.sequence, gaps=gaps)
    if given is not None and given > end:
        problem = f"{given - end} records are missing at the end of the log, after record {end}"
        return CheckReport(records=records, problem=problem, sequence=end + 1)
    return CheckReport(records=records, gaps=gaps)
