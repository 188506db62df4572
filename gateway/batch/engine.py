"""The engine of one worker process: it claims jobs, works them off side by side, and gives back what it does not end.

Lines of jobs go into lanes, one for each model, and are begun from there; files are read and written by tasks of their
own. What a line costs the database is its record and its answer, in one group commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from gateway.batch.holding import Held, Line
from gateway.batch.lanes import Lane, Waiting
from gateway.batch.opening import open_lines
from gateway.batch.paperwork import Again, Paperwork
from gateway.batch.sharing import Lanes
from gateway.batch.watching import Watch
from gateway.batch.working import Working
from gateway.errors import Unavailable, describe
from gateway.store import LEASE, Job, JobKind, LeaseLost

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_log = logging.getLogger("gateway.batch")

_LINES: tuple[JobKind, ...] = ("lines",)
_PAPERS: tuple[JobKind, ...] = ("validate", "finalize", "webhook")
_MOST_PAPERS = 2  # of these at once
_BYTES = 64 * 1024 * 1024  # bytes of lines that are held at once, or one job
_GRACE = 20.0  # seconds that lines under way have where the process is to stop
_AWAY = 5.0  # seconds between two looks for jobs at the most, while the database is away


class Rhythm(Struct, frozen=True, kw_only=True):
    """How often what is looked at, and how long is waited for the first time before something is tried again: seconds.

    `tick`: shares, and what is to stop; `poll`: jobs, where there were none; `beat`: heartbeats. `rest` comes before a
    line is tried again, `probe` before a model that is away is asked, `storing` before an answer is stored that the
    database did not take.
    """

    tick: float = 1.0
    poll: float = 0.5
    beat: float = LEASE / 3
    rest: float = 1.0
    probe: float = 1.0
    storing: float = 0.5


class Engine:
    """Works for one process, under the name `owner`, which no other process has.

    With `processes_beat` it is counted among the workers that share the bounds of models. With `only` it works for the
    batch with that id and for no other.
    """

    def __init__(
        self,
        runtime: Runtime,
        owner: str,
        *,
        processes_beat: bool = True,
        rhythm: Rhythm | None = None,
        only: str | None = None,
    ) -> None:
        self._store = runtime.store
        self._owner = owner
        self._only = only
        self._rhythm = rhythm or Rhythm()
        self.lanes = Lanes(runtime, self._begin, first=self._rhythm.probe)
        self._working = Working(
            runtime, rest=self._rhythm.rest, storing=self._rhythm.storing, wanted=self._worth_storing
        )
        self._papers = Paperwork(runtime, self._working.judge_again)
        self._held: dict[int, Held] = {}
        self._watch = Watch(runtime.store, owner, self._held, self.lanes, self._look, beats=processes_beat)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._at_work = False
        self._stopped: Callable[[], bool] = lambda: False
        self._next_lines = self._next_papers = self._delay = 0.0
        self._asked: frozenset[str] = frozenset()

    async def work(self, *, seconds: float, stopped: Callable[[], bool]) -> bool:
        """Claim and work jobs off until nothing can be claimed, `seconds` have passed or `stopped()`.

        Where it is the time that is over, what is under way goes on, and the next call takes it up: a model whose
        answers take long is not left idle between two calls. Where it is `stopped()`, lines under way have some seconds
        to end, and what is held is given back. True where work may remain. What a line, a model or the database does
        raises nothing here.
        """
        self._stopped = stopped
        self._next_lines = self._next_papers = self._delay = 0.0
        async with self._turn:
            self._at_work = True
            await self._watch.start(tick=self._rhythm.tick, beat=self._rhythm.beat)
        try:
            remains = await self._claim_all(time.monotonic() + seconds)
            if stopped():
                await self._leave()
        finally:
            self._at_work = False
        await self._rest(gone=not remains)
        return remains

    async def close(self) -> None:
        """Give back what is held, as where work is stopped, and close what was built for it."""
        self._stopped = lambda: True
        await self._leave()
        await self._rest(gone=True)
        await self._working.close()

    async def _rest(self, *, gone: bool) -> None:
        """End the watch where nothing is held; who is `gone` takes no share of the models."""
        async with self._turn:
            if not self._held and not self._at_work:
                await self._watch.stop(gone=gone)

    async def _claim_all(self, end: float) -> bool:
        while not self._stopped() and time.monotonic() < end:
            self._wake.clear()
            if await self._claim():
                continue
            # With nothing held both kinds were asked for just now, unless the database is away.
            if not self._held and not self._delay and not self.lanes.starved:
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._rhythm.poll / 2)
        return True

    async def _claim(self) -> bool:
        """Claim one job where one is wanted; tell whether one was."""
        now = time.monotonic()
        if not self._held and not self._delay and not self.lanes.starved:
            self._next_lines = self._next_papers = 0.0
        try:
            if now >= self._next_papers and self._busy() < _MOST_PAPERS:
                job = await self._store.jobs.claim(self._owner, kinds=_PAPERS, batch=self._only)
                if job is not None:
                    return self._hold(job)
                self._next_papers = now + self._rhythm.poll
            full = self.lanes.full({h.job.department for h in self._held.values() if self.lanes.again in h.lanes})
            # Where nothing was found for those that were hungry, only another hungry one is news.
            if (now >= self._next_lines or not self._asked <= full) and self._bytes() < _BYTES:
                self._asked = full
                job = await self._store.jobs.claim(self._owner, full=full, kinds=_LINES, batch=self._only)
                if job is not None:
                    return self._hold(job)
                self._next_lines = now + self._rhythm.poll
        except Unavailable as exc:
            if not self._delay:
                _log.warning("jobs can not be claimed: %s", describe(exc))
            self._delay = min(max(2 * self._delay, self._rhythm.poll), _AWAY)
            self._next_lines = self._next_papers = now + self._delay
            self._asked = frozenset()
            return False
        self._delay = 0.0
        return False

    def _busy(self) -> int:
        return sum(held.job.kind != "lines" for held in self._held.values())

    def _bytes(self) -> int:
        return sum(held.job.size for held in self._held.values())

    def _hold(self, job: Job) -> bool:
        lanes = self.lanes.expect(job)
        held = self._held[job.id] = Held(job, lanes)
        if job.kind == "lines":
            held.task = self._spawn(self._open(held), lambda: self._opened(held, lanes))
        else:
            held.task = self._spawn(self._paper(held), lambda: self._papered(held))
        return True

    async def _open(self, held: Held) -> None:
        """Read the lines of a job, and let each wait in the lane of its model."""
        try:
            batch, raws = await open_lines(self._store, held.job)
        except LeaseLost:
            held.lost = True
            return
        except Unavailable as exc:
            _log.warning("a job of lines can not be begun: %s", describe(exc))
            held.stopping, held.again = True, Again(_AWAY)
            return
        of = self._working.remembered.of
        by_lane = await self.lanes.sort(batch, raws)
        held.lanes, held.left, held.done = tuple(by_lane), set(raws), not raws
        for lane, mine in by_lane.items():
            lane.add([Line(held, batch, number, raws[number], of(batch.id, number)) for number in mine])

    def _opened(self, held: Held, lanes: tuple[Lane, ...]) -> None:
        self.lanes.expected(lanes, held.job)
        held.task = None
        held.stopping = held.stopping or not (held.done or held.left)  # it broke
        self._look(held)

    async def _paper(self, held: Held) -> None:
        """Read or write the files of a batch, or tell of its end."""
        try:
            held.again = await self._papers.do(held.job)
            held.done = held.again is None
        except LeaseLost:
            held.lost = True

    def _papered(self, held: Held) -> None:
        held.stopping = not held.done
        held.task = None
        self._look(held)

    def _begin(self, lane: Lane, line: Waiting, probe: bool) -> None:
        mine = cast(Line, line)
        mine.held.begun += 1
        self._spawn(self._line(mine, lane, probe=probe), lambda: self._lined(mine, lane, probe=probe))

    async def _line(self, line: Line, lane: Lane, *, probe: bool) -> None:
        try:
            answered = await self._working.answer(line, lane, probe=probe)
        except BaseException:
            line.held.stopping = True  # it comes again with its job
            raise
        if answered:
            line.held.left.discard(line.number)
            line.held.done = not line.held.left
            self._working.remembered.forget(line)

    def _lined(self, line: Line, lane: Lane, *, probe: bool) -> None:
        line.held.begun -= 1
        if probe:
            lane.breaker.spared()  # where it has not asked the model, another may follow at once
        lane.ended()
        self._look(line.held)

    def _worth_storing(self, line: Line) -> bool:
        """Tell whether an answer that could not be stored is to be stored again later."""
        return not (self._stopped() or line.held.lost)

    def _look(self, held: Held) -> None:
        """End a job of which nothing is under way any more."""
        self._wake.set()
        if held.settled and not held.over:
            held.over = True
            self._ends.add(task := asyncio.get_running_loop().create_task(self._end(held)))
            task.add_done_callback(self._ends.discard)

    async def _end(self, held: Held) -> None:
        again = held.again or Again(0)
        try:
            if held.done:
                await self._store.jobs.done(held.job)
            elif not held.lost:
                await self._store.jobs.give_back(held.job, delay=again.seconds, count_attempt=again.counts)
        except LeaseLost:
            pass
        except Unavailable as exc:  # its lease runs out then, and others find its lines answered
            _log.warning("a job can not be ended: %s", describe(exc))
        finally:
            del self._held[held.job.id]
            self._next_lines = self._next_papers = 0.0  # the end of one job may be the beginning of others
            self._wake.set()
            if not self._held and not self._at_work:
                await self._rest(gone=False)

    async def _leave(self) -> None:
        """Begin nothing more, wait some seconds for lines under way, and give back what is held."""
        grace = time.monotonic() + _GRACE
        for held in tuple(self._held.values()):
            self._watch.stop_job(held)
        for lane in self.lanes:
            lane.breaker.settle(counts=False)
        while self._held:
            self._wake.clear()
            if time.monotonic() > grace:
                for task in tuple(self._tasks):
                    task.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._rhythm.poll / 2)

    def _spawn(self, work: Coroutine[Any, Any, None], after: Callable[[], None]) -> asyncio.Task[None]:
        """Begin a task; `after` is called at its end, also where it is cancelled before its first step."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (exc := task.exception()) is not None:
                _log.error("a worker's task broke: %s", describe(exc))
            after()

        task.add_done_callback(ended)
        return task
