"""How fast `gateway log verify` reads a log, how long an inclusion proof takes, and how fast the sequencer is.

Run: `python bench/log_verify.py [--records 1000000]`. It makes the records itself (see `bench.samples.bulk`) in a file
of SQLite in a temporary folder (`--folder` chooses the disk, and must hold about 5 kB a record), or with `--postgresql`
on the server that `GATEWAY_TEST_POSTGRES_URL` names. The tree over them is made by the sequencer's functions, with a
signed checkpoint for each thousand; the sequencer itself, which parses and indexes, is measured on `--sequenced`
further records. `--keep FILE` keeps SQLite's file, or takes it where it is there. `--deep` parses records in full.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.samples.bulk import Bulk
from bench.samples.fill import fill_postgres, fill_sqlite
from bench.samples.outcomes import refused
from gateway.records import Digester, merkle, record_of
from gateway.records.note import TreeHead, sign
from gateway.store import Store, VerifyOptions
from gateway.store.engine import normalise, writer
from gateway.store.tables import checkpoints, decision_log, tree_state, tree_tiles
from gateway.store.writer import row_of

SECRET = bytes(range(32))
BATCH = 1000
READ = 50_000


class _Tree:
    """Grows a tree in memory as the sequencer does in the database; gives rows of `checkpoints`."""

    def __init__(self, store: Store) -> None:
        self._signer = store.signer.signer()
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.size = 0

    def add(self, leaves: list[bytes], at: Any) -> dict[str, Any]:
        """Add one batch."""
        self.tiles.update(merkle.grow(self._read, self.size, leaves))
        self.size += len(leaves)
        root = merkle.root(self._read, self.size)
        head = TreeHead(origin=self._signer.verifier.name, size=self.size, root=root)
        return {"size": self.size, "at": at, "root": root, "note": sign(head.text, self._signer)}

    def _read(self, level: int, tile: int) -> bytes:
        return self.tiles.get((level, tile), b"")


async def _plant(store: Store, number: int) -> None:
    """Make the tree over all that is in the log."""
    tree = _Tree(store)
    last = 0
    with tqdm(total=number, desc="tree", unit="record") as bar:
        while True:
            leaf = sa.select(decision_log.c.sequence, decision_log.c.leaf, decision_log.c.at)
            query = leaf.where(decision_log.c.sequence > last).order_by(decision_log.c.sequence).limit(READ)
            async with store._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
            if not rows:
                break
            batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
            heads = [tree.add([bytes(row.leaf) for row in some], some[-1].at) for some in batches]
            async with writer(store._engine).begin() as connection:
                await connection.execute(checkpoints.insert(), heads)
            last = rows[-1].sequence
            bar.update(len(rows))
    rows_of = [{"level": level, "tile": tile, "hashes": hashes} for (level, tile), hashes in tree.tiles.items()]
    async with writer(store._engine).begin() as connection:
        for i in range(0, len(rows_of), BATCH):
            await connection.execute(tree_tiles.insert(), rows_of[i : i + BATCH])
        await connection.execute(tree_state.update().values(size=tree.size, low=last))


async def _sequence(store: Store, number: int) -> float:
    """Give how many records a second the sequencer places, of records that were just appended."""
    digester = Digester(SECRET)
    rows = [row_of(record_of(refused(), digester)) for _ in range(number)]
    inserter = store.decisions._writer._inserter
    for i in range(0, number, BATCH):
        await inserter.insert(rows[i : i + BATCH])
    start = time.perf_counter()
    await store.sequencer.catch_up()
    return number / (time.perf_counter() - start)


async def _measure(store: Store, options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"records": await store.tree.size()}
    jobs = os.cpu_count() or 1
    for name, count in (("one process", 1), (f"{jobs} processes", jobs)):
        with tqdm(total=found["records"], desc=f"verify, {name}", unit="record") as bar:
            start = time.perf_counter()
            report = await store.decisions.check(bar.update, wanted=VerifyOptions(jobs=count, deep=options.deep))
            took = time.perf_counter() - start
        assert report.ok, report.problem
        assert report.records == found["records"]
        found[f"verify, {name}, records/s"] = round(report.records / took)
    rng = random.Random(7)
    ids = []
    async with store._engine.connect() as connection:
        for _ in range(options.proofs):
            place = rng.randrange(found["records"])
            query = sa.select(decision_log.c.id).where(decision_log.c.sequence > place).limit(1)
            ids.append(await connection.scalar(query.order_by(decision_log.c.sequence)))
    took_ms = []
    for one in ids:
        start = time.perf_counter()
        assert await store.tree.prove(str(one)) is not None
        took_ms.append((time.perf_counter() - start) * 1000)
    found["proof, median ms"] = round(statistics.median(took_ms), 2)
    found["proof, worst ms"] = round(max(took_ms), 2)
    found["sequencer, records/s"] = round(await _sequence(store, options.sequenced))
    return found


async def _sqlite(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    path = options.keep or Path(folder, "log.sqlite3")
    there = path.exists()
    store = await Store.open(f"sqlite:///{path}", secret=SECRET)
    try:
        if not there:
            await store.close()  # the file is filled in another mode, which needs it alone
            with tqdm(total=options.records, desc="records", unit="record") as bar:
                await asyncio.to_thread(fill_sqlite, str(path), Bulk(), options.records, progress=bar.update)
            store = await Store.open(f"sqlite:///{path}", secret=SECRET)
            await _plant(store, options.records)
        return {"database": "sqlite", "bytes": path.stat().st_size, **await _measure(store, options)}
    finally:
        await store.close()


async def _postgres(options: argparse.Namespace, server: str) -> dict[str, Any]:
    name = f"bench_{uuid.uuid4().hex[:12]}"
    admin = create_async_engine(normalise(server), isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(sa.text(f"CREATE DATABASE {name}"))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    store = await Store.open(url, secret=SECRET)
    try:
        with tqdm(total=options.records, desc="records", unit="record") as bar:
            await fill_postgres(url, Bulk(), options.records, progress=bar.update)
        async with writer(store._engine).begin() as connection:  # the rows came with ids of their own
            taken = "SELECT setval(pg_get_serial_sequence('facets', 'id'), (SELECT max(id) FROM facets))"
            await connection.execute(sa.text(taken))
        await _plant(store, options.records)
        return {"database": "postgresql", **await _measure(store, options)}
    finally:
        await store.close()
        async with admin.connect() as connection:
            await connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        await admin.dispose()


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--sequenced", type=int, default=20_000)
    options.add_argument("--proofs", type=int, default=200)
    options.add_argument("--folder", type=Path, default=None)
    options.add_argument("--keep", type=Path, default=None)
    options.add_argument("--postgresql", action="store_true")
    options.add_argument("--deep", action="store_true")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if given.postgresql:
        found = asyncio.run(_postgres(given, os.environ["GATEWAY_TEST_POSTGRES_URL"]))
    else:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            found = asyncio.run(_sqlite(given, folder))
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<32}{value:>16,}" if isinstance(value, int | float) else f"{name:<32}{value:>16}")


if __name__ == "__main__":
    main()
