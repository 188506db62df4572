"""Writes the records of `bench.samples.bulk` into a database, with the index that the sequencer would write of them.

It is for benchmarks alone: it writes past the gateway, without waiting for the disk, and makes the indexes at the end.
A test compares what it writes with what `gateway.store.indexing.index` writes of the same records.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex

from bench.samples.bulk import Bulk, Made
from gateway.store.indexing import BLOCK, month_of
from gateway.store.search_traits import DIMENSIONS, digest_of
from gateway.store.tables import decision_log, entries, entry_blocks, entry_subjects, facet_days, facets

_LOG = ("sequence", "id", "kind", "department", "outcome", "at", "leaf", "body")
_ENTRIES = ("position", "sequence", "id", "at", "facet", "person", "patient", "study", "risk")
_FACETS = ("id", "digest", *DIMENSIONS, "total", "oldest", "newest")
_SQLITE: Any = sqlite.dialect()
_POSTGRES: Any = postgresql.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy's
Progress = Callable[[int], object]
Row = tuple[Any, ...]


class Index:
    """Gathers the index of rows as they are made."""

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self._of_template: list[int] = []
        self._ids: dict[bytes, int] = {}
        self._facets: dict[int, list[Any]] = {}
        self._days: Counter[tuple[str, int]] = Counter()
        self._blocks: dict[int, tuple[dt.datetime, dt.datetime]] = {}
        self.size = 0

    def log(self, rows: Sequence[Made]) -> list[Row]:
        """Give the rows of `decision_log`."""
        found = []
        for sequence, made in enumerate(rows, self.size + 1):
            template = self._bulk.templates[made.template]
            found.append(
                (sequence, made.id, template.kind, template.department, template.outcome, made.at, made.leaf, made.body)
            )
        return found

    def entries(self, rows: Sequence[Made]) -> tuple[list[Row], list[Row]]:
        """Give the rows of `entries` and of `entry_subjects`, and count them."""
        for template in self._bulk.templates[len(self._of_template) :]:
            digest = digest_of(template.traits.dimensions)
            facet = self._ids.setdefault(digest, len(self._ids) + 1)
            self._of_template.append(facet)
            self._facets.setdefault(facet, [digest, template.traits.dimensions, 0, self.size, self.size])
        found, subjects = [], []
        for position, made in enumerate(rows, self.size):
            facet = self._of_template[made.template]
            counted = self._facets[facet]
            if not counted[2]:
                counted[3] = position
            counted[2] += 1
            counted[4] = position
            self._days[made.at.date().isoformat(), facet] += 1
            low, high = self._blocks.get(position // BLOCK, (made.at, made.at))
            self._blocks[position // BLOCK] = (min(low, made.at), max(high, made.at))
            found.append(
                (position, position + 1, made.id, made.at, facet, made.person, made.patient, made.study, made.risk)
            )
            if made.subject is not None:
                subjects.append((made.subject, position))
        self.size += len(rows)
        return found, subjects

    def facets(self) -> list[Row]:
        """Give the rows of `facets`."""
        return [
            (id_, digest, *dimensions, total, oldest, newest)
            for id_, (digest, dimensions, total, oldest, newest) in self._facets.items()
        ]

    def days(self) -> list[Row]:
        """Give the rows of `facet_days`."""
        months: Counter[tuple[str, int]] = Counter()
        for (day, facet), count in self._days.items():
            months[month_of(day), facet] += count
        return [(day, facet, count) for (day, facet), count in sorted((self._days + months).items())]

    def blocks(self) -> list[Row]:
        """Give the rows of `entry_blocks`."""
        return [(block, low, high) for block, (low, high) in sorted(self._blocks.items())]


def _secondary(*tables: sa.Table) -> list[sa.Index]:
    """Give the indexes that are made at the end; a trigger of the log needs the one of ids."""
    found = [one for table in tables for one in sorted(table.indexes, key=lambda i: str(i.name))]
    return [one for one in found if one.name != "uq_decision_log_id"]


def _texts(rows: Iterable[Row], *places: int) -> Iterable[Row]:
    """Write times as SQLite has them."""
    for row in rows:
        values = list(row)
        for place in places:
            values[place] = row[place].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        yield tuple(values)


def fill_sqlite(
    path: str, bulk: Bulk, number: int, *, indexed: bool = True, progress: Progress = lambda _: None
) -> None:
    """Write `number` records into the SQLite file at `path`, whose schema is there and which is empty.

    `indexed` writes the index as well; without it, the sequencer has them all to do.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    run = connection.execute
    for setting in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -200000"):
        run(f"PRAGMA {setting}")
    tables = (decision_log, entries, entry_subjects) if indexed else (decision_log,)
    for one in _secondary(*tables):
        run(f"DROP INDEX {one.name}")
    gathered = Index(bulk)

    def insert(table: sa.Table, columns: Sequence[str], rows: Iterable[Row]) -> None:
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608 - names of ours

    for rows in bulk.rows(number):
        run("BEGIN")
        insert(decision_log, _LOG, _texts(gathered.log(rows), 5))
        found, subjects = gathered.entries(rows)
        if indexed:
            insert(entries, _ENTRIES, _texts(found, 3))
            insert(entry_subjects, ("subject", "position"), subjects)
        run("COMMIT")
        progress(len(rows))
    run("BEGIN")
    if indexed:
        insert(facets, _FACETS, gathered.facets())
        insert(facet_days, ("day", "facet", "count"), gathered.days())
        insert(entry_blocks, ("block", "earliest", "latest"), _texts(gathered.blocks(), 1, 2))
    for one in _secondary(*tables):
        run(str(CreateIndex(one).compile(dialect=_SQLITE)))
    run("COMMIT")
    run("PRAGMA journal_mode = WAL")
    connection.close()


async def fill_postgres(
    url: str, bulk: Bulk, number: int, *, indexed: bool = True, progress: Progress = lambda _: None
) -> None:
    """Write `number` records into the PostgreSQL database at `url`, whose schema is there and which is empty."""
    import asyncpg

    connection = await asyncpg.connect(url)
    tables = (decision_log, entries, entry_subjects) if indexed else (decision_log,)
    await connection.execute("SET synchronous_commit = off; SET maintenance_work_mem = '512MB'")
    for one in _secondary(*tables):
        await connection.execute(f"DROP INDEX {one.name}")
    gathered = Index(bulk)
    copy = connection.copy_records_to_table
    for rows in bulk.rows(number):
        await copy("decision_log", records=[row[1:] for row in gathered.log(rows)], columns=_LOG[1:])
        found, subjects = gathered.entries(rows)
        if indexed:
            await copy("entries", records=found, columns=_ENTRIES)
            await copy("entry_subjects", records=subjects, columns=("subject", "position"))
        progress(len(rows))
    if indexed:
        await copy("facets", records=gathered.facets(), columns=_FACETS)
        await copy("facet_days", records=gathered.days(), columns=("day", "facet", "count"))
        await copy("entry_blocks", records=gathered.blocks(), columns=("block", "earliest", "latest"))
    for one in _secondary(*tables):
        await connection.execute(str(CreateIndex(one).compile(dialect=_POSTGRES)))
    for table in (decision_log, entries, entry_subjects, facets, facet_days, entry_blocks):
        await connection.execute(f"VACUUM ANALYZE {table.name}")
    await connection.close()
