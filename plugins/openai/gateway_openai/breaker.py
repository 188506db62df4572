"""A circuit breaker for each server: one that fails again and again is left alone, and tried with single requests.

Pure: the clock, in seconds, and the source of chance, in 0..1, are given.
"""

from __future__ import annotations

from collections.abc import Callable

MOST = 5
"""Faults of a server in a row that open its breaker."""

FIRST = 1.0
"""The longest that the first pause can be, in seconds; each further one is up to twice as long."""

LONGEST = 30.0
"""The longest that any pause can be, in seconds: how late a server that has come back may be noticed."""


class Breaker:
    """Counts the faults of one server.

    Closed, every request may go there. Open, none may until a pause has passed; then one may, the probe, and what
    becomes of it closes the breaker or opens it for longer. A pause is drawn from the upper half of its length, so that
    many gateways do not probe at once. Beside that a server can ask for a rest (`rest`), which is no fault.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        draw: Callable[[], float],
        most: int = MOST,
        first: float = FIRST,
        longest: float = LONGEST,
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._most = most
        self._first = first
        self._longest = longest
        self._faults = 0
        self._pause = first
        self._due: float | None = None  # None: closed
        self._probe = 0  # the number of the probe under way; 0: none is
        self._probes = 0
        self._rested = 0.0

    @property
    def open(self) -> bool:
        """Tell whether the server is left alone, the time of its probe included."""
        return self._due is not None

    def ready(self) -> bool:
        """Tell whether a request may be begun now."""
        if self.resting() > 0:
            return False
        return self._due is None or (not self._probe and self._clock() >= self._due)

    def resting(self) -> float:
        """Give the seconds that are left of the rest the server asked for; 0 where there is none."""
        return max(0.0, self._rested - self._clock())

    def rest(self, seconds: float) -> None:
        """Note that the server asks to be left alone for so long."""
        self._rested = max(self._rested, self._clock() + min(seconds, self._longest))

    def begin(self) -> int:
        """Note that a request is begun; give its number where it is a probe, else 0."""
        if self._due is None:
            return 0
        self._probes += 1
        self._probe = self._probes
        return self._probe

    def heard(self) -> bool:
        """Note the first sign of an answer: it closes the breaker on trial. Tell whether it was open."""
        was = self.open
        if was:
            self._due, self._probe = None, 0
            self._faults = self._most - 1  # one more fault in a row opens it again
        return was

    def succeeded(self) -> None:
        """Note that a request was answered whole."""
        self.heard()
        self._faults = 0
        self._pause = self._first

    def failed(self, *, probe: int = 0) -> bool:
        """Note a fault; tell whether it has opened the breaker just now."""
        if self._due is not None:
            if probe and probe == self._probe:
                self._probe = 0
                self._open()
            return False  # one that was begun before it opened tells nothing new
        self._faults += 1
        if self._faults < self._most:
            return False
        self._open()
        return True

    def spared(self, *, probe: int = 0) -> None:
        """Note that a request ended without telling how the server is: another probe may follow at once."""
        if probe == self._probe:
            self._probe = 0

    def _open(self) -> None:
        self._due = self._clock() + self._pause * (0.5 + 0.5 * self._draw())
        self._pause = min(2 * self._pause, self._longest)
