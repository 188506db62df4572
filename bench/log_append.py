"""How fast the decision log takes records, and how long one of them waits.

Run: `python bench/log_append.py [--records 3000] [--tasks 32]`. The database is a file in a temporary folder
(`--folder` chooses the disk), and PostgreSQL too where `GATEWAY_TEST_POSTGRES_URL` names a server. In the same run the
same rows are committed one by one by as many tasks, as a log without group commit does: the ratio says more than the
rates. Beside them stands a bare fsync of the same disk. The sequencer runs beside the appends, as in `gateway serve`;
`--alone` leaves it out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.samples.outcomes import refused, released
from gateway.records import Digester, Outcome, record_of
from gateway.store import Store
from gateway.store.engine import make_engine, normalise, writer
from gateway.store.tables import decision_log
from gateway.store.writer import row_of

SECRET = bytes(range(32))
REQUEST = 0.025
"""Seconds that a request takes besides its record: 32 at once then append about 1,200 times a second."""
PROCESSES = 4


def _outcomes(number: int) -> list[Outcome]:
    return [released() if i % 2 else refused() for i in range(number)]


def _fsync(folder: str) -> float:
    """Give the median milliseconds of writing 4 KiB and waiting for the disk."""
    took = []
    with Path(folder, "fsync").open("wb", buffering=0) as file:
        for _ in range(50):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took)


async def _drive(
    outcomes: list[Outcome], tasks: int, append: Callable[[Outcome], Awaitable[object]], besides: float = 0.0
) -> list[float]:
    """Append all outcomes from `tasks` tasks, each `besides` seconds apart on average; give the ms each waited."""
    waited: list[float] = []
    rng = random.Random(1)
    left = iter(outcomes)

    async def one() -> None:
        for outcome in left:
            start = time.perf_counter()
            await append(outcome)
            waited.append((time.perf_counter() - start) * 1000)
            if besides:
                await asyncio.sleep(rng.uniform(0, 2 * besides))  # requests do not come in step

    await asyncio.gather(*(one() for _ in range(tasks)))
    return waited


async def _measure(
    name: str, records: int, tasks: int, append: Callable[[Outcome], Awaitable[object]], besides: float = 0.0
) -> dict[str, float | str]:
    outcomes = _outcomes(records)
    start = time.perf_counter()
    waited = await _drive(outcomes, tasks, append, besides)
    seconds = time.perf_counter() - start
    return {
        "what": name,
        "tasks": tasks,
        "records_per_s": round(len(waited) / seconds, 1),
        "median_ms": round(statistics.median(waited), 3),
        "p99_ms": round(statistics.quantiles(waited, n=100)[98], 3),
    }


async def _bench(name: str, url: str, records: int, tasks: int, *, alone: bool) -> list[dict[str, float | str]]:
    store = await Store.open(url, secret=SECRET)
    if not alone:
        store.sequencer.start()
    engine = make_engine(normalise(url), lock_wait=60.0)
    digester = Digester(SECRET)

    async def singly(outcome: Outcome) -> None:
        row = row_of(record_of(outcome, digester))
        async with writer(engine).begin() as connection:
            await connection.execute(decision_log.insert().returning(decision_log.c.sequence), row.values())

    try:
        await _measure(name, 200, tasks, store.decisions.append)  # to warm up
        rows = [
            await _measure(f"{name}, groups", records, tasks, store.decisions.append),
            await _measure(f"{name}, one by one", max(records // 6, tasks), tasks, singly),
            await _measure(f"{name}, groups", max(records // 6, 1), 1, store.decisions.append),
            await _measure(f"{name}, in requests", max(records // 2, tasks), tasks, store.decisions.append, REQUEST),
        ]
        start = time.perf_counter()
        report = await store.decisions.check()
        assert report.ok
        rows.append(
            {
                "what": f"{name}, check",
                "tasks": 1,
                "records_per_s": round(report.records / (time.perf_counter() - start), 1),
            }
        )
    finally:
        await engine.dispose()
        await store.close()
    return rows


def _processes(url: str, records: int, tasks: int) -> dict[str, float | str]:
    """Append from several processes at once, each with its sequencer, as several gateways do."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context) as pool:
        list(pool.map(_one_process, [url] * PROCESSES, [tasks] * PROCESSES, [tasks] * PROCESSES))  # to start them
        spans = list(pool.map(_one_process, [url] * PROCESSES, [records] * PROCESSES, [tasks] * PROCESSES))
    seconds = max(end for _, end in spans) - min(start for start, _ in spans)
    rate = round(PROCESSES * records / seconds, 1)
    return {"what": f"postgresql, {PROCESSES} processes", "tasks": PROCESSES * tasks, "records_per_s": rate}


def _one_process(url: str, records: int, tasks: int) -> tuple[float, float]:
    async def run() -> tuple[float, float]:
        store = await Store.open(url, secret=SECRET)
        store.sequencer.start()
        outcomes = _outcomes(records)
        start = time.time()
        await _drive(outcomes, tasks, store.decisions.append)
        end = time.time()
        await store.close()
        return start, end

    return asyncio.run(run())


async def _postgres(server: str, records: int, tasks: int, *, alone: bool) -> list[dict[str, float | str]]:
    name = f"bench_{uuid.uuid4().hex[:12]}"
    admin = create_async_engine(normalise(server), isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        url = make_url(server).set(database=name).render_as_string(hide_password=False)
        rows = await _bench("postgresql", url, records, tasks, alone=alone)
        return [*rows, await asyncio.to_thread(_processes, url, records, tasks)]
    finally:
        async with admin.connect() as connection:
            await connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        await admin.dispose()


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--records", type=int, default=3000)
    options.add_argument("--tasks", type=int, default=32)
    options.add_argument("--folder", type=Path, default=None)
    options.add_argument("--alone", action="store_true", help="without the sequencer, which serve runs beside it")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        fsync = _fsync(folder)
        url = f"sqlite:///{folder}/log.sqlite3"
        rows = asyncio.run(_bench("sqlite", url, given.records, given.tasks, alone=given.alone))
    server = os.environ.get("GATEWAY_TEST_POSTGRES_URL")
    if server:
        rows += asyncio.run(_postgres(server, given.records, given.tasks, alone=given.alone))
    if given.json:
        print(json.dumps(rows))
        return
    digester, sample = Digester(SECRET), _outcomes(1000)
    start = time.perf_counter()
    for outcome in sample:
        row_of(record_of(outcome, digester))
    print(f"one fsync of 4 KiB: {fsync:.2f} ms")
    print(f"making one record's bytes: {(time.perf_counter() - start):.3f} ms")
    for row in rows:
        rest = f"  median {row['median_ms']:>8} ms  p99 {row['p99_ms']:>8} ms" if "median_ms" in row else ""
        print(f"{row['what']:<24}{row['tasks']:>4} tasks {row['records_per_s']:>10} records/s{rest}")
    for group, single in zip(
        (row for row in rows if str(row["what"]).endswith("groups") and row["tasks"] != 1),
        (row for row in rows if str(row["what"]).endswith("one by one")),
        strict=True,
    ):
        ratio = float(group["records_per_s"]) / float(single["records_per_s"])
        print(f"{group['what']}: {ratio:.1f} times as many records/s as one by one")


if __name__ == "__main__":
    main()
