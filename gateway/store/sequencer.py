"""The sequencer: gives records their places in the tree, outside every request's way, and signs each growth.

One at a time holds across processes: on SQLite by the write lock, on PostgreSQL by an advisory lock. Whoever is second
finds the work done. On SQLite records are read and parsed before the write lock is taken, so that an append waits for
the writing alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import GatewayError, Unavailable, describe
from gateway.store import faults
from gateway.store.engine import LOCK_WAIT, sqlite_begin, sqlite_connect, sqlite_turn, writer
from gateway.store.migrate import TROUBLE
from gateway.store.placing import LATE, LOCK, Marks, Step, find, put
from gateway.store.signer import LogSigner

INTERVAL = 1.0
"""Seconds from one look for new records to the next."""

_BATCH = {"sqlite": 256, "postgresql": 1000}  # records in one step; SQLite's holds the write lock meanwhile
_SLOWEST = 30.0  # seconds between two tries while something is wrong
_STEP_SECONDS = 60.0
_log = logging.getLogger("gateway.store")


class Sequencer:
    """Grows the tree of one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        signer: LogSigner,
        *,
        lock_wait: float = LOCK_WAIT,
        interval: float = INTERVAL,
        batch: int | None = None,
        late: float = LATE,
        grown: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._signer = signer
        self._lock_wait = lock_wait
        self._interval = interval
        self._batch = batch or _BATCH[engine.dialect.name]
        self._marks = Marks(late)
        self._grown = grown
        self._turn = asyncio.Lock()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._sync: Engine | None = None
        self.trouble: str | None = None

    async def catch_up(self) -> int:
        """Give every record that is in the log now its place, sign the tree, and give its size.

        Raises Unavailable where that can not be done now.
        """
        size = await self._grow(self._lock_wait)
        if size is None:
            raise Unavailable("the tree can not be grown; another process is at it since long; try again")
        return size

    async def _grow(self, patience: float) -> int | None:
        """Do all steps there are; None where another sequencer was at work for all of `patience`, in seconds."""
        async with self._turn:
            until = time.monotonic() + patience
            while True:
                try:
                    step = await self._step()
                except IntegrityError:
                    raise Unavailable(
                        "the tree can not be grown; the index holds what is not its own; run `gateway log verify`"
                    ) from None
                except TROUBLE as exc:
                    raise Unavailable(f"the tree can not be grown; {faults.hint(exc)}") from None
                if step is None:  # another sequencer is at work
                    if time.monotonic() >= until:
                        return None
                    await asyncio.sleep(0.01)
                    continue
                if step.added:
                    self._grown()
                if not step.more:
                    return step.size

    def start(self) -> None:
        """Run in the background until `close`. Starting once more does nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="sequencer")

    async def close(self) -> None:
        """Stop; where it was started, after a last catch-up. Closing once more does nothing."""
        self._stop.set()
        if self._task is not None:
            task, self._task = self._task, None
            await task
            await self._try()
        if self._thread is not None and self._sync is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._sync.dispose)
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _run(self) -> None:
        wait = self._interval
        while not self._stop.is_set():
            wait = self._interval if await self._try() else min(2 * wait, _SLOWEST)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)

    async def _try(self) -> bool:
        try:
            await self._grow(0.0)  # nobody waits for it; whoever is at work, or the next look, does the same
        except GatewayError as exc:
            told = str(exc)  # says what is wrong with the tree, and nothing of a record but its number
        except Exception as exc:  # noqa: BLE001 - the log goes on without its tree, and somebody must be told
            told = f"the tree can not be grown ({describe(exc)})"
        else:
            if self.trouble is not None:
                _log.warning("the tree grows again")
            self.trouble = None
            return True
        if told != self.trouble:
            _log.error("%s", told)
        self.trouble = told
        return False

    async def _step(self) -> Step | None:
        if self._engine.dialect.name == "sqlite":
            if self._thread is None:
                self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sequencer")
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._step_sqlite)
        async with asyncio.timeout(_STEP_SECONDS), writer(self._engine).begin() as connection:
            return await connection.run_sync(self._step_postgres)

    def _step_postgres(self, connection: Connection) -> Step | None:
        if not connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(LOCK))).scalar():
            return None
        found = find(connection, self._batch, self._marks, time.monotonic())
        return put(connection, found, self._signer, _now())

    def _step_sqlite(self) -> Step | None:
        if self._sync is None:
            self._sync = _sqlite(self._engine, self._lock_wait)
        with self._sync.connect() as connection:
            found = find(connection, self._batch, self._marks, time.monotonic())
        if not found.rows:
            return Step(size=found.state.size, added=0, more=found.more)
        writing = self._sync.execution_options(gateway_writes=True)
        with sqlite_turn(self._engine.url), writing.begin() as connection:
            return put(connection, found, self._signer, _now())


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _sqlite(engine: AsyncEngine, lock_wait: float) -> Engine:
    made = create_engine(
        engine.url.set(drivername="sqlite+pysqlite"),
        hide_parameters=True,
        pool_size=1,
        connect_args={"timeout": lock_wait, "isolation_level": None, "check_same_thread": False},
    )
    event.listen(made, "connect", sqlite_connect)
    event.listen(made, "begin", sqlite_begin)
    return made
