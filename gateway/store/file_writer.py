"""Writes one file of a batch to the disk, encrypted: whole and registered, or not at all."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import secrets
import threading
from collections.abc import Awaitable, Callable
from io import FileIO
from pathlib import Path
from types import TracebackType

import msgspec
from msgspec import Struct

from gateway.errors import TooLarge, Unavailable
from gateway.stages import in_thread
from gateway.store.batch_shape import StoredFile
from gateway.store.file_blocks import BlockWriter
from gateway.store.own_keys import OwnKeys

PART = ".part"
"""The end of the name of a file that is being written."""

_TOGETHER = 1024 * 1024  # bytes that are encrypted and written in one go
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Register(Struct, frozen=True):
    """How a finished file becomes known: `add` stores its row, with the key that wrapped its key, and the wrapped key.

    `known` tells whether a row is there; it raises Unavailable where nobody can tell.
    """

    add: Callable[[StoredFile, str, bytes], Awaitable[None]]
    known: Callable[[str], Awaitable[bool]]


class FileWriter:
    """Takes the bytes of one file: ``async with files.create(…) as writer``, `write`, and `finish` at the end.

    Left without `finish`, nothing of it stays.
    """

    def __init__(
        self, folder: Path, keys: OwnKeys, register: Register, made: StoredFile, limit: int | None = None
    ) -> None:
        self.id = made.id
        self._made = made
        self._keys = keys
        self._register = register
        self._limit = limit
        self._folder = folder
        self._part = folder / f"{made.id}{PART}"
        self._final = folder / made.id
        self._key = keys.make()
        self._blocks = BlockWriter(self._key, made.id)
        self._buffer = bytearray()
        self._size = 0
        self._file: FileIO | None = None
        self._over = False
        self._lock = threading.Lock()

    async def __aenter__(self) -> FileWriter:
        try:
            await self._keys.wrap(self._key, self.id)  # a key that can not be had is told of before the bytes are sent
            await self._do(self._open)
        except BaseException:
            await in_thread(self._drop)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._over:
            await in_thread(self._drop)

    async def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises TooLarge above the limit, and Unavailable where the disk is full or fails: nothing is kept then.
        """
        self._usable()
        if self._limit is not None and self._size + len(data) > self._limit:
            await in_thread(self._drop)
            raise TooLarge(
                f"the file is larger than {self._limit} bytes; split it, or ask the gateway's operator to raise "
                "GATEWAY_MAX_FILE_BYTES"
            )
        self._size += len(data)
        self._buffer += data
        if len(self._buffer) >= _TOGETHER:
            await self._do(self._write, False)

    async def finish(self) -> StoredFile:
        """Put the file on the disk for good and register it. Raises Unavailable; nothing is kept then."""
        self._usable()
        await self._do(self._write, True)
        stored = msgspec.structs.replace(self._made, bytes=self._size, created_at=dt.datetime.now(dt.UTC))
        # wrapped anew: the key-encryption key may have been replaced while the bytes came
        kek, wrapped = await self._keys.wrap(self._key, self.id)
        await self._do(self._place)
        try:
            await self._register.add(stored, kek, wrapped)
        except BaseException:
            await self._unregistered()
            raise
        return stored

    async def _unregistered(self) -> None:
        """Take the bytes away where they have no row; where nobody can tell, `Files.sweep` does it later."""
        with contextlib.suppress(Unavailable, OSError):
            if not await self._register.known(self.id):
                self._final.unlink(missing_ok=True)

    def _usable(self) -> None:
        if self._over or self._file is None:
            raise RuntimeError("this file is not open for writing")

    async def _do(self, step: Callable[..., None], *args: object) -> None:
        """Run a step beside the event loop, one at a time: where it is given up, what comes next waits for its end."""
        try:
            await in_thread(self._locked, step, *args)
        except OSError as exc:
            await in_thread(self._drop)
            raise _trouble(exc) from None

    def _locked(self, step: Callable[..., None], *args: object) -> None:
        with self._lock:
            if not self._over:
                step(*args)

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(handle, "wb", buffering=0)

    def _write(self, last: bool) -> None:
        data = self._blocks.push(bytes(self._buffer))
        self._buffer.clear()
        if last:
            data += self._blocks.end()
        if self._file is not None:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) or 0 :]
            if last:
                os.fsync(self._file.fileno())

    def _place(self) -> None:
        if self._file is not None:
            self._file.close()
            self._part.replace(self._final)
            sync_folder(self._folder)
        self._over = True

    def _drop(self) -> None:
        """Close and remove what was written."""
        with self._lock:
            if self._over:
                return
            self._over = True
            with contextlib.suppress(OSError):
                if self._file is not None:
                    self._file.close()
            for path in (self._part, self._final):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def new_file(*, department: str, owner: str, purpose: str, filename: str, expires_at: dt.datetime | None) -> StoredFile:
    """Make what is known of a file before its bytes come."""
    name = "".join(c if c.isprintable() else "\ufffd" for c in filename)[:255] or "file"
    return StoredFile(
        id=f"file-{secrets.token_hex(16)}",
        department=department,
        owner=owner,
        purpose=purpose,
        filename=name,
        bytes=0,
        created_at=dt.datetime.now(dt.UTC),
        expires_at=expires_at,
    )


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _trouble(exc: OSError) -> Unavailable:
    if exc.errno in _FULL:
        return Unavailable("the disk is full; free some space and upload again; nothing was kept")
    return Unavailable(
        f"the folder of files can not be written ({exc.strerror}); check its owner and mode; nothing was kept"
    )
