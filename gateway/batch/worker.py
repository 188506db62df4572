"""`create_worker`: the Celery application, joined from the settings. Tasks take ids, never content.

`run_worker` runs it. Each of its processes keeps an engine over tasks (see `gateway.batch.process`). With the embedded
broker a worker is one process: Celery's pool of processes shares one lock there, and a process that is killed while it
holds it would leave the others waiting for ever; who wants more processes starts more workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

from celery import Celery, signals
from celery.apps.worker import Worker

from gateway.batch.broker import BrokerNews, Messages, broker_conf, broker_place, embedded, messages_folder
from gateway.batch.folder import tidy
from gateway.batch.process import Flag, Process, loop_factory
from gateway.batch.schedule import add_schedule, timetable
from gateway.batch.tasks import Tasks
from gateway.settings import Settings

NICE = 10
"""How far workers stand back from live requests for the processor."""

_START = 60.0  # seconds in which a process must begin; on a machine that is busy the usual four are not enough
_log = logging.getLogger("gateway.batch")


def create_worker(settings: Settings) -> Celery:
    """Make the Celery application. Raises ConfigurationError where the URL of the broker is none.

    With the embedded broker (``filesystem://``) messages are files in the data folder; Redis and RabbitMQ are named by
    their URL. Messages are JSON, acknowledged after the work, and a worker takes one at a time.
    """
    return _join(settings)[0]


def _join(settings: Settings) -> tuple[Celery, Tasks]:
    app = Celery("gateway", amqp=Messages, set_as_current=False)
    app.conf.update(
        **broker_conf(settings),
        **timetable(settings),
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=settings.queue,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,  # nobody may command a worker through the broker
        worker_enable_prefetch_count_reduction=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the tables say what is done, not the broker
        worker_proc_alive_timeout=_START,
    )
    return app, Tasks(app, settings)


class _Worker(Worker):
    """Celery's worker, without the signal at which it prints what is in all variables: that may be a prompt."""

    def install_platform_tweaks(self, worker: Any) -> None:
        super().install_platform_tweaks(worker)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def run_worker(settings: Settings, *, concurrency: int = 1, beat: bool = False, ready: Callable[[], None]) -> int:
    """Work until SIGTERM or SIGINT, in `concurrency` processes, or in this one with the embedded broker.

    With `beat` it also sends what is due. `ready` is called once messages are taken. Gives the exit status. Raises
    ConfigurationError where the URL of the broker is none.
    """
    app, tasks = _join(settings)
    alone = embedded(settings)
    flag = tasks.stopped = Flag()
    parent = os.getpid()

    def silent(**_: Any) -> None:
        """Leave the logs to the gateway: Celery would print messages and arguments."""

    def begin(**_: Any) -> None:
        with contextlib.suppress(OSError):
            os.nice(NICE)
        forked = os.getpid() != parent
        if forked:  # a signal to all processes is for the parent to obey; see `Flag`
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tasks.process = Process(settings, flag, forked=forked)
        tasks.process.start()

    def end(**_: Any) -> None:
        if tasks.process is not None:
            tasks.process.close()

    def stop(**_: Any) -> None:
        flag.set()

    def told(**_: Any) -> None:
        ready()

    signals.setup_logging.connect(silent, weak=False)
    signals.worker_process_init.connect(begin, weak=False)
    signals.worker_process_shutdown.connect(end, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)
    signals.worker_ready.connect(told, weak=False)
    BrokerNews(broker_place(settings)).install()
    if alone:
        tidy(messages_folder(settings))
        signals.worker_shutdown.connect(end, weak=False)
    if beat:
        add_schedule(app)
    worker = _Worker(
        app=app,
        pool="solo" if alone else "prefork",
        concurrency=1 if alone else concurrency,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def work_once(settings: Settings, stopped: Callable[[], bool]) -> bool:
    """Work off what is there, without a broker; False where this process can not work, which is in the log."""
    process = Process(settings, stopped)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(process.once())
