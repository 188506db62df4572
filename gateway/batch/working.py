"""The way of one line through a worker: read, judged, stored; tried again where only a failure has answered it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.batch.answering import Answering, model_answered, result_of, transient, without_response
from gateway.batch.holding import Line, Remembered
from gateway.batch.lanes import Lane, Place
from gateway.batch.storing import Storing
from gateway.errors import Unavailable, describe
from gateway.store import LineResult

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_log = logging.getLogger("gateway.batch")

_LONGEST_REST = 30.0  # seconds between two tries of a line


class Working:
    """Answers lines. `rest` is how many seconds after a failed first try the second may follow; it doubles from there.

    `wanted` tells whether to go on trying to store while the database is away.
    """

    def __init__(self, runtime: Runtime, *, rest: float, storing: float, wanted: Callable[[Line], bool]) -> None:
        self._runtime = runtime
        self._rest = rest
        self._answering = Answering(runtime)
        self._storing = Storing(runtime.store, first=storing)
        self._wanted = wanted
        self._images = asyncio.Semaphore(os.cpu_count() or 1)
        self._reaudit: Any = None
        self.remembered = Remembered()

    def judge_again(self) -> Any:
        """Give what judges past decisions again."""
        if self._reaudit is None:
            self._reaudit = importlib.import_module("gateway.batch.reaudit").ReauditLines(self._runtime)
        return self._reaudit

    async def close(self) -> None:
        """Close what judges past decisions again."""
        if self._reaudit is not None:
            await self._reaudit.close()

    async def answer(self, line: Line, lane: Lane, *, probe: bool) -> bool:
        """Try a line once; tell whether it has its answer. Where it has not, it waits in its lane or its job stops."""
        place = Place(lane.places, self._images if line.pictured else None)
        try:
            if line.batch.kind == "reaudit":
                return await self._again(line)
            await place.look()
            if line.prepared is None:
                read = await self._answering.prepare(line.batch, line.number, line.raw)
                if isinstance(read, LineResult):
                    return await self._unrecorded(line, read)
                line.prepared, line.raw = read, b""
            tries = line.failures.count(lane.breaker) + 1
            outcomes = await self._answering.judge(line.batch, line.number, line.prepared, tries, place)
            place.looked()
            run = self._tell(lane, model_answered(outcomes), probe=probe)
            if transient(outcomes):
                self._note(line, run)
                if not await self._is_last(line, lane, run):
                    return False
            result = result_of(line.batch, line.number, line.prepared.custom_id, outcomes, tries)
            return await self._storing.decided(line.batch, outcomes, result, lambda: self._wanted(line))
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever a line brings about, the others go on
            return await self._broken(line, lane, exc)
        finally:
            place.looked()

    def _tell(self, lane: Lane, answered: bool | None, *, probe: bool) -> int | None:
        """Tell the breaker how the model did, where it was asked; give the run that a failure belongs to."""
        if answered:
            lane.breaker.succeeded()
        return lane.breaker.failed(probe=probe) if answered is False else None

    async def _is_last(self, line: Line, lane: Lane, run: int | None) -> bool:
        """Tell whether a failure is to be recorded as the line's answer; else let the line be tried again."""
        if not line.wanted:
            return False
        if run is not None and lane.breaker.outage(run):
            lane.add((line,))  # behind the others, so that another is the next probe
            return False
        failed = line.failures.count(lane.breaker)
        if failed < self._tries(line):
            rest = min(self._rest * 2 ** (failed - 1), _LONGEST_REST)
            lane.rest(line, rest * random.uniform(0.5, 1.0))  # noqa: S311 - it spreads the load
            return False
        if run is None or await lane.verdict(run):
            return True
        lane.add((line,))
        return False

    def _note(self, line: Line, run: int | None) -> None:
        line.failures.add(run)
        self.remembered.note(line)

    def _tries(self, line: Line) -> int:
        pipeline = self._runtime.pipelines.get(line.batch.department)
        return 1 if pipeline is None else pipeline.policy.batch.tries

    async def _again(self, line: Line) -> bool:
        event, result = await self.judge_again().line(line.batch, line.number, line.raw)
        if event is None:
            return await self._unrecorded(line, result)
        return await self._storing.judged(line.batch, event, result, lambda: self._wanted(line))

    async def _unrecorded(self, line: Line, result: LineResult) -> bool:
        return await self._storing.unrecorded(line.batch, result, lambda: self._wanted(line))

    async def _broken(self, line: Line, lane: Lane, exc: Exception) -> bool:
        """Deal with a fault of the gateway's own: it takes a try, and at the last one it is what the line came to."""
        if isinstance(exc, Unavailable):  # what is away may come back: it takes no try
            _log.warning("a line of a batch has to wait: %s", describe(exc))
            lane.rest(line, _LONGEST_REST / 6)
            return False
        _log.error("a line of a batch broke: %s", describe(exc))
        self._note(line, None)
        failed = line.failures.count(lane.breaker)
        if failed < self._tries(line):
            lane.rest(line, self._rest * failed)
            return False
        custom_id = None if line.prepared is None else line.prepared.custom_id
        message = "the gateway failed to work on it; tell its operator, and submit it again"
        result = without_response(line.batch, line.number, "failed", custom_id, "internal_error", message, failed)
        return await self._unrecorded(line, result)
