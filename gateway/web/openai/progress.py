"""How far batches are: counted about once a second for each, however many look, and how fast they go."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from gateway.store.batch_shape import ENDED, Batch, Counts
from gateway.web.openai.objects import Pace

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

FRESH = 1.0
"""Seconds for which a count is given again."""

WINDOW = 30.0
"""Seconds over which the pace is measured."""

_KEPT = 1024  # batches whose pace is remembered
_FORGOTTEN = 300.0  # seconds without a look after which a pace says nothing any more


class Seen(Struct, frozen=True, kw_only=True):
    """A batch, what its lines have come to, and its pace."""

    batch: Batch
    counts: Counts
    pace: Pace


class _Watched:
    """What is remembered of one batch."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.seen: Seen | None = None
        self.at = float("-inf")
        self.samples: deque[tuple[float, int]] = deque()


class Progress:
    """The progress of the batches of a gateway, in this process."""

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._clock = clock
        self._watched: OrderedDict[str, _Watched] = OrderedDict()

    async def look(self, batch_id: str) -> Seen | None:
        """Give a batch as it was within the last second; None where there is none. Raises Unavailable."""
        known = self._known(batch_id)
        async with known.lock:  # those who come together wait for one answer
            if known.seen is not None and self._clock() - known.at < FRESH:
                return known.seen
            batch = await self._runtime.store.batches.get(batch_id)
            if batch is None:
                self._watched.pop(batch_id, None)
                return None
            return await self._count(known, batch)

    async def of(self, batch: Batch) -> Seen:
        """Give how far `batch` is, which was read just now. Its lines may have been counted a second ago."""
        if batch.summary is not None:
            return Seen(batch=batch, counts=batch.summary, pace=Pace())
        known = self._known(batch.id)
        async with known.lock:
            if known.seen is not None and self._clock() - known.at < FRESH and known.seen.batch.total == batch.total:
                return Seen(batch=batch, counts=known.seen.counts, pace=_pace(known, batch, known.seen.counts))
            return await self._count(known, batch)

    async def _count(self, known: _Watched, batch: Batch) -> Seen:
        counts = await self._runtime.store.batches.counts(batch)
        now = self._clock()
        if known.samples and now - known.samples[-1][0] > _FORGOTTEN:
            known.samples.clear()
        known.samples.append((now, counts.completed + counts.failed))
        while len(known.samples) > 2 and known.samples[1][0] <= now - WINDOW:
            known.samples.popleft()
        known.seen, known.at = Seen(batch=batch, counts=counts, pace=_pace(known, batch, counts)), now
        return known.seen

    def _known(self, batch_id: str) -> _Watched:
        known = self._watched.setdefault(batch_id, _Watched())
        self._watched.move_to_end(batch_id)
        while len(self._watched) > _KEPT:
            self._watched.popitem(last=False)
        return known


def _pace(known: _Watched, batch: Batch, counts: Counts) -> Pace:
    """Measure how many lines a second came to their end since the oldest look in the window."""
    if batch.status in ENDED or batch.status == "validating" or len(known.samples) < 2:
        return Pace()
    (first, before), (last, after) = known.samples[0], known.samples[-1]
    if last <= first:
        return Pace()
    rate = max(0.0, (after - before) / (last - first))
    left = counts.total - counts.completed - counts.failed
    known_end = batch.status == "in_progress" and not batch.paused and rate > 0
    return Pace(rate=round(rate, 2), eta_seconds=round(left / rate) if known_end else None)
