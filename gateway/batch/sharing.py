"""Which lane a department's lines go into, and what each lane may use of its model now."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from gateway.batch.lanes import Lane, Waiting

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_CORES = os.cpu_count() or 1
_JUDGED = 64  # re-audits at once: they wait for the disk alone, and those that look at content bound themselves


class Lanes:
    """The lanes of one process: one for each model of the policies, `again` for re-audits, which ask no model."""

    def __init__(self, runtime: Runtime, begin: Callable[[Lane, Waiting, bool], None], *, first: float) -> None:
        self._runtime = runtime
        self._departments: dict[str, Lane] = {}
        models: dict[int, Lane] = {}
        for department, pipeline in runtime.pipelines.items():
            name = pipeline.policy.backend.stage
            model = id(runtime.upstream(department))  # the runtime keeps it, so the id is its own
            self._departments[department] = models.setdefault(model, Lane(name, begin, first=first))
        self._models = tuple(models.values())
        self._none = Lane("none", begin)
        self.again = Lane("re-audits", begin)
        self.again.fix(_JUDGED)
        self._none.fix(_CORES)

    def __iter__(self) -> Iterator[Lane]:
        return iter((*self._models, self.again, self._none))

    def of(self, department: str) -> Lane:
        """Give the lane of a department's lines; where no policy covers it, one in which they fail."""
        return self._departments.get(department, self._none)

    def full(self, judged: Collection[str]) -> frozenset[str]:
        """Name the departments of which no further lines are wanted now; of `judged` re-audits are held."""
        found = {department for department, lane in self._departments.items() if lane.enough}
        return frozenset(found | set(judged)) if self.again.enough else frozenset(found)

    @property
    def starved(self) -> bool:
        """Tell whether a model has no place for this process, since live requests or other workers have them all."""
        return any(not lane.share for lane in self._models)

    def share(self, load: Mapping[str, int], *, workers: int, rank: int) -> None:
        """Divide the models anew, by the live requests in flight of each department and the workers there are."""
        for lane in self._models:
            mine = [department for department, its in self._departments.items() if its is lane]
            specs = [self._runtime.pipelines[department].policy.batch for department in mine]
            live = sum(load.get(department, 0) for department in mine)
            lane.set(specs, live=live, workers=workers, rank=rank)
