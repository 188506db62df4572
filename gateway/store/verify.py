"""`gateway log verify`: derives again all that the log, its tree and its signatures say of each other.

What holds afterwards: each record in the tree is, byte for byte, the one that was signed, in its place, none is
missing and none was put between; the columns say what the bytes say; each checkpoint is signed by the key of its time,
over exactly these records; and copies of checkpoints that lie elsewhere are of this history.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Unavailable, describe
from gateway.records.handover import Chain, KeyRow, chain_of
from gateway.store import faults, verify_rest
from gateway.store.check import CheckReport, log
from gateway.store.verify_copies import check_copies, places
from gateway.store.verify_rest import Extent, Tail
from gateway.store.verify_rows import Part, PartCheck, Verified
from gateway.store.verify_source import Reader, Source
from gateway.store.verify_vault import vault_problem_of

_PART = 256 * 256  # places that one process verifies at a time
_ALONE = 4 * _PART  # records up to which starting other processes takes longer than it saves
_MOST = 50  # problems that are told


class VerifyOptions(Struct, frozen=True, kw_only=True):
    """How to verify. `trusted` are public keys, `copies` files or folders of checkpoints that lie elsewhere.

    `deep` parses each record in full and reads sealed content (see also
    `DecisionLog.check`); `jobs` is the number of processes, None for one a core.
    """

    trusted: tuple[str, ...] = ()
    copies: tuple[Path, ...] = ()
    deep: bool = False
    jobs: int | None = None


async def verify(
    engine: AsyncEngine, wanted: VerifyOptions | None = None, progress: Callable[[int], object] | None = None
) -> CheckReport:
    """Verify everything that is in the log now; `progress` is told how many records were read, as they are.

    Damage is in the report, also where the database itself is damaged. Raises Unavailable where it can not be read.
    """
    source = Source(url=engine.url.render_as_string(hide_password=False))
    try:
        return await asyncio.to_thread(_verify, source, wanted or VerifyOptions(), progress or (lambda _: None))
    except (TypeError, ValueError, AttributeError) as exc:
        where = describe(exc)
        return CheckReport(records=0, problem=f"the database holds a value of another kind than it can be ({where})")
    except Exception as exc:  # noqa: BLE001 - whatever a driver raises, and where a process that helps is ended
        told = faults.hint(exc)
        if "damaged" in told or "no SQLite database" in told:
            return CheckReport(records=0, problem=f"the database can not be read: {told}")
        log.error("the log can not be verified: %s", describe(exc))
        raise Unavailable(f"the decision log can not be read; {told}") from None


def _verify(source: Source, wanted: VerifyOptions, progress: Callable[[int], object]) -> CheckReport:
    reader = source.open()
    try:
        return _Verification(source, reader, wanted, progress).run()
    finally:
        reader.close()


class _Verification:
    def __init__(
        self, source: Source, reader: Reader, wanted: VerifyOptions, progress: Callable[[int], object]
    ) -> None:
        self._source = source
        self._reader = reader
        self._wanted = wanted
        self._progress = progress
        self._problems: list[tuple[str, int | None]] = []
        self._remarks: list[str] = []

    def run(self) -> CheckReport:
        extent = verify_rest.extent_of(self._reader)
        if extent is None:
            return CheckReport(records=0, problem="the table `tree_state` is empty: the tree's size was taken away")
        chain = self._chain(extent)
        records, sealed = self._tree(extent, chain)
        self._add(verify_rest.upper_problem(self._reader, extent.size))
        for problem in verify_rest.extent_problems(extent):
            self._add(problem)
        never = verify_rest.never_sequenced(self._reader, extent)
        if never is not None:
            self._add(never[1], never[0])
        rest = Tail(records=0)
        if records == extent.size:
            rest = verify_rest.tail(self._reader, extent, self._progress)
            self._add(rest.problem, rest.sequence)
        if not self._problems:
            self._add(vault_problem_of(self._reader, sealed + rest.sealed, deep=self._wanted.deep))
        copies = self._copies(chain)
        first = self._problems[0] if self._problems else (None, None)
        return CheckReport(
            records=records + rest.records,
            problem=first[0],
            sequence=first[1],
            gaps=rest.gaps,
            waiting=rest.records,
            size=extent.size,
            checkpoints=extent.checkpoints,
            copies=copies,
            more=tuple(told for told, _ in self._problems[1:_MOST]),
            remarks=tuple(self._remarks),
        )

    def _add(self, problem: str | None, sequence: int | None = None) -> None:
        if problem is not None:
            self._problems.append((problem, sequence))

    def _chain(self, extent: Extent) -> Chain:
        rows = self._reader.rows("SELECT number, vkey, size, note FROM log_keys ORDER BY number")
        chain = chain_of([KeyRow(number=n, vkey=v, size=s, note=t) for n, v, s, t in rows], self._wanted.trusted)
        if rows or extent.size:
            for problem in chain.problems:
                self._add(problem)
        if not self._wanted.trusted and rows:
            first = chain.spans[0].key.vkey if chain.spans else "none"
            self._remarks.append(
                f"the log's first key, `{first}`, is taken at its word; --trust names one that you know"
            )
        return chain

    def _tree(self, extent: Extent, chain: Chain) -> tuple[int, int]:
        records = sealed = 0
        for verified in self._ranges(extent.size, chain):
            records, sealed = records + verified.records, sealed + verified.sealed
            self._progress(verified.records)
            if verified.problem is not None:
                self._add(verified.problem, verified.sequence)
                break
        return records, sealed

    def _ranges(self, size: int, chain: Chain) -> Iterator[Verified]:
        """Verify the ranges of the tree side by side, and give what they found in order."""
        parts = [
            Part(start=start, end=min(start + _PART, size), deep=self._wanted.deep) for start in range(0, size, _PART)
        ]
        jobs = self._wanted.jobs or (1 if size <= _ALONE else os.cpu_count() or 1)
        if jobs == 1:
            check = PartCheck(self._reader, chain)
            yield from map(check.run, parts)
            return
        context = multiprocessing.get_context("spawn")  # a fork would copy other threads' locks as they happen to be
        with ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(self._source, chain)) as pool:
            waiting: deque[Future[Verified]] = deque()
            try:
                for part in parts:
                    waiting.append(pool.submit(_run, part))
                    if len(waiting) > 2 * jobs:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for one in waiting:
                    one.cancel()

    def _copies(self, chain: Chain) -> int:
        count = 0
        for place in places(self._wanted.copies):
            try:
                found, problems = check_copies(place, self._reader, chain)
            except OSError as exc:
                self._add(f"the copies in `{place}` can not be read ({exc.strerror})")
                continue
            count += found
            for problem in problems:
                self._add(problem)
        return count


_checks: list[PartCheck] = []  # of a process that verifies ranges: the one check that it runs


def _begin(source: Source, chain: Chain) -> None:
    _checks.append(PartCheck(source.open(), chain))


def _run(part: Part) -> Verified:
    return _checks[0].run(part)
