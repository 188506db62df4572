"""Watching a stage while it works: what it writes, and whether it holds the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator

_BEAT = 0.005  # seconds between two looks at the clock


class Written:
    """What was written while it was watched: `log`, `streams` and `warnings`, whole once the watch has ended."""

    def __init__(self) -> None:
        self.log = ""
        self.streams = ""
        self.warnings = ""

    def leaks(self, marker: str) -> str | None:
        """Say where `marker` was written; None where it was not."""
        places = {"a log": self.log, "standard output or error": self.streams, "a warning": self.warnings}
        return next((place for place, text in places.items() if marker.lower() in text.lower()), None)


class _Collect(logging.Handler):
    def __init__(self, out: io.StringIO) -> None:
        super().__init__(logging.DEBUG)
        self.out = out
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.out.write(f"{self.format(record)} {record.args!r} {record.__dict__!r}\n")
        except Exception:  # noqa: BLE001 - a record that can not be shown is looked at as far as it can be
            self.out.write(f"{record.msg!r} {record.args!r}\n")


@contextlib.contextmanager
def _descriptors() -> Iterator[io.BytesIO]:
    """Catch what is written to file descriptors 1 and 2, by C libraries and child processes too."""
    caught = io.BytesIO()
    with tempfile.TemporaryFile() as file:
        kept = [os.dup(1), os.dup(2)]
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield caught
        finally:
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
            file.seek(0)
            caught.write(file.read())


@contextlib.contextmanager
def watch() -> Iterator[Written]:
    """Collect everything that is logged (at debug level), written or warned of while the block runs."""
    written, log, streams = Written(), io.StringIO(), io.StringIO()
    root, handler = logging.getLogger(), _Collect(log)
    level, warned = root.level, list[warnings.WarningMessage]()
    apart = [
        found
        for found in logging.root.manager.loggerDict.values()
        if isinstance(found, logging.Logger) and not found.propagate
    ]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        for logger in (root, *apart):
            logger.addHandler(handler)
        root.setLevel(logging.DEBUG)
        with (
            warnings.catch_warnings(record=True) as raised,
            _descriptors() as caught,
            contextlib.redirect_stdout(streams),
            contextlib.redirect_stderr(streams),
        ):
            warnings.simplefilter("always")
            warned = raised
            yield written
    finally:
        root.setLevel(level)
        for logger in (root, *apart):
            logger.removeHandler(handler)
        written.log = log.getvalue()
        written.streams = streams.getvalue() + caught.getvalue().decode(errors="replace")
        written.warnings = "\n".join(str(entry.message) for entry in warned)


class Heartbeat:
    """Measures the longest time, in seconds, for which the event loop was held by anything but itself."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Heartbeat:
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)  # a gap that is still open is measured by one more beat
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _beat(self) -> None:
        last = time.perf_counter()
        try:
            while True:
                await asyncio.sleep(_BEAT)
                now = time.perf_counter()
                self.longest = max(self.longest, now - last - _BEAT)
                last = now
        finally:
            self.longest = max(self.longest, time.perf_counter() - last - _BEAT)
