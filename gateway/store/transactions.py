"""Short transactions of the batches' tables: one at a time on SQLite, with locked rows on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import Unavailable
from gateway.store import faults
from gateway.store.engine import sqlite_turn, writer
from gateway.store.insert import PATIENCE
from gateway.store.migrate import TROUBLE


class Transactions:
    """Opens the transactions of one database; what it raises is Unavailable, with what to do."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.sqlite = engine.dialect.name == "sqlite"
        self._turn: threading.Lock | None = sqlite_turn(engine.url) if self.sqlite else None
        self._next = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that writes; it is committed at the end, and undone where anything is raised."""
        try:
            async with asyncio.timeout(PATIENCE), self._turns(), writer(self.engine).begin() as connection:
                yield connection
        except TROUBLE as exc:
            raise Unavailable(f"the database of batches can not be written; {faults.hint(exc)}") from None

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection to read by."""
        try:
            async with asyncio.timeout(PATIENCE), self.engine.connect() as connection:
                yield connection
        except TROUBLE as exc:
            raise Unavailable(f"the database of batches can not be read; {faults.hint(exc)}") from None

    @contextlib.asynccontextmanager
    async def _turns(self) -> AsyncIterator[None]:
        """Wait for the other writers of this process: SQLite itself would have us sleep for them."""
        if self._turn is None:
            yield
            return
        async with self._next:
            await _acquire(self._turn)
            try:
                yield
            finally:
                self._turn.release()


async def _acquire(lock: threading.Lock) -> None:
    """Take a lock of threads without holding up the event loop."""
    if lock.acquire(blocking=False):
        return
    taken = asyncio.get_running_loop().run_in_executor(None, lock.acquire)
    try:
        await asyncio.shield(taken)
    except asyncio.CancelledError:
        taken.add_done_callback(lambda _: lock.release())
        raise
