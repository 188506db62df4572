"""Which lane the lines of a batch go into, and what each lane may use of its model now."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from gateway.batch.lanes import Lane, Waiting
from gateway.batch.reading import model_of
from gateway.stages import in_thread
from gateway.store import Batch, Job

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_CORES = os.cpu_count() or 1
_JUDGED = 64  # re-audits at once: they wait for the disk alone, and those that look at content bound themselves
_HEAVY = 256 * 1024  # bytes of a line, above which it is looked at beside the event loop
_KNOWN = 256  # batches of which it is remembered which models they ask


class Lanes:
    """The lanes of one process: one for each model of the policies, `again` for re-audits, which ask no model.

    A model is told from others by its stage object, so that it has one lane by whatever names and in however many
    departments it is asked.
    """

    def __init__(self, runtime: Runtime, begin: Callable[[Lane, Waiting, bool], None], *, first: float) -> None:
        self._runtime = runtime
        self._departments: dict[str, dict[str | None, Lane]] = {}
        self._batches: dict[str, tuple[Lane, ...]] = {}
        models: dict[int, Lane] = {}
        for department, pipeline in runtime.pipelines.items():
            lanes = self._departments[department] = {}
            for name in (None, *pipeline.loaded.policy.models):
                model = id(runtime.upstream(department, name))  # the runtime keeps it, so the id is its own
                told = name or pipeline.policy.backend.stage
                lanes[name] = models.setdefault(model, Lane(told, begin, first=first))
        self._models = tuple(models.values())
        self._none = Lane("none", begin)
        self.again = Lane("re-audits", begin)
        self.again.fix(_JUDGED)
        self._none.fix(_CORES)

    def __iter__(self) -> Iterator[Lane]:
        return iter((*self._models, self.again, self._none))

    def of(self, department: str, model: str | None = None) -> Lane:
        """Give the lane of a department's lines that ask `model`, the default's where it is none of the policy's.

        Where no policy covers the department it is one in which they fail.
        """
        lanes = self._departments.get(department, {None: self._none})
        return lanes.get(model, lanes[None])

    def all_of(self, department: str) -> tuple[Lane, ...]:
        """Give the lanes of a department."""
        return tuple(dict.fromkeys(self._departments.get(department, {None: self._none}).values()))

    def expect(self, job: Job) -> tuple[Lane, ...]:
        """Give the lanes into which the lines of a job may come, and count them as coming there; see `expected`."""
        lanes = self.all_of(job.department) if job.kind == "lines" else ()
        for lane in lanes:
            lane.coming += job.count
        return lanes

    def expected(self, lanes: Iterable[Lane], job: Job) -> None:
        """Say that the lines of a job have come, or will not."""
        for lane in lanes:
            lane.coming -= job.count

    async def sort(self, batch: Batch, raws: Mapping[int, bytes]) -> dict[Lane, list[int]]:
        """Give the lines of a batch, by number, by the lane that each goes into."""
        if batch.kind == "reaudit":
            return {self.again: list(raws)}
        several = batch.kind == "answer" and len(self.all_of(batch.department)) > 1
        found: dict[Lane, list[int]] = {}
        for number, raw in raws.items():
            model = None
            if several:
                model = await in_thread(model_of, raw) if len(raw) > _HEAVY else model_of(raw)
            found.setdefault(self.of(batch.department, model), []).append(number)
        if several and found:
            self._batches[batch.id] = tuple(found)
            while len(self._batches) > _KNOWN:
                del self._batches[next(iter(self._batches))]
        return found

    def full(self, judged: Collection[str]) -> frozenset[str]:
        """Name the departments and the batches of which no further lines are wanted now.

        Of `judged` departments re-audits are held. A department with several models goes on where one of them has
        nothing to do; a batch whose lines have asked for one that has enough does not.
        """
        found = {d for d, lanes in self._departments.items() if all(lane.enough for lane in lanes.values())}
        found |= {batch for batch, lanes in self._batches.items() if any(lane.enough for lane in lanes)}
        return frozenset(found | set(judged)) if self.again.enough else frozenset(found)

    @property
    def starved(self) -> bool:
        """Tell whether a model has no place for this process, since live requests or other workers have them all."""
        return any(not lane.share for lane in self._models)

    def share(self, load: Mapping[str, int], *, workers: int, rank: int) -> None:
        """Divide the models anew, by the live requests in flight of each department and the workers there are.

        A live request counts at every model of its department: which one it asks is not known here.
        """
        for lane in self._models:
            mine = [department for department, lanes in self._departments.items() if lane in lanes.values()]
            specs = [self._runtime.pipelines[department].policy.batch for department in mine]
            live = sum(load.get(department, 0) for department in mine)
            lane.set(specs, live=live, workers=workers, rank=rank)
