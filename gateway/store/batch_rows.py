"""What the steps of batches share: their rows, the fence of a lease, and how a batch goes on to its end.

Each transaction that may end a job locks the row of its batch first: of two that end the last two jobs at once, the
second sees that nothing is left. Where a batch goes on is decided here, and only here, by `settle`.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records import Caller, Context
from gateway.store.batch_shape import ENDED, Batch, BatchError, Counts, Job, JobKind
from gateway.store.batch_tables import batches, jobs

OPEN = ("validating", "in_progress", "finalizing", "cancelling")
"""The states of a batch that has not ended."""

PLANNED, WAITING, TELLING, LEASED, DONE = "planned", "waiting", "telling", "leased", "done"
"""The states of a job: its batch is still read; it waits; it waits and is a webhook (they are looked for by
themselves); a worker holds it; it is over, and kept until its batch ends, for it says which lines there are."""


class LeaseLost(Exception):
    """The worker holds the job no longer, or its batch has ended: what it was about to write was not written."""


def now() -> dt.datetime:
    """Tell the time."""
    return dt.datetime.now(dt.UTC)


def batch_of(row: Any) -> Batch:
    """Read a row of `batches`."""
    values = {name: row[name] for name in Batch.__struct_fields__}
    values["caller"] = msgspec.json.decode(row["caller"], type=Caller)
    values["said"] = msgspec.json.decode(row["said"], type=Context)
    values["summary"] = None if row["summary"] is None else msgspec.convert(row["summary"], Counts)
    values["errors"] = msgspec.convert(row["errors"] or [], tuple[BatchError, ...])
    return Batch(**values)


def job_of(row: Any) -> Job:
    """Read a row of `jobs` that a worker holds."""
    return Job(**{name: row[name] for name in Job.__struct_fields__})


def stops(row: Any) -> bool:
    """Tell whether no further line of the batch is to be tried."""
    return row["status"] in ENDED or row["cancelling_at"] is not None or row["expired_at"] is not None


async def lock_batch(connection: AsyncConnection, id: str) -> Any | None:
    """Lock the row of a batch until the transaction ends; None where there is none."""
    query = sa.select(batches).where(batches.c.id == id).with_for_update()
    return (await connection.execute(query)).mappings().first()


async def fence(connection: AsyncConnection, job: Job) -> Any:
    """Lock the batch of `job` and give its row. Raises LeaseLost unless the worker still holds the job."""
    batch = await lock_batch(connection, job.batch)
    query = sa.select(jobs.c.id).where(
        jobs.c.id == job.id,
        jobs.c.state == LEASED,
        jobs.c.owner == job.owner,
        jobs.c.attempts == job.attempts,  # the same worker may have got it once more since
        jobs.c.lease_until > now(),
    )
    if batch is None or await connection.scalar(query.with_for_update()) is None:
        raise LeaseLost
    return batch


async def end_job(connection: AsyncConnection, id: int) -> None:
    """Mark a job as over."""
    await connection.execute(jobs.update().where(jobs.c.id == id).values(state=DONE))


async def change(connection: AsyncConnection, id: str, **values: Any) -> None:
    """Change columns of a batch."""
    await connection.execute(batches.update().where(batches.c.id == id).values(**values))


def new_job(batch: Any, kind: JobKind, **values: Any) -> dict[str, Any]:
    """Make the values of a job of the batch whose row is given."""
    return {
        "batch": batch["id"],
        "kind": kind,
        "department": batch["department"],
        "priority": batch["priority"],
        "first": 0,
        "count": 0,
        "start": 0,
        "size": 0,
        "state": TELLING if kind == "webhook" else WAITING,
        "attempts": 0,
        "available_at": now(),
        **values,
    }


async def stop(connection: AsyncConnection, batch: Any) -> None:
    """End the jobs of a batch that is cancelled or expired, but those whose lines a worker is at.

    A worker that reads the file loses its job at once: each of its writes is fenced, so nothing of it comes late.
    """
    mine = jobs.c.batch == batch["id"]
    waiting = jobs.c.state.in_((PLANNED, WAITING)) & (jobs.c.kind == "lines")
    await connection.execute(jobs.update().where(mine, waiting | (jobs.c.kind == "validate")).values(state=DONE))


async def settle(connection: AsyncConnection, id: str) -> None:
    """Let the batch go on to its files where no line of it is left to be tried. Its row must be locked.

    A batch whose file was not read to the end gets a job that does it, where none is there.
    """
    batch = await lock_batch(connection, id)
    if batch is None or batch["status"] in ENDED:
        return
    mine = jobs.c.batch == id
    if batch["status"] == "validating":
        reads = (jobs.c.kind == "validate") & (jobs.c.state != DONE)
        if await connection.scalar(sa.select(jobs.c.id).where(mine, reads).limit(1)) is None:
            await connection.execute(jobs.insert().values(**new_job(batch, "validate")))
        return
    left = (jobs.c.kind == "lines") & jobs.c.state.in_((WAITING, LEASED))
    last = (jobs.c.kind == "finalize") & (jobs.c.state != DONE)
    if await connection.scalar(sa.select(jobs.c.id).where(mine, left | last).limit(1)) is not None:
        return
    if batch["status"] == "in_progress":
        await change(connection, id, status="finalizing", finalizing_at=now())
    elif batch["finalizing_at"] is None:
        await change(connection, id, finalizing_at=now())
    await connection.execute(jobs.insert().values(**new_job(batch, "finalize")))
