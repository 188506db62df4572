"""The processes that work, by their heartbeats: who is there, and how many live requests they answer."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from gateway.store.batch_rows import now
from gateway.store.batch_tables import processes
from gateway.store.indexing import insert_of
from gateway.store.transactions import Transactions

_FORGOTTEN = dt.timedelta(hours=1)


class Processes:
    """The processes of one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._db = transactions

    async def beat(self, id: str, kind: str, load: dict[str, int]) -> None:
        """Say that a process is there. `load` counts its live requests in flight, by department."""
        values = {"kind": kind, "seen_at": now(), "load": load}
        async with self._db.write() as connection:
            insert = insert_of(connection, processes).values(id=id, **values)
            await connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=values))

    async def live(self, kind: str, within: float = 15.0) -> tuple[str, ...]:
        """Give the ids of the processes of a kind that were there in the last `within` seconds, sorted."""
        query = sa.select(processes.c.id).where(processes.c.kind == kind, processes.c.seen_at > _since(within))
        async with self._db.read() as connection:
            return tuple(sorted((await connection.execute(query)).scalars()))

    async def load(self, within: float = 5.0) -> dict[str, int]:
        """Count the live requests in flight by department, over the ``web`` processes of the last `within` seconds."""
        query = sa.select(processes.c.load).where(processes.c.kind == "web", processes.c.seen_at > _since(within))
        async with self._db.read() as connection:
            loads = list((await connection.execute(query)).scalars())
        total: dict[str, int] = {}
        for load in loads:
            for department, number in load.items():
                total[department] = total.get(department, 0) + number
        return total

    async def gone(self, id: str) -> None:
        """Say that a process ends."""
        async with self._db.write() as connection:
            await connection.execute(processes.delete().where(processes.c.id == id))

    async def sweep(self, now: dt.datetime) -> int:
        """Forget the processes that were not seen for an hour; give how many."""
        old = processes.c.seen_at < now - _FORGOTTEN
        async with self._db.read() as connection:
            if await connection.scalar(sa.select(processes.c.id).where(old).limit(1)) is None:
                return 0
        async with self._db.write() as connection:
            return int((await connection.execute(processes.delete().where(old))).rowcount)


def _since(seconds: float) -> dt.datetime:
    return now() - dt.timedelta(seconds=seconds)
