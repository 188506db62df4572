"""What lines came to, on its way into the database: kept and tried again while that is away, in groups where it may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from gateway.errors import Unavailable, describe
from gateway.records import Outcome, ReauditV1
from gateway.store import Batch, LeaseLost, LineResult, LineTaken, Store

_log = logging.getLogger("gateway.batch")

_LONGEST = 15.0  # seconds between two tries at storing
_TOGETHER = 200  # lines without a record in one transaction
_SOON = 0.02  # seconds for which they are gathered


class _Gathered(Struct):
    batch: Batch
    results: list[LineResult]
    done: asyncio.Future[None]


class Storing:
    """Stores what lines came to; whoever was first with a line has answered it.

    `first` is how many seconds after a failed try the next one follows; it doubles from there.
    """

    def __init__(self, store: Store, *, first: float = 0.5) -> None:
        self._store = store
        self._first = first
        self._gathered: dict[str, _Gathered] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def decided(
        self, batch: Batch, outcomes: Sequence[Outcome], result: LineResult, wanted: Callable[[], bool]
    ) -> bool:
        """Store a line's answer with the records of its decisions; False where that could not be while `wanted`."""

        async def store() -> None:
            row = await self._store.batches.line_row(batch, result)
            await self._store.decisions.append_line(outcomes, row)

        return await self._persist(store, wanted)

    async def judged(self, batch: Batch, event: ReauditV1, result: LineResult, wanted: Callable[[], bool]) -> bool:
        """Store what a re-audit came to with its record, as `decided`."""

        async def store() -> None:
            row = await self._store.batches.line_row(batch, result)
            await self._store.decisions.append_event_line(event, row)

        return await self._persist(store, wanted)

    async def unrecorded(self, batch: Batch, result: LineResult, wanted: Callable[[], bool]) -> bool:
        """Store what a line came to that no decision was made of, as `decided`; with others at once."""
        return await self._persist(lambda: self._gather(batch, result), wanted)

    async def _persist(self, store: Callable[[], Awaitable[None]], wanted: Callable[[], bool]) -> bool:
        delay = self._first
        while True:
            try:
                # A line that was judged is stored also where this worker is told to stop meanwhile.
                await asyncio.shield(asyncio.ensure_future(store()))
            except (LineTaken, LeaseLost):
                return True  # another worker has answered the line, or the batch has ended without it
            except Unavailable as exc:
                if not wanted():
                    return False
                _log.warning("a line of a batch waits to be stored: %s", describe(exc))
            else:
                return True
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST)

    async def _gather(self, batch: Batch, result: LineResult) -> None:
        there = self._gathered.get(batch.id)
        if there is None or len(there.results) >= _TOGETHER:
            there = _Gathered(batch, [], asyncio.get_running_loop().create_future())
            self._gathered[batch.id] = there
            task = asyncio.get_running_loop().create_task(self._flush(there))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        there.results.append(result)
        await asyncio.shield(there.done)

    async def _flush(self, group: _Gathered) -> None:
        await asyncio.sleep(_SOON)
        if self._gathered.get(group.batch.id) is group:
            del self._gathered[group.batch.id]
        try:
            await self._store.batches.store_lines(group.batch, group.results)
        except BaseException as exc:  # noqa: BLE001 - each of those who wait decides what follows
            group.done.set_exception(exc)
            group.done.exception()  # also where nobody waits any more
        else:
            group.done.set_result(None)
