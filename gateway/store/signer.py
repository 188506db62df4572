"""The key that signs the log's checkpoints: where it lies, and how a database knows it for its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import ConfigurationError, Unavailable
from gateway.records.note import Signer, Verifier, parse_vkey, sign
from gateway.store import faults
from gateway.store.engine import place, writer
from gateway.store.migrate import TROUBLE
from gateway.store.tables import log_keys

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_LOST = (
    "restore the file from a copy; where there is none, `gateway log rotate-key --lost-key` begins a new key, and "
    "`gateway log verify` tells the break for ever unless the new key is trusted by name"
)


class KeySource(Protocol):
    """Where a private key lies."""

    def load(self, due: Verifier | None) -> Ed25519PrivateKey | None:
        """Give the key, None where there is none. `due` is the one that the database expects."""
        ...

    def create(self) -> Ed25519PrivateKey:
        """Give the key, made now where there is none."""
        ...

    @property
    def where(self) -> str:
        """Tell people where it lies."""
        ...


class DerivedKey:
    """A key derived from the gateway's secret: for tools and tests that bring no file. It can not be rotated."""

    where = "the secret"

    def __init__(self, secret: bytes) -> None:
        self._seed = hmac.digest(secret, b"gateway log key v1", hashlib.sha256)

    def load(self, due: Verifier | None) -> Ed25519PrivateKey | None:
        """Give the key."""
        del due
        return Ed25519PrivateKey.from_private_bytes(self._seed)

    def create(self) -> Ed25519PrivateKey:
        """Give the key."""
        return Ed25519PrivateKey.from_private_bytes(self._seed)


class FileKey:
    """A key in a file: PKCS8 PEM, for its owner alone. A rotation puts the next one beside it first (``.next``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next = path.with_name(path.name + ".next")

    @property
    def where(self) -> str:
        """Tell people where it lies."""
        return f"`{self.path}`"

    def load(self, due: Verifier | None) -> Ed25519PrivateKey | None:
        """Give the key, None where there is no file. Raises ConfigurationError where it can not be used.

        A rotation that was cut short after the database took the next key is brought to its end here.
        """
        if due is not None and self.next.exists():
            made = _read(self.next)
            if made is not None and made.public_key().public_bytes_raw() == due.public:
                self.take_next()
                return made
        return _read(self.path)

    def create(self) -> Ed25519PrivateKey:
        """Give the key, made now where there is none; several processes that start at once get the same."""
        if not self.path.exists():
            _write(self.path, Ed25519PrivateKey.generate())
        key = _read(self.path)
        if key is None:
            raise ConfigurationError(f"`{self.path}`: the log's key can not be made")
        return key

    def create_next(self) -> Ed25519PrivateKey:
        """Make another key beside this one."""
        with contextlib.suppress(FileNotFoundError):
            self.next.unlink()
        key = Ed25519PrivateKey.generate()
        _write(self.next, key)
        return key

    def take_next(self) -> None:
        """Put the next key in the place of this one, which is gone then: what it could sign can no more be forged."""
        try:
            os.replace(self.next, self.path)  # noqa: PTH105 - Path.replace says the same with less on failure
        except FileNotFoundError:
            return  # another process was first
        except OSError as exc:
            raise ConfigurationError(f"`{self.path}`: can not be replaced ({exc.strerror}); check its owner") from None
        _sync(self.path.parent)


class LogSigner:
    """Signs with the log's key. `trouble` says why it can not, None where it can; with `other` another key is there."""

    def __init__(
        self, source: KeySource, verifier: Verifier | None, signer: Signer | None, trouble: str | None
    ) -> None:
        self._source = source
        self._verifier = verifier
        self._signer = signer
        self.trouble = trouble
        self.other = False

    @property
    def source(self) -> KeySource:
        """Give where the key lies."""
        return self._source

    @property
    def name(self) -> str:
        """Give the log's name: the origin of its checkpoints, and its key's name."""
        return self._key().name

    @property
    def vkey(self) -> str:
        """Give the public key, ``name+id+base64``."""
        return self._key().vkey

    def sign(self, text: str) -> str:
        """Sign `text`, which ends with a newline; give the note. Raises Unavailable where the key is not there."""
        return sign(text, self.signer())

    def signer(self) -> Signer:
        """Give the key to sign with. Raises Unavailable where it is not there."""
        if self._signer is None:
            raise Unavailable(f"nothing can be signed; {self.trouble}")
        return self._signer

    def follow(self, vkey: str) -> None:
        """Load the key that the database has taken since, by a rotation. Raises Unavailable where it is not here."""
        if self._verifier is None or self._verifier.vkey != vkey:
            try:
                fresh = _signer_for(self._source, parse_vkey(vkey))
            except (ConfigurationError, ValueError) as exc:
                raise Unavailable(f"nothing can be signed; {exc}") from None
            self._verifier, self._signer = fresh._verifier, fresh._signer
            self.trouble, self.other = fresh.trouble, fresh.other
        self.signer()

    def _key(self) -> Verifier:
        if self._verifier is None:
            raise Unavailable(f"the log has no key yet; {self.trouble}")
        return self._verifier


async def open_signer(engine: AsyncEngine, source: KeySource, name: str | None, *, strict: bool) -> LogSigner:
    """Find the log's key. The first start makes it, and fixes the log's name.

    `name` is the name asked for, None for any. Where the key is lost or another than the database's last: raises
    ConfigurationError with `strict`, else gives a signer that only tells its trouble.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"GATEWAY_LOG_NAME: `{name}` is no name; use letters, digits, `.`, `-`, `_` and `/`, "
            "such as `clinic.example/log`"
        )
    try:
        vkey = await _last(engine)
        if vkey is None and strict:
            await _begin(engine, source, name)
            vkey = await _last(engine)
    except TROUBLE as exc:
        raise ConfigurationError(f"{place(engine.url)}: {faults.hint(exc)}") from None
    if vkey is None:
        return LogSigner(source, None, None, "start the gateway once, which makes it")
    try:
        due = parse_vkey(vkey)
    except ValueError:
        raise ConfigurationError(
            f"{place(engine.url)}: the table `log_keys` holds no public key of this log; run `gateway log verify`"
        ) from None
    if name is not None and name != due.name:
        raise ConfigurationError(
            f"GATEWAY_LOG_NAME: this log is named `{due.name}` since its first start, and keeps it; unset it"
        )
    try:
        found = _signer_for(source, due)
    except ConfigurationError as exc:
        if strict:
            raise
        return LogSigner(source, due, None, str(exc))
    if strict and found.trouble is not None:
        raise ConfigurationError(f"{place(engine.url)}: {found.trouble}")
    return found


def _signer_for(source: KeySource, due: Verifier) -> LogSigner:
    private = source.load(due)
    if private is None:
        return LogSigner(source, due, None, f"the log's key is not in {source.where}; {_LOST}")
    signer = Signer(due.name, private)
    if signer.verifier != due:
        trouble = (
            f"the key in {source.where} is not the one that signs this log, `{due.vkey}`; "
            f"give that one as GATEWAY_LOG_KEY, or {_LOST}"
        )
        found = LogSigner(source, due, None, trouble)
        found.other = True
        return found
    return LogSigner(source, due, signer, None)


async def _last(engine: AsyncEngine) -> str | None:
    query = sa.select(log_keys.c.vkey).order_by(log_keys.c.number.desc()).limit(1)
    async with engine.connect() as connection:
        found: str | None = await connection.scalar(query)
        return found


async def _begin(engine: AsyncEngine, source: KeySource, name: str | None) -> None:
    signer = Signer(name or f"medvlm-gateway/{secrets.token_hex(4)}", source.create())
    row = {"number": 1, "vkey": signer.verifier.vkey, "size": 0, "at": dt.datetime.now(dt.UTC), "note": None}
    with contextlib.suppress(IntegrityError):  # another process was first: its key counts
        async with writer(engine).begin() as connection:
            await connection.execute(sa.insert(log_keys), row)


def _read(path: Path) -> Ed25519PrivateKey | None:
    try:
        if path.stat().st_mode & 0o007:
            raise ConfigurationError(f"`{path}` can be read by everybody; run `chmod 600 {path}`")
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigurationError(f"`{path}`: can not be read ({exc.strerror}); check its owner and mode") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(
            f"`{path}`: is no Ed25519 key in PKCS8 PEM; `openssl genpkey -algorithm ed25519` makes one"
        )
    return key


def _write(path: Path, key: Ed25519PrivateKey) -> None:
    """Write a key beside its place, then link it there: the file is whole or is not, and never changes."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process was first: its key counts
                os.link(draft, path)
        finally:
            draft.unlink()
        _sync(path.parent)
    except OSError as exc:
        raise ConfigurationError(
            f"`{path}`: can not be made ({exc.strerror}); set GATEWAY_LOG_KEY to another"
        ) from None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
