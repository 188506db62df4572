"""Write lines to a new file that is there whole or not at all, or to standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gateway.errors import ConfigurationError, Unavailable

STDOUT = Path("-")
"""The name of standard output."""


class Writer:
    """Takes lines, and counts them and their bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.lines = self.bytes = 0

    def write(self, data: bytes) -> None:
        """Write one line; `data` holds no newline."""
        self._file.write(data)
        self._file.write(b"\n")
        self.lines += 1
        self.bytes += len(data) + 1


@contextlib.contextmanager
def new_file(out: Path) -> Iterator[Writer]:
    """Open `out` to write lines: a new file that only its owner may read, moved into place when all is written.

    Where an exception leaves the block, or no line was written, nothing is left behind. What went to standard output
    has gone.

    Raises:
        ConfigurationError: there is such a file, or one that is being written.
        Unavailable: it can not be written.
    """
    if out == STDOUT:
        writer = Writer(sys.stdout.buffer)
        with _told(out):
            yield writer
            sys.stdout.buffer.flush()
        return
    if out.exists() or out.is_symlink():
        raise ConfigurationError(f"{out}: is there; name another file, or remove it")
    part = out.with_name(out.name + ".part")
    with _told(out):
        try:
            number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigurationError(f"{part}: is being written; remove it if what wrote it has ended") from None
        try:
            with os.fdopen(number, "wb") as file:
                writer = Writer(file)
                yield writer
                file.flush()
                os.fsync(file.fileno())
            if writer.lines:
                part.replace(out)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        why = (exc.strerror or type(exc).__name__).lower()
        raise Unavailable(
            f"{out}: can not be written ({why}); nothing was kept, so make room or name another"
        ) from None
