"""Batches: made, looked at, paused, cancelled. What changes one stands in the log before it takes effect."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.records import ALL, Caller, ChangeV1, Context, new_id
from gateway.records.events import CallerV1, Event
from gateway.store.batch_rows import OPEN, batch_of, change, lock_batch, new_job, now, settle, stop
from gateway.store.batch_shape import ENDED, Batch, Kind
from gateway.store.batch_steps import StepsOfBatches
from gateway.store.batch_tables import batches, files, jobs
from gateway.store.files import behind
from gateway.store.own_keys import OwnKeys
from gateway.store.reasons import is_id, shown
from gateway.store.transactions import Transactions

_LONGEST_KEY = 200  # characters of an idempotency key


class Batches(StepsOfBatches):
    """The batches of one database. `record` appends to its log."""

    def __init__(self, transactions: Transactions, keys: OwnKeys, record: Callable[[Event], Awaitable[None]]) -> None:
        super().__init__(transactions, keys)
        self._record = record

    async def create(
        self,
        *,
        kind: Kind,
        caller: Caller,
        department: str,
        said: Context,
        endpoint: str,
        input_file: str,
        completion_window: str = "24h",
        metadata: Mapping[str, str] | None = None,
        priority: int = 0,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        window_seconds: float = 86400,
        owner: str | None = None,
    ) -> Batch:
        """Make a batch, to be read by a worker; recorded before it is there.

        `window_seconds` is how long its lines are tried. `owner` is who owns it and its files, the key of `caller`
        unless given. The same `idempotency_key` of the same owner gives the batch that was made with it. Raises
        Conflict where that one has other content, InvalidRequest, and Unavailable.
        """
        if idempotency_key is not None and not 1 <= len(idempotency_key) <= _LONGEST_KEY:
            raise InvalidRequest(f"an idempotency key has 1 to {_LONGEST_KEY} characters; shorten it")
        made = now()
        id_ = f"batch_{secrets.token_hex(16)}"
        values: dict[str, Any] = {
            "id": id_,
            "kind": kind,
            "department": department,
            "owner": caller.key if owner is None else owner,
            "caller": msgspec.json.encode(caller),
            "said": msgspec.json.encode(said),
            "endpoint": endpoint,
            "completion_window": completion_window,
            "metadata": None if metadata is None else dict(metadata),
            "priority": priority,
            "options": dict(options or {}),
            "idempotency_key": idempotency_key,
            "status": "validating",
            "paused": False,
            "input_file": input_file,
            "created_at": made,
            "expires_at": made + dt.timedelta(seconds=window_seconds),
        }
        earlier = await self._earlier(values)
        if earlier is not None:
            return earlier
        key = self._keys.make()
        await self._keys.wrap(key, id_)  # a key that can not be had is told of before anything is recorded
        await self._changed("batch-created", caller, id_, None, "validating")
        kek, wrapped = await self._keys.wrap(key, id_)
        try:
            async with self._db.write() as connection:
                # whoever deletes the file at this moment waits, and then finds the batch that reads it
                reads = sa.select(files.c.id).where(files.c.id == input_file).with_for_update(read=True)
                await connection.execute(reads)
                await _insert(connection, {**values, "kek": kek, "wrapped": wrapped})
                row = await lock_batch(connection, id_)
                await connection.execute(jobs.insert().values(**new_job(row, "validate")))
        except _Taken:
            self._keys.forget(id_)
            earlier = await self._earlier(values)
            if earlier is None:
                raise Conflict("another batch was made with this idempotency key just now; try again") from None
            return earlier
        return batch_of(row)

    async def get(self, id: str) -> Batch | None:
        """Give a batch as it stands; None where there is none."""
        if not is_id(id):
            return None
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(batches).where(batches.c.id == id))).mappings().first()
        return None if row is None else batch_of(row)

    async def list(self, department: str, *, after: str | None = None, limit: int = 20) -> tuple[Batch, ...]:
        """Give batches of a department (``*``: of all), newest first, from behind the batch `after` on.

        Raises NotFound where there is no batch `after`.
        """
        query = sa.select(batches)
        if department != ALL:
            query = query.where(batches.c.department == department)
        if after is not None:
            last = await self.get(after)
            if last is None:
                raise NotFound(
                    f"there is no batch `{shown(after)}` to go on from; list from the beginning", param="after"
                )
            query = query.where(behind(batches, {"created_at": last.created_at, "id": last.id}, "desc"))
        query = query.order_by(batches.c.created_at.desc(), batches.c.id.desc()).limit(limit)
        async with self._db.read() as connection:
            return tuple(batch_of(row) for row in (await connection.execute(query)).mappings())

    async def cancel(self, id: str, caller: Caller) -> Batch:
        """Stop a batch: lines that are being tried come to their end, the others are not tried any more. Recorded.

        A batch that is cancelled already stays so. Raises NotFound, Conflict where it has ended or all its lines have,
        and Unavailable.
        """
        batch = await self._open(id)
        if batch.status == "cancelling":
            return batch
        if batch.status == "finalizing":
            raise _too_late(id)
        await self._changed("batch-cancelled", caller, id, batch.status, "cancelling")
        async with self._db.write() as connection:
            row = await lock_batch(connection, id)
            if row is None or row["status"] in ENDED or row["status"] == "finalizing":
                raise _too_late(id)
            if row["status"] != "cancelling":
                await change(connection, id, status="cancelling", cancelling_at=now(), paused=False)
                await stop(connection, row)
                await settle(connection, id)
            return batch_of(await lock_batch(connection, id))

    async def pause(self, id: str, caller: Caller) -> Batch:
        """Let a batch rest: lines that are being tried come to their end. Recorded.

        Its time goes on. Raises NotFound, Conflict where nothing of it is left to be tried, and Unavailable.
        """
        return await self._rest(id, caller, paused=True)

    async def resume(self, id: str, caller: Caller) -> Batch:
        """Let a paused batch go on. Recorded. Raises as `pause`."""
        return await self._rest(id, caller, paused=False)

    async def _rest(self, id: str, caller: Caller, *, paused: bool) -> Batch:
        batch = await self._open(id)
        if batch.status in ("finalizing", "cancelling"):
            raise _too_late(id)
        if batch.paused == paused:
            return batch
        word = {True: "paused", False: batch.status}
        what = "batch-paused" if paused else "batch-resumed"
        await self._changed(what, caller, id, word[not paused], word[paused])
        async with self._db.write() as connection:
            row = await lock_batch(connection, id)
            if row is None or row["status"] not in ("validating", "in_progress"):
                raise _too_late(id)
            await change(connection, id, paused=paused)
            return batch_of(await lock_batch(connection, id))

    async def _open(self, id: str) -> Batch:
        batch = await self.get(id)
        if batch is None:
            raise NotFound(f"there is no batch `{shown(id)}`; GET /v1/batches lists them")
        if batch.status not in OPEN:
            raise Conflict(f"the batch `{batch.id}` has ended: it is {batch.status}", param="id")
        return batch

    async def _earlier(self, values: Mapping[str, Any]) -> Batch | None:
        """Give the batch that was made with the same idempotency key; Conflict where it was asked for otherwise."""
        if values["idempotency_key"] is None:
            return None
        names = ("department", "owner", "idempotency_key")
        query = sa.select(batches).where(*(batches.c[name] == values[name] for name in names))
        async with self._db.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            return None
        same = ("kind", "endpoint", "input_file", "completion_window", "metadata", "priority", "options")
        if any(row[name] != values[name] for name in same) or bytes(row["said"]) != values["said"]:
            raise Conflict(
                f"the batch `{row['id']}` was made with this idempotency key and asks for something else; use another "
                "key for another batch"
            )
        return batch_of(row)

    async def _changed(self, what: str, caller: Caller, id: str, before: str | None, after: str) -> None:
        """Record a change before it takes effect: should the process end between the two, the log says too much."""
        await self._record(
            ChangeV1(
                id=new_id("chg"),
                at=now(),
                caller=CallerV1.of(caller),
                what=what,
                subject=id,
                before=before,
                after=after,
                reason=None,
            )
        )


class _Taken(Exception):
    """A batch with the same idempotency key is there."""


async def _insert(connection: AsyncConnection, values: Mapping[str, Any]) -> None:
    try:
        await connection.execute(batches.insert().values(**values))
    except IntegrityError:
        raise _Taken from None


def _too_late(id: str) -> Conflict:
    return Conflict(f"no line of the batch `{shown(id)}` is left to be tried; its files are written or being written")
