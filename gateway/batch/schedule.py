"""What is done at set times, and the step of a worker that sends it: Celery's beat, begun anew where it has ended."""

from __future__ import annotations

import errno
import fcntl
import logging
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps, platforms, signals
from celery.schedules import crontab, schedule

from gateway.settings import Settings

_log = logging.getLogger("gateway.batch")

REAP = 5.0
"""Seconds from one look at what dead workers held to the next."""

_CHECK = 5.0  # seconds between two looks whether beat still runs


def timetable(settings: Settings) -> dict[str, Any]:
    """Give Celery's settings for what is done when. Times of the day are those of UTC.

    A message that nobody took until the next one is due is dropped. Beat notes what it has sent in the data folder:
    what was due while no worker ran is done at the next start.
    """

    def at(task: str, when: Any, expires: float) -> dict[str, Any]:
        return {"task": f"gateway.{task}", "schedule": when, "options": {"expires": expires}}

    return {
        "timezone": "UTC",
        "beat_schedule_filename": str(settings.data_dir / "celery-beat"),
        "beat_schedule": {
            "take back what dead workers held": at("reap", schedule(REAP), REAP),
            "sign the log and bring copies away": at("checkpoint", schedule(60.0), 60.0),
            "fill the queue of reviews": at("draw_reviews", crontab(minute="15"), 3600.0),
            "write the report of the day": at("daily_report", crontab(hour="0", minute="10"), 12 * 3600.0),
            "erase what is due": at("erase_due", crontab(hour="1", minute="0"), 12 * 3600.0),
            "verify the log": at("verify_log", crontab(hour="2", minute="0"), 12 * 3600.0),
        },
    }


class Schedule(bootsteps.StartStopStep):
    """Runs beat beside the worker: in a thread where the worker has one process only, in a process else.

    Of the workers that share a data folder one does, and another once that has ended. Celery's own step does not notice
    when beat is killed, and nothing would be done at its time from then on.
    """

    requires = ("celery.worker.components:Pool", "celery.worker.components:Timer")

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._beat: Any = None
        self._turn = _Turn(Path(worker.app.conf.beat_schedule_filename).with_name("beat.lock"))
        self._ended = False

    def start(self, worker: Any) -> None:
        """Begin, and look every few seconds whether it still runs."""
        self._look(worker)
        worker.timer.call_repeatedly(_CHECK, self._look, (worker,))

    def stop(self, _worker: Any) -> None:
        """End it."""
        self._ended = True
        if self._beat is not None and self._beat.is_alive():
            self._beat.stop()

    terminate = stop

    def _look(self, worker: Any) -> None:
        from celery.beat import EmbeddedService

        if self._ended or not self._turn.mine() or (self._beat is not None and self._beat.is_alive()):
            return
        if self._beat is not None:
            _log.error("the schedule has ended; it is begun anew")
        self._beat = EmbeddedService(worker.app, thread=worker.pool_cls.__module__.endswith(".solo"))
        self._beat.start()


class _Turn:
    """Whose turn it is to send what is due. The lock goes with the process that holds it, however that ends."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._file: Any = None

    def mine(self) -> bool:
        if self._file is not None:
            return True
        try:
            file = self._place.open("a")
        except OSError:
            return False  # a disk that takes nothing; it is tried again
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno in (errno.EACCES, errno.EAGAIN):
                file.close()
                return False
            # A file system without locks: two that send do no harm.
        self._file = file
        return True


def add_schedule(app: Celery) -> None:
    """Let the workers of `app` send what is due."""
    app.steps["worker"].add(Schedule)
    signals.beat_embedded_init.connect(_with_the_worker, weak=False)


def _with_the_worker(**kwargs: Any) -> None:
    """End the process of beat with the worker, also where that is killed."""
    del kwargs
    platforms.set_pdeathsig("SIGKILL")
