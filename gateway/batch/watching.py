"""What a worker looks at while it works: who else works, what is to stop, and that its leases go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection

from gateway.batch.holding import Held
from gateway.batch.sharing import Lanes
from gateway.errors import Unavailable, describe
from gateway.store import Store

_log = logging.getLogger("gateway.batch")


class Watch:
    """Watches over the jobs that are `held`; `look` is told of each that may have come to its end.

    With `beats` the worker is counted among those that share the models.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        held: dict[int, Held],
        lanes: Lanes,
        look: Callable[[Held], None],
        *,
        beats: bool,
    ) -> None:
        self._store = store
        self._owner = owner
        self._held = held
        self._lanes = lanes
        self._look = look
        self._beats = beats
        self._away = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, tick: float, beat: float) -> None:
        """Look every so many seconds from now on, once before this returns; where that is so already, go on."""
        await self._quietly(self.tick)
        if not self._tasks:
            self._tasks = [asyncio.ensure_future(self._every(tick, self.tick))]
            self._tasks.append(asyncio.ensure_future(self._every(beat, self.heartbeat)))

    async def stop(self, *, gone: bool) -> None:
        """Look no more; `gone` says that this worker is not there any more."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if gone and self._beats:
            with contextlib.suppress(Unavailable):
                await self._store.processes.gone(self._owner)

    async def tick(self) -> None:
        """Divide the models anew, and stop what is paused, cancelled or past its time. Raises Unavailable."""
        workers: tuple[str, ...] = (self._owner,)
        if self._beats:
            await self._store.processes.beat(self._owner, "worker", {})
            workers = tuple(sorted({*await self._store.processes.live("worker"), self._owner}))
        load = await self._store.processes.load()
        self._lanes.share(load, workers=len(workers), rank=workers.index(self._owner))
        going = [held for held in self._held.values() if held.wanted and held.job.kind in ("lines", "validate")]
        stopped = await self._stopped(going)
        for held in going:
            idle = held.task is None and not held.begun and any(not lane.share for lane in held.lanes)
            if held.job.batch in stopped or idle:  # without a place here, another worker may have one
                self.stop_job(held)

    async def heartbeat(self) -> None:
        """Move the leases of what is held; let go of what is held no longer. Raises Unavailable."""
        ours = {id_: held for id_, held in self._held.items() if not held.lost and not held.over}
        if not ours:
            return
        still = await self._store.jobs.heartbeat(self._owner, ours)
        gone = [held for id_, held in ours.items() if id_ not in still]
        stopped = await self._stopped(gone)
        for held in gone:
            held.lost = held.job.batch not in stopped or held.job.kind not in ("lines", "validate")
            self.stop_job(held)

    def stop_job(self, held: Held) -> None:
        """Begin no further line of a job; what is under way comes to its end, save what reads and writes files."""
        held.stopping = True
        if held.job.kind != "lines" and held.task is not None:
            held.task.cancel()
        for lane in held.lanes:
            lane.drop()
        self._look(held)

    async def _stopped(self, among: Collection[Held]) -> frozenset[str]:
        return await self._store.jobs.stopping({held.job.batch for held in among}) if among else frozenset()

    async def _every(self, seconds: float, do: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._quietly(do)

    async def _quietly(self, do: Callable[[], Awaitable[None]]) -> None:
        """Do it, and say once that the database is away where it is."""
        try:
            await do()
        except Unavailable as exc:
            if not self._away:
                _log.warning("the database of batches does not answer a worker: %s", describe(exc))
            self._away = True
        except Exception as exc:  # noqa: BLE001 - a worker that no longer gives signs of life would lose its jobs
            _log.error("a worker's watch broke: %s", describe(exc))
        else:
            self._away = False
