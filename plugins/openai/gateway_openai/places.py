"""A bound on the requests under way, and a short queue before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from gateway_openai.errors import UpstreamBusy


class Places:
    """Lets `most` requests run at once and `queue` more wait, first come first served."""

    def __init__(self, most: int, queue: int) -> None:
        self._most = most
        self._queue = queue
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def place(self, until: float | None) -> AsyncIterator[None]:
        """Hold a place; wait for it until `until`, in the event loop's time, at most.

        Raises:
            UpstreamBusy: the queue is full, or no place came free in time.
        """
        try:
            async with asyncio.timeout_at(until):
                await self._take()
        except TimeoutError:
            raise UpstreamBusy("no place came free in time; raise `in_flight`, or ask less at once") from None
        try:
            yield
        finally:
            self._give()

    async def _take(self) -> None:
        if self._taken < self._most:
            self._taken += 1
            return
        if len(self._waiting) >= self._queue:
            raise UpstreamBusy("as many requests are under way as `in_flight` and `queue` allow")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
            else:  # the place was given in the moment in which the request was given up
                self._give()
            raise

    def _give(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # the place passes on and is never free in between
                return
        self._taken -= 1
