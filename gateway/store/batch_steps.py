"""What workers do with a batch: read its file, and end it. Each step is one transaction, fenced by the job's lease."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.batch_lines import LinesOfBatches, count, insert_lines, row_of
from gateway.store.batch_rows import (
    PLANNED,
    WAITING,
    LeaseLost,
    batch_of,
    change,
    end_job,
    fence,
    new_job,
    now,
    settle,
    stop,
)
from gateway.store.batch_shape import Batch, BatchError, Chunk, Counts, Job, LineResult
from gateway.store.batch_tables import batch_lines, batches, jobs

_SLICE = 2000  # lines whose answers are taken out of the database in one transaction
_TOGETHER = 500  # jobs in one statement
NOBODY = {"kek": "", "wrapped": b""}
"""The columns of a key that is destroyed."""


class StepsOfBatches(LinesOfBatches):
    """The part of `Batches` that workers use."""

    async def begin_validation(self, job: Job) -> None:
        """Begin to read the file of a batch: what an earlier worker, now dead, has left of it goes.

        Raises LeaseLost.
        """
        async with self._db.write() as connection:
            await _validating(connection, job)
            await connection.execute(jobs.delete().where(jobs.c.batch == job.batch, jobs.c.kind == "lines"))
            await connection.execute(batch_lines.delete().where(batch_lines.c.batch == job.batch))

    async def add_chunks(self, job: Job, chunks: Sequence[Chunk], invalid: Sequence[LineResult]) -> None:
        """Store what was read of the file: lines that become jobs, and those that are none. Raises LeaseLost."""
        cipher = await self._cipher(job.batch)
        rows = [row_of(cipher, result) for result in invalid]
        async with self._db.write() as connection:
            batch = await _validating(connection, job)
            made = [new_job(batch, "lines", **msgspec.structs.asdict(chunk), state=PLANNED) for chunk in chunks]
            for first in range(0, len(made), _TOGETHER):
                await connection.execute(jobs.insert(), made[first : first + _TOGETHER])
            await insert_lines(connection, rows)

    async def validated(self, job: Job, total: int) -> None:
        """Let the batch begin: its file, of `total` lines, was read to the end. Raises LeaseLost."""
        async with self._db.write() as connection:
            await _validating(connection, job)
            planned = jobs.update().where(jobs.c.batch == job.batch, jobs.c.state == PLANNED)
            await connection.execute(planned.values(state=WAITING, available_at=now()))
            await end_job(connection, job.id)
            await change(connection, job.batch, status="in_progress", in_progress_at=now(), total=total)
            await settle(connection, job.batch)

    async def fail(self, job: Job, errors: Sequence[BatchError], *, webhook: bool = False) -> None:
        """End a batch of which no line can be tried; `webhook` as for `finish`. Raises LeaseLost."""
        async with self._db.write() as connection:
            batch = await _validating(connection, job)
            await fail_batch(connection, batch, errors, webhook=webhook)
        self._keys.forget(job.batch)

    async def finish(
        self,
        job: Job,
        *,
        output_file: str | None,
        error_file: str | None,
        report_file: str | None = None,
        webhook: bool = False,
    ) -> Batch:
        """End a batch whose files are written: count it, and destroy the key of its lines' answers.

        It ends as it was: ``cancelled``, ``expired``, else ``completed``. With `webhook`, or where the option `webhook`
        of the batch says so, there is a job to tell of it. Raises LeaseLost.
        """
        async with self._db.write() as connection:
            batch = await fence(connection, job)
            if batch["status"] not in ("finalizing", "cancelling"):
                raise LeaseLost
            counts = await count(connection, job.batch, batch["total"] or 0)
            if batch["total"] is None:  # it was cancelled while its file was read: what was read of it is all of it
                counts = msgspec.structs.replace(counts, total=counts.completed + counts.failed)
            at = now()
            status, times = "completed", {"completed_at": at}
            if batch["cancelling_at"] is not None:
                status, times = "cancelled", {"cancelled_at": at}
            elif batch["expired_at"] is not None:
                status, times = "expired", {"expired_at": at}
            ended = {
                "status": status,
                "paused": False,
                "total": counts.total,
                "summary": msgspec.to_builtins(counts),
                "output_file": output_file,
                "error_file": error_file,
                "report_file": report_file,
            }
            await self._zeroing(connection)
            await change(connection, job.batch, **ended, **times, **NOBODY)
            if webhook or batch["options"].get("webhook"):
                await connection.execute(jobs.insert().values(**new_job(batch, "webhook")))
            query = sa.select(batches).where(batches.c.id == job.batch)
            done = batch_of((await connection.execute(query)).mappings().one())
        self._keys.forget(job.batch)
        await self.tidy(job.batch)
        return done

    async def tidy(self, id: str) -> None:
        """Take the answers and jobs of an ended batch out of the database, in steps that hold up nobody.

        The answers open no more: their key is destroyed. The job that ended the batch goes last, so that where this is
        broken off its lease runs out, and it is done again.
        """
        mine = batch_lines.c.batch == id
        async with self._db.read() as connection:
            last = await connection.scalar(sa.select(sa.func.max(batch_lines.c.line)).where(mine)) or 0
        for first in range(0, last + 1, _SLICE):
            here = batch_lines.c.line.between(first, first + _SLICE - 1)
            emptied = batch_lines.update().where(mine, here, batch_lines.c.sealed.is_not(None)).values(sealed=None)
            async with self._db.write() as connection:
                await self._zeroing(connection)
                await connection.execute(emptied)
        async with self._db.write() as connection:
            await connection.execute(jobs.delete().where(jobs.c.batch == id, jobs.c.kind != "webhook"))

    async def expire_due(self, now: dt.datetime) -> list[str]:
        """End the trying of batches whose time is over by `now`; they go on to their files. Gives their ids."""
        due = batches.c.status.in_(("validating", "in_progress")) & (batches.c.expires_at <= now)
        async with self._db.read() as connection:
            ids = list((await connection.execute(sa.select(batches.c.id).where(due))).scalars())
        expired = []
        for id_ in ids:
            async with self._db.write() as connection:
                query = sa.select(batches).where(batches.c.id == id_, due).with_for_update()
                batch = (await connection.execute(query)).mappings().first()
                if batch is None:
                    continue
                await change(connection, id_, status="finalizing", finalizing_at=now, expired_at=now, paused=False)
                await stop(connection, batch)
                await settle(connection, id_)
            expired.append(id_)
        return expired

    async def _zeroing(self, connection: AsyncConnection) -> None:
        """Have SQLite overwrite what is taken away with zeros."""
        if self._db.sqlite:
            await connection.exec_driver_sql("PRAGMA secure_delete=ON")


async def fail_batch(
    connection: AsyncConnection, batch: Any, errors: Sequence[BatchError], *, webhook: bool = False
) -> None:
    """End the batch whose row is given, and is locked, as failed; nothing of its lines stays."""
    none = Counts(total=0, completed=0, failed=0)
    await connection.execute(jobs.delete().where(jobs.c.batch == batch["id"]))
    await connection.execute(batch_lines.delete().where(batch_lines.c.batch == batch["id"]))
    await change(
        connection,
        batch["id"],
        status="failed",
        failed_at=now(),
        paused=False,
        total=0,
        summary=msgspec.to_builtins(none),
        errors=msgspec.to_builtins(list(errors)),
        **NOBODY,
    )
    if webhook or batch["options"].get("webhook"):
        await connection.execute(jobs.insert().values(**new_job(batch, "webhook")))


async def _validating(connection: AsyncConnection, job: Job) -> Any:
    """Give the row of the batch whose file the worker reads; LeaseLost where it is read no more."""
    batch = await fence(connection, job)
    if batch["status"] != "validating":
        raise LeaseLost
    return batch
