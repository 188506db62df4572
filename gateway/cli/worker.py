"""`gateway worker`: the Celery worker."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from gateway.cli.logs import configure_logs
from gateway.cli.output import settings_options
from gateway.settings import Settings, read_settings


@click.command()
@click.option("--concurrency", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker processes.")
@click.option("--beat", is_flag=True, help="Also send the scheduled work (one worker of an installation is enough).")
@click.option("--once", is_flag=True, help="Work off what is there, in one process and without a broker, and end.")
@click.option("--with-parent", is_flag=True, hidden=True, help="End once standard input closes.")
@settings_options("data_dir", "database_url", "policies_dir", "broker_url", "log_level")
def worker(concurrency: int, beat: bool, once: bool, with_parent: bool, **flags: Any) -> None:
    """Run a worker: it works batches off, and does what is done at set times."""
    settings = read_settings(**flags)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    configure_logs(settings.log_level)
    signal.signal(signal.SIGTERM, _end)  # until Celery takes over
    if with_parent:
        from gateway.cli.embedded import end_with_parent

        end_with_parent()
    if once:
        _once(settings)
    else:
        _run(settings, concurrency, beat=beat)


def _end(*_: Any) -> None:
    sys.exit(0)


def _once(settings: Settings) -> None:
    from gateway.batch.process import Flag
    from gateway.batch.worker import work_once

    stop = Flag()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    if not work_once(settings, stop):
        sys.exit(1)


def _run(settings: Settings, concurrency: int, *, beat: bool) -> None:
    from gateway.batch.broker import broker_place, embedded
    from gateway.batch.worker import run_worker

    place = broker_place(settings)
    several = embedded(settings) and concurrency > 1

    def ready() -> None:
        told = f"{concurrency} process{'es' if concurrency > 1 else ''}{', and the schedule' if beat else ''}"
        click.echo(f"gateway: worker with {told}, woken by {place}")

    if several:
        import asyncio

        from gateway.cli.embedded import environment, run_workers

        ready()
        asyncio.run(run_workers(environment(settings), number=concurrency, beat=beat))
        return
    sys.exit(run_worker(settings, concurrency=concurrency, beat=beat, ready=ready))
