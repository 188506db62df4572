"""Makes the index again from the log, in the order of the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import ConfigurationError, LogDamaged, Unavailable
from gateway.records import parse
from gateway.store import faults
from gateway.store.engine import writer
from gateway.store.indexing import Placed, index
from gateway.store.migrate import TROUBLE
from gateway.store.placing import LOCK
from gateway.store.tables import (
    decision_log,
    entries,
    entry_blocks,
    entry_subjects,
    facet_days,
    facets,
    review_states,
    tree_state,
    tree_tiles,
)
from gateway.store.writer import leaf_of

DERIVED = (entry_subjects, entry_blocks, facet_days, entries, facets, review_states)
"""The tables that are made again."""

_TILES = 8  # tiles of 256 leaf hashes that are placed at once
_HASH = 32
_NO_RIGHT = "42501"  # PostgreSQL's code


async def reindex(engine: AsyncEngine, progress: Callable[[int], object] = lambda _: None) -> int:
    """Delete the index and make it again from the log, in one transaction; give the number of records.

    The leaf hashes in the tree say which record has which place. The sequencer waits meanwhile; on SQLite appends do
    as well, so the gateway is to be stopped. Raises LogDamaged where the log does not hold a record of the tree,
    ConfigurationError where this user may not delete, and Unavailable; the old index stays then.
    """

    def work(connection: Connection) -> int:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        for table in DERIVED:
            connection.execute(table.delete())
        done = 0
        for rows in _in_order(connection):
            index(connection, rows)
            done += len(rows)
            progress(len(rows))
        return done

    try:
        async with writer(engine).begin() as connection:
            return await connection.run_sync(work)
    except TROUBLE as exc:
        if faults.code(exc) == _NO_RIGHT:
            raise ConfigurationError(
                "this database user may not delete from the index; name the owner of the tables in GATEWAY_DATABASE_URL"
            ) from None
        raise Unavailable(f"the index can not be made again; {faults.hint(exc)}") from None


def _in_order(connection: Connection) -> Iterator[list[Placed]]:
    """Give all records that have a place, in the order of their places."""
    size = connection.execute(sa.select(tree_state.c.size)).scalar() or 0
    waiting: dict[bytes, tuple[int, bytes]] = {}  # records that were read, and whose place comes later
    last = 0
    position = 0
    for first in range(0, -(-size // 256), _TILES):
        leaves = _leaves(connection, first, size)
        missing = {leaf for leaf in leaves if leaf not in waiting}
        while missing:
            query = sa.select(decision_log.c.sequence, decision_log.c.body).where(decision_log.c.sequence > last)
            rows = connection.execute(query.order_by(decision_log.c.sequence).limit(_TILES * 256)).all()
            if not rows:
                raise LogDamaged(
                    f"the log does not hold {len(missing)} records that the tree has from position {position} on; "
                    "run `gateway log verify`"
                )
            for sequence, body in rows:
                leaf = leaf_of(bytes(body))
                waiting[leaf] = (sequence, bytes(body))
                missing.discard(leaf)
            last = rows[-1].sequence
        placed = []
        for leaf in leaves:
            sequence, body = waiting.pop(leaf)
            placed.append(_placed(position, sequence, body))
            position += 1
        yield placed


def _leaves(connection: Connection, first: int, size: int) -> list[bytes]:
    query = sa.select(tree_tiles.c.tile, tree_tiles.c.hashes).where(
        tree_tiles.c.level == 0, tree_tiles.c.tile.between(first, first + _TILES - 1)
    )
    tiles = {row.tile: bytes(row.hashes) for row in connection.execute(query)}
    due = min(size - first * 256, _TILES * 256)
    hashes = b"".join(tiles.get(tile, b"") for tile in range(first, first + _TILES))
    if len(hashes) < due * _HASH:
        raise LogDamaged("the tree is not whole; run `gateway log verify`")
    return [hashes[start : start + _HASH] for start in range(0, due * _HASH, _HASH)]


def _placed(position: int, sequence: int, body: bytes) -> Placed:
    try:
        return Placed(position=position, sequence=sequence, record=parse(body))
    except ValueError:
        raise LogDamaged(f"record {sequence} of the log can not be read; run `gateway log verify`") from None
