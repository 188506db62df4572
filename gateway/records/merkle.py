"""Merkle trees as in RFC 6962 and RFC 9162, over hashes kept in tiles of 256 (C2SP tlog-tiles). Pure.

Level 0 of the tiles holds the leaf hashes; each level above holds the roots of the full tiles below it. A tile is the
hashes joined, 32 bytes each. A tree over any number of records is read from them with few tiles, and its hashes are
the RFC's own: no hash depends on the tiling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

HASH = 32
"""Bytes of a hash."""

TILE = 256
"""Hashes in a full tile."""

EMPTY = hashlib.sha256(b"").digest()
"""The root of the tree over nothing."""

Read = Callable[[int, int], bytes]
"""Gives the hashes of a tile, by its level and number; more than a smaller tree had there do no harm."""

_FULL = TILE * HASH
_BITS = 8  # a tile spans 2 ** 8 hashes
_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """Give the hash of a leaf: SHA-256(0x00 || data)."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Give the hash of an inner node: SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


def fold(hashes: bytes) -> bytes:
    """Give the root over joined hashes whose number is a power of two."""
    while len(hashes) > HASH:
        pairs = range(0, len(hashes), 2 * HASH)
        hashes = b"".join([_sha256(b"\x01" + hashes[i : i + 2 * HASH]).digest() for i in pairs])
    return hashes


def grow(read: Read, size: int, leaves: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
    """Add leaf hashes to a tree of `size`; give the tiles that are new or longer, by level and number.

    Raises ValueError where the tiles do not hold `size` leaves.
    """
    changed: dict[tuple[int, int], bytes] = {}
    level, adding = 0, b"".join(leaves)
    while adding:
        tile, used = divmod(size, TILE)
        hashes = (_hashes(read, level, tile, 0, used) if used else b"") + adding
        above = []
        for number, start in enumerate(range(0, len(hashes), _FULL), tile):
            piece = changed[level, number] = hashes[start : start + _FULL]
            if len(piece) == _FULL:
                above.append(fold(piece))
        size, level, adding = size // TILE, level + 1, b"".join(above)
    return changed


def root(read: Read, size: int) -> bytes:
    """Give the root of the tree over the first `size` leaves. Raises ValueError where a tile is too short."""
    return _range(read, 0, size) if size else EMPTY


def inclusion(read: Read, index: int, size: int) -> tuple[bytes, ...]:
    """Give the inclusion proof (RFC 9162, 2.1.3.1) of the leaf `index` in the tree over the first `size` leaves."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} has no leaf {index}")
    start, end = 0, size
    path = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range(read, middle, end))
            end = middle
        else:
            path.append(_range(read, start, middle))
            start = middle
    return tuple(reversed(path))


def consistency(read: Read, old: int, new: int) -> tuple[bytes, ...]:
    """Give the proof (RFC 9162, 2.1.4.1) that the tree of `new` leaves begins with the one of `old`."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} does not begin with one of {old}")
    if old in (0, new):
        return ()
    start, end, whole = 0, new, True
    path = []
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_range(read, middle, end))
            end = middle
        else:
            path.append(_range(read, start, middle))
            start, whole = middle, False
    if not whole:
        path.append(_range(read, start, end))
    return tuple(reversed(path))


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], due: bytes) -> bool:
    """Tell whether `path` proves that the tree of `size` with root `due` has `leaf` at `index` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or any(len(one) != HASH for one in path):
        return False
    at, last, found = index, size - 1, leaf
    for one in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(one, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, one)
        at, last = at >> 1, last >> 1
    return last == 0 and found == due


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Tell whether `path` proves that the tree of `new` begins with the one of `old` (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new or any(len(one) != HASH for one in path):
        return False
    if old == 0:
        return not path and old_root == EMPTY
    if old == new:
        return not path and old_root == new_root
    if not path:
        return False
    rest = list(path)
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = old_root if old & (old - 1) == 0 else rest.pop(0)
    for one in rest:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(one, first), node_hash(one, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, one)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(size: int) -> int:
    """Give the largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _range(read: Read, start: int, end: int) -> bytes:
    """Give the root over the leaves from `start` to before `end`, as the RFC's splitting meets them."""
    size = end - start
    if size & (size - 1) == 0:
        level, inner = divmod(size.bit_length() - 1, _BITS)
        tile, offset = divmod((start // size) << inner, TILE)
        return fold(_hashes(read, level, tile, offset, 1 << inner))
    middle = start + _split(size)
    return node_hash(_range(read, start, middle), _range(read, middle, end))


def _hashes(read: Read, level: int, tile: int, offset: int, number: int) -> bytes:
    found = read(level, tile)[offset * HASH : (offset + number) * HASH]
    if len(found) != number * HASH:
        raise ValueError(f"the tile {tile} of level {level} has too few hashes")
    return found
