"""The secret that keys the digests of the log and the hashes of the API keys."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.records.digest import SECRET_BYTES

_HOW = f"expected at least {SECRET_BYTES} random bytes in hex or base64, such as `openssl rand -hex 32` makes"


def _decode(text: str, where: str) -> bytes:
    """Read a secret; the message of the error does not quote it."""
    text = text.strip()
    secret = b""
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        with contextlib.suppress(binascii.Error, ValueError):
            secret = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    if len(secret) < SECRET_BYTES:
        raise ConfigurationError(f"{where}: {_HOW}")
    return secret


def load_secret(data_dir: Path, value: str | None = None) -> bytes:
    """Give the secret: `value` (GATEWAY_SECRET) where it is given, else that of ``secret.key`` in `data_dir`.

    The file is made at the first start, readable by its owner alone; several processes that start at once get the same.
    Keep a copy: without it no digest can be compared and no API key works. Raises ConfigurationError.
    """
    if value:
        return _decode(value, "GATEWAY_SECRET")
    path = data_dir / "secret.key"
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o007:
            raise ConfigurationError(f"`{path}` can be read by everybody; run `chmod 600 {path}`")
        return _decode(path.read_text(encoding="ascii"), f"`{path}`")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise ConfigurationError(f"`{path}`: can not be read or made ({why}); set GATEWAY_SECRET instead") from None


def _make(path: Path) -> None:
    """Write a new secret beside its place, then link it there: the file is whole or is not, and never changes."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its secret counts
            os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
