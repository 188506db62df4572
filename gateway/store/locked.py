"""Transactions that decide by what the log says and write what follows: one at a time, in every process.

Holds, erasures and what they check are written here and not by the group writer, so that no hold can be placed between
the look at the holds and the destruction of a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import Unavailable
from gateway.records import Event, parse
from gateway.store import faults
from gateway.store.engine import writer
from gateway.store.insert import PATIENCE
from gateway.store.migrate import TROUBLE
from gateway.store.tables import EVENTS, decision_log
from gateway.store.writer import row_of

_LOCK = 0x686F_6C64  # names the lock of holds and erasures on PostgreSQL
_Kind = TypeVar("_Kind", bound=Event)


@contextlib.asynccontextmanager
async def locked(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that no other of this kind overlaps; it is committed at the end.

    On SQLite it holds the write lock, and what it deletes is overwritten with zeros; on PostgreSQL it holds a lock of
    its own, and sees all that was committed before it had it. Raises Unavailable where the database fails.
    """
    try:
        async with asyncio.timeout(PATIENCE), writer(engine).begin() as connection:
            if engine.dialect.name == "sqlite":
                await connection.exec_driver_sql("PRAGMA secure_delete=ON")
            else:
                await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield connection
    except TROUBLE as exc:
        raise Unavailable(f"the database can not be written, so nothing was done; {faults.hint(exc)}") from None


async def record(connection: AsyncConnection, event: Event) -> None:
    """Append `event` in the transaction of `connection`; it is in the log once that is committed."""
    await connection.execute(decision_log.insert(), [row_of(event).values()])


async def events(
    connection: AsyncConnection,
    kind: type[_Kind],
    *,
    since: dt.datetime | None = None,
    after: int = 0,
    mention: str | None = None,
) -> tuple[tuple[int, _Kind], ...]:
    """Give the records of `kind` with their sequences, in the order of the log.

    `since` bounds their time and `after` their sequence; `mention` leaves out those whose bytes do not hold this id.
    Raises Unavailable where one can not be read: what is done by them would be done wrongly.
    """
    query = sa.select(decision_log.c.sequence, decision_log.c.body).where(
        sa.text(EVENTS), decision_log.c.kind == kind.__struct_config__.tag
    )
    if since is not None:
        query = query.where(decision_log.c.at >= since)
    if after:
        query = query.where(decision_log.c.sequence > after)
    if mention is not None:
        query = query.where(_mentions(connection, mention))
    found: list[tuple[int, _Kind]] = []
    for row in (await connection.execute(query)).all():
        try:
            read = parse(bytes(row.body))
        except ValueError:
            raise Unavailable(
                f"record {row.sequence} of the decision log is damaged; run `gateway log verify`"
            ) from None
        if isinstance(read, kind):
            found.append((int(row.sequence), read))
    return tuple(sorted(found, key=lambda one: one[0]))


def _mentions(connection: AsyncConnection, id: str) -> sa.ColumnElement[bool]:
    if connection.dialect.name == "sqlite":
        return sa.func.instr(decision_log.c.body, id.encode()) > 0
    return sa.func.convert_from(decision_log.c.body, "UTF8").contains(id, autoescape=True)
