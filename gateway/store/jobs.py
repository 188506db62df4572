"""The jobs of batches: claimed by workers for as long as they give signs of life, done, given back, or taken back.

A worker holds a job by a lease that its heartbeats move. Everything it writes of a job says so (`fence`): what a worker
writes that was taken for dead is refused whole. Times are those of the machines: their clocks must agree to a few
seconds, and where they do not, work is done twice but no line is answered twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Unavailable
from gateway.store.batch_rows import (
    DONE,
    LEASED,
    TELLING,
    WAITING,
    LeaseLost,
    end_job,
    fence,
    job_of,
    now,
    settle,
    stops,
)
from gateway.store.batch_shape import Job, JobKind
from gateway.store.batch_tables import batches, jobs
from gateway.store.batches import Batches
from gateway.store.files import Files
from gateway.store.job_claim import MAX_ATTEMPTS, candidates, held_by, open_batches, pick, pick_telling, ready, telling
from gateway.store.job_reap import reap_one, telling_delay
from gateway.store.transactions import Transactions

__all__ = ["LEASE", "MAX_ATTEMPTS", "Jobs", "LeaseLost"]

LEASE = 30.0
"""Seconds for which a worker holds a job without a heartbeat."""

_TOGETHER = 500


class Jobs:
    """The jobs of one database."""

    def __init__(self, transactions: Transactions, batches: Batches, files: Files) -> None:
        self._db = transactions
        self._batches = batches
        self._files = files
        self._served: dict[str, int] = {}
        self._turn = 0

    async def claim(
        self,
        owner: str,
        *,
        full: Collection[str] = (),
        kinds: Collection[JobKind] | None = None,
        batch: str | None = None,
    ) -> Job | None:
        """Give the worker `owner` a job to hold for LEASE seconds; None where there is none for it now.

        Of the departments that are not in `full`, the one gets it that has the fewest lines in work, then the one that
        was served longest ago; in it go first the batches with the highest priority, then the oldest, but none whose id
        is in `full`. Lines that have ended their worker each time are tried the last time by a worker that holds
        nothing else, so a worker may be given None while jobs wait. With `batch` it is one of that batch alone. Raises
        Unavailable.
        """
        at = now()
        tells = batch is None and (kinds is None or "webhook" in kinds)
        if self._db.sqlite and not await self._any(kinds, full, at, tells=tells):
            return None
        async with self._db.write() as connection:
            row = await pick_telling(connection, full, at) if tells else None
            if row is None:
                held = await held_by(connection, owner)
                if held.alone:
                    return None
                found = await candidates(connection, kinds, full, at)
                if batch is not None:
                    found = {name: [one for one in ids if one == batch] for name, ids in found.items()}
                order = sorted(found, key=lambda name: (held.lines.get(name, 0), self._served.get(name, 0), name))
                row = await pick(connection, held, order, found, at)
            if row is None:
                return None
            until = now() + dt.timedelta(seconds=LEASE)
            taken = {"state": LEASED, "owner": owner, "lease_until": until, "attempts": row["attempts"] + 1}
            await connection.execute(jobs.update().where(jobs.c.id == row["id"]).values(**taken))
        self._turn += 1
        self._served[row["department"]] = self._turn
        return job_of({**row, **taken})

    async def heartbeat(self, owner: str, ids: Collection[int]) -> frozenset[int]:
        """Move the leases of jobs that `owner` holds by LEASE seconds from now; give those to go on with.

        Not among them are jobs that were taken back, and jobs whose lines are to be stopped (see `stopping`): the
        worker ends the line that it is at, and gives the job back.
        """
        held: dict[int, str] = {}
        wanted = sorted(ids)
        for first in range(0, len(wanted), _TOGETHER):
            mine = (jobs.c.owner == owner) & (jobs.c.state == LEASED) & jobs.c.id.in_(wanted[first : first + _TOGETHER])
            moved = jobs.update().where(mine).values(lease_until=now() + dt.timedelta(seconds=LEASE))
            async with self._db.write() as connection:
                rows = (await connection.execute(moved.returning(jobs.c.id, jobs.c.batch, jobs.c.kind))).all()
            held |= {int(id_): batch if kind in ("validate", "lines") else "" for id_, batch, kind in rows}
        stopped = await self.stopping({batch for batch in held.values() if batch})
        return frozenset(id_ for id_, batch in held.items() if batch not in stopped)

    async def stopping(self, batches: Collection[str]) -> frozenset[str]:
        """Tell which of these batches are paused, cancelled, past their time, or over: no further line is tried."""
        return await _stopping(self._db, batches)

    async def done(self, job: Job) -> None:
        """End a job; with the last one of its lines the batch goes on to its files. Doing so twice is no harm.

        Raises LeaseLost.
        """
        async with self._db.write() as connection:
            if await _over(connection, job):
                return
            await fence(connection, job)
            if job.kind == "webhook":
                await connection.execute(jobs.delete().where(jobs.c.id == job.id))
                return
            await end_job(connection, job.id)
            await settle(connection, job.batch)

    async def give_back(self, job: Job, *, delay: float = 0, count_attempt: bool = False) -> None:
        """Let a job wait again, at least `delay` seconds; where its batch is to stop, it ends.

        The attempt is only kept counted where `count_attempt` says so. A webhook is given back with growing delays
        then, and after MAX_ATTEMPTS it is dropped. Raises LeaseLost.
        """
        async with self._db.write() as connection:
            batch = await fence(connection, job)
            if job.kind == "webhook" and count_attempt:
                if job.attempts >= MAX_ATTEMPTS:
                    await connection.execute(jobs.delete().where(jobs.c.id == job.id))
                    return
                delay = max(delay, telling_delay(job.attempts))
            if job.kind in ("validate", "lines") and stops(batch):
                await end_job(connection, job.id)
                await settle(connection, job.batch)
                return
            values = {
                "state": TELLING if job.kind == "webhook" else WAITING,
                "available_at": now() + dt.timedelta(seconds=delay),
                "attempts": job.attempts if count_attempt else job.attempts - 1,
                "owner": None,
                "lease_until": None,
            }
            await connection.execute(jobs.update().where(jobs.c.id == job.id).values(**values))

    async def reap(self, now: dt.datetime) -> int:
        """Take back what dead workers held by `now`, and end batches whose time is over; give how many jobs it was.

        Lines that have ended a worker twice are tried one by one from then on, so that one does not take the others
        down; one that has done so MAX_ATTEMPTS times comes out as ``failed``. Raises Unavailable, once all that could
        be taken back was.
        """
        query = sa.select(jobs).where(jobs.c.state == LEASED, jobs.c.lease_until <= now)
        async with self._db.read() as connection:
            rows = list((await connection.execute(query.order_by(jobs.c.id))).mappings())
        number = 0
        trouble: Unavailable | None = None
        for row in rows:
            try:
                number += await reap_one(self._db, self._batches, self._files, row, now)
            except Unavailable as exc:  # the key of one batch may be lost: the others go on
                trouble = exc
        await self._batches.expire_due(now)
        if trouble is not None:
            raise trouble
        return number

    async def waiting(self) -> int:
        """Count the jobs that could be claimed now."""
        at = now()
        query = sa.select(sa.func.count()).select_from(jobs.join(batches, jobs.c.batch == batches.c.id))
        due = sa.select(sa.func.count()).where(jobs.c.state == TELLING, jobs.c.available_at <= at)
        async with self._db.read() as connection:
            number = int(await connection.scalar(query.where(open_batches(None, at), ready(at))) or 0)
            return number + int(await connection.scalar(due) or 0)

    async def _any(
        self, kinds: Collection[JobKind] | None, full: Collection[str], at: dt.datetime, *, tells: bool
    ) -> bool:
        """Look whether there is anything before SQLite's one lock is taken: workers that wait hold up nobody."""
        async with self._db.read() as connection:
            if tells and (await connection.execute(telling(full, at))).first() is not None:
                return True
            return bool(await candidates(connection, kinds, full, at))


async def _over(connection: AsyncConnection, job: Job) -> bool:
    """Tell whether this very attempt has ended the job already."""
    query = sa.select(jobs.c.state, jobs.c.owner, jobs.c.attempts).where(jobs.c.id == job.id)
    row = (await connection.execute(query)).first()
    if row is None:
        return job.kind != "lines"
    return (row.state, row.owner, row.attempts) == (DONE, job.owner, job.attempts)


async def _stopping(db: Transactions, ids: Collection[str]) -> frozenset[str]:
    wanted = set(ids)
    if not wanted:
        return frozenset()
    at = now()
    goes_on = batches.c.status.in_(("validating", "in_progress")) & ~batches.c.paused & (batches.c.expires_at > at)
    query = sa.select(batches.c.id).where(batches.c.id.in_(wanted), goes_on)
    async with db.read() as connection:
        return frozenset(wanted - set((await connection.execute(query)).scalars()))
