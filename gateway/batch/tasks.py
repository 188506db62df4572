"""The tasks of Celery: they take nothing, and do what is said elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from celery import Celery

from gateway.batch.jobs import checkpoint, draw_reviews, erase_due, verify_log
from gateway.batch.process import SLICE, Process
from gateway.batch.report import daily_reports
from gateway.errors import GatewayError, describe
from gateway.settings import Settings

WORK = "gateway.work"
"""The task that works batches off."""

_ONCE_MORE = {"max_retries": 2, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 0.5}
_T = TypeVar("_T")
_log = logging.getLogger("gateway.batch")


def send_work(app: Celery) -> None:
    """Ask some worker to look for work. Raises what the broker's library raises where the broker is away.

    The message is dropped where nobody takes it for as long as a worker works on one: all are at it then, or away.
    """
    app.send_task(WORK, expires=SLICE, retry=True, retry_policy=_ONCE_MORE)


class Tasks:
    """The tasks of one application. `process` is set in each process that works, `stopped` tells of a shutdown."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self.process: Process | None = None
        self.stopped: Callable[[], bool] = lambda: False
        # Both may be done twice, and begin anew where a worker was lost.
        app.task(name=WORK, typing=False, shared=False, acks_late=True, reject_on_worker_lost=True)(self._work)
        app.task(name="gateway.reap", typing=False, shared=False, acks_late=True, reject_on_worker_lost=True)(
            self._reap
        )
        # These may take hours, for which no broker waits; their next time makes up for one that was lost.
        for name, work in (
            ("verify_log", self._verify_log),
            ("erase_due", self._erase_due),
            ("checkpoint", self._checkpoint),
            ("draw_reviews", self._draw_reviews),
            ("daily_report", self._daily_report),
        ):
            app.task(name=f"gateway.{name}", typing=False, shared=False, acks_late=False)(work)

    def _work(self) -> None:
        if self.process is None:
            return
        if self.process.waiting():
            self._send()  # others begin as well, until there is nothing more to begin
            if self.process.work():
                self._send()

    def _reap(self) -> None:
        if self.process is not None and self.process.sweep():
            self._send()

    def _verify_log(self) -> None:
        self._run("the verification of the log", verify_log(self._settings))

    def _erase_due(self) -> None:
        self._run("the erasure of what is due", erase_due(self._settings))

    def _checkpoint(self) -> None:
        self._run("the checkpoint of the log", checkpoint(self._settings))

    def _draw_reviews(self) -> None:
        self._run("the queue of reviews", draw_reviews(self._settings))

    def _daily_report(self) -> None:
        self._run("the report of the day", daily_reports(self._settings))

    def _send(self) -> None:
        if self.stopped():
            return
        try:
            send_work(self._app)
        except Exception as exc:  # noqa: BLE001 - whatever the broker's library raises: workers look by themselves
            _log.debug("no message was sent: %s", describe(exc))

    def _run(self, what: str, work: Coroutine[Any, Any, object]) -> None:
        """Do it, and give it up where the worker is to stop; what goes wrong is told in the log."""
        try:
            if not asyncio.run(_until(work, self.stopped)):
                _log.warning("%s was given up, since the worker stops; it is done at its next time", what)
        except GatewayError as exc:  # says what is wrong and what to do
            _log.error("%s failed: %s", what, exc)
        except Exception as exc:  # noqa: BLE001 - Celery would log its message
            _log.error("%s failed: %s", what, describe(exc))


async def _until(work: Coroutine[Any, Any, object], stopped: Callable[[], bool]) -> bool:
    task = asyncio.ensure_future(work)
    while not task.done() and not stopped():
        await asyncio.wait({task}, timeout=0.5)
    if task.done():
        await task
        return True
    task.cancel()
    await asyncio.wait({task}, timeout=5.0)
    return False
