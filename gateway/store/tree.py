"""The tree over the log, as it is read: its size, its latest checkpoint, and proofs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import LogDamaged, Unavailable
from gateway.records import merkle
from gateway.stages import in_thread
from gateway.store import faults
from gateway.store.migrate import TROUBLE
from gateway.store.tables import checkpoint_sinks, checkpoints, entries, log_keys, tree_state, tree_tiles

_TILES = 200  # tiles in one query
_DAMAGED = "the tree is damaged; run `gateway log verify`"
_FORMAT = "medvlm-gateway-proof/1"


class Checkpoint(Struct, frozen=True, kw_only=True):
    """A signed checkpoint: how many records, the root over them, the note, and when it was signed (UTC)."""

    size: int
    root: bytes
    note: str
    at: dt.datetime


class SigningKey(Struct, frozen=True, kw_only=True):
    """A key of the log: its number from 1, its public key, from which size on it signs, and since when.

    `note` is the statement by which the key before it handed over, signed by both; None for the first.
    """

    number: int
    vkey: str
    size: int
    at: dt.datetime
    note: str | None


class ProofKey(Struct, frozen=True, kw_only=True):
    """A public key of the log, and the note by which the key before it handed over."""

    vkey: str
    note: str | None


class Proof(Struct, frozen=True, kw_only=True):
    """Shows that the log holds a record: its leaf hash, its place from 0, and the path to a signed root. Hashes in hex.

    `keys` are all keys of the log, one of which signed `checkpoint`.
    """

    format: str
    id: str
    leaf: str
    position: int
    size: int
    path: tuple[str, ...]
    checkpoint: str
    keys: tuple[ProofKey, ...]


class Delivered(Struct, frozen=True, kw_only=True):
    """How far a sink of checkpoints has been given them: up to which size, when (UTC), and what hinders it now."""

    name: str
    size: int
    at: dt.datetime | None
    trouble: str | None


class Tree:
    """The tree of one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def size(self) -> int:
        """Give how many records the tree holds. Raises Unavailable, as all here, where it can not be read."""
        rows = await self._all(sa.select(tree_state.c.size))
        return int(rows[0].size) if rows else 0

    async def checkpoint(self, size: int | None = None) -> Checkpoint | None:
        """Give the checkpoint over `size` records, the latest where none is given; None where there is none."""
        query = sa.select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1)
        rows = await self._all(query if size is None else query.where(checkpoints.c.size == size))
        if not rows:
            return None
        row = rows[0]
        return Checkpoint(size=row.size, root=bytes(row.root), note=row.note, at=row.at)

    async def keys(self) -> tuple[SigningKey, ...]:
        """Give the log's keys, the first one first."""
        rows = await self._all(sa.select(log_keys).order_by(log_keys.c.number))
        return tuple(
            SigningKey(number=row.number, vkey=row.vkey, size=row.size, at=row.at, note=row.note) for row in rows
        )

    async def delivered(self) -> tuple[Delivered, ...]:
        """Tell how far each sink has been given checkpoints, those of other processes too."""
        rows = await self._all(sa.select(checkpoint_sinks).order_by(checkpoint_sinks.c.name))
        return tuple(Delivered(name=row.name, size=row.size, at=row.at, trouble=row.trouble) for row in rows)

    async def prove(self, id: str) -> Proof | None:
        """Prove that the log holds the record `id`; None where the tree does not hold it (yet)."""
        rows = await self._all(sa.select(entries.c.position).where(entries.c.id == id))
        head = await self.checkpoint()
        if not rows or head is None or rows[0].position >= head.size:
            return None
        position = int(rows[0].position)
        read = await self._reader([position], head.size)
        try:
            leaf = read(0, position // merkle.TILE)[position % merkle.TILE * merkle.HASH :][: merkle.HASH]
            path = merkle.inclusion(read, position, head.size)
        except ValueError:
            raise LogDamaged(_DAMAGED) from None
        if not merkle.verify_inclusion(leaf, position, head.size, path, head.root):
            raise LogDamaged(_DAMAGED)
        return Proof(
            format=_FORMAT,
            id=id,
            leaf=leaf.hex(),
            position=position,
            size=head.size,
            path=tuple(one.hex() for one in path),
            checkpoint=head.note,
            keys=tuple(ProofKey(vkey=key.vkey, note=key.note) for key in await self.keys()),
        )

    async def proofs(self, positions: Sequence[int], size: int) -> tuple[tuple[bytes, ...], ...]:
        """Give the inclusion proofs of many places in the tree over the first `size` records, in their order."""
        read = await self._reader(positions, size)

        def work() -> tuple[tuple[bytes, ...], ...]:
            return tuple(merkle.inclusion(read, position, size) for position in positions)

        try:
            return await in_thread(work)
        except ValueError:
            raise LogDamaged(_DAMAGED) from None

    async def leaves(self, start: int, end: int) -> tuple[bytes, ...]:
        """Give the leaf hashes of the places from `start` to before `end`."""
        tiles = range(start // merkle.TILE, (end - 1) // merkle.TILE + 1) if end > start else range(0)
        known = await self._tiles((0, tile) for tile in tiles)
        joined = b"".join(known.get((0, tile), b"") for tile in tiles)[start % merkle.TILE * merkle.HASH :]
        if len(joined) < (end - start) * merkle.HASH:
            raise LogDamaged(_DAMAGED)
        return tuple(joined[i * merkle.HASH : (i + 1) * merkle.HASH] for i in range(end - start))

    async def _reader(self, positions: Iterable[int], size: int) -> merkle.Read:
        """Fetch the tiles that the proofs of `positions` need: a dry run over zeros tells which."""
        wanted: set[tuple[int, int]] = {(0, position // merkle.TILE) for position in positions}
        zeros = bytes(merkle.TILE * merkle.HASH)

        def note(level: int, tile: int) -> bytes:
            wanted.add((level, tile))
            return zeros

        try:
            for tile in {
                position // merkle.TILE for position in positions
            }:  # the paths of a tile share what is above it
                merkle.inclusion(note, tile * merkle.TILE, size)
        except ValueError:
            raise LogDamaged(_DAMAGED) from None
        known = await self._tiles(wanted)
        return lambda level, tile: known.get((level, tile), b"")

    async def _tiles(self, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        known: dict[tuple[int, int], bytes] = {}
        by_level: dict[int, list[int]] = {}
        for level, tile in wanted:
            by_level.setdefault(level, []).append(tile)
        for level, tiles in by_level.items():
            for start in range(0, len(tiles), _TILES):
                some = tree_tiles.c.tile.in_(tiles[start : start + _TILES])
                for row in await self._all(sa.select(tree_tiles).where(tree_tiles.c.level == level, some)):
                    known[level, row.tile] = bytes(row.hashes)
        return known

    async def _all(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        try:
            async with self._engine.connect() as connection:
                return list((await connection.execute(query)).all())
        except TROUBLE as exc:
            raise Unavailable(f"the tree can not be read; {faults.hint(exc)}") from None
