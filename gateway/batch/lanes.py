"""How much of a model the batches may use: one lane for each, shared by departments and by worker processes.

A lane holds the lines that wait, and begins them where its share, its pace and its breaker let it. More lines are under
way than the model is asked at once, because they are screened before and audited after: only the asking takes a place.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Protocol

from gateway.batch.breaker import Breaker
from gateway.policy.model import BatchSpec

AHEAD = 8
"""Lines under way besides twice those at the model, so that the encoders' batches fill."""

_BURST = 0.1  # seconds' worth of lines that may be begun at once after a pause


class Waiting(Protocol):
    """A line that waits for its turn."""

    @property
    def wanted(self) -> bool:
        """Tell whether it is still to be begun."""
        ...


def share_of(limit: int, live: int, workers: int, rank: int) -> int:
    """Give the places of one worker process: live requests go first, and one place in all is always left."""
    left = max(1, limit - live)
    return left // max(1, workers) + (rank < left % max(1, workers))


class Places:
    """The places at a model: as many as `limit`, in the order of asking."""

    def __init__(self) -> None:
        self.limit = 1
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a place."""
        if self.taken < self.limit and not self._waiting:
            self.taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.free()
            raise

    def free(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self.serve()

    def serve(self) -> None:
        """Hand out what is free."""
        while self._waiting and self.taken < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)


class Place:
    """One line's way to the model: entering waits for a place, and gives back what the line has held for its images."""

    def __init__(self, places: Places, images: asyncio.Semaphore | None) -> None:
        self._places = places
        self._images = images
        self._looking = False

    async def look(self) -> None:
        """Wait until the images of the line may be decoded and read: that burns the processor."""
        if self._images is not None and not self._looking:
            await self._images.acquire()
            self._looking = True

    def looked(self) -> None:
        """Say that the images are read; saying it again does nothing."""
        if self._images is not None and self._looking:
            self._looking = False
            self._images.release()

    async def __aenter__(self) -> None:
        self.looked()
        await self._places.take()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._places.free()


class Pace:
    """Lines that may be begun in a second, as a token bucket; None for no bound."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate: float | None = None
        self._tokens = 1.0
        self._at = clock()

    def set(self, rate: float | None) -> None:
        """Change the rate."""
        self._fill()
        self._rate = rate

    def wait(self) -> float:
        """Give the seconds until a line may be begun."""
        self._fill()
        return 0.0 if self._rate is None or self._tokens >= 1 else (1 - self._tokens) / self._rate

    def take(self) -> None:
        """Begin a line."""
        if self._rate is not None:
            self._tokens -= 1

    def _fill(self) -> None:
        now = self._clock()
        if self._rate is not None:
            # A hair more than what has passed, so that a timer that rings at the very moment finds its token.
            grown = self._tokens + self._rate * (now - self._at) + 1e-9
            self._tokens = min(max(1.0, self._rate * _BURST), grown)
        self._at = now


class Lane:
    """The lines of one model that wait and that are under way in this process. `begin` begins one; see `ended`."""

    def __init__(self, name: str, begin: Callable[[Lane, Waiting, bool], None], *, first: float = 1.0) -> None:
        self.breaker = Breaker(name, first=first)
        self.places = Places()
        self.share = 1
        self.begun = 0
        self.resting = 0
        self.coming = 0
        self._doubting = 0
        self._pace = Pace()
        self._queue: deque[Waiting] = deque()
        self._begin = begin
        self._timer: asyncio.TimerHandle | None = None

    @property
    def window(self) -> int:
        """Give how many lines may be under way."""
        return 2 * self.share + AHEAD if self.share else 0

    @property
    def enough(self) -> bool:
        """Tell whether lines are there to go on with, so that no further job is to be claimed for this lane."""
        return len(self._queue) + self.resting + self.coming >= self.window

    def set(self, specs: Sequence[BatchSpec], *, live: int, workers: int, rank: int) -> None:
        """Divide what the departments of this lane may use: the smallest of their bounds counts."""
        paces = [spec.per_minute for spec in specs if spec.per_minute is not None]
        self._pace.set(min(paces) / 60 / max(1, workers) if paces else None)
        self.fix(share_of(min(spec.concurrency for spec in specs), live, workers, rank))

    def fix(self, share: int) -> None:
        """Set how many lines of this process may be at the model at once."""
        self.share = share
        self.places.limit = max(1, share)  # a line that is under way is not left standing
        self.places.serve()
        self.pump()

    def add(self, lines: Iterable[Waiting]) -> None:
        """Let lines wait behind the others."""
        self._queue.extend(lines)
        self.pump()

    def drop(self) -> None:
        """Forget the lines that are not wanted any more."""
        self._queue = deque(line for line in self._queue if line.wanted)
        self._settle()

    def rest(self, line: Waiting, seconds: float) -> None:
        """Let a line wait once more, after `seconds`."""
        self.resting += 1
        asyncio.get_running_loop().call_later(seconds, self._rested, line)

    def pump(self) -> None:
        """Begin what may be begun now, and look again when more may be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and self.begun < self.window:
            if not self._queue[0].wanted:
                self._queue.popleft()
                continue
            wait = max(self.breaker.wait(), self._pace.wait())
            if wait > 0:
                if wait < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(wait, self.pump)
                return
            self._pace.take()
            self.begun += 1
            self._begin(self, self._queue.popleft(), self.breaker.begin())

    def ended(self) -> None:
        """Say that a line that was begun is under way no longer."""
        self.begun -= 1
        self._settle()
        self.pump()

    async def verdict(self, run: int) -> bool:
        """Wait until it is known whether a line's last failure was its own.

        Where nothing else is under way at this model, nothing can tell: then it counts.
        """
        self._doubting += 1
        try:
            told = asyncio.ensure_future(self.breaker.verdict(run))
            await asyncio.sleep(0)
            self._settle()
            return await told
        finally:
            self._doubting -= 1

    def _rested(self, line: Waiting) -> None:
        self.resting -= 1
        if line.wanted:
            self.add((line,))
        self._settle()

    def _settle(self) -> None:
        if self._doubting and self.begun == self._doubting and not self._queue and not self.resting:
            self.breaker.settle(counts=True)
