"""Which job a worker gets: fair between departments, and never the one that another worker gets at the same moment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.batch_rows import LEASED, TELLING, WAITING
from gateway.store.batch_shape import JobKind
from gateway.store.batch_tables import batches, jobs

MAX_ATTEMPTS = 5
"""How often a job is tried that ends its worker each time."""

_STATUS: Mapping[str, tuple[str, ...]] = {
    "validate": ("validating",),
    "lines": ("in_progress",),
    "finalize": ("finalizing", "cancelling"),
}
"""The states of a batch in which its jobs of a kind may be worked on: never two kinds at once."""


class Held(Struct, frozen=True):
    """What is held now: lines by department, how many jobs the asking worker holds, and whether one must be alone."""

    lines: dict[str, int]
    own: int
    alone: bool


async def held_by(connection: AsyncConnection, owner: str) -> Held:
    """Sum up what all workers hold."""
    mine = jobs.c.owner == owner
    last = mine & (jobs.c.kind == "lines") & (jobs.c.attempts >= MAX_ATTEMPTS)
    query = (
        sa.select(
            jobs.c.department,
            sa.func.sum(jobs.c["count"]),
            sa.func.count(),
            sa.func.sum(sa.case((mine, 1), else_=0)),
            sa.func.sum(sa.case((last, 1), else_=0)),
        )
        .where(jobs.c.state == LEASED)
        .group_by(jobs.c.department)
    )
    rows = (await connection.execute(query)).all()
    return Held(
        {row[0]: max(int(row[1]), int(row[2])) for row in rows},
        sum(int(row[3]) for row in rows),
        any(int(row[4]) for row in rows),
    )


def open_batches(kinds: Collection[JobKind] | None, at: dt.datetime) -> sa.ColumnElement[bool]:
    """Make the condition of the batches of which jobs may be worked on now."""
    wanted = [kind for kind in _STATUS if kinds is None or kind in kinds]
    resting = ("finalizing", "cancelling")  # what was done is written also where the batch was paused
    goes_on = batches.c.status.in_(resting) | (~batches.c.paused & (batches.c.expires_at > at))
    return batches.c.status.in_([status for kind in wanted for status in _STATUS[kind]]) & goes_on


def ready(at: dt.datetime) -> sa.ColumnElement[bool]:
    """Make the condition of the jobs of a batch that wait and may be had."""
    return (jobs.c.batch == batches.c.id) & (jobs.c.state == WAITING) & (jobs.c.available_at <= at)


async def candidates(
    connection: AsyncConnection, kinds: Collection[JobKind] | None, full: Collection[str], at: dt.datetime
) -> dict[str, list[str]]:
    """Give the batches that have a job to be had, by department; first those to be had first.

    Those in `full` are left out, and those of departments in it.
    """
    query = (
        sa.select(batches.c.department, batches.c.id)
        .where(open_batches(kinds, at), sa.exists().where(ready(at)))
        .order_by(batches.c.priority.desc(), batches.c.created_at, batches.c.id)
    )
    if full:
        query = query.where(batches.c.department.not_in(full), batches.c.id.not_in(full))
    found: dict[str, list[str]] = {}
    for department, id_ in (await connection.execute(query)).all():
        found.setdefault(department, []).append(id_)
    return found


async def pick(
    connection: AsyncConnection, held: Held, order: Sequence[str], found: Mapping[str, Sequence[str]], at: dt.datetime
) -> Any | None:
    """Lock the first job that can be had, of the departments in `order`; None where others were first each time.

    The last try of lines that have ended their worker each time is had by a worker that holds nothing else, so that
    it is known which line it was.
    """
    for department in order:
        for batch in found[department]:
            query = sa.select(jobs).where(jobs.c.batch == batch, jobs.c.state == WAITING, jobs.c.available_at <= at)
            if held.own:
                query = query.where((jobs.c.kind != "lines") | (jobs.c.attempts < MAX_ATTEMPTS - 1))
            query = query.order_by(jobs.c.id).limit(1).with_for_update(skip_locked=True)
            row = (await connection.execute(query)).mappings().first()
            if row is not None:
                return row
    return None


def telling(full: Collection[str], at: dt.datetime) -> sa.Select[Any]:
    """Make the query of the first webhook that is due."""
    query = sa.select(jobs).where(jobs.c.state == TELLING, jobs.c.available_at <= at)
    if full:
        query = query.where(jobs.c.department.not_in(full))
    return query.order_by(jobs.c.id).limit(1)


async def pick_telling(connection: AsyncConnection, full: Collection[str], at: dt.datetime) -> Any | None:
    """Lock the first webhook that is due."""
    query = telling(full, at).with_for_update(skip_locked=True)
    return (await connection.execute(query)).mappings().first()
