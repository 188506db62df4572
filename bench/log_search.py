"""How long an officer waits for an answer of the decision log: filters, counts, facets and deep pages.

Run: `python bench/log_search.py [--records 1000000]`. It makes the records itself (see `bench.samples.bulk`) in a
SQLite file in a temporary folder (`--folder` chooses the disk, which must hold about 3 kB a record), or with
`--postgresql` on the server that `GATEWAY_TEST_POSTGRES_URL` names. Each question is asked `--times` times, with other
values each time where it has any, and the first time counts as well. `--keep FILE` keeps the SQLite file, or takes it
where it is there already.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.samples.bulk import START, YEAR, Bulk, checked, patient
from bench.samples.fill import fill_postgres, fill_sqlite
from bench.samples.hospital import DEPARTMENTS, PERSONS
from gateway.records import parse
from gateway.store import Search, Store, parse_filter
from gateway.store.engine import normalise
from gateway.store.indexing import Placed, index_problem

SECRET = bytes(range(32))
LIMIT = 50


def _days(rng: random.Random, days: float) -> list[tuple[str, str]]:
    since = START + YEAR * rng.random() * (1 - days / YEAR.days)
    until = since + dt.timedelta(days=days)
    return [("since", since.isoformat()), ("until", until.isoformat())]


def _key(rng: random.Random, number: int) -> str:
    return f"{rng.choice(DEPARTMENTS)[:4]}{number:08x}"


QUESTIONS: dict[str, Callable[[random.Random], list[tuple[str, str]]]] = {
    "all": lambda _: [],
    "department": lambda r: [("department", r.choice(DEPARTMENTS))],
    "outcome": lambda r: [("outcome", r.choice(("refused", "withheld", "released")))],
    "rare reason": lambda _: [("reason", "stage-failed"), ("outcome", "withheld")],
    "rare rule of a department": lambda r: [("rule", "audit[3]"), ("department", r.choice(DEPARTMENTS))],
    "revision, long past": lambda _: [("revision", "1")],
    "revision, department, refused": lambda r: [
        ("revision", str(r.randint(1, 6))), ("department", r.choice(DEPARTMENTS)), ("outcome", "refused"),
    ],
    "gateway version": lambda r: [("gateway", f"0.{r.randint(1, 12)}.0")],
    "versions far apart": lambda _: [("gateway", "0.1.0"), ("gateway", "0.12.0"), ("reason", "risk")],
    "rare key": lambda r: [("key", _key(r, 7))],
    "key of another department": lambda r: [("key", "radi00000000"), ("department", r.choice(DEPARTMENTS[1:]))],
    "pair that never occurs": lambda _: [("outcome", "released"), ("reason", "risk")],
    "pair of dates that never occurs": lambda _: [("revision", "1"), ("gateway", "0.12.0")],
    "model and modality": lambda r: [("model", "SmolLM2-135M-Instruct"), ("modality", r.choice(("ct", "mr", "-")))],
    "purpose not given, withheld": lambda _: [("purpose", "-"), ("outcome", "withheld")],
    "person": lambda r: [("person", f"{r.choice(DEPARTMENTS)}.{r.randrange(PERSONS):03d}")],
    "busy person": lambda r: [("person", f"{r.choice(DEPARTMENTS)}.000")],
    "busy person elsewhere": lambda r: [("person", "radiology.000"), ("department", r.choice(DEPARTMENTS[1:]))],
    "busy person, rare rule": lambda r: [("person", f"{r.choice(DEPARTMENTS)}.000"), ("rule", "audit[3]")],
    "patient": lambda r: [("patient", patient(r.randrange(200_000)))],
    "patient, refused": lambda r: [("patient", patient(r.randrange(200_000))), ("outcome", "refused")],
    "unknown patient": lambda r: [("patient", f"{r.getrandbits(256):064x}")],
    "week": lambda r: _days(r, 7),
    "refused in a week in radiology": lambda r: [("outcome", "refused"), ("department", "radiology"), *_days(r, 7)],
    "rare rule in a week": lambda r: [("rule", "audit[3]"), *_days(r, 7)],
    "rare key in a month": lambda r: [("key", _key(r, 7)), *_days(r, 30)],
    "half a year, two departments": lambda r: [("department", "research"), ("department", "radiology"), *_days(r, 182)],
    "an hour, refused": lambda r: [("outcome", "refused"), *_days(r, 1 / 24)],
    "old revision in the last month": lambda _: [
        ("revision", "1"), ("since", (START + YEAR - dt.timedelta(days=30)).isoformat()),
    ],
    "released at a high risk": lambda _: [("outcome", "released"), ("min_risk", "0.9")],
    "risk of 0.9": lambda _: [("min_risk", "0.9")],
    "risk of 0.999": lambda _: [("min_risk", "0.999")],
    "risk of 0.5, a department": lambda r: [("min_risk", "0.5"), ("department", r.choice(DEPARTMENTS))],
    "looks": lambda _: [("kind", "access.v1")],
    "looks of a department in a week": lambda r: [
        ("kind", "access.v1"), ("department", r.choice(DEPARTMENTS)), *_days(r, 7),
    ],
}  # fmt: skip
FACETS = ("outcome", "rule", "reason", "department", "model", "modality", "purpose", "revision")


async def _check(store: Store, records: int) -> None:
    """Compare the index of a sample with its records."""
    rng = random.Random(7)
    async with store._engine.connect() as connection:
        for _ in range(200):
            position = rng.randrange(records)
            body = (
                await connection.execute(
                    sa.text("SELECT body FROM decision_log WHERE sequence = :sequence"), {"sequence": position + 1}
                )
            ).scalar_one()
            placed = Placed(position=position, sequence=position + 1, record=parse(bytes(body)))
            problem = await connection.run_sync(index_problem, placed)
            assert problem is None, problem
    assert (await store.search.complete()).size == records
    assert await store.search.count(parse_filter([])) == records


async def _time(name: str, times: int, ask: Callable[[], Awaitable[object]]) -> dict[str, Any]:
    took = []
    for _ in range(times):
        start = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - start) * 1000)
    return {"what": name, "median_ms": round(statistics.median(took), 1), "worst_ms": round(max(took), 1)}


async def _questions(search: Search, times: int) -> list[dict[str, Any]]:
    rng = random.Random(3)
    rows = []
    for name, make in QUESTIONS.items():

        async def page(make: Callable[[random.Random], list[tuple[str, str]]] = make) -> None:
            await search.page(parse_filter(make(rng)), limit=LIMIT)

        async def counts(make: Callable[[random.Random], list[tuple[str, str]]] = make) -> None:
            await search.tally(parse_filter(make(rng)), FACETS)

        rows.append(await _time(f"{name}: page", times, page))
        rows.append(await _time(f"{name}: total and facets", times, counts))

    for name in ("department", "rare rule of a department", "refused in a week in radiology", "gateway version"):
        filter_ = parse_filter(QUESTIONS[name](rng))
        place: dict[str, str | None] = {"next": None}

        async def deeper(filter_: Any = filter_, place: dict[str, str | None] = place) -> None:
            place["next"] = (await search.page(filter_, limit=LIMIT, cursor=place["next"])).next

        rows.append(await _time(f"{name}: page after page", 5 * times, deeper))
    complete = await search.complete()
    depths = [search._cursor(int(complete.size * share), parse_filter([])) for share in (0.9, 0.5, 0.1)]
    refused = parse_filter([("outcome", "refused"), ("reason", "not-inspected")])
    depths_refused = [search._cursor(int(complete.size * share), refused) for share in (0.9, 0.5, 0.1)]

    async def deep() -> None:
        await search.page(parse_filter([]), limit=LIMIT, cursor=rng.choice(depths))

    async def deep_refused() -> None:
        await search.page(refused, limit=LIMIT, cursor=rng.choice(depths_refused))

    rows.append(await _time("all: deep page", times, deep))
    rows.append(await _time("rare reason: deep page", times, deep_refused))
    looked = [row.stored.record.decisions[0] for row in (await search.page(  # type: ignore[union-attr] # they are looks
        parse_filter([("kind", "access.v1")]), limit=LIMIT)).rows]  # fmt: skip

    async def about() -> None:
        await search.about(rng.choice(looked))

    rows.append(await _time("what speaks of a decision", times, about))
    return rows


async def _bench(url: str, fill: Callable[[Bulk], Awaitable[None]] | None, records: int, times: int) -> list[Any]:
    if fill is not None:
        store = await Store.open(url, secret=SECRET)
        await store.close()
        bulk = Bulk()
        sample = Bulk()
        for made in next(iter(sample.rows(5000)))[::50]:
            checked(sample, made)
        start = time.perf_counter()
        await fill(bulk)
        seconds = time.perf_counter() - start
        print(f"{records} records made in {seconds:.0f} s, {len(bulk.templates)} combinations", flush=True)
    store = await Store.open(url, secret=SECRET)
    try:
        await _check(store, records)
        return await _questions(store.search, times)
    finally:
        await store.close()


async def _postgres(server: str, records: int, times: int) -> list[Any]:
    name = f"bench_{uuid.uuid4().hex[:12]}"
    admin = create_async_engine(normalise(server), isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        url = make_url(server).set(database=name).render_as_string(hide_password=False)

        async def fill(bulk: Bulk) -> None:
            with tqdm(total=records, unit="record", disable=None, leave=False) as bar:
                await fill_postgres(url, bulk, records, progress=bar.update)

        return await _bench(url, fill, records, times)
    finally:
        async with admin.connect() as connection:
            await connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        await admin.dispose()


async def _sqlite(path: Path, there: bool, records: int, times: int) -> list[Any]:
    async def fill(bulk: Bulk) -> None:
        with tqdm(total=records, unit="record", disable=None, leave=False) as bar:
            fill_sqlite(str(path), bulk, records, progress=bar.update)

    return await _bench(f"sqlite:///{path}", None if there else fill, records, times)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--times", type=int, default=7)
    options.add_argument("--folder", type=Path, default=None)
    options.add_argument("--keep", type=Path, default=None)
    options.add_argument("--postgresql", action="store_true")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if given.postgresql:
        server = os.environ.get("GATEWAY_TEST_POSTGRES_URL", "postgresql://127.0.0.1:5432/test")
        rows = asyncio.run(_postgres(server, given.records, given.times))
    else:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            path = given.keep or Path(folder, "log.sqlite3")
            rows = asyncio.run(_sqlite(path, path.exists(), given.records, given.times))
    if given.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['what']:<56}median {row['median_ms']:>8} ms  worst {row['worst_ms']:>8} ms")
    worst = max(rows, key=lambda row: float(row["worst_ms"]))
    over = sum(float(row["worst_ms"]) > 300 for row in rows)
    middle = statistics.median(float(row["median_ms"]) for row in rows)
    print(f"\n{len(rows)} questions: median {middle} ms, {over} over 300 ms at worst")
    print(f"the slowest answer: {worst['worst_ms']} ms, {worst['what']}")


if __name__ == "__main__":
    main()
