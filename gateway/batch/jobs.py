"""The work itself: plain functions that know nothing of Celery."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging

from gateway.errors import Unavailable
from gateway.records import AccessV1, Caller
from gateway.settings import Settings
from gateway.store import FileKey, Store, VerifyOptions, copies_of, load_secret

_log = logging.getLogger("gateway.batch")


async def verify_log(settings: Settings) -> tuple[int, str | None]:
    """Verify the decision log, its tree and its signatures, with the copies of checkpoints that lie on this machine.

    Gives the number of records that were read, and what is wrong with the first bad one, None where all hold. A problem
    is logged as an error, so that whoever watches the process logs is told.
    """
    store = await Store.open(
        settings.database_url,
        secret=load_secret(settings.data_dir, settings.secret),
        log_key=FileKey(settings.log_key or settings.data_dir / "log.key"),
        log_name=settings.log_name,
        must_sign=False,
    )
    try:
        own = (settings.data_dir / "checkpoints", *copies_of(settings.checkpoint_sinks))
        wanted = VerifyOptions(copies=tuple(one for one in own if one.exists()))
        with contextlib.suppress(Unavailable):  # what can not be recorded is verified all the same
            await store.decisions.append_event(_verifies())
        report = await store.decisions.check(wanted=wanted)
    finally:
        await store.close()
    if report.problem is None:
        _log.info("log verified: %d records, each as it was written", report.records)
    else:
        _log.error("log verification failed: %s", report.problem)
    return report.records, report.problem


def _verifies() -> AccessV1:
    gateway = Caller(key="gateway", department="*", roles=("operator",), via="os")
    now = dt.datetime.now(dt.UTC)
    return AccessV1.of(caller=gateway, endpoint="gateway worker", decisions=(), at=now, action="verify")


async def erase_due(settings: Settings) -> tuple[int, int]:
    """Erase all sealed content whose time is over and that no legal hold covers; finish what was left.

    Gives how much was erased and how much a hold has kept. Keys of the vault are not needed for it.
    """
    store = await Store.open(
        settings.database_url,
        secret=load_secret(settings.data_dir, settings.secret),
        log_key=FileKey(settings.log_key or settings.data_dir / "log.key"),
        log_name=settings.log_name,
        must_sign=False,
    )
    try:
        done = await store.retention.run(dt.datetime.now(dt.UTC))
    finally:
        await store.close()
    _log.info("retention: %d erased, %d kept by a legal hold, %d finished", done.erased, done.held, done.finished)
    return done.erased, done.held
