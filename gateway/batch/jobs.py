"""The work itself: plain functions that know nothing of Celery."""

from __future__ import annotations

import logging

from gateway.settings import Settings
from gateway.store import Store, load_secret

_log = logging.getLogger("gateway.batch")


async def verify_log(settings: Settings) -> tuple[int, str | None]:
    """Check every record of the decision log against its leaf hash.

    Gives the number of records that were read, and what is wrong with the first bad one, None where all hold. A problem
    is logged as an error, so that whoever watches the process logs is told.
    """
    store = await Store.open(settings.database_url, secret=load_secret(settings.data_dir, settings.secret))
    try:
        report = await store.decisions.check()
    finally:
        await store.close()
    if report.problem is None:
        _log.info("log verified: %d records, each as it was written", report.records)
    else:
        _log.error("log verification failed: %s", report.problem)
    return report.records, report.problem
