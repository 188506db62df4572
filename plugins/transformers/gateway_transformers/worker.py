"""One thread that owns the model, and the bounded queue before it."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable

import torch
from msgspec import Struct, structs

from gateway_transformers.errors import GenerationFailed, ModelClosed, QueueFull
from gateway_transformers.jobs import Job, ScoreJob
from gateway_transformers.load import Loaded


class Limits(Struct, frozen=True, kw_only=True):
    """What a worker may take of the machine.

    `batch` is how many answers are written at once, `queue` how many requests may wait, and `patience` how many
    seconds. `kept` is the memory in bytes for kept prefixes, `memory` that for keys and values of the answers at work,
    None for no bound. `idle` is after how many seconds without work the weights are freed, None for never.
    """

    batch: int = 8
    queue: int = 64
    patience: float = 30.0
    threads: int | None = None
    kept: int = 0
    memory: int | None = None
    idle: float | None = None


class Worker:
    """Runs jobs in one thread. A subclass writes in `turn`, which is called again while it says that work is left.

    `loaded` is without its model after `close`, and while it is unloaded for want of work; `again` loads it anew.
    """

    def __init__(self, loaded: Loaded, limits: Limits, again: Callable[[], Loaded]) -> None:
        self.loaded = loaded
        self._limits = limits
        self._again = again
        self._waiting: deque[Job | ScoreJob] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="transformers-model", daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Say whether the worker is being closed."""
        return self._closed

    def submit(self, job: Job | ScoreJob) -> None:
        """Queue `job`, from its event loop.

        Raises:
            QueueFull: as many wait as may.
            ModelClosed: the worker has stopped.
        """
        most = self._limits.queue
        with self._change:
            if self._closed:
                raise ModelClosed("the model is unloaded")
            if len(self._waiting) >= most:
                self._waiting = deque(waiting for waiting in self._waiting if not waiting.cancelled)
            if len(self._waiting) >= most:
                raise QueueFull("too many requests wait for this model")
            self._waiting.append(job)
            job.expire_after(self._limits.patience)
            self._change.notify()

    def close(self) -> None:
        """Stop after the current token, fail what waits, and free the model and the thread."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def take(self, accept: Callable[[Job | ScoreJob], bool] = lambda _: True) -> Job | ScoreJob | None:
        """Give the next job that is still wanted, or None where there is none or `accept` leaves it. For `turn`."""
        with self._change:
            while self._waiting:
                if not self._waiting[0].cancelled and not accept(self._waiting[0]):
                    return None
                job = self._waiting.popleft()
                if job.begin():
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

    def forget(self) -> None:
        """Free what a subclass keeps beside the model."""

    def _run(self) -> None:
        if self._limits.threads:
            torch.set_num_threads(self._limits.threads)
        busy = False
        while self._wait(busy):
            try:
                if self.loaded.model is None:
                    self._load()
                with torch.inference_mode():
                    busy = self.turn()
            except Exception as exc:  # noqa: BLE001  the model's fault must not end the thread, and every caller must hear of it
                self._fail_active(GenerationFailed(type(exc).__name__))
                busy = False
        self._fail_active(ModelClosed("the model is unloaded"))
        while (job := self.take()) is not None:
            job.fail(ModelClosed("the model is unloaded"))
        self._unload()

    def _wait(self, busy: bool) -> bool:
        """Wait for work, and unload the model where none comes; false where the worker is to stop."""
        while True:
            with self._change:
                idle = None if self.loaded.model is None else self._limits.idle
                came = self._change.wait_for(lambda: busy or self._waiting or self._closed, idle)
                if came:
                    return not self._closed
            self._unload()

    def _load(self) -> None:
        try:
            loaded = self._again()
        except Exception as exc:  # the next request tries again
            job = self.take()
            if job is not None:
                job.fail(GenerationFailed(f"the model can not be loaded again ({type(exc).__name__})"))
            raise
        # what has read prompts since the start goes on to read them
        self.loaded = structs.replace(self.loaded, model=loaded.model, revision=loaded.revision)

    def _unload(self) -> None:
        self.forget()
        self.loaded = structs.replace(self.loaded, model=None)
        gc.collect()  # modules and their hooks refer to one another in circles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _fail_active(self, exc: Exception) -> None:
        for job in self.active():
            job.fail(exc)
        self.drop()
