"""A verification of the whole log that a page started: one at a time, beside the requests, with its progress."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from typing import TYPE_CHECKING

from msgspec import Struct

from gateway.errors import Conflict, Unavailable, describe
from gateway.records import AccessV1, Caller

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_STOP_SECONDS = 5.0  # a verification looks up from its work after each part
_log = logging.getLogger("gateway.web")


class Run(Struct, kw_only=True):
    """A verification: by whom, since when, how far, and what came of it. It changes while it runs.

    `more`, `remarks` and `waiting` are those of `gateway.store.CheckReport`.
    """

    by: str
    started: dt.datetime
    total: int
    done: int = 0
    ended: dt.datetime | None = None
    problem: str | None = None
    more: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    waiting: int = 0

    @property
    def running(self) -> bool:
        """Tell whether it goes on."""
        return self.ended is None


class Verifying:
    """The verifications of this process; `last` is the latest, None where none was started."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.last: Run | None = None

    async def start(self, caller: Caller, endpoint: str) -> Run:
        """Begin a verification, which is recorded first. Raises Conflict where one runs, and Unavailable."""
        if self.last is not None and self.last.running:
            raise Conflict("a verification is running already; wait for its end")
        now = dt.datetime.now(dt.UTC)
        run = self.last = Run(by=caller.person or f"key {caller.key}", started=now, total=0)
        try:
            run.total = await self._runtime.store.decisions.count()
            access = AccessV1.of(
                caller=caller, endpoint=endpoint, decisions=(), at=now, action="verify", rows=run.total
            )
            await self._runtime.store.decisions.append_event(access)
        except BaseException:
            self.last = None
            raise
        self._task = asyncio.create_task(self._work(run), name="console verification")
        return run

    async def close(self) -> None:
        """Stop what runs: the store is about to close."""
        self._stopping = True
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_STOP_SECONDS)

    async def _work(self, run: Run) -> None:
        def tell(number: int) -> None:
            if self._stopping:
                raise RuntimeError("the gateway stops")
            run.done += number

        try:
            report = await self._runtime.store.decisions.check(tell)
            run.problem, run.more, run.remarks = report.problem, report.more, report.remarks
            run.done, run.waiting = report.records, report.waiting
        except Unavailable as exc:
            run.problem = exc.message
        except Exception as exc:  # noqa: BLE001 - told on the page that something failed, and in the log where
            _log.error("a verification failed: %s", describe(exc))
            run.problem = "the verification failed; ask the gateway's operator to look into its log"
        finally:
            run.ended = dt.datetime.now(dt.UTC)
