"""Where an export is put: a folder or a zip file that appears whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gateway.errors import InvalidRequest, Unavailable


def create(path: Path) -> IO[bytes]:
    """Open a new file for its owner alone; FileExistsError where something is there."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def synced(file: IO[bytes]) -> None:
    """Close `file` once its bytes are on the disk."""
    with file:
        file.flush()
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """Give the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, body: bytes) -> None:
    """Write a small file."""
    file = create(path)
    file.write(body)
    synced(file)


def target_of(out: Path) -> Path:
    """Check where an export is to be put. Raises InvalidRequest where that is not a new name in a folder."""
    target = Path(os.path.abspath(out.expanduser()))  # noqa: PTH100 - not resolved: what stands there may be a link
    if os.path.lexists(target):
        raise InvalidRequest(f"`{target}` is there already; name a folder or a .zip file that is not there yet")
    if not target.name or not target.parent.is_dir():
        raise InvalidRequest(f"`{target.parent}` is no folder; make it first")
    return target


@contextlib.contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """Give a folder beside `target` to write in, for its owner alone; whatever happens it is gone afterwards.

    Raises Unavailable where the disk is full or can not be written.
    """
    draft = target.with_name(f".{target.name[:80]}.partial-{uuid.uuid4().hex[:8]}")
    try:
        draft.mkdir(mode=0o700)
        yield draft
    except OSError as exc:
        raise Unavailable(f"the export can not be written to `{target}`: {_why(exc)}; nothing is left there") from None
    finally:
        _packed(draft).unlink(missing_ok=True)
        shutil.rmtree(draft, ignore_errors=True)


def publish(draft: Path, target: Path) -> None:
    """Move `draft` to `target` in one step: as a folder, or as one zip file where that is what it is called."""
    if target.suffix.lower() == ".zip":
        made = _packed(draft)
        _pack(draft, made)
    else:
        made = draft
        _sync_folder(draft)
    if os.path.lexists(target):  # since it was checked: a rename would replace it
        raise FileExistsError(errno.EEXIST, "something else was put there meanwhile")
    made.rename(target)
    _sync_folder(target.parent)


def _packed(draft: Path) -> Path:
    return draft.with_name(draft.name + ".zip")


def _why(exc: OSError) -> str:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full, or a quota on it; free some space or name another place"
    return (exc.strerror or type(exc).__name__).lower()


def _pack(folder: Path, path: Path) -> None:
    with create(path) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for one in sorted(folder.iterdir()):
                archive.write(one, one.name)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
