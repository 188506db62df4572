"""What waits for the model: a prompt, who asked for it, and the way back from the model's thread to that event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from gateway.plugin import Sampling
from gateway_transformers.answer import Answer, Written
from gateway_transformers.errors import QueueLate
from gateway_transformers.prompts import Read
from gateway_transformers.sightline import Sight

T = TypeVar("T")


class Asked(Generic[T]):
    """A prompt that waits for the model."""

    def __init__(self, read: Read) -> None:
        self.ids = read.ids
        self.mark = read.mark
        self.sight = Sight(read)
        self.cancelled = False
        self._pictures = read.pictures
        self._begun = False
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    def key(self, end: int) -> bytes:
        """Name what is read up to `end`, which is not beyond `mark`: the same tokens and pictures, the same name."""
        return self.ids[:end].tobytes() + self._pictures

    async def result(self) -> T:
        """Wait for what was asked; where the caller gives up, tell the worker to stop."""
        try:
            return await self._future
        finally:
            self._leave()

    def begin(self) -> bool:
        """Take the job out of the queue; false where nobody waits for it any more."""
        with self._lock:
            self._begun = not self.cancelled
            return self._begun

    def expire_after(self, seconds: float) -> None:
        """Let the job fail by `QueueLate` where it has not begun in `seconds`. In the thread of its event loop."""
        self._timer = self._loop.call_later(seconds, self._expire)

    def finish(self, value: T) -> None:
        """Hand in what was asked, from the worker's thread."""
        self._tell(lambda: self._future.set_result(value))

    def fail(self, exc: Exception) -> None:
        """End the job with `exc`, from any thread."""
        self._tell(lambda: self._future.set_exception(exc))

    def _expire(self) -> None:
        with self._lock:
            if self._begun or self.cancelled:
                return
            self.cancelled = True
        if not self._future.done():
            self._future.set_exception(QueueLate("the model is busy, the request waited too long for its turn"))
            self._changed()

    def _leave(self) -> None:
        self.cancelled = True  # after a result this changes nothing
        if self._timer is not None:
            self._timer.cancel()

    def _changed(self) -> None:
        """Hear that the future is done. In the thread of the event loop."""

    def _tell(self, act: Callable[[], None]) -> None:
        def once() -> None:
            if not self._future.done():
                act()
                self._changed()

        self._post(once)

    def _post(self, act: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:  # the loop that asked is closed: nobody waits any more
            self.cancelled = True


class Job(Asked[tuple[Written, ...]]):
    """A prompt that wants `sampling.n` answers of at most `most` tokens each.

    Pieces wait in one string for each choice, so a slow reader holds no more than the answer itself, and finds all
    that was written meanwhile in one piece.
    """

    def __init__(self, read: Read, *, sampling: Sampling, most: int, streamed: bool = False) -> None:
        super().__init__(read)
        self.sampling = sampling
        self.most = most
        self.written: dict[int, Written] = {}
        self._streamed = streamed
        self._fresh: dict[int, str] = {}
        self._ended: dict[int, Written] = {}
        self._told = False
        self._ready = asyncio.Event()

    def grow(self, choice: int, answer: Answer) -> None:
        """Hear that `answer` has grown, from the worker's thread; the last that is complete completes the job."""
        if self._streamed:
            self._push(choice, answer)
        if answer.written is not None:
            self.written[choice] = answer.written
            if len(self.written) == self.sampling.n:
                self.finish(tuple(self.written[n] for n in range(self.sampling.n)))

    async def pieces(self) -> AsyncGenerator[tuple[int, str, Written | None], None]:
        """Give `(choice, text, written)` as the answers grow, `written` with the last text of each."""
        try:
            done = False
            while not done:
                await self._ready.wait()
                self._ready.clear()
                done = self._future.done()
                for piece in self._pop():
                    yield piece
            self._future.result()
        finally:
            self._leave()
            self._future.cancel()

    def _push(self, choice: int, answer: Answer) -> None:
        text = answer.take()
        if not text and answer.written is None:
            return
        with self._lock:
            self._fresh[choice] = self._fresh.get(choice, "") + text
            if answer.written is not None:
                self._ended[choice] = answer.written
            told, self._told = self._told, True
        if not told:
            self._post(self._ready.set)

    def _pop(self) -> list[tuple[int, str, Written | None]]:
        with self._lock:
            fresh, ended = self._fresh, self._ended
            self._fresh, self._ended, self._told = {}, {}, False
        return [(choice, text, ended.get(choice)) for choice, text in fresh.items()]

    def _changed(self) -> None:
        self._ready.set()


class ScoreJob(Asked[tuple[float, ...]]):
    """A prompt that wants to know how likely each of `answers` (as tokens, none empty) is after it."""

    def __init__(self, read: Read, *, answers: tuple[list[int], ...]) -> None:
        super().__init__(read)
        self.answers = answers
        self.longest = max(map(len, answers))
