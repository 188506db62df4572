"""Windows that wait at the same time, run together: micro-batching across the threads of many requests."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Ids = tuple[int, ...]
"""The token ids of a window."""
Vector = npt.NDArray[np.float32]

MAX_TOKENS = 512
"""Tokens of one batch: a larger one gains nothing more, and who comes after it waits for all of it."""


def cores() -> int:
    """Give the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Ticket:
    """A window that waits. It is served with a vector, or called to lead a batch, its own window among it."""

    def __init__(self, window: Ids) -> None:
        self.window = window
        self.called = threading.Event()
        self.vector: Vector | None = None
        self.batch: list[_Ticket] = []


class Together:
    """Runs windows of one length in one batch, in the order in which they came; at most `runs` batches at a time.

    No window waits for others to come: while batches run, those that come gather. A batch runs in the thread of the
    window in it that waited longest, and no thread runs another than its own.
    """

    def __init__(self, encode: Callable[[Sequence[Ids]], Sequence[Vector]], *, runs: int) -> None:
        self._encode = encode
        self._free = runs
        self._waiting: deque[_Ticket] = deque()
        self._lock = threading.Lock()

    def run(self, window: Ids) -> Vector:
        """Encode a window.

        What the encoder raises is raised in the thread that ran the batch, and a RuntimeError in the others of it.
        """
        ticket = _Ticket(window)
        with self._lock:
            if self._free:  # then nobody waits
                self._free -= 1
                ticket.batch = [ticket]
            else:
                self._waiting.append(ticket)
        if not ticket.batch:
            ticket.called.wait()
        if ticket.batch:
            self._lead(ticket.batch)
        if ticket.vector is None:
            raise RuntimeError("the encoder failed on the batch that this text was in")
        return ticket.vector

    def _lead(self, batch: list[_Ticket]) -> None:
        """Run a batch, and have the next one run by the window that waited longest."""
        try:
            for ticket, vector in zip(batch, self._encode([ticket.window for ticket in batch]), strict=True):
                ticket.vector = vector
        finally:
            for ticket in batch[1:]:
                ticket.called.set()
            with self._lock:
                following = self._next()
                self._free += not following
            if following:
                following[0].batch = following
                following[0].called.set()

    def _next(self) -> list[_Ticket]:
        """Take the window that waited longest, and those of its length, from those that wait."""
        batch: list[_Ticket] = []
        others: deque[_Ticket] = deque()
        for ticket in self._waiting:
            fits = not batch or len(ticket.window) == len(batch[0].window)
            full = len(batch) >= max(1, MAX_TOKENS // len(ticket.window))
            (batch if fits and not full else others).append(ticket)
        self._waiting = others
        return batch
