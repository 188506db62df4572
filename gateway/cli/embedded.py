"""Workers that another command runs beside it: `gateway serve` with the embedded broker, `gateway worker` with several.

A worker that dies is started again, ever later where it dies at once. It ends with the command that runs it, also where
that is killed: its standard input closes then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from gateway.settings import Settings

_log = logging.getLogger("gateway.serve")

_FIRST, _LAST = 1.0, 60.0  # seconds until a worker is started again: at first, and at the most
_GOOD = 60.0  # seconds after which a worker that dies has not died at once
_STOP = 22.0  # seconds that a worker has for its end; lines under way have 20 of them
_PARENTLESS = 25.0  # seconds after which a worker ends by force whose command was killed


def environment(settings: Settings) -> dict[str, str]:
    """Give the environment of a worker: this one's, with what flags have said."""
    return {
        **os.environ,
        "GATEWAY_DATA_DIR": str(settings.data_dir),
        "GATEWAY_DATABASE_URL": settings.database_url,
        "GATEWAY_POLICIES_DIR": str(settings.policies_dir),
        "GATEWAY_BROKER_URL": settings.broker_url,
        "GATEWAY_LOG_LEVEL": settings.log_level,
    }


class Embedded:
    """Keeps a worker of one process running, from `start` to `stop`.

    In a session of its own the Ctrl-C of a terminal does not reach it.
    """

    def __init__(self, env: Mapping[str, str], *, beat: bool, own_session: bool) -> None:
        self._words = [sys.executable, "-m", "gateway.cli", "worker", "--concurrency", "1", "--with-parent"]
        self._words += ["--beat"] if beat else []
        self._env = dict(env)
        self._own_session = own_session
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name="worker")

    def end(self) -> None:
        """Tell it to end, and wait for nothing."""
        self._stopping.set()

    async def stop(self) -> None:
        """End it: it gives back what it holds, and is killed where that takes longer than 22 s."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _keep(self) -> None:
        wait = _FIRST
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > _GOOD:
                wait = _FIRST
            _log.warning("the worker has ended (%s); it is started again in %.0f s", code, wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
            wait = min(2 * wait, _LAST)

    async def _run(self) -> int | str:
        """Run it once, to its end; give its exit status."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words, env=self._env, stdin=subprocess.PIPE, start_new_session=self._own_session
            )
        except OSError as exc:
            return exc.strerror or type(exc).__name__
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await asyncio.wait({ended}, timeout=_STOP)
            if not ended.done():
                _log.warning("the worker did not end in %.0f s, and is killed; others take up what it held", _STOP)
        finally:
            stopping.cancel()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if self._own_session:
                    os.killpg(process.pid, signal.SIGKILL)
                elif not ended.done():
                    process.kill()
        return await ended


async def finish(work: Awaitable[Any]) -> None:
    """Await `work` to its end, also where the one who awaits is told to stop meanwhile: that is what it is for."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)


async def run_workers(env: Mapping[str, str], *, number: int, beat: bool) -> None:
    """Run `number` workers of one process each until SIGTERM or SIGINT; with `beat` the first sends what is due."""
    loop = asyncio.get_running_loop()
    kept = [Embedded(env, beat=beat and not place, own_session=False) for place in range(number)]
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    for worker in kept:
        worker.start()
    await stop.wait()
    await asyncio.gather(*(worker.stop() for worker in kept))


def end_with_parent() -> None:
    """End this process once its standard input closes: who started it has gone."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PARENTLESS)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
