"""How many live requests are being answered, by department: batches stand back for them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator


class Live:
    """Counts the live requests of one process."""

    def __init__(self) -> None:
        self._now: Counter[str] = Counter()
        self._most: Counter[str] = Counter()

    @contextlib.contextmanager
    def enter(self, department: str) -> Iterator[None]:
        """Count a request of `department` while it is answered."""
        self._now[department] += 1
        self._most[department] = max(self._most[department], self._now[department])
        try:
            yield
        finally:
            self._now[department] -= 1
            if not self._now[department]:
                del self._now[department]

    def counts(self) -> dict[str, int]:
        """Count the requests that are being answered."""
        return dict(self._now)

    def most(self) -> dict[str, int]:
        """Give for each department the most that were answered at once since this was asked last.

        Requests that are shorter than the time between two looks count too.
        """
        most, self._most = dict(self._most), Counter(self._now)
        return most
