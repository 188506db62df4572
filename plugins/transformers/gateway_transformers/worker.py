"""One thread that owns the model, the bounded queue before it, and the jobs that wait there."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections import deque
from typing import Any, Generic, TypeVar

import torch
from msgspec import Struct

from gateway.plugin import Sampling


class QueueFull(Exception):
    """More requests wait for this model than its queue takes."""


class ModelClosed(Exception):
    """The model was unloaded before the answer was written."""


class GenerationFailed(Exception):
    """The model failed while it wrote. The message names only the kind of fault."""


class Written(Struct, frozen=True, kw_only=True):
    """One finished answer: its text, the tokens it took, and whether it ended by itself."""

    text: str
    tokens: int
    ended: bool


T = TypeVar("T")


class Asked(Generic[T]):
    """A prompt that waits for the model. `inputs` are the tensors of a model that takes more than tokens.

    `mark` says how many of `ids` come again in other requests (system turns and demonstrations).
    """

    def __init__(self, *, ids: list[int], mark: int, inputs: dict[str, Any] | None = None) -> None:
        self.ids = array("i", ids)
        self.mark = mark
        self.inputs = inputs
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T] = self._loop.create_future()

    async def result(self) -> T:
        """Wait for what was asked; where the caller gives up, tell the worker to stop."""
        try:
            return await self._future
        finally:
            self.cancelled = True  # after a result this changes nothing

    def finish(self, value: T) -> None:
        """Hand in what was asked, from the worker's thread."""
        self._tell(lambda: self._future.set_result(value))

    def fail(self, exc: Exception) -> None:
        """End the job with `exc`, from any thread."""
        self._tell(lambda: self._future.set_exception(exc))

    def _tell(self, act: Any) -> None:
        def once() -> None:
            if not self._future.done():
                act()

        try:
            self._loop.call_soon_threadsafe(once)
        except RuntimeError:  # the loop that asked is closed: nobody waits any more
            self.cancelled = True


class Job(Asked[tuple[Written, ...]]):
    """A prompt that wants `sampling.n` answers of at most `most` tokens each."""

    def __init__(
        self, *, ids: list[int], mark: int, sampling: Sampling, most: int, inputs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(ids=ids, mark=mark, inputs=inputs)
        self.sampling = sampling
        self.most = most
        self.written: dict[int, Written] = {}

    def write(self, choice: int, written: Written) -> None:
        """Hand in one answer, from the worker's thread; the last one completes the job."""
        self.written[choice] = written
        if len(self.written) == self.sampling.n:
            self.finish(tuple(self.written[n] for n in range(self.sampling.n)))


class ScoreJob(Asked[tuple[float, ...]]):
    """A prompt that wants to know how likely each of `answers` (as tokens, none empty) is after it."""

    def __init__(
        self, *, ids: list[int], mark: int, answers: tuple[list[int], ...], inputs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(ids=ids, mark=mark, inputs=inputs)
        self.answers = answers
        self.longest = max(map(len, answers))


class Worker:
    """Runs jobs in one thread. A subclass writes in `turn`, which is called again while it says that work is left."""

    def __init__(self, *, queue: int, threads: int | None = None) -> None:
        self._most = queue
        self._threads = threads
        self._waiting: deque[Job | ScoreJob] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="transformers-model", daemon=True)
        self._thread.start()

    def submit(self, job: Job | ScoreJob) -> None:
        """Queue `job`.

        Raises:
            QueueFull: as many wait as may.
            ModelClosed: the worker has stopped.
        """
        with self._change:
            if self._closed:
                raise ModelClosed("the model is unloaded")
            if len(self._waiting) >= self._most:
                self._waiting = deque(waiting for waiting in self._waiting if not waiting.cancelled)
            if len(self._waiting) >= self._most:
                raise QueueFull("too many requests wait for this model")
            self._waiting.append(job)
            self._change.notify()

    def close(self) -> None:
        """Stop after the current token, fail what waits, and free the thread."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def take(self) -> Job | ScoreJob | None:
        """Give the next job that is still wanted, or None. For `turn`."""
        with self._change:
            while self._waiting:
                job = self._waiting.popleft()
                if not job.cancelled:
                    return job
        return None

    def turn(self) -> bool:
        """Do one step (at most one token of each answer); say whether work is left."""
        raise NotImplementedError

    def active(self) -> list[Job | ScoreJob]:
        """Give the jobs that `turn` is working on."""
        raise NotImplementedError

    def drop(self) -> None:
        """Forget the jobs that `turn` is working on."""
        raise NotImplementedError

    def _run(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)
        busy = False
        while True:
            with self._change:
                while not (busy or self._waiting or self._closed):
                    self._change.wait()
                if self._closed:
                    break
            try:
                with torch.inference_mode():
                    busy = self.turn()
            except Exception as exc:  # noqa: BLE001  the model's fault must not end the thread, and every caller must hear of it
                self._fail_active(GenerationFailed(type(exc).__name__))
                busy = False
        self._fail_active(ModelClosed("the model is unloaded"))
        while (job := self.take()) is not None:
            job.fail(ModelClosed("the model is unloaded"))

    def _fail_active(self, exc: Exception) -> None:
        for job in self.active():
            job.fail(exc)
        self.drop()
