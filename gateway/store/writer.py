"""The one writer of the log in a process: it commits what waits in groups, because the disk's flush is what costs."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import logging
from collections.abc import Sequence

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Unavailable, describe
from gateway.records import AccessV1, Record, canonical
from gateway.store import faults
from gateway.store.engine import writer
from gateway.store.tables import decision_log

_GROUP = 256  # records in one transaction
_WAITING = 10_000  # records that may wait; above, the disk is too slow to go on taking requests
_PATIENCE = 15.0  # seconds for one transaction; above, nobody is answered
_log = logging.getLogger("gateway.store")


class Row(Struct, frozen=True, kw_only=True):
    """A record as it is stored. `leaf` is its RFC 6962 leaf hash, SHA-256(0x00 || body)."""

    id: str
    kind: str
    department: str
    outcome: str | None
    at: dt.datetime
    leaf: bytes
    body: bytes

    def values(self) -> dict[str, object]:
        """Give the values of the columns."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


def leaf_of(body: bytes) -> bytes:
    """Give the RFC 6962 leaf hash of a record's bytes."""
    return hashlib.sha256(b"\x00" + body).digest()


def row_of(record: Record) -> Row:
    """Make the row of a record; ValueError where it has no canonical bytes."""
    body = canonical(record)
    return Row(
        id=record.id,
        kind=str(type(record).__struct_config__.tag),
        department=record.caller.department if isinstance(record, AccessV1) else record.department,
        outcome=None if isinstance(record, AccessV1) else record.outcome,
        at=record.at,
        leaf=leaf_of(body),
        body=body,
    )


def _unavailable(why: str) -> Unavailable:
    return Unavailable(f"the decision log can not be written; nothing was answered; {why}")


class _Waiting(Struct, frozen=True):
    row: Row
    done: asyncio.Future[int]


class GroupWriter:
    """Takes rows from any task, commits them in groups, and gives each its sequence once it is durable.

    All rows of a group are committed, or none; where one row spoils its group, each is tried by itself. A caller that
    is cancelled while it waits loses only its own answer: its row is written like the others.
    """

    def __init__(self, engine: AsyncEngine, *, group: int = _GROUP) -> None:
        self._engine = writer(engine)
        self._group = group
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.failing = False

    async def put(self, row: Row) -> int:
        """Store `row`; give its sequence when it is durable. Raises Unavailable where it can not be."""
        if self._closing:
            raise _unavailable("the gateway is stopping; try another instance, or again later")
        if len(self._waiting) >= _WAITING:
            raise _unavailable("too many records wait for the disk; try again later")
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="decision log")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(row, done))
        self._wake.set()
        return await done

    async def close(self) -> None:
        """Write what waits, then stop."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        group: list[_Waiting] = []
        try:
            while self._waiting or not self._closing:
                self._wake.clear()
                if not self._waiting:
                    await self._wake.wait()
                    continue
                group, self._waiting = self._waiting[: self._group], self._waiting[self._group :]
                await self._commit(group)
                await asyncio.sleep(0)  # those who were answered just now may have more: let them join the next group
        finally:  # also where this task is cancelled: nobody waits for ever
            for one in (*group, *self._waiting):
                if not one.done.done():
                    one.done.set_exception(
                        _unavailable("the gateway is stopping; try another instance, or again later")
                    )
            self._waiting = []

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            try:
                sequences = await self._insert([one.row for one in group])
            except DBAPIError as exc:
                if not exc.connection_invalidated:
                    raise
                # The connection was lost, perhaps since long: once more by a fresh one. Should the first have been
                # committed after all, the rows are found to be there already.
                sequences = await self._insert([one.row for one in group])
        except (IntegrityError, DataError):
            await self._singly(group)
        except DBAPIError as exc:
            self._fail(group, exc)
        except StatementError:
            await self._singly(group)
        except Exception as exc:  # noqa: BLE001 - whatever it is, everybody who waits must be told
            self._fail(group, exc)
        else:
            self._succeed(group, sequences)

    async def _insert(self, rows: Sequence[Row]) -> dict[str, int]:
        """Insert rows in one transaction; give the sequence of each id once it is committed."""
        statement = decision_log.insert().returning(decision_log.c.id, decision_log.c.sequence)
        async with asyncio.timeout(_PATIENCE):
            async with self._engine.begin() as connection:
                found = (await connection.execute(statement, [row.values() for row in rows])).all()
        return {row.id: row.sequence for row in found}

    async def _singly(self, group: Sequence[_Waiting]) -> None:
        for one in group:
            try:
                self._succeed([one], await self._insert([one.row]))
            except IntegrityError as exc:
                sequence = await self._there_already(one.row)
                if sequence is None:
                    self._fail([one], exc)
                else:
                    self._succeed([one], {one.row.id: sequence})
            except Exception as exc:  # noqa: BLE001 - whatever it is, this one must be told and the others tried
                self._fail([one], exc)

    async def _there_already(self, row: Row) -> int | None:
        """Give the sequence of the very same record, where the log holds it."""
        columns = (decision_log.c.sequence, decision_log.c.body)
        try:
            async with asyncio.timeout(_PATIENCE), self._engine.connect() as connection:
                found = (await connection.execute(sa.select(*columns).where(decision_log.c.id == row.id))).first()
        except (StatementError, OSError, TimeoutError):
            return None
        return int(found.sequence) if found is not None and bytes(found.body) == row.body else None

    def _succeed(self, group: Sequence[_Waiting], sequences: dict[str, int]) -> None:
        self.failing = False
        for one in group:
            if not one.done.done():
                one.done.set_result(sequences[one.row.id])

    def _fail(self, group: Sequence[_Waiting], exc: BaseException) -> None:
        self.failing = True
        _log.error("the decision log can not be written, %d records: %s", len(group), describe(exc))
        why = faults.hint(exc)
        for one in group:
            if not one.done.done():
                one.done.set_exception(_unavailable(why))
