"""One thread that owns the model, and the bounded queue before it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway_llama_cpp.errors import GenerationFailed, ModelClosed, QueueFull
from gateway_llama_cpp.jobs import Job


class Writer(Protocol):
    """What runs in the thread."""

    def turn(self, take: Callable[[], Job | None]) -> bool:
        """Do one step (at most one token of each answer); say whether work is left. `take` gives the next job."""
        ...

    def active(self) -> list[Job]:
        """Give the jobs that it is working on."""
        ...

    def drop(self) -> None:
        """Forget them, and what may have been left half done."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class Worker:
    """Runs jobs in one thread by a `Writer`."""

    def __init__(self, writer: Writer, *, queue: int, seconds: float) -> None:
        self._writer = writer
        self._most = queue
        self._seconds = seconds
        self._waiting: deque[Job] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="llama-cpp-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Count the requests before the model."""
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        """Queue `job`, from its event loop.

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
            job.expire_after(self._seconds)
            self._change.notify()

    def close(self) -> None:
        """Stop after the current step, fail what waits, and free the model and the thread. May be called twice."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _take(self) -> Job | None:
        with self._change:
            while self._waiting:
                job = self._waiting.popleft()
                if job.begin():
                    return job
        return None

    def _run(self) -> None:
        busy = False
        while True:
            with self._change:
                while not (busy or self._waiting or self._closed):
                    self._change.wait()
                if self._closed:
                    break
            try:
                busy = self._writer.turn(self._take)
            except Exception as exc:  # noqa: BLE001  the model's fault must not end the thread, and every caller must hear of it
                self._fail(GenerationFailed(type(exc).__name__))
                busy = False
        self._fail(ModelClosed("the model is unloaded"))
        while (job := self._take()) is not None:
            job.fail(ModelClosed("the model is unloaded"))
        self._writer.close()

    def _fail(self, exc: Exception) -> None:
        for job in self._writer.active():
            job.fail(exc)
        self._writer.drop()
