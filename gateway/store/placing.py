"""One step of the sequencer: records that have no place in the tree yet get one, all in one transaction.

Synchronous code over a connection, the same for both databases. On SQLite records become visible in the order of their
numbers. On PostgreSQL a number is given before a commit: a lower one may appear after a higher one, and a transaction
that was rolled back leaves its number unused. So `low` moves over a gap only once no transaction of the gap's time can
still commit.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection

from gateway.errors import LogDamaged, Unavailable
from gateway.records import merkle, parse
from gateway.records.note import TreeHead
from gateway.store.indexing import Placed, index
from gateway.store.signer import LogSigner
from gateway.store.tables import checkpoints, decision_log, entries, log_keys, tree_state, tree_tiles
from gateway.store.writer import leaf_of

LOCK = 0x6D65_6476_7472  # names the lock that one sequencer at a time takes on PostgreSQL
LATE = 30.0
"""Seconds after which a number that was given is no longer waited for; twice as long as an append is waited for."""

_MARKS = 64
_Row = tuple[int, bytes, Placed]  # number, leaf hash, record


class State(Struct, frozen=True, kw_only=True):
    """How many records the tree holds, and up to which number none is waiting."""

    size: int
    low: int


class Found(Struct, frozen=True, kw_only=True):
    """Records that wait, in the order of their numbers; `state` is what the tree was, `low` what it becomes.

    `more` tells whether others may wait behind them.
    """

    state: State
    low: int
    rows: tuple[_Row, ...]
    more: bool


class Step(Struct, frozen=True, kw_only=True):
    """What a step did: the tree's size now, how many records it added, and whether more may wait."""

    size: int
    added: int
    more: bool


class Marks:
    """Remembers which numbers were seen when, and which transactions were open then.

    A number that was given by then, and is not there when all of those have ended, never comes. Times are of a
    monotonic clock, so that setting the clock changes nothing.
    """

    def __init__(self, late: float = LATE) -> None:
        self._late = late
        self._marks: deque[tuple[float, int, int]] = deque(maxlen=_MARKS)

    def note(self, now: float, transaction: int, highest: int) -> None:
        """Remember that `highest` is visible, while no transaction above `transaction` has begun."""
        if not self._marks or now - self._marks[-1][0] >= self._late / (_MARKS / 2):
            self._marks.append((now, transaction, highest))

    def final(self, now: float, oldest: int) -> int:
        """Give the number below which nothing can appear any more, while `oldest` is the oldest open transaction."""
        found = 0
        for at, transaction, highest in self._marks:
            if now - at >= self._late and oldest >= transaction:
                found = max(found, highest)
        return found


def state_of(connection: Connection) -> State:
    """Read how far the tree is. Raises LogDamaged where that can not be."""
    row = connection.execute(sa.select(tree_state.c.size, tree_state.c.low).where(tree_state.c.id == 1)).first()
    if row is None:
        raise LogDamaged("the table `tree_state` is empty; nothing can be added to the tree; run `gateway log verify`")
    return State(size=row.size, low=row.low)


def find(connection: Connection, limit: int, marks: Marks, now: float) -> Found:
    """Find the records that wait, at most `limit`. `now` is of a monotonic clock.

    Raises LogDamaged where the first of them is not as it was written: nothing is signed over it.
    """
    state = state_of(connection)
    waiting = sa.select(decision_log.c.sequence, decision_log.c.leaf, decision_log.c.body)
    waiting = waiting.where(decision_log.c.sequence > state.low).order_by(decision_log.c.sequence).limit(limit)
    if connection.dialect.name == "sqlite":
        rows, more = _read(connection, waiting, state.size, limit)
        return Found(state=state, low=rows[-1][0] if rows else state.low, rows=rows, more=more)
    # The oldest open transaction is asked for first: what ended before is visible to the query after it.
    snapshot = "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() AS s"
    oldest, next_ = map(int, connection.execute(sa.text(snapshot)).one())
    final = marks.final(now, oldest)
    placed = sa.exists().where(entries.c.sequence == decision_log.c.sequence)
    rows, more = _read(connection, waiting.where(~placed), state.size, limit)
    highest = rows[-1][0] if rows else state.low
    if not more:
        marks.note(now, next_, connection.execute(sa.select(sa.func.max(decision_log.c.sequence))).scalar() or 0)
    low = max(state.low, min(final, highest) if more else final)
    return Found(state=state, low=_over(connection, low, [row[0] for row in rows]), rows=rows, more=more)


def put(connection: Connection, found: Found, signer: LogSigner, now: dt.datetime) -> Step | None:
    """Give what was found its places and sign the tree; None where another sequencer was faster.

    `now` is the time that the checkpoint is stamped with; nothing rests on it.
    """
    state = state_of(connection)
    if state != found.state:
        return None
    size = state.size + len(found.rows)
    if found.rows:
        vkey = connection.execute(sa.select(log_keys.c.vkey).order_by(log_keys.c.number.desc()).limit(1)).scalar()
        if vkey is None:
            raise Unavailable("the table `log_keys` is empty; nothing can be signed; run `gateway log verify`")
        signer.follow(vkey)
        root = _grow(connection, state.size, [leaf for _, leaf, _ in found.rows])
        index(connection, [placed for _, _, placed in found.rows])
        note = signer.sign(TreeHead(origin=signer.name, size=size, root=root).text)
        connection.execute(checkpoints.insert().values(size=size, at=now, root=root, note=note))
    if found.rows or found.low != state.low:
        connection.execute(tree_state.update().where(tree_state.c.id == 1).values(size=size, low=found.low))
    return Step(size=size, added=len(found.rows), more=found.more)


def tiles_of(connection: Connection) -> merkle.Read:
    """Give what reads tiles by this connection, each once."""
    known: dict[tuple[int, int], bytes] = {}

    def read(level: int, tile: int) -> bytes:
        if (level, tile) not in known:
            place = sa.and_(tree_tiles.c.level == level, tree_tiles.c.tile == tile)
            found = connection.execute(sa.select(tree_tiles.c.hashes).where(place)).scalar()
            known[level, tile] = b"" if found is None else bytes(found)
        return known[level, tile]

    return read


def _read(connection: Connection, query: sa.Select[Any], size: int, limit: int) -> tuple[tuple[_Row, ...], bool]:
    """Read what waits up to a record that is damaged; tell as well whether there may be more behind it."""
    rows: list[_Row] = []
    there = connection.execute(query).all()
    for position, row in enumerate(there, size):
        sequence, leaf, body = int(row[0]), bytes(row[1]), bytes(row[2])
        try:
            record = parse(body)
            good = leaf_of(body) == leaf
        except ValueError:
            good = False
        if not good:
            if rows:  # those before it get their places; the next step stops here
                break
            raise LogDamaged(
                f"record {sequence} of the decision log is damaged, or of a newer gateway; nothing is signed over it; "
                "run `gateway log verify`"
            )
        rows.append((sequence, leaf, Placed(position=position, sequence=sequence, record=record)))
    return tuple(rows), len(rows) < len(there) or len(there) == limit


def _over(connection: Connection, low: int, found: Sequence[int]) -> int:
    """Move `low` over the numbers that follow it without a gap."""
    last = low
    for sequence in found:
        if sequence > last + 1:
            break
        last = max(last, sequence)
    if last == low and found:  # what follows may have places already
        above = sa.select(sa.func.count(), sa.func.max(entries.c.sequence)).where(entries.c.sequence > low)
        count, highest = connection.execute(above).one()
        new = [sequence for sequence in found if sequence > low]
        highest = max(highest or low, new[-1] if new else low)
        if count + len(new) == highest - low:
            return int(highest)
    return last


def _grow(connection: Connection, size: int, leaves: Sequence[bytes]) -> bytes:
    """Add leaf hashes to the tiles; give the new root."""
    read = tiles_of(connection)
    try:
        changed = merkle.grow(read, size, leaves)
        root = merkle.root(lambda level, tile: changed.get((level, tile)) or read(level, tile), size + len(leaves))
    except ValueError as exc:
        raise LogDamaged(f"the tree is damaged ({exc}); nothing is signed over it; run `gateway log verify`") from None
    for (level, tile), hashes in changed.items():
        place = sa.and_(tree_tiles.c.level == level, tree_tiles.c.tile == tile)
        if not connection.execute(tree_tiles.update().where(place).values(hashes=hashes)).rowcount:
            connection.execute(tree_tiles.insert().values(level=level, tile=tile, hashes=hashes))
    return root
