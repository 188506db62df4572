"""What a worker holds: jobs, and of each the lines that are still to be answered."""

from __future__ import annotations

import asyncio

from gateway.batch.answering import Prepared
from gateway.batch.breaker import Breaker
from gateway.batch.lanes import Lane
from gateway.batch.paperwork import Again
from gateway.store import Batch, Job

_REMEMBERED = 10_000  # lines whose failed tries are remembered while nobody holds them


class Held:
    """A job that this worker holds. `left` are the lines without an answer, `begun` counts those under way.

    `lanes` are those in which its lines wait; until they are read, those in which they may have to. `task` is what
    opens a job of lines, or does another. `stopping` jobs begin no further line and are given back, as `again` says;
    one that is `lost` belongs to another worker. `over` jobs are being ended.
    """

    def __init__(self, job: Job, lanes: tuple[Lane, ...]) -> None:
        self.job = job
        self.lanes = lanes
        self.left: set[int] = set()
        self.begun = 0
        self.stopping = False
        self.lost = False
        self.over = False
        self.done = False
        self.again: Again | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Tell whether further lines of it are to be begun."""
        return not (self.stopping or self.lost)

    @property
    def settled(self) -> bool:
        """Tell whether nothing of it is under way, and nothing will be."""
        return self.task is None and not self.begun and (self.done or not self.wanted)


class Failures:
    """The tries of a line that have failed. An outage of the model takes none."""

    def __init__(self) -> None:
        self._own = 0
        self._runs: list[int] = []

    def add(self, run: int | None) -> None:
        """Note a try that failed: in that run of failures of the model, or by itself where a check failed."""
        if run is None:
            self._own += 1
        else:
            self._runs.append(run)

    def count(self, breaker: Breaker) -> int:
        """Count them, but those that have turned out to be an outage's."""
        self._runs = [run for run in self._runs if not breaker.outage(run)]
        return self._own + len(self._runs)


class Remembered:
    """The failures of lines that have no answer yet: a job that is given back may come again."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], Failures] = {}

    def of(self, batch: str, number: int) -> Failures:
        """Give the failures of a line."""
        return self._lines.get((batch, number)) or Failures()

    def note(self, line: Line) -> None:
        """Remember a line that has failed."""
        self._lines[line.batch.id, line.number] = line.failures
        while len(self._lines) > _REMEMBERED:
            del self._lines[next(iter(self._lines))]

    def forget(self, line: Line) -> None:
        """Forget a line that has its answer."""
        self._lines.pop((line.batch.id, line.number), None)


class Line:
    """A line of a held job. `raw` is what it says, until it is `prepared`."""

    def __init__(self, held: Held, batch: Batch, number: int, raw: bytes, failures: Failures) -> None:
        self.held = held
        self.batch = batch
        self.number = number
        self.raw = raw
        self.failures = failures
        self.prepared: Prepared | None = None

    @property
    def wanted(self) -> bool:
        """Tell whether it is still to be begun."""
        return self.held.wanted

    @property
    def pictured(self) -> bool:
        """Tell whether it may hold images: they are decoded and read by few lines at once."""
        return b"image_url" in self.raw if self.prepared is None else self.prepared.pictured
