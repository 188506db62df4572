"""One live answer on its way to its caller: decided and logged whoever listens, and handed over as it may leave."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from msgspec.structs import replace

from gateway.pipeline import Pipeline
from gateway.pipeline.gone import Gone
from gateway.pipeline.windowed import CallerGone, Leave, Left
from gateway.records import Caller, Context, Outcome
from gateway.store import DecisionLog, Logged, Opened
from gateway.values import Request

QUEUED = 64
"""Pieces of audited text that wait for a slow caller; then the audit waits."""

STALLED = 60.0
"""Seconds in which a caller takes nothing, after which it counts as gone."""


class Answering:
    """Makes one answer. `run` goes in a task of its own, so that a caller who goes away leaves a whole record.

    `gone` is told where the caller has gone: the model is stopped then.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        decisions: DecisionLog,
        request: Request,
        caller: Caller,
        endpoint: str,
        context: Context,
    ) -> None:
        self._pipeline, self._decisions = pipeline, decisions
        self._request, self._caller, self._endpoint, self._context = request, caller, endpoint, context
        self._items: deque[Left] = deque()
        self._change, self._room = asyncio.Event(), asyncio.Event()
        self._first: asyncio.Future[Opened | Logged] = asyncio.get_running_loop().create_future()
        self._opened: Opened | None = None
        self._ended: Logged | Exception | None = None
        self.gone = Gone()
        self.gone.future.add_done_callback(lambda _: self._room.set())

    async def run(self) -> Logged:
        """Decide, and log the decision. Raises Unavailable where the log can not be written."""
        try:
            outcome = await self._pipeline.run(
                self._request,
                self._caller,
                self._endpoint,
                context=self._context,
                gone=self.gone,
                opening=self._opening,
            )
            if self._opened is not None and outcome.streamed is not None:
                outcome = replace(outcome, streamed=replace(outcome.streamed, opened=self._opened.id))
            logged = await self._decisions.append(outcome)
        except BaseException as exc:
            self._end(exc if isinstance(exc, Exception) else CallerGone())
            raise
        self._end(logged)
        return logged

    async def first(self) -> Opened | Logged:
        """Give the proof that the answer may leave in windows, or the logged outcome where nothing left before it.

        Raises what `run` does.
        """
        return await asyncio.shield(self._first)

    async def leaving(self) -> AsyncGenerator[Left | Logged, None]:
        """Give the audited text as it leaves, and the logged outcome at last. Raises what `run` does."""
        while True:
            await self._change.wait()
            self._change.clear()
            while self._items:
                yield self._items.popleft()
                self._room.set()
            if isinstance(self._ended, Exception):
                raise self._ended
            if self._ended is not None:
                yield self._ended
                return

    def _opening(self, admitted: Outcome, hold_back: int) -> Leave:
        async def leave(left: Left) -> None:
            if self.gone.told:
                raise CallerGone
            if self._opened is None:
                self._opened = await self._decisions.open(admitted, hold_back=hold_back)
                self._first.set_result(self._opened)
            self._items.append(left)
            self._change.set()
            if len(self._items) >= QUEUED:
                await self._until_room()

        return leave

    async def _until_room(self) -> None:
        self._room.clear()
        try:
            async with asyncio.timeout(STALLED):
                await self._room.wait()
        except TimeoutError:
            self.gone.tell()

    def _end(self, how: Logged | Exception) -> None:
        self._ended = how
        self._change.set()
        if self._first.done():
            return
        if isinstance(how, Logged):
            self._first.set_result(how)
        else:
            self._first.set_exception(how)
            self._first.exception()  # marks it as seen: where nobody awaits it, asyncio would log its message
