"""What becomes of a job whose worker has died over it."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import RequestError, Unavailable
from gateway.store.batch_lines import insert_lines
from gateway.store.batch_rows import (
    LEASED,
    TELLING,
    WAITING,
    LeaseLost,
    end_job,
    lock_batch,
    new_job,
    now,
    settle,
    stops,
)
from gateway.store.batch_shape import ENDED, Batch, BatchError, LineResult
from gateway.store.batch_steps import fail_batch
from gateway.store.batch_tables import batch_lines, jobs
from gateway.store.batches import Batches
from gateway.store.files import Files
from gateway.store.insert import LineRow
from gateway.store.job_claim import MAX_ATTEMPTS
from gateway.store.transactions import Transactions

_SPLIT = 2  # attempts, after which the lines of a job are tried one by one
_TELLING = (10.0, 60.0, 300.0, 1800.0)  # seconds until a webhook is tried again
_FINALIZE = 60.0  # seconds until files are written again, where that has ended its worker often


class _Head(Struct):
    custom_id: str | None = None


def telling_delay(attempts: int) -> float:
    """Give the seconds until a webhook is tried again."""
    return _TELLING[min(max(attempts, 1), len(_TELLING)) - 1]


async def reap_one(db: Transactions, batches: Batches, files: Files, row: Any, by: dt.datetime) -> int:
    """Take back one job, whose lease has run out by `by`: 1, or 0 where its worker or another was quicker."""
    pieces: list[bytes] | None = None
    failed: list[LineRow] | None = None
    if row["kind"] == "lines" and row["attempts"] >= _SPLIT:
        batch = await batches.get(row["batch"])
        if batch is not None and batch.status == "in_progress":
            pieces = await _lines(files, batch, row)
            if row["attempts"] >= MAX_ATTEMPTS:
                failed = await _failed(batches, batch, row, pieces)
            elif row["count"] == 1:
                pieces = None
    async with db.write() as connection:
        locked = await lock_batch(connection, row["batch"])
        still = sa.select(jobs.c.id).where(
            jobs.c.id == row["id"],
            jobs.c.state == LEASED,
            jobs.c.attempts == row["attempts"],
            jobs.c.lease_until <= by,
        )
        if await connection.scalar(still.with_for_update()) is None:
            return 0
        ended = locked is None or locked["status"] in ENDED
        if row["kind"] == "webhook":
            await _tell(connection, row, there=locked is not None)
        elif not ended:
            await _go_on(connection, row, locked, pieces, failed)
        elif row["kind"] != "finalize":
            await connection.execute(jobs.delete().where(jobs.c.id == row["id"]))
    if ended and row["kind"] == "finalize":
        await batches.tidy(row["batch"])
    return 1


async def _tell(connection: AsyncConnection, row: Any, *, there: bool) -> None:
    if there and row["attempts"] < MAX_ATTEMPTS:
        await _wait(connection, row, telling_delay(row["attempts"]))
    else:
        await connection.execute(jobs.delete().where(jobs.c.id == row["id"]))


async def _go_on(
    connection: AsyncConnection,
    row: Any,
    batch: Any,
    pieces: list[bytes] | None,
    failed: list[LineRow] | None,
) -> None:
    """Let a job of a batch that has not ended wait again, or end it."""
    if row["kind"] == "finalize":
        await _wait(connection, row, _FINALIZE if row["attempts"] >= MAX_ATTEMPTS else 0)
    elif stops(batch):
        await end_job(connection, row["id"])
        await settle(connection, row["batch"])
    elif row["kind"] == "validate":
        if row["attempts"] >= MAX_ATTEMPTS:
            message = f"the file was read {row['attempts']} times and ended the worker each time"
            await fail_batch(connection, batch, [BatchError(code="unreadable_file", message=message)])
        else:
            await _wait(connection, row)
    elif failed is not None:
        await insert_lines(connection, failed)
        await end_job(connection, row["id"])
        await settle(connection, row["batch"])
    elif pieces is not None:
        await _split(connection, row, batch, pieces)
        await settle(connection, row["batch"])
    else:
        await _wait(connection, row)


async def _wait(connection: AsyncConnection, row: Any, delay: float = 0) -> None:
    state = TELLING if row["kind"] == "webhook" else WAITING
    values = {"state": state, "owner": None, "lease_until": None, "available_at": now() + dt.timedelta(seconds=delay)}
    await connection.execute(jobs.update().where(jobs.c.id == row["id"]).values(**values))


async def _split(connection: AsyncConnection, row: Any, batch: Any, pieces: list[bytes]) -> None:
    """Put a job for each line that has no answer in place of one for all."""
    there = sa.select(batch_lines.c.line).where(
        batch_lines.c.batch == row["batch"],
        batch_lines.c.line >= row["first"],
        batch_lines.c.line < row["first"] + row["count"],
    )
    answered = set((await connection.execute(there)).scalars())
    made, start = [], row["start"]
    for line, piece in enumerate(pieces, row["first"]):
        if line not in answered:
            one = {"first": line, "count": 1, "start": start, "size": len(piece), "attempts": row["attempts"]}
            made.append(new_job(batch, "lines", **one))
        start += len(piece)
    await connection.execute(jobs.delete().where(jobs.c.id == row["id"]))
    if made:
        await connection.execute(jobs.insert(), made)


async def _lines(files: Files, batch: Batch, row: Any) -> list[bytes] | None:
    """Give the lines of a job with their ends; None where they can not be told apart, so the job stays whole."""
    try:
        data = await files.range(batch.input_file, row["start"], row["size"])
    except (RequestError, Unavailable):
        return None
    pieces = [piece + b"\n" for piece in data.removesuffix(b"\n").split(b"\n")]
    if not data.endswith(b"\n"):  # the last line of the file
        pieces[-1] = pieces[-1][:-1]
    return pieces if len(pieces) == row["count"] else None


async def _failed(batches: Batches, batch: Batch, row: Any, pieces: list[bytes] | None) -> list[LineRow] | None:
    """Make the rows of the lines of a job that has ended its worker each time; None where the batch has ended."""
    rows = []
    for number in range(row["count"]):
        line = int(row["first"]) + number
        message = f"line {line}: the line was tried {row['attempts']} times and ended the worker each time"
        body = {
            "id": f"batch_req_{secrets.token_hex(16)}",
            "custom_id": None if pieces is None else _custom_id(pieces[number]),
            "response": None,
            "error": {"code": "line_failed", "message": message, "line": line},
        }
        result = LineResult(
            batch=batch.id,
            line=line,
            outcome="failed",
            ok=False,
            decision=None,
            reason="line_failed",
            tries=row["attempts"],
            body=msgspec.json.encode(body),
        )
        try:
            rows.append(await batches.line_row(batch, result))
        except LeaseLost:
            return None
    return rows


def _custom_id(piece: bytes) -> str | None:
    try:
        return msgspec.json.decode(piece.removeprefix(b"\xef\xbb\xbf"), type=_Head).custom_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
