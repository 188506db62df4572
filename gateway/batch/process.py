"""What one worker process keeps over Celery's tasks: an engine, on an event loop in a thread of its own.

A task only asks it to work. It also looks by itself every few seconds whether work waits, so that batches come to their
end however long the broker is away: the tables are the truth, and a message does no more than save that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import logging
import mmap
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.errors import ConfigurationError, GatewayError, describe
from gateway.opening import open_store
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.batch.engine import Engine
    from gateway.bootstrap import Runtime
    from gateway.store import Store

SLICE = 60.0
"""Seconds for which a task works at the most: RabbitMQ does not wait for ever for the acknowledgement of a message."""

LOOK = 10.0
"""Seconds, on the average, from one look of a process for work to the next."""

ENDS = 30.0
"""Seconds after which a process that is to stop ends, whatever it is at; lines under way have 20 of them."""

_PAUSE = 0.2  # seconds
_RETRY = (3.0, 60.0)  # seconds until a gateway that could not be joined is tried again: at first, and at the most
_T = TypeVar("_T")
_log = logging.getLogger("gateway.batch")


class Flag:
    """A flag that all processes see which are forked after it was made. Once set it stays."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Set it; also from within a signal handler."""
        self._memory[0] = 1

    def __call__(self) -> bool:
        """Tell whether it is set."""
        return self._memory[0] == 1


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give what makes the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        return None
    found: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return found


class Process:
    """Works for this process, until `stopped()`; `forked`: it ends with the process that forked it."""

    def __init__(self, settings: Settings, stopped: Callable[[], bool], *, forked: bool = False) -> None:
        self._settings = settings
        self._flag = stopped
        self._parent = os.getppid() if forked else None
        self._alone = False
        self._closing = False
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._runtime: Runtime | None = None
        self._engine: Engine | None = None
        self._store: Store | None = None
        self._again = 0.0  # not before then is the gateway joined again
        self._wait = _RETRY[0]
        self._trouble: dict[str, str] = {}
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def stopped(self) -> bool:
        """Tell whether to begin nothing more."""
        return self._closing or self._alone or self._flag()

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        self._ready.wait()

    def work(self, seconds: float = SLICE) -> bool:
        """Work for at most about `seconds`; True where work may remain. Raises nothing."""
        return bool(self._call(self._slice(seconds)))

    def sweep(self) -> int:
        """Do what is done for all workers (see `gateway.batch.sweep`); give how many jobs wait. Raises nothing."""
        return self._call(self._sweep()) or 0

    def waiting(self) -> int:
        """Count the jobs that wait. Raises nothing."""
        return self._call(self._waiting()) or 0

    def close(self, seconds: float = ENDS) -> None:
        """Stop, and give back what is held."""
        self._closing = True
        if self._thread is not None:
            self._thread.join(seconds)

    async def once(self) -> bool:
        """Work off what is there, on the loop of the caller; False where this process can not work."""
        self._begin()
        try:
            while not self.stopped():
                await self._sweep()
                if await self._engine_made() is None:
                    return False
                if not await self._slice(SLICE):
                    break
            return True
        finally:
            await self._close()

    # Within the loop

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._live())

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._ready.set()

    async def _live(self) -> None:
        self._begin()
        look = time.monotonic() + 1.0
        while not self.stopped():
            await asyncio.sleep(0.5)
            if self._parent is not None and os.getppid() != self._parent:
                self._alone = True  # the process that obeys signals was killed
            elif time.monotonic() >= look and not self._turn.locked():
                if await self._sweep():
                    while await self._slice(SLICE) and not self.stopped():
                        pass
                look = time.monotonic() + LOOK * random.uniform(0.7, 1.3)  # noqa: S311 - processes are spread, no secret
        if self._parent is not None:
            self._end_later()
        async with self._turn:
            await self._close()
        if self._alone:
            os._exit(1)

    def _end_later(self) -> None:
        """See to it that a forked process ends: the parent waits for it, and nothing of it is needed any more."""

        def end() -> None:
            time.sleep(ENDS)
            os._exit(1)

        threading.Thread(target=end, name="end", daemon=True).start()

    async def _slice(self, seconds: float) -> bool:
        """Work for about `seconds`, or until nothing waits; True where work may remain."""
        async with self._turn:
            end = time.monotonic() + seconds
            while not self.stopped() and (left := end - time.monotonic()) > 0:
                engine = await self._engine_made()
                if engine is None:
                    return False
                if await self._quietly("work", engine.work(seconds=left, stopped=self.stopped)) is None:
                    return False
                if not await self._waiting():
                    return False
                await asyncio.sleep(_PAUSE)  # what the last job has made possible, or what is for others
            return True

    async def _sweep(self) -> int:
        from gateway.batch.sweep import sweep

        async def run() -> int:
            store = await self._store_open()
            try:
                await sweep(store, dt.datetime.now(dt.UTC))
            finally:
                number = await store.jobs.waiting()
            return number

        return await self._quietly("look for work", run()) or 0

    async def _waiting(self) -> int:
        async def run() -> int:
            return await (await self._store_open()).jobs.waiting()

        return await self._quietly("look for work", run()) or 0

    async def _store_open(self) -> Store:
        """Give a store to look into: that of the gateway once it is joined; it takes long, and needs memory."""
        async with self._opening:
            if self._runtime is not None:
                return self._runtime.store
            if self._store is None:
                self._store = await open_store(self._settings, must_sign=False)
            return self._store

    async def _engine_made(self) -> Engine | None:
        """Join the gateway when it is first needed; None where that can not be done now, which is in the log."""
        if self._engine is None and time.monotonic() >= self._again:
            self._engine = await self._quietly("load the policies and stages", self._join())
            if self._engine is None:
                self._again = time.monotonic() + self._wait
                self._wait = min(2 * self._wait, _RETRY[1])
        return self._engine

    async def _join(self) -> Engine:
        from gateway.batch.engine import Engine
        from gateway.bootstrap import bootstrap

        runtime = await bootstrap(self._settings, sequencing=False)
        async with self._opening:
            self._runtime, small, self._store = runtime, self._store, None
        if small is not None:
            await small.close()
        # A full collection over the libraries' heap would stop every line for its length; what is loaded now stays.
        gc.collect()
        gc.freeze()
        return Engine(runtime, self._owner)

    async def _close(self) -> None:
        async with self._opening:
            store, self._store = self._store, None
            engine, self._engine = self._engine, None
            runtime, self._runtime = self._runtime, None
        for each in (engine, runtime, store):
            if each is not None:
                await self._quietly("close", each.close())

    async def _quietly(self, what: str, work: Coroutine[Any, Any, _T]) -> _T | None:
        """Await `work`; what it raises is told in the log, once for as long as it goes on, and None is given."""
        try:
            done = await work
        except ConfigurationError as exc:
            self._tell(what, "; ".join(exc.problems))
        except GatewayError as exc:  # says what is wrong and what to do, and nothing of a line
            self._tell(what, str(exc))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the next look tries again
            self._tell(what, describe(exc))
        else:
            if self._trouble.pop(what, None) is not None:
                _log.warning("this worker can %s again", what)
            return done
        return None

    def _tell(self, what: str, trouble: str) -> None:
        if trouble != self._trouble.get(what):
            _log.error("this worker can not %s: %s", what, trouble)
        self._trouble[what] = trouble

    # From other threads

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        if self.stopped() or self._thread is None or not self._thread.is_alive():
            work.close()
            return None
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return future.result(1.0)
            except TimeoutError:
                if not self._thread.is_alive():  # its loop has ended, and nobody answers any more
                    return None
            except CancelledError:  # with its loop
                return None
