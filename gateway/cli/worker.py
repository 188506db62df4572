"""`gateway worker`: the Celery worker."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.logs import configure_logs
from gateway.cli.output import settings_options
from gateway.settings import read_settings


@click.command()
@click.option("--concurrency", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker processes.")
@click.option("--beat", is_flag=True, help="Also send the scheduled work (one worker of an installation only).")
@settings_options("data_dir", "database_url", "broker_url", "log_level")
def worker(concurrency: int, beat: bool, **flags: Any) -> None:
    """Run the worker for asynchronous work: the nightly check of the decision log."""
    from gateway.batch.worker import create_worker

    settings = read_settings(**flags)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    configure_logs(settings.log_level)
    app = create_worker(settings)
    words = [
        "--quiet",
        "worker",
        "--concurrency",
        str(concurrency),
        "--loglevel",
        "WARNING",
        "--without-gossip",
        "--without-mingle",
    ]
    click.echo(f"gateway: worker with {concurrency} processes{', and the schedule' if beat else ''}")
    app.worker_main([*words, "--beat"] if beat else words)
