"""How a file is encrypted: in blocks, each by AES-256-GCM with the file's own key, so that any range is read by itself.

Pure but for reading. A block holds 64 KiB of the file, the last one less; its nonce is its number, and the file's id,
the number and whether it is the last are authenticated with it. A key encrypts one file, once and in order, so no nonce
comes twice; blocks that were changed, swapped, left out or taken from another file do not open.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import FileDamaged

BLOCK = 64 * 1024
"""Bytes of a file in one block."""

TAG = 16
"""Bytes by which a block grows."""

_ABOUT = b"gateway file v1\x00"


def blocks_of(size: int) -> int:
    """Count the blocks of a file of `size` bytes; an empty one has one."""
    return max(1, -(-size // BLOCK))


def stored_size(size: int) -> int:
    """Give how many bytes a file of `size` bytes takes on the disk."""
    return size + TAG * blocks_of(size)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _about(id: str, number: int, *, last: bool) -> bytes:
    return _ABOUT + id.encode() + b"\x00" + number.to_bytes(8, "big") + (b"\x01" if last else b"\x00")


class BlockWriter:
    """Encrypts one file from its beginning to its end."""

    def __init__(self, key: bytes, id: str) -> None:
        self._cipher = AESGCM(key)
        self._id = id
        self._number = 0
        self._rest = b""

    def push(self, data: bytes) -> bytes:
        """Give what `data` adds to the encrypted file; the last block is kept back, for it may be the last of all."""
        data = self._rest + data
        out, place = [], 0
        while len(data) - place > BLOCK:
            out.append(self._seal(data[place : place + BLOCK], last=False))
            place += BLOCK
        self._rest = data[place:]
        return b"".join(out)

    def end(self) -> bytes:
        """Give the last block."""
        return self._seal(self._rest, last=True)

    def _seal(self, data: bytes, *, last: bool) -> bytes:
        number = self._number
        self._number += 1
        return self._cipher.encrypt(_nonce(number), data, _about(self._id, number, last=last))


class BlockReader:
    """Reads ranges of one encrypted file, which is `size` bytes long, until it is closed.

    Making it raises OSError, and FileDamaged where the file on the disk has another length than it must have.
    """

    def __init__(self, path: Path, cipher: AESGCM, id: str, size: int) -> None:
        self._cipher = cipher
        self._id = id
        self._blocks = blocks_of(size)
        self._lock = threading.Lock()
        self._file = path.open("rb", buffering=0)
        if os.fstat(self._file.fileno()).st_size != stored_size(size):
            self._file.close()
            raise damaged(id)

    def close(self) -> None:
        """Close the file; a read that goes on in a thread comes to its end first."""
        with self._lock:
            self._file.close()

    def read(self, start: int, stop: int) -> bytes:
        """Give the bytes from `start` up to `stop`, within the file. Raises FileDamaged, and OSError."""
        first, last = start // BLOCK, max(start, stop - 1) // BLOCK
        place = first * (BLOCK + TAG)
        with self._lock:
            data = _read(self._file.fileno(), place, (last - first + 1) * (BLOCK + TAG))
        out = []
        for number in range(first, last + 1):
            here = (number - first) * (BLOCK + TAG)
            is_last = number == self._blocks - 1
            try:
                plain = self._cipher.decrypt(
                    _nonce(number), data[here : here + BLOCK + TAG], _about(self._id, number, last=is_last)
                )
            except (InvalidTag, ValueError):
                raise damaged(self._id) from None
            out.append(plain)
        return b"".join(out)[start - first * BLOCK : stop - first * BLOCK]


def damaged(id: str) -> FileDamaged:
    """Make the exception for a file whose bytes are not what was written."""
    return FileDamaged(
        f"the file `{id}` is damaged: its bytes were changed or are gone; upload it again, and tell the operator"
    )


def _read(handle: int, place: int, size: int) -> bytes:
    """Read up to `size` bytes, fewer only at the end of the file."""
    pieces = []
    while size:
        piece = os.pread(handle, size, place)
        if not piece:
            break
        pieces.append(piece)
        place += len(piece)
        size -= len(piece)
    return b"".join(pieces)
