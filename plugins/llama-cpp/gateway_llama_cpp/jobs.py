"""What waits for the model: a prompt, and the way back from the model's thread to the event loop that asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

from msgspec import Struct

from gateway.plugin import Sampling
from gateway_llama_cpp.answer import Answer, Written
from gateway_llama_cpp.errors import QueueLate


class Read(Struct, frozen=True, kw_only=True):
    """A prompt as `text` and as tokens. `mark` counts those that come again in other requests."""

    text: str
    ids: tuple[int, ...]
    mark: int = 0


class Event(Struct, frozen=True, kw_only=True):
    """Further text of a choice; with its last, `written` is the whole."""

    choice: int
    text: str
    written: Written | None = None


Scores = tuple[float, ...]


_ANY = Sampling()


class Job:
    """A prompt that wants `sampling.n` answers of at most `most` tokens, or to know how likely `answers` are after it.

    Made in the event loop that waits for it. `streamed` asks for events before an answer is whole.
    """

    def __init__(
        self,
        read: Read,
        *,
        sampling: Sampling = _ANY,
        most: int = 0,
        answers: tuple[tuple[int, ...], ...] = (),
        streamed: bool = False,
    ) -> None:
        self.ids, self.mark = read.ids, read.mark
        self.sampling = sampling
        self.most = most or max(map(len, answers))
        self.answers = answers
        self.cancelled = False
        self._streamed = streamed
        self._begun = False
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | Scores | Exception] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        """Give what is written until every choice is whole; closing it stops the writing.

        Raises:
            Exception: what `fail` was given.
        """
        try:
            left = self.sampling.n
            while left:
                event = await self._next()
                if isinstance(event, Event):
                    left -= event.written is not None
                    yield event
        finally:
            self._leave()

    async def scores(self) -> Scores:
        """Wait for the scores of `answers`. Raises what `fail` was given."""
        try:
            while not isinstance(scores := await self._next(), tuple):
                pass  # a job that scores writes nothing
            return scores
        finally:
            self._leave()

    def expire_after(self, seconds: float) -> None:
        """Let the job fail by `QueueLate` where it has not begun in `seconds`. In its event loop's thread."""
        self._timer = self._loop.call_later(seconds, self._expire)

    def begin(self) -> bool:
        """Take the job out of the queue; false where nobody waits for it any more."""
        with self._lock:
            self._begun = not self.cancelled
            return self._begun

    def grow(self, choice: int, answer: Answer) -> None:
        """Hear that `answer` has grown, from the model's thread."""
        if answer.written is None and not self._streamed:
            return
        text = answer.take()
        if text or answer.written is not None:
            self._post(Event(choice=choice, text=text, written=answer.written))

    def finish(self, scores: Scores) -> None:
        """Hand in the scores, from the model's thread."""
        self._post(scores)

    def fail(self, exc: Exception) -> None:
        """End the job with `exc`, from any thread. One that is finished does not hear it."""
        self._post(exc)

    async def _next(self) -> Event | Scores:
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    def _expire(self) -> None:
        with self._lock:
            if self._begun or self.cancelled:
                return
            self.cancelled = True
        self._events.put_nowait(QueueLate("the model is busy, the request waited too long for its turn"))

    def _leave(self) -> None:
        self.cancelled = True  # after the end this changes nothing
        if self._timer is not None:
            self._timer.cancel()

    def _post(self, event: Event | Scores | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop that asked is closed: nobody waits any more
            self.cancelled = True
