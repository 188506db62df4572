"""The files of batches: encrypted in the folder of files, each with a key of its own; what is known of them is a table.

To delete a file is to delete its key: the row goes first, then the bytes, which nobody can read any more.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Conflict, NotFound, Unavailable
from gateway.records import ALL
from gateway.stages import in_thread
from gateway.store.batch_rows import OPEN
from gateway.store.batch_shape import StoredFile
from gateway.store.batch_tables import batches, files
from gateway.store.file_blocks import BLOCK, BlockReader, damaged
from gateway.store.file_writer import FileWriter, Register, new_file
from gateway.store.own_keys import OwnKeys
from gateway.store.reasons import is_id, shown
from gateway.store.transactions import Transactions

_PIECE = 8 * BLOCK  # bytes that are read, opened and handed over at a time
_OURS = re.compile(r"file-[0-9a-f]{32}(\.part)?")
_ORPHAN = dt.timedelta(days=1)  # after which bytes without a row belong to nobody
_EVERY = dt.timedelta(hours=1)  # between two looks for orphans
_TOGETHER = 100


class Files:
    """The files of one database. `folder` is None where this process was given none."""

    def __init__(self, transactions: Transactions, keys: OwnKeys, folder: Path | None) -> None:
        self._db = transactions
        self._keys = keys
        self._folder = folder
        self._looked: dt.datetime | None = None

    def create(
        self,
        department: str,
        owner: str,
        purpose: str,
        filename: str,
        expires_at: dt.datetime | None,
        limit: int | None = None,
    ) -> FileWriter:
        """Begin a file; it is there once its writer has finished. `limit` bounds its bytes.

        Raises Unavailable where this process has no folder of files.
        """
        made = new_file(department=department, owner=owner, purpose=purpose, filename=filename, expires_at=expires_at)
        return FileWriter(self._place(), self._keys, Register(self._add, self._known), made, limit)

    async def get(self, id: str) -> StoredFile | None:
        """Give what is known of a file; None where there is none, or its time is over."""
        row = await self._row(id)
        over = row is None or (row["expires_at"] is not None and row["expires_at"] <= dt.datetime.now(dt.UTC))
        return None if over else _file(row)

    async def list(
        self,
        department: str,
        *,
        owner: str | None = None,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 100,
        order: Literal["asc", "desc"] = "desc",
    ) -> tuple[StoredFile, ...]:
        """Give files of a department (``*``: of all) by the time they came, from behind the file `after` on.

        Raises NotFound where there is no file `after`.
        """
        query = sa.select(files).where(_lasts(dt.datetime.now(dt.UTC)))
        if department != ALL:
            query = query.where(files.c.department == department)
        if owner is not None:
            query = query.where(files.c.owner == owner)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        if after is not None:
            row = await self._row(after)
            if row is None:
                raise NotFound(f"there is no file `{shown(after)}`; list from the beginning", param="after")
            query = query.where(behind(files, row, order))
        columns = (files.c.created_at, files.c.id)
        query = query.order_by(*(column.desc() if order == "desc" else column.asc() for column in columns))
        async with self._db.read() as connection:
            return tuple(_file(row) for row in (await connection.execute(query.limit(limit))).mappings())

    async def read(self, id: str, start: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """Give the bytes of a file from byte `start` on, `size` of them or all, in pieces of at most 512 KiB.

        One whose time is over is read until it is swept away: a batch may be at it. Raises NotFound where there is no
        such file, FileDamaged where its bytes are not what was written, and
        Unavailable where they or their key can not be had.
        """
        row = await self._row(id)
        if row is None:
            raise NotFound(f"there is no file `{shown(id)}` any more; upload it again")
        start = min(max(0, start), row["bytes"])
        stop = row["bytes"] if size is None else min(row["bytes"], start + max(0, size))
        cipher = await self._cipher(row)
        reader = await in_thread(self._open, row, cipher)
        try:
            if row["bytes"] == 0:
                await in_thread(_read, reader, 0, 0)
            while start < stop:
                end = min(stop, (start // _PIECE + 1) * _PIECE)
                yield await in_thread(_read, reader, start, end)
                start = end
        finally:
            reader.close()

    async def range(self, id: str, start: int, size: int) -> bytes:
        """Give `size` bytes of a file from byte `start` on, fewer where it ends before. Raises as `read`."""
        return b"".join([piece async for piece in self.read(id, start, size)])

    async def delete(self, id: str) -> bool:
        """Delete a file; False where there is none. Raises Conflict where a batch that has not ended reads it."""
        folder = self._place()
        async with self._db.write() as connection:
            found = await connection.scalar(_locked(id))
            if found is None:
                return False
            reader = await _reader(connection, id)
            if reader is not None:
                raise Conflict(f"the batch `{reader}` reads the file `{id}`; wait for its end, or cancel it first")
            await connection.execute(files.delete().where(files.c.id == id))
        self._keys.forget(id)
        await in_thread(_unlink, folder / id)
        return True

    async def sweep(self, now: dt.datetime) -> int:
        """Delete the files whose time is over, and bytes that belong to nobody; give how many files went.

        A file that a batch still reads stays until that has ended.
        """
        if self._folder is None:
            return 0
        gone = 0
        while found := await self._over(now):
            for id_ in found:
                self._keys.forget(id_)
                await in_thread(_unlink, self._folder / id_)
            gone += len(found)
        if self._looked is None or now - self._looked >= _EVERY:
            self._looked = now
            gone += await self._orphans(now)
        return gone

    async def _over(self, now: dt.datetime) -> tuple[str, ...]:
        """Take away the rows of some files whose time is over; give their ids."""
        open_ = sa.select(batches.c.input_file).where(batches.c.status.in_(OPEN))
        query = sa.select(files.c.id).where(files.c.expires_at <= now, files.c.id.not_in(open_)).limit(_TOGETHER)
        async with self._db.read() as connection:
            if await connection.scalar(query.limit(1)) is None:
                return ()
        async with self._db.write() as connection:
            found = tuple((await connection.execute(query.with_for_update(of=files))).scalars())
            await connection.execute(files.delete().where(files.c.id.in_(found)))
        return found

    async def _orphans(self, now: dt.datetime) -> int:
        """Remove bytes without a row that are older than a day: a process has died over them."""
        folder = self._place()
        names = await in_thread(_older, folder, now - _ORPHAN)
        gone = 0
        for first in range(0, len(names), _TOGETHER):
            part = names[first : first + _TOGETHER]
            query = sa.select(files.c.id).where(files.c.id.in_(part))
            async with self._db.read() as connection:
                known = set((await connection.execute(query)).scalars())
            for name in part:
                if name not in known:
                    await in_thread(_unlink, folder / name)
                    gone += 1
        return gone

    async def _add(self, file: StoredFile, kek: str, wrapped: bytes) -> None:
        values = {name: getattr(file, name) for name in file.__struct_fields__}
        async with self._db.write() as connection:
            await connection.execute(files.insert().values(**values, kek=kek, wrapped=wrapped))

    async def _known(self, id: str) -> bool:
        async with self._db.read() as connection:
            return await connection.scalar(sa.select(files.c.id).where(files.c.id == id)) is not None

    async def _row(self, id: str) -> Any | None:
        if not is_id(id):
            return None
        query = sa.select(files).where(files.c.id == id)
        async with self._db.read() as connection:
            return (await connection.execute(query)).mappings().first()

    async def _cipher(self, row: Any) -> AESGCM:
        try:
            return await self._keys.open(row["id"], row["kek"], bytes(row["wrapped"]))
        except ValueError:
            raise damaged(row["id"]) from None

    def _open(self, row: Any, cipher: AESGCM) -> BlockReader:
        try:
            return BlockReader(self._place() / row["id"], cipher, row["id"], row["bytes"])
        except FileNotFoundError:
            raise damaged(row["id"]) from None
        except OSError as exc:
            raise _unreadable(exc) from None

    def _place(self) -> Path:
        if self._folder is None:
            raise Unavailable(
                "this process was given no folder of files; start it with the gateway's data folder, or with "
                "GATEWAY_FILES_DIR"
            )
        return self._folder


def behind(table: sa.Table, row: Mapping[str, Any], order: str) -> sa.ColumnElement[bool]:
    """Make the condition of what comes behind `row` in the order of time."""
    at, id_ = table.c.created_at, table.c.id
    then, name = row["created_at"], row["id"]
    if order == "desc":
        return sa.and_(at <= then, sa.or_(at < then, id_ < name))
    return sa.and_(at >= then, sa.or_(at > then, id_ > name))


def _lasts(now: dt.datetime) -> sa.ColumnElement[bool]:
    return files.c.expires_at.is_(None) | (files.c.expires_at > now)


def _locked(id: str) -> sa.Select[tuple[str]]:
    return sa.select(files.c.id).where(files.c.id == id).with_for_update()


async def _reader(connection: AsyncConnection, id: str) -> str | None:
    """Give a batch that has not ended and reads the file."""
    query = sa.select(batches.c.id).where(batches.c.status.in_(OPEN), batches.c.input_file == id).limit(1)
    found: str | None = await connection.scalar(query)
    return found


def _file(row: Any) -> StoredFile:
    return StoredFile(**{name: row[name] for name in StoredFile.__struct_fields__})


def _read(reader: BlockReader, start: int, stop: int) -> bytes:
    try:
        return reader.read(start, stop)
    except OSError as exc:
        raise _unreadable(exc) from None


def _unreadable(exc: OSError) -> Unavailable:
    return Unavailable(f"the folder of files can not be read ({exc.strerror}); check its owner and mode")


def _unlink(path: Path) -> None:
    """Remove bytes; what can not be removed now is an orphan, and is later."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _older(folder: Path, than: dt.datetime) -> list[str]:
    """List the files of ours in the folder that were last written before `than`."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if _OURS.fullmatch(entry.name) and entry.stat().st_mtime < than.timestamp():
                    found.append(entry.name)
    return found
