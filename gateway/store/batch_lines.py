"""What the lines of a batch came to: stored once, sealed with the batch's key until the files are written, counted."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Unavailable
from gateway.stages import in_thread
from gateway.store.batch_rows import LeaseLost, fence
from gateway.store.batch_shape import Batch, Counts, Job, LineResult
from gateway.store.batch_tables import batch_lines, batches, jobs
from gateway.store.indexing import insert_of
from gateway.store.insert import LineRow
from gateway.store.own_keys import OwnKeys
from gateway.store.transactions import Transactions

_NONCE = 12
_ABOUT = b"gateway batch line v1\x00"
_TOGETHER = 500  # rows in one statement
_LOOK = 1000  # lines whose sizes are read at a time
_PAGE = 4 * 1024 * 1024  # bytes of sealed lines in one query, or one line
_HEAVY = 64 * 1024  # bytes, above which they are opened beside the event loop
_CHUNKS = 256  # jobs in one look for lines without an answer
_MANY = 20_000  # lines, above which a count is remembered
_REST = 20.0  # times as long as it took
_SPAN = 50_000  # line numbers that are looked at together
_REASONS = 50  # reasons that a count names
_RELEASED = frozenset({"released", "screened", "judged"})


class LinesOfBatches:
    """The part of `Batches` that keeps lines."""

    def __init__(self, transactions: Transactions, keys: OwnKeys) -> None:
        self._db = transactions
        self._keys = keys
        self._counted: dict[str, tuple[float, Counts]] = {}

    async def counts(self, batch: Batch) -> Counts:
        """Count what the lines of `batch` have come to so far; the final counts where it has ended.

        To count many lines takes the database a while, so what was counted of 20,000 or more holds for 20 times as
        long as that took.
        """
        if batch.summary is not None:
            return batch.summary
        known = self._counted.get(batch.id)
        if known is not None and time.monotonic() < known[0]:
            return msgspec.structs.replace(known[1], total=batch.total or 0)
        begin = time.monotonic()
        async with self._db.read() as connection:
            found = await count(connection, batch.id, batch.total or 0)
        self._counted.pop(batch.id, None)
        if found.completed + found.failed >= _MANY:
            end = time.monotonic()
            self._counted = {id_: one for id_, one in self._counted.items() if one[0] > end}
            self._counted[batch.id] = end + _REST * (end - begin), found
        return found

    async def line_row(self, batch: Batch, result: LineResult) -> LineRow:
        """Make the row of a line, its body sealed with the batch's key.

        Raises LeaseLost where the batch has ended, and Unavailable where its key can not be had.
        """
        return row_of(await self._cipher(batch.id), result)

    async def store_lines(self, batch: Batch, results: Sequence[LineResult], job: Job | None = None) -> None:
        """Store what lines came to that are no decisions. Lines that have an answer already keep it.

        Where `job` is given its worker must still hold it: raises LeaseLost, as where the batch has ended.
        """
        if not results:
            return
        cipher = await self._cipher(batch.id)
        for first in range(0, len(results), _TOGETHER):
            rows = [row_of(cipher, result) for result in results[first : first + _TOGETHER]]
            async with self._db.write() as connection:
                if job is not None:
                    await fence(connection, job)
                await insert_lines(connection, rows)

    async def answered(self, batch_id: str, first: int, count: int) -> frozenset[int]:
        """Tell which of `count` lines from `first` on have an answer."""
        query = sa.select(batch_lines.c.line).where(
            batch_lines.c.batch == batch_id, batch_lines.c.line >= first, batch_lines.c.line < first + count
        )
        async with self._db.read() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def missing(self, batch: Batch) -> AsyncIterator[range]:
        """Give the runs of lines that belong to a job and have no answer, in order.

        Each run lies within one job. To be read when no job of the batch is worked on any more.
        """
        mine = (jobs.c.batch == batch.id) & (jobs.c.kind == "lines")
        query = sa.select(jobs.c.first, jobs.c["count"]).where(mine).order_by(jobs.c.first).limit(_CHUNKS)
        last = -1
        while True:
            async with self._db.read() as connection:
                rows = (await connection.execute(query.where(jobs.c.first > last))).all()
            chunks = [(int(row[0]), int(row[1])) for row in rows]
            if not chunks:
                return
            last = chunks[-1][0]
            for part in _near(chunks):
                there = await self.answered(batch.id, part[0][0], part[-1][0] + part[-1][1] - part[0][0])
                for first, number in part:
                    for run in _runs(first, number, there):
                        yield run

    async def results(self, batch: Batch, *, ok: bool) -> AsyncIterator[bytes]:
        """Give the bodies of the lines that go to the output file (`ok`), or of the others, in the order of lines.

        One body at a time; a few MiB are held at once. Raises LeaseLost where the batch has ended, and Unavailable
        where one can not be opened.
        """
        cipher = await self._cipher(batch.id)
        mine = (batch_lines.c.batch == batch.id) & (batch_lines.c.ok == ok) & batch_lines.c.sealed.is_not(None)
        last = -1
        while True:
            look = sa.select(batch_lines.c.line, sa.func.length(batch_lines.c.sealed)).where(
                mine, batch_lines.c.line > last
            )
            async with self._db.read() as connection:
                found = (await connection.execute(look.order_by(batch_lines.c.line).limit(_LOOK))).all()
            if not found:
                return
            last = int(found[-1][0])
            for start, stop in _pages([(int(line), int(size)) for line, size in found]):
                page = sa.select(batch_lines.c.line, batch_lines.c.sealed).where(
                    mine, batch_lines.c.line.between(start, stop)
                )
                async with self._db.read() as connection:
                    rows = (await connection.execute(page.order_by(batch_lines.c.line))).all()
                sealed = [(int(line), bytes(data)) for line, data in rows]
                if sum(len(data) for _, data in sealed) > _HEAVY:
                    bodies = await in_thread(_open_all, cipher, batch.id, sealed)
                else:
                    bodies = _open_all(cipher, batch.id, sealed)
                for body in bodies:
                    yield body

    async def _cipher(self, id: str) -> AESGCM:
        known = self._keys.known(id)
        if known is not None:
            return known
        query = sa.select(batches.c.kek, batches.c.wrapped).where(batches.c.id == id)
        async with self._db.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None or not row.kek:
            raise LeaseLost
        try:
            return await self._keys.open(id, row.kek, bytes(row.wrapped))
        except ValueError:
            raise Unavailable(
                f"the key of the batch `{id}` was changed in the database; restore a backup, or submit the batch again"
            ) from None


async def insert_lines(connection: AsyncConnection, rows: Sequence[LineRow]) -> None:
    """Insert rows of lines; where a line has one, that stays."""
    for first in range(0, len(rows), _TOGETHER):
        values = [row.values() for row in rows[first : first + _TOGETHER]]
        statement = insert_of(connection, batch_lines)
        await connection.execute(statement.on_conflict_do_nothing(index_elements=["batch", "line"]), values)


async def count(connection: AsyncConnection, id: str, total: int) -> Counts:
    """Count the lines of a batch by what they came to."""
    columns = (batch_lines.c.outcome, batch_lines.c.ok, batch_lines.c.reason)
    query = sa.select(*columns, sa.func.count()).where(batch_lines.c.batch == id).group_by(*columns)
    by_outcome: dict[str, int] = {}
    reasons: dict[str, int] = {}
    done = {True: 0, False: 0}
    for outcome, ok, reason, number in (await connection.execute(query)).all():
        by_outcome[outcome] = by_outcome.get(outcome, 0) + number
        done[bool(ok)] += number
        if reason is not None and outcome not in _RELEASED:
            reasons[reason] = reasons.get(reason, 0) + number
    most = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))[:_REASONS]
    return Counts(total=total, completed=done[True], failed=done[False], by_outcome=by_outcome, reasons=dict(most))


def _about(batch: str, line: int) -> bytes:
    return _ABOUT + batch.encode() + b"\x00" + line.to_bytes(8, "big")


def row_of(cipher: AESGCM, result: LineResult) -> LineRow:
    """Make the row of a line, its body sealed with the key of its batch."""
    nonce = os.urandom(_NONCE)
    sealed = nonce + cipher.encrypt(nonce, result.body, _about(result.batch, result.line))
    return LineRow(
        batch=result.batch,
        line=result.line,
        outcome=result.outcome,
        ok=result.ok,
        decision=result.decision,
        reason=None if result.reason is None else result.reason[:200],
        tries=result.tries,
        sealed=sealed,
    )


def _open_all(cipher: AESGCM, batch: str, sealed: Sequence[tuple[int, bytes]]) -> list[bytes]:
    try:
        return [cipher.decrypt(data[:_NONCE], data[_NONCE:], _about(batch, line)) for line, data in sealed]
    except (InvalidTag, ValueError):
        raise Unavailable(
            f"answers of the batch `{batch}` were changed in the database; restore a backup, or submit the batch again"
        ) from None


def _near(chunks: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Cut chunks into groups that lie near each other: between two may be any number of lines that are none."""
    part: list[tuple[int, int]] = []
    for first, number in chunks:
        if part and first + number - part[0][0] > _SPAN:
            yield part
            part = []
        part.append((first, number))
    yield part


def _runs(first: int, number: int, there: frozenset[int]) -> list[range]:
    """Give the runs of lines that are not in `there`."""
    runs, begin = [], None
    for line in range(first, first + number + 1):
        if line < first + number and line not in there:
            begin = line if begin is None else begin
        elif begin is not None:
            runs.append(range(begin, line))
            begin = None
    return runs


def _pages(found: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut lines, with their sizes, into pages of few bytes: the first and the last line of each."""
    pages: list[tuple[int, int]] = []
    size = 0
    for line, weight in found:
        size += weight
        if pages and size <= _PAGE:
            pages[-1] = (pages[-1][0], line)
        else:
            pages.append((line, line))
            size = weight
    return pages
