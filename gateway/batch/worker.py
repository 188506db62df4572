"""`create_worker`: the Celery application, joined from the settings. Tasks take ids, never content."""

from __future__ import annotations

import asyncio
from typing import Any

from celery import Celery
from celery.schedules import crontab

from gateway.batch.jobs import erase_due, verify_log
from gateway.settings import Settings


def create_worker(settings: Settings) -> Celery:
    """Make the Celery application.

    With the embedded broker (``filesystem://``) messages are files in the data folder; Redis and RabbitMQ are named by
    their URL. Messages are JSON, acknowledged after the work, and a worker takes one at a time.
    """
    app = Celery("gateway", broker=settings.broker_url)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        timezone="UTC",
        beat_schedule_filename=str(settings.data_dir / "celery-beat"),
        beat_schedule={
            "erase what is due": {"task": "gateway.erase_due", "schedule": crontab(hour="1", minute="0")},
            "verify the log": {"task": "gateway.verify_log", "schedule": crontab(hour="2", minute="0")},
        },
    )
    if settings.broker_url.startswith("filesystem:"):
        folders = {name: settings.data_dir / "broker" / name for name in ("messages", "control", "processed")}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        app.conf.broker_transport_options = {
            "data_folder_in": str(folders["messages"]),
            "data_folder_out": str(folders["messages"]),
            "processed_folder": str(folders["processed"]),
            "control_folder": str(folders["control"]),
            "store_processed": False,
            "polling_interval": 0.5,
        }

    def run_verify_log() -> dict[str, Any]:
        records, problem = asyncio.run(verify_log(settings))
        return {"records": records, "sound": problem is None}

    def run_erase_due() -> dict[str, Any]:
        erased, held = asyncio.run(erase_due(settings))
        return {"erased": erased, "held": held}

    app.task(name="gateway.verify_log")(run_verify_log)
    app.task(name="gateway.erase_due")(run_erase_due)
    return app
