"""Jobs that are none of lines: the file of a batch is read, its files are written, its end is told."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gateway.batch.finalizing import finalize
from gateway.batch.validating import validate
from gateway.batch.webhook import tell
from gateway.errors import NotFound, Unavailable, describe
from gateway.policy.model import WebhookSpec
from gateway.store import MAX_ATTEMPTS, Batch, BatchError, FileDamaged, Job, LeaseLost

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_log = logging.getLogger("gateway.batch")

_DELAYS = (2.0, 10.0, 30.0, 60.0)  # seconds until a job is tried again


class Again(Struct, frozen=True):
    """A job is to be tried again, in `seconds`; this attempt `counts`, or what has kept it may pass by itself."""

    seconds: float
    counts: bool = False


class Paperwork:
    """Does these jobs for one process. `judging` gives what judges past decisions again."""

    def __init__(self, runtime: Runtime, judging: Callable[[], Any]) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._judging = judging

    async def do(self, job: Job) -> Again | None:
        """Do a job; None where it is done. Raises LeaseLost."""
        again = Again(_DELAYS[min(job.attempts, len(_DELAYS)) - 1])
        try:
            batch = await self._store.batches.get(job.batch)
            if batch is None:
                return None
            if job.kind == "webhook":
                return await self._tell(batch)
            settings, webhook = self._runtime.settings, self._spec(batch) is not None
            if job.kind == "validate":
                await self._validate(job, batch, webhook=webhook)
            else:
                await finalize(self._store, settings, job, batch, judging=self._judging, webhook=webhook)
        except Unavailable as exc:
            _log.warning("the %s job of a batch has to wait: %s", job.kind, describe(exc))
            return again
        except LeaseLost:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever one batch brings about, the others go on
            _log.error("the %s job of a batch broke: %s", job.kind, describe(exc))
            if job.kind == "validate" and job.attempts >= MAX_ATTEMPTS:
                await self._fail(job, "internal_error", "the gateway failed to read the file; tell its operator")
            return Again(again.seconds, counts=True)
        return None

    async def _validate(self, job: Job, batch: Batch, *, webhook: bool) -> None:
        try:
            await validate(self._store, self._runtime.settings, job, batch, webhook=webhook)
        except NotFound:
            await self._fail(job, "missing_file", "the input file is gone; upload it again", webhook=webhook)
        except FileDamaged as exc:
            await self._fail(job, "unreadable_file", exc.message, webhook=webhook)

    async def _fail(self, job: Job, code: str, message: str, *, webhook: bool = False) -> None:
        with contextlib.suppress(Unavailable):  # its lease runs out then, and it is tried again
            await self._store.batches.fail(job, [BatchError(code=code, message=message)], webhook=webhook)

    async def _tell(self, batch: Batch) -> Again | None:
        spec = self._spec(batch)
        if spec is None or await tell(spec, batch):
            return None
        return Again(0, counts=True)  # the store knows when a webhook is told again, and when no more

    def _spec(self, batch: Batch) -> WebhookSpec | None:
        pipeline = self._runtime.pipelines.get(batch.department)
        return None if pipeline is None else pipeline.policy.batch.webhook
