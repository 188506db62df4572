"""Read files that an input names, below one folder and nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gateway.intake.line import Unfit, shown_name


class Root:
    """A folder whose files may be read. Links inside it are followed only where they end inside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._real = os.path.realpath(folder)

    def read(self, name: str, most: int) -> bytes:
        """Read the file with the relative path `name` (with `/`), of at most `most` bytes.

        Raises:
            Unfit: the path leads out of the folder, there is no such regular file, it is too large or not readable.
        """
        parts = name.split("/")
        if not name or name.startswith("/") or ".." in parts or "\\" in name or "\x00" in name:
            raise Unfit(
                f"{shown_name(name)} is no relative path below the folder of images; give a file's path from there"
            )
        place = os.path.realpath(Path(self._real, *parts))
        if os.path.commonpath((self._real, place)) != self._real:
            raise Unfit(
                f"{shown_name(name)} is a link that leads out of the folder of images; put the file itself there"
            )
        return read_regular(Path(place), name, most)


def read_regular(path: Path, name: str, most: int) -> bytes:
    """Read a regular file of at most `most` bytes; `name` is how messages call it.

    Raises:
        Unfit: it is none, too large or not readable.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Unfit(f"{shown_name(name)} is no regular file; name a file")
        if found.st_size > most:
            raise Unfit(f"{shown_name(name)} is {found.st_size} bytes, over the limit of {most}; send a smaller file")
        with path.open("rb") as handle:
            return handle.read(found.st_size + 1)  # and not `most`, of which room would be made
    except FileNotFoundError:
        raise Unfit(f"{shown_name(name)} is not there; check its path and the folder of images") from None
    except (OSError, ValueError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__
        raise Unfit(f"{shown_name(name)} can not be read ({why.lower()})") from None
