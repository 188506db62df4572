"""The one writer of the log in a process: it commits what waits in groups, because the disk's flush is what costs."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Unavailable, describe
from gateway.records import BreakGlassV1, DecisionV1, OpenedV1, ReauditV1, Record, ReviewV1, canonical
from gateway.store import faults
from gateway.store.batch_tables import batch_lines
from gateway.store.insert import PATIENCE, Inserter, LineTaken, Row
from gateway.store.tables import decision_log

_GROUP = 256  # records in one transaction
_GROUP_BYTES = 32 * 1024 * 1024  # bytes of sealed content in one transaction: above, its records wait for the next
_WAITING = 10_000  # records that may wait; above, the disk is too slow to go on taking requests
_log = logging.getLogger("gateway.store")


def leaf_of(body: bytes) -> bytes:
    """Give the RFC 6962 leaf hash of a record's bytes."""
    return hashlib.sha256(b"\x00" + body).digest()


def columns_of(record: Record) -> dict[str, object]:
    """Give what the columns beside the bytes say of a record."""
    return {
        "id": record.id,
        "kind": record.__struct_config__.tag,
        "department": (
            record.department
            if isinstance(record, DecisionV1 | OpenedV1 | ReviewV1 | BreakGlassV1 | ReauditV1)
            else record.caller.department
        ),
        "outcome": record.outcome if isinstance(record, DecisionV1) else None,
        "at": record.at,
    }


def row_of(record: Record) -> Row:
    """Make the row of a record; ValueError where it has no canonical bytes."""
    body = canonical(record)
    return msgspec.convert({**columns_of(record), "leaf": leaf_of(body), "body": body}, Row)


def _unavailable(why: str) -> Unavailable:
    return Unavailable(f"the decision log can not be written; nothing was answered; {why}")


class _Waiting(Struct, frozen=True):
    """Rows that are stored together or not at all; `done` gets the sequences."""

    rows: tuple[Row, ...]
    done: asyncio.Future[list[int]]


class GroupWriter:
    """Takes rows from any task, commits them in groups, and gives each its sequence once it is durable.

    All rows of a group are committed, or none; where one row spoils its group, each is tried by itself. A caller that
    is cancelled while it waits loses only its own answer: its row is written like the others.
    """

    def __init__(self, engine: AsyncEngine, inserter: Inserter, *, group: int = _GROUP) -> None:
        self._engine = engine
        self._inserter = inserter
        self._group = group
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.failing = False

    async def put(self, row: Row) -> int:
        """Store `row`; give its sequence when it is durable. Raises Unavailable where it can not be."""
        return (await self.put_all((row,)))[0]

    async def put_all(self, rows: tuple[Row, ...]) -> list[int]:
        """Store all of `rows` or none; give their sequences when they are durable.

        Raises Unavailable where that can not be, and LineTaken where a line of a batch that they answer is answered.
        """
        if self._closing:
            raise _unavailable("the gateway is stopping; try another instance, or again later")
        if len(self._waiting) >= _WAITING:
            raise _unavailable("too many records wait for the disk; try again later")
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="decision log")
        done: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(rows, done))
        self._wake.set()
        return await done

    async def close(self) -> None:
        """Write what waits, then stop. Closing once more does nothing."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._inserter.close()

    async def _run(self) -> None:
        group: list[_Waiting] = []
        try:
            while self._waiting or not self._closing:
                self._wake.clear()
                if not self._waiting:
                    await self._wake.wait()
                    continue
                end = self._together()
                group, self._waiting = self._waiting[:end], self._waiting[end:]
                await self._commit(group)
                await asyncio.sleep(0)  # those who were answered just now may have more: let them join the next group
        finally:  # also where this task is cancelled: nobody waits for ever
            for one in (*group, *self._waiting):
                if not one.done.done():
                    one.done.set_exception(
                        _unavailable("the gateway is stopping; try another instance, or again later")
                    )
            self._waiting = []

    def _together(self) -> int:
        """Count those of the waiting that go into the next transaction: one at least."""
        size = 0
        for number, one in enumerate(self._waiting[: self._group]):
            size += sum(len(row.sealed.sealed) for row in one.rows if row.sealed is not None)
            if number and size > _GROUP_BYTES:
                return number
        return min(self._group, len(self._waiting))

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            try:
                await self._insert(group)
            except DBAPIError as exc:
                if not exc.connection_invalidated:
                    raise
                # The connection was lost, perhaps since long: once more by a fresh one. Should the first have been
                # committed after all, the rows are found to be there already.
                await self._insert(group)
        except (IntegrityError, DataError):
            await self._singly(group)
        except DBAPIError as exc:
            self._fail(group, exc)
        except StatementError:
            await self._singly(group)
        except Exception as exc:  # noqa: BLE001 - whatever it is, everybody who waits must be told
            self._fail(group, exc)

    async def _insert(self, group: Sequence[_Waiting]) -> None:
        sequences = iter(await self._inserter.insert([row for one in group for row in one.rows]))
        self._succeed(group, [[next(sequences) for _ in one.rows] for one in group])

    async def _singly(self, group: Sequence[_Waiting]) -> None:
        for one in group:
            try:
                await self._insert([one])
            except IntegrityError as exc:
                sequences = [await self._there_already(row) for row in one.rows]
                known = [sequence for sequence in sequences if sequence is not None]
                if len(known) == len(one.rows):
                    self._succeed([one], [known])
                elif await self._line_taken(one.rows):
                    if not one.done.done():
                        one.done.set_exception(LineTaken())
                else:
                    self._fail([one], exc)
            except Exception as exc:  # noqa: BLE001 - whatever it is, this one must be told and the others tried
                self._fail([one], exc)

    async def _there_already(self, row: Row) -> int | None:
        """Give the sequence of the very same record, where the log holds it."""
        columns = (decision_log.c.sequence, decision_log.c.body)
        try:
            async with asyncio.timeout(PATIENCE), self._engine.connect() as connection:
                found = (await connection.execute(sa.select(*columns).where(decision_log.c.id == row.id))).first()
        except (StatementError, OSError, TimeoutError):
            return None
        return int(found.sequence) if found is not None and bytes(found.body) == row.body else None

    async def _line_taken(self, rows: Sequence[Row]) -> bool:
        """Tell whether one of the lines that `rows` answer has an answer already."""
        try:
            async with asyncio.timeout(PATIENCE), self._engine.connect() as connection:
                for line in (row.line for row in rows if row.line is not None):
                    here = (batch_lines.c.batch == line.batch) & (batch_lines.c.line == line.line)
                    if await connection.scalar(sa.select(batch_lines.c.line).where(here)) is not None:
                        return True
        except (StatementError, OSError, TimeoutError):
            return False
        return False

    def _succeed(self, group: Sequence[_Waiting], sequences: Sequence[list[int]]) -> None:
        self.failing = False
        for one, found in zip(group, sequences, strict=True):
            if not one.done.done():
                one.done.set_result(found)

    def _fail(self, group: Sequence[_Waiting], exc: BaseException) -> None:
        self.failing = True
        _log.error("the decision log can not be written, %d records: %s", len(group), describe(exc))
        why = faults.hint(exc)
        for one in group:
            if not one.done.done():
                one.done.set_exception(_unavailable(why))
