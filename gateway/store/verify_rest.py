"""Verifies what no range of the tree covers: the tiles above the lowest, and records without a place in the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from gateway.records import merkle
from gateway.store.verify_rows import problem_of_columns
from gateway.store.verify_source import Reader, tile_reader
from gateway.store.writer import leaf_of

_CHUNK = 2000  # records in one query
_STATE = """
SELECT s.size, s.low, (SELECT max(size) FROM checkpoints), (SELECT count(*) FROM checkpoints),
(SELECT max(position) FROM entries), (SELECT max(sequence) FROM decision_log) FROM tree_state s WHERE s.id = 1
"""
_GIVEN = "SELECT seq FROM sqlite_sequence WHERE name = 'decision_log'"
_TAIL = """
SELECT d.sequence, d.id, d.kind, d.department, d.outcome, d.at, d.leaf, d.body FROM decision_log d
WHERE d.sequence > ? AND d.sequence <= ?
AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.sequence = d.sequence AND e.position < ?) ORDER BY d.sequence LIMIT ?
"""
_NEVER = """
SELECT d.sequence, d.id FROM decision_log d WHERE d.sequence <= ?
AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.sequence = d.sequence AND e.position < ?) ORDER BY d.sequence LIMIT 1
"""


class Extent(Struct, frozen=True, kw_only=True):
    """How far everything goes, as one query saw it. Nothing is None where there is a row of `tree_state`.

    `signed` is the size of the largest checkpoint, `placed` one more than the last place in the index, `end` the last
    record's number, `last_given` the last number that SQLite gave.
    """

    size: int
    low: int
    signed: int
    checkpoints: int
    placed: int
    end: int
    last_given: int


class Tail(Struct, frozen=True, kw_only=True):
    """What the records without a place gave: how many hold, and the first problem."""

    records: int
    sealed: int = 0
    gaps: int = 0
    problem: str | None = None
    sequence: int | None = None


def extent_of(reader: Reader) -> Extent | None:
    """Read how far everything goes; None where the tree's state is missing."""
    given = reader.rows(_GIVEN) if reader.sqlite else []  # before the rest: the log may grow meanwhile
    rows = reader.rows(_STATE)
    if not rows:
        return None
    size, low, signed, checkpoints, placed, end = (0 if value is None else int(value) for value in rows[0])
    position = -1 if rows[0][4] is None else placed
    return Extent(
        size=size,
        low=low,
        signed=signed,
        checkpoints=checkpoints,
        placed=position + 1,
        end=end,
        last_given=int(given[0][0]) if given else 0,
    )


def extent_problems(extent: Extent) -> Iterator[str]:
    """Tell where the parts of the tree do not go equally far."""
    size = extent.size
    if extent.signed != size:
        told = "the end of the log was cut off" if extent.signed > size else "the tree was changed behind its signer"
        yield f"the last checkpoint is over {extent.signed} records, and the tree has {size}: {told}"
    if extent.placed > size:
        yield f"the index has entries up to the place {extent.placed - 1}, and the tree has {size} records"


def upper_problem(reader: Reader, size: int) -> str | None:
    """Check the tiles above the lowest against each other, from the bottom up."""
    read = tile_reader(reader)
    level, below = 1, size // merkle.TILE
    while below:
        for tile in range((below + merkle.TILE - 1) // merkle.TILE):
            due = min(below - tile * merkle.TILE, merkle.TILE) * merkle.HASH
            hashes = read(level, tile)[:due]
            if len(hashes) < due:
                return f"the tile {tile} of level {level} of the tree is missing or too short"
            if due == merkle.TILE * merkle.HASH:
                place = tile % merkle.TILE * merkle.HASH
                if read(level + 1, tile // merkle.TILE)[place : place + merkle.HASH] != merkle.fold(hashes):
                    return f"the tile {tile} of level {level} of the tree was changed, or the root of it above"
        level, below = level + 1, below // merkle.TILE
    return None


def never_sequenced(reader: Reader, extent: Extent) -> tuple[int, str] | None:
    """Find the first record that ought to have a place in the tree and has none: its number, and the problem."""
    (count,) = reader.rows("SELECT count(*) FROM decision_log WHERE sequence <= ?", extent.low)[0]
    (placed,) = reader.rows(
        "SELECT count(*) FROM entries WHERE sequence > ? AND position < ?", extent.low, extent.size
    )[0]
    if count == extent.size - placed:
        return None
    rows = reader.rows(_NEVER, extent.low, extent.size)
    if not rows:
        return None
    sequence, name = rows[0]
    return int(sequence), f"record {sequence} (id `{name}`) was never sequenced, or was put in later"


def tail(reader: Reader, extent: Extent, progress: Callable[[int], object]) -> Tail:
    """Parse the records that have no place yet, in the order of their numbers."""
    last, records, sealed = extent.low, 0, 0
    before = extent.size if reader.sqlite else None  # numbers follow each other on SQLite, over the tree's end as well
    while True:
        rows = reader.rows(_TAIL, last, extent.end, extent.size, _CHUNK)
        for row in rows:
            missing = 0 if before is None else row[0] - before - 1
            if missing:
                problem = f"{missing} records are missing before record {row[0]}"
                return Tail(records=records, sealed=sealed, problem=problem, sequence=row[0] - missing)
            problem_here = _row_problem(row)
            if problem_here is not None:
                problem = f"record {row[0]} (id `{row[1]}`): {problem_here}"
                return Tail(records=records, sealed=sealed, problem=problem, sequence=row[0])
            before = row[0] if before is not None else None
            records += 1
            sealed += b'"sealed":{' in bytes(row[7])
        progress(len(rows))
        if len(rows) < _CHUNK:
            break
        last = rows[-1][0]
    if reader.sqlite and extent.last_given > extent.end:
        missing = extent.last_given - extent.end
        problem = f"{missing} records are missing at the end of the log, after record {extent.end}"
        return Tail(records=records, sealed=sealed, problem=problem, sequence=extent.end + 1)
    return Tail(records=records, sealed=sealed, gaps=max(0, extent.end - extent.size - records))


def _row_problem(row: Sequence[Any]) -> str | None:
    _, id_, kind, department, outcome, at, leaf, body = row
    if isinstance(body, str) or isinstance(leaf, str):  # SQLite takes anything
        return "its bytes are text"
    body = bytes(body)
    if leaf_of(body) != bytes(leaf):
        return "its bytes do not have its leaf hash"
    return problem_of_columns(id_, kind, department, outcome, at, body)
