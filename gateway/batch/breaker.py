"""A circuit breaker for each model: while it is away no line is begun, and none loses a try by it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

_log = logging.getLogger("gateway.batch")

MOST = 8
"""Failures of a model in a row, with no success between, that are an outage."""

LONGEST = 60.0
"""Seconds between two probes at the most."""


class Breaker:
    """Counts how the model behind it does. `first` is how many seconds after it opens the first probe is begun.

    A run of failures ends with a success. Each has a number, by which a line remembers when it failed: once the run has
    turned out to be an outage, that failure was not the line's.
    """

    def __init__(self, name: str, *, first: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._first = first
        self._clock = clock
        self._run = 0
        self._failures = 0
        self._outages: set[int] = set()
        self._delay = first
        self._due = 0.0
        self._probing = False
        self._doubts: list[asyncio.Future[bool]] = []

    @property
    def open(self) -> bool:
        """Tell whether the model is away."""
        return self._run in self._outages

    def wait(self) -> float:
        """Give the seconds until a line may be begun: 0 for now, infinity while a probe is under way."""
        if not self.open:
            return 0.0
        return math.inf if self._probing else max(0.0, self._due - self._clock())

    def begin(self) -> bool:
        """Note that a line is begun; tell whether it is a probe."""
        self._probing = self.open
        return self._probing

    def succeeded(self) -> None:
        """Note that the model has answered."""
        if self.open:
            _log.warning("the model `%s` answers again", self._name)
        self._run += 1
        self._failures = 0
        self._probing = False
        self._delay = self._first
        self._resolve(counts=True)

    def failed(self, *, probe: bool) -> int:
        """Note that the model has failed; give the number of its run of failures."""
        self._failures += 1
        if not self.open and self._failures >= MOST:
            _log.warning("the model `%s` has failed %d times in a row; it is probed until it answers", self._name, MOST)
            self._outages.add(self._run)
            self._due = self._clock() + self._delay
            self._resolve(counts=False)
        elif probe:
            self._probing = False
            self._delay = min(2 * self._delay, LONGEST)
            self._due = self._clock() + self._delay
        return self._run

    def spared(self) -> None:
        """Note that a probe has ended: where it has told nothing, another may follow at once."""
        self._probing = False

    def outage(self, run: int) -> bool:
        """Tell whether a run of failures was an outage."""
        return run in self._outages

    async def verdict(self, run: int) -> bool:
        """Wait until it is known whether a failure of this run was the line's own (True) or an outage's."""
        if self.outage(run) or run != self._run:
            return not self.outage(run)
        doubt: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._doubts.append(doubt)
        return await doubt

    def settle(self, *, counts: bool) -> None:
        """Decide what is in doubt: nothing else is under way that could tell (`counts`), or the work ends here."""
        self._resolve(counts=counts)

    def _resolve(self, *, counts: bool) -> None:
        doubts, self._doubts = self._doubts, []
        for doubt in doubts:
            if not doubt.done():
                doubt.set_result(counts)
