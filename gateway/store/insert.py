"""How a group of rows reaches the disk: one transaction, committed before it is told of."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.store.batch_tables import batch_lines
from gateway.store.engine import LOCK_WAIT, sqlite_begin, sqlite_connect, sqlite_turn, writer
from gateway.store.tables import decision_log, vault

PATIENCE = 15.0
"""Seconds for one transaction; above, nobody is answered."""


class SealedRow(Struct, frozen=True, kw_only=True):
    """Sealed content as it is stored, in the transaction of its record; see `gateway.store.tables.vault`."""

    id: str
    department: str
    patient: str | None
    at: dt.datetime
    until: dt.datetime | None
    kek: str
    wrapped: bytes
    sealed: bytes
    digest: bytes

    def values(self) -> dict[str, object]:
        """Give the values of the columns."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class LineRow(Struct, frozen=True, kw_only=True):
    """What a line of a batch came to, stored in the transaction of its record; see `gateway.store.tables.batch_lines`.

    `sealed` is the line of the output or error file, encrypted with the batch's key.
    """

    batch: str
    line: int
    outcome: str
    ok: bool
    decision: str | None
    reason: str | None
    tries: int
    sealed: bytes | None

    def values(self) -> dict[str, object]:
        """Give the values of the columns."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class LineTaken(Exception):
    """The line of a batch has its answer already, by another worker: neither record nor answer was stored again."""


class Row(Struct, frozen=True, kw_only=True):
    """A record as it is stored, with the content that was sealed of it, and the line of a batch that it answers.

    `leaf` is its RFC 6962 leaf hash, SHA-256(0x00 || body).
    """

    id: str
    kind: str
    department: str
    outcome: str | None
    at: dt.datetime
    leaf: bytes
    body: bytes
    sealed: SealedRow | None = None
    line: LineRow | None = None

    def values(self) -> dict[str, object]:
        """Give the values of the columns."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("sealed", "line")}


def _besides(rows: Sequence[Row]) -> list[tuple[sa.Insert, list[dict[str, object]]]]:
    """Give what goes into other tables with `rows`."""
    sealed = [row.sealed.values() for row in rows if row.sealed is not None]
    lines = [row.line.values() for row in rows if row.line is not None]
    both = ((vault.insert(), sealed), (batch_lines.insert(), lines))
    return [(statement, values) for statement, values in both if values]


class Inserter(Protocol):
    """Inserts groups of rows."""

    async def insert(self, rows: Sequence[Row]) -> list[int]:
        """Insert all of `rows` and what goes with them, or none; give their sequences in order, once they are durable.

        Raises what SQLAlchemy raises, or TimeoutError; then it is not known whether they are there.
        """
        ...

    async def close(self) -> None:
        """Close what was opened."""
        ...


class AsyncInserter:
    """Inserts by the event loop's own driver."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = writer(engine)

    async def insert(self, rows: Sequence[Row]) -> list[int]:
        """Insert in one statement."""
        statement = decision_log.insert().returning(decision_log.c.sequence, sort_by_parameter_order=True)
        async with asyncio.timeout(PATIENCE), self._engine.begin() as connection:
            sequences = list((await connection.execute(statement, [row.values() for row in rows])).scalars())
            for statement_, values in _besides(rows):
                await connection.execute(statement_, values)
            return sequences

    async def close(self) -> None:
        """Nothing of its own was opened."""


class SQLiteInserter:
    """Inserts by a thread of its own.

    SQLite's async driver goes to its thread and back for each of nine steps of a transaction; here one trip does all,
    which leaves the time to the disk.
    """

    def __init__(self, url: URL, *, lock_wait: float = LOCK_WAIT) -> None:
        self._engine = create_engine(
            url.set(drivername="sqlite+pysqlite"),
            hide_parameters=True,
            pool_size=1,
            connect_args={"timeout": lock_wait, "isolation_level": None, "check_same_thread": False},
            execution_options={"gateway_writes": True},
        )
        event.listen(self._engine, "connect", sqlite_connect)
        event.listen(self._engine, "begin", sqlite_begin)
        self._turn = sqlite_turn(url)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decision-log")

    async def insert(self, rows: Sequence[Row]) -> list[int]:
        """Insert row by row in one transaction."""
        async with asyncio.timeout(PATIENCE):
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._insert, rows)

    async def close(self) -> None:
        """Close the connection."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown(wait=False)

    def _insert(self, rows: Sequence[Row]) -> list[int]:
        with self._turn, self._engine.begin() as connection:
            connection.execute(decision_log.insert(), [row.values() for row in rows])
            # The transaction holds the write lock since it began, so its rows have followed each other.
            last = connection.exec_driver_sql("SELECT last_insert_rowid()").scalar_one()
            for statement, values in _besides(rows):
                connection.execute(statement, values)
        return list(range(last - len(rows) + 1, last + 1))
