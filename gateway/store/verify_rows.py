"""Verifies a range of the tree's places: each record against its leaf, its columns, its entry; tiles; checkpoints.

A range is independent of all others, so ranges are verified side by side. What it takes from tiles outside itself is
verified by whoever has those: once all ranges and all upper tiles hold, everything does.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.records import merkle, parse
from gateway.records.handover import Chain
from gateway.records.note import parse_head, parse_note
from gateway.store.verify_source import Reader, tile_reader
from gateway.store.writer import columns_of

TILES_READ = 16  # tiles of records in one query
_ROWS = """
SELECT e.position, e.sequence, e.id, e.id = d.id AND e.at = d.at, d.id, d.kind, d.department, d.outcome, d.at, d.leaf,
d.body FROM entries e LEFT JOIN decision_log d ON d.sequence = e.sequence
WHERE e.position >= ? AND e.position < ? ORDER BY e.position
"""
_HEADS = "SELECT size, root, note FROM checkpoints WHERE size > ? AND size <= ? ORDER BY size"
_BEFORE = "SELECT max(size) FROM checkpoints WHERE size <= ?"
_SLOTS = "SELECT tile, hashes FROM tree_tiles WHERE level = 0 AND tile >= ? AND tile < ?"


class Part(Struct, frozen=True, kw_only=True):
    """Places from `start`, a multiple of 256, to before `end`. With `deep` each record is parsed in full."""

    start: int
    end: int
    deep: bool = False


class Verified(Struct, frozen=True, kw_only=True):
    """What a range gave: how many records hold from its start on, how many have sealed content; the first problem.

    `sequence` is the number of the bad record, None where none is at fault.
    """

    records: int
    sealed: int = 0
    problem: str | None = None
    sequence: int | None = None


class _By(Struct):
    department: str | None = None


class _Sealed(Struct):
    sha256: str = ""


class _Head(Struct):
    """What the columns say, read off a record's bytes without the rest of it."""

    id: str
    type: str
    at: str
    department: str | None = None
    outcome: str | None = None
    caller: _By | None = None
    sealed: _Sealed | None = None


class _Wrong(Exception):
    """Ends a range. `place` is the first place of the tree that does not hold, where one is known."""

    def __init__(self, problem: str, sequence: int | None = None, place: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.sequence = sequence
        self.place = place


_WIDE = 27  # characters of a time with microseconds
_head = msgspec.json.Decoder(_Head).decode
_sha256 = hashlib.sha256


def instant(text: object) -> object:
    """Read a time of SQLite, which is text; one of PostgreSQL is what it is."""
    return dt.datetime.fromisoformat(text) if isinstance(text, str) else text


def problem_of_columns(id: str, kind: str, department: str, outcome: str | None, at: object, body: bytes) -> str | None:
    """Tell in what the columns do not say what the bytes say, or why these are no record; None where all is well."""
    try:
        due = columns_of(parse(body))
    except ValueError as exc:
        return str(exc)
    said = {"id": id, "kind": kind, "department": department, "outcome": outcome, "at": instant(at)}
    for name, value in due.items():
        if said[name] != value:
            return f"its column `{name}` does not say what its bytes say"
    return None


class PartCheck:
    """Verifies ranges over one connection."""

    def __init__(self, reader: Reader, chain: Chain) -> None:
        self._reader = reader
        self._chain = chain
        self._read = tile_reader(reader)
        self._sealed = 0
        self._before = 0

    def run(self, part: Part) -> Verified:
        """Verify a range up to its first problem. Raises what the driver raises."""
        records = 0
        self._sealed = 0
        heads = [(int(size), bytes(root), note) for size, root, note in self._reader.rows(_HEADS, part.start, part.end)]
        self._before = self._reader.rows(_BEFORE, part.start)[0][0] or 0  # up to there another range compares the roots
        try:
            for start in range(part.start, part.end, TILES_READ * merkle.TILE):
                end = min(start + TILES_READ * merkle.TILE, part.end)
                rows = self._reader.rows(_ROWS, start, end)
                first = start // merkle.TILE
                slots = {t: bytes(h) for t, h in self._reader.rows(_SLOTS, first, first + TILES_READ)}
                for tile in range(first, (end - 1) // merkle.TILE + 1):
                    low, high = tile * merkle.TILE, min((tile + 1) * merkle.TILE, end)
                    mine = rows[low - start : high - start]
                    leaves = self._leaves(mine, low, high, deep=part.deep)
                    if leaves != slots.get(tile, b"")[: len(leaves)]:
                        raise self._differs(mine, leaves, slots.get(tile, b""), tile, heads)
                    self._above(tile, leaves)
                    self._checkpoints(tile, leaves, heads)
                    records += high - low
        except _Wrong as exc:
            good = records if exc.place is None else exc.place - part.start
            return Verified(records=good, sealed=self._sealed, problem=exc.problem, sequence=exc.sequence)
        return Verified(records=records, sealed=self._sealed)

    def _leaves(self, rows: Sequence[Sequence[Any]], low: int, high: int, *, deep: bool) -> bytes:
        """Hash the records of one tile, joined; what one record shows of itself is checked on the way."""
        sqlite = self._reader.sqlite
        leaves = []
        for due, row in enumerate(rows, low):
            position, sequence, _, same, id_, kind, department, outcome, at, leaf, body = row
            if position != due:
                break
            if sqlite and sequence != due + 1 and body is not None:
                raise self._out_of_place(sequence, due)
            if not same:
                raise _unlike(row)
            if type(body) is not bytes or type(leaf) is not bytes:  # SQLite takes anything
                raise _named(row, "its bytes are no bytes")
            found = _sha256(b"\x00" + body).digest()
            if found != leaf:
                raise _named(row, "its bytes do not have its leaf hash")
            try:
                head = _head(body)
            except msgspec.MsgspecError:
                raise _named(row, "the bytes are no record that this version knows") from None
            by = head.department or (head.caller.department if head.caller is not None else None)
            if sqlite:  # text of one width
                due_at, told_at = head.at if len(head.at) == _WIDE else head.at[:19] + ".000000Z", at
            else:
                due_at, told_at = head.at[:-1] + "+00:00", at.isoformat()
            if deep or (head.id, head.type, by, head.outcome, due_at) != (id_, kind, department, outcome, told_at):
                problem = problem_of_columns(id_, kind, department, outcome, at, bytes(body))
                if problem is not None:
                    raise _named(row, problem)
            if head.sealed is not None:
                self._sealed += 1
            leaves.append(found)
        if len(leaves) != high - low:
            place = low + len(leaves)
            raise _Wrong(
                f"the place {place} of the tree has no entry in the index: a record was taken away", None, place
            )
        return b"".join(leaves)

    def _out_of_place(self, sequence: int, place: int) -> _Wrong:
        """Tell why a number does not follow the one before it, as SQLite's do."""
        number = sequence - place - 1
        there = self._reader.rows("SELECT 1 FROM decision_log WHERE sequence = ?", place + 1)
        if number > 0 and not there:
            return _Wrong(f"{number} records are missing before record {sequence}", place + 1, place)
        return _Wrong(f"record {sequence} stands in the place {place} of the tree, not its own", sequence, place)

    def _differs(
        self,
        rows: Sequence[Sequence[Any]],
        leaves: bytes,
        stored: bytes,
        tile: int,
        heads: Sequence[tuple[int, bytes, str]],
    ) -> _Wrong:
        """Tell who is at fault where records and tile differ: what is signed above them agrees with one of the two."""
        size = merkle.HASH
        at = next(i for i in range(0, len(leaves), size) if leaves[i : i + size] != stored[i : i + size])
        row = rows[at // size]
        if self._signed(tile, leaves, heads):
            return _Wrong(
                f"the tile {tile} of the tree was changed: its hash {at // size} is not the one of record {row[1]} "
                f"(id `{row[4]}`), which is as it was signed",
                None,
                row[0],
            )
        return _named(row, "its leaf hash is not the one that was signed in the tree: bytes and hash were both changed")

    def _signed(self, tile: int, leaves: bytes, heads: Sequence[tuple[int, bytes, str]]) -> bool:
        """Tell whether what is above a tile was made of `leaves`."""
        if len(leaves) == merkle.TILE * merkle.HASH:
            above = self._read(1, tile // merkle.TILE)[tile % merkle.TILE * merkle.HASH :][: merkle.HASH]
            if above:
                return merkle.fold(leaves) == above
        low, high = tile * merkle.TILE, tile * merkle.TILE + len(leaves) // merkle.HASH
        inside = [head for head in heads if low < head[0] <= high]
        try:
            return bool(inside) and self._root(tile, leaves, inside[-1][0]) == inside[-1][1]
        except ValueError:
            return False

    def _above(self, tile: int, leaves: bytes) -> None:
        if len(leaves) < merkle.TILE * merkle.HASH:
            return
        above = self._read(1, tile // merkle.TILE)[tile % merkle.TILE * merkle.HASH :][: merkle.HASH]
        if merkle.fold(leaves) != above:
            upper = tile // merkle.TILE
            raise _Wrong(f"the tile {upper} of level 1 of the tree was changed: it has not the root of tile {tile}")

    def _root(self, tile: int, leaves: bytes, size: int) -> bytes:
        return merkle.root(lambda level, t: leaves if (level, t) == (0, tile) else self._read(level, t), size)

    def _checkpoints(self, tile: int, leaves: bytes, heads: Sequence[tuple[int, bytes, str]]) -> None:
        low, high = tile * merkle.TILE, tile * merkle.TILE + len(leaves) // merkle.HASH
        for size, root, note in heads:
            if not low < size <= high:
                continue
            problem = checkpoint_problem(size, root, note, self._chain)
            if problem is not None:
                raise _Wrong(f"the checkpoint over {size} records {problem}")
            try:
                found = self._root(tile, leaves, size)
            except ValueError as exc:
                raise _Wrong(f"the tree is damaged: {exc}") from None
            if found != root:
                raise _Wrong(
                    f"the checkpoint over {size} records has another root than the records: what is in the tree from "
                    f"the place {self._before} to before the place {size} was rewritten, and the tree with it"
                )
            self._before = size


def checkpoint_problem(size: int, root: bytes, note: str, chain: Chain) -> str | None:
    """Tell what is wrong with a checkpoint by itself, None where nothing is."""
    try:
        read = parse_note(note)
        head = parse_head(read.text)
    except ValueError as exc:
        return f"is none: {exc}"
    if (head.size, head.root) != (size, root):
        return "says something else in its note than in its columns"
    key = chain.at(size)
    if key is None or head.origin != key.name:
        return f"is of another log, `{head.origin}`"
    if read.signed_by(key):
        return None
    if read.claims(key):
        return "was forged: its signature is not good"
    other = next((span.key for span in chain.spans if read.signed_by(span.key)), None)
    if other is not None:
        return f"was forged: it is signed by the key `{other.vkey}`, which was not in use then"
    return "was forged: it is signed by no key of this log"


def _named(row: Sequence[Any], problem: str) -> _Wrong:
    return _Wrong(f"record {row[1]} (id `{row[4]}`): {problem}", row[1], row[0])


def _unlike(row: Sequence[Any]) -> _Wrong:
    position, sequence, id_, same, found = row[:5]
    if same is None and found is None:
        return _Wrong(
            f"record {sequence} (id `{id_}`), at the place {position} of the tree, is missing", sequence, position
        )
    if found != id_:
        return _Wrong(
            f"record {sequence} (id `{found}`) stands where the tree has the record `{id_}`, at the place {position}",
            sequence,
            position,
        )
    return _named(row, f"its entry in the index, at the place {position}, has another time")
