"""The work at set times: plain functions that know nothing of Celery."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging

from gateway.errors import Unavailable
from gateway.opening import open_store
from gateway.records import AccessV1, Caller
from gateway.records.review_figures import Waiting
from gateway.settings import Settings
from gateway.store import VerifyOptions, copies_of

_log = logging.getLogger("gateway.batch")

GATEWAY = Caller(key="gateway", department="*", roles=("operator",), via="os")
"""Who does what is done at set times."""


async def verify_log(settings: Settings) -> tuple[int, str | None]:
    """Verify the decision log, its tree and its signatures, with the copies of checkpoints that lie on this machine.

    Gives the number of records that were read, and what is wrong with the first bad one, None where all hold. A problem
    is logged as an error, so that whoever watches the process logs is told.
    """
    store = await open_store(settings, must_sign=False)
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
    now = dt.datetime.now(dt.UTC)
    return AccessV1.of(caller=GATEWAY, endpoint="gateway worker", decisions=(), at=now, action="verify")


async def erase_due(settings: Settings) -> tuple[int, int]:
    """Erase all sealed content whose time is over and that no legal hold covers; finish what was left.

    Gives how much was erased and how much a hold has kept. Keys of the vault are not needed for it.
    """
    store = await open_store(settings, must_sign=False)
    try:
        done = await store.retention.run(dt.datetime.now(dt.UTC))
    finally:
        await store.close()
    _log.info("retention: %d erased, %d kept by a legal hold, %d finished", done.erased, done.held, done.finished)
    return done.erased, done.held


async def checkpoint(settings: Settings) -> int:
    """Give every record its place in the log's tree, sign it, and bring the checkpoint to every sink that lacks it.

    Gives the size of the tree. Raises ConfigurationError where the key of the log is lost, and Unavailable.
    """
    store = await open_store(settings)
    try:
        size = await store.sequencer.catch_up()
        for sink in store.deliveries.sinks:
            await store.deliveries.once(sink)  # what fails is told there
    finally:
        await store.close()
    return size


async def draw_reviews(settings: Settings) -> Waiting:
    """Put the decisions in the queue of reviews that the policies' plans have drawn, and say what waits there.

    What makes a decision due is drawn when it is made, and stands in its record; the queue is made from the log, here
    also where no gateway is served.
    """
    store = await open_store(settings)
    try:
        await store.sequencer.catch_up()
        waiting = (await store.reviews.figures(GATEWAY, since=dt.datetime.now(dt.UTC))).queue
    finally:
        await store.close()
    open_ = sum(number for state, number in waiting.states.items() if state != "settled")
    (_log.warning if waiting.overdue else _log.info)("reviews: %d wait, %d are overdue", open_, waiting.overdue)
    return waiting
