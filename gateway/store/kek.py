"""The key-encryption keys: what wraps the key of each decision's sealed content.

They come from ``vault.key`` in the data folder, from GATEWAY_VAULT_KEY or GATEWAY_VAULT_KEY_FILE, or a command asks a
key service (GATEWAY_VAULT_KMS). Nothing is read before something is sealed or opened. Several keys may be there: the
first wraps, each opens what it has wrapped.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import secrets
from pathlib import Path

from gateway.errors import ConfigurationError, Unavailable
from gateway.records.sealing import KEY_BYTES, kek_id_of, unwrap, wrap
from gateway.store.kms import KeyService

_HOW = f"expected {KEY_BYTES} random bytes in hex or base64, such as `openssl rand -hex {KEY_BYTES}` makes"
_SERVICE = "kms:"
_SEPARATORS = re.compile(r"[\s,]+")
FILE = "vault.key"
"""The name of the file of keys in the data folder."""


def _decode(text: str, where: str) -> bytes:
    """Read a key; the message of the error does not quote it."""
    key = b""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        with contextlib.suppress(binascii.Error, ValueError):
            key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{where}: {_HOW}")
    return key


def _decode_all(text: str, where: str) -> dict[str, bytes]:
    keys = [_decode(word, where) for word in _SEPARATORS.split(text) if word]
    if not keys:
        raise ConfigurationError(f"{where}: there is no key in it; {_HOW}")
    return {kek_id_of(key): key for key in keys}


class KeyRing:
    """The key-encryption keys of one gateway. Making it reads nothing.

    `value` is GATEWAY_VAULT_KEY, `file` GATEWAY_VAULT_KEY_FILE; without both, ``vault.key`` in `data_dir` holds the
    keys, one a line, the one that wraps first. It is made when a key is first needed, and read again when it has
    changed, so that a running gateway follows a rotation. `service` wraps in place of them where it is given; they open
    what they wrapped.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        value: str | None = None,
        file: Path | None = None,
        service: KeyService | None = None,
    ) -> None:
        self._value = value
        self._given = file
        self._path = data_dir / FILE if file is None else file
        self._service = service
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return "KeyRing(…)"

    @property
    def managed(self) -> bool:
        """Tell whether the keys lie in a file that the gateway itself may write."""
        return self._value is None and self._given is None and self._service is None

    def current(self) -> str:
        """Give the id of the key that wraps. Raises ConfigurationError where there is none."""
        if self._service is not None:
            return f"{_SERVICE}{self._service.kek}"
        return next(iter(self._local()))

    def opens(self, kek: str) -> bool:
        """Tell whether what the key `kek` wrapped can be opened, as far as is known without asking a key service."""
        if kek.startswith(_SERVICE):
            return self._service is not None
        try:
            return kek in self._local(make=False)
        except ConfigurationError:
            return False

    async def wrap(self, key: bytes, id: str) -> tuple[str, bytes]:
        """Wrap the key of the decision `id`; give the id of the key-encryption key, and the wrapped key.

        Raises Unavailable where that can not be done now.
        """
        if self._service is not None:
            kek, wrapped = await self._service.wrap(key)
            return f"{_SERVICE}{kek}", wrapped
        try:
            kek, found = next(iter(self._local().items()))
        except ConfigurationError:
            raise Unavailable(
                "the vault's key can not be read, so content can not be sealed; nothing was answered; tell the "
                "gateway's operator"
            ) from None
        return kek, wrap(key, found, kek, id)

    async def unwrap(self, wrapped: bytes, kek: str, id: str) -> bytes:
        """Open the wrapped key of the decision `id`.

        Raises Unavailable where the key `kek` is not here, and ValueError where it does not fit.
        """
        if kek.startswith(_SERVICE):
            if self._service is None:
                raise _lost(kek)
            return await self._service.unwrap(wrapped, kek.removeprefix(_SERVICE))
        try:
            found = self._local(make=False).get(kek)
        except ConfigurationError:
            found = None
        if found is None:
            raise _lost(kek)
        return unwrap(wrapped, found, kek, id)

    def add(self) -> str:
        """Put a new key first in the file, before those that are there; give its id. Raises ConfigurationError."""
        self._managed_only()
        keys = self._local()
        new = secrets.token_bytes(KEY_BYTES)
        self._write([new, *keys.values()])
        return kek_id_of(new)

    def drop(self, kek: str) -> None:
        """Take a key that no longer wraps out of the file, for ever. Raises ConfigurationError."""
        self._managed_only()
        keys = self._local()
        if kek == next(iter(keys)):
            raise ConfigurationError(f"the key `{kek}` is the one that wraps; make a new one before it is dropped")
        self._write([key for name, key in keys.items() if name != kek])

    def ids(self) -> tuple[str, ...]:
        """Give the ids of the keys that are here, the one that wraps first; none where no file is there yet.

        Raises ConfigurationError where the keys are there and can not be read.
        """
        there = self._value is not None or self._path.exists()
        local = tuple(self._local(make=False)) if there else ()
        return local if self._service is None else (self.current(), *local)

    def _managed_only(self) -> None:
        if not self.managed:
            raise ConfigurationError(
                "the vault's keys are given from outside; put the new key first there, keep the old one behind it"
            )

    def _local(self, *, make: bool = True) -> dict[str, bytes]:
        """Give the keys by their ids, in their order; the file is made where it is the gateway's own and missing."""
        if self._value is not None:
            if not self._keys:
                self._keys = _decode_all(self._value, "GATEWAY_VAULT_KEY")
            return self._keys
        try:
            if make and self._given is None and self._service is None and not self._path.exists():
                self._make()
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                if found.st_mode & 0o007:
                    raise ConfigurationError(f"`{self._path}` can be read by everybody; run `chmod 600 {self._path}`")
                self._keys = _decode_all(self._path.read_text(encoding="ascii"), f"`{self._path}`")
                self._seen = seen
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is no text"
            raise ConfigurationError(f"`{self._path}`: can not be read or made ({why})") from None
        return self._keys

    def _make(self) -> None:
        """Make the file with a first key, whole or not at all; where another process was first, its key counts."""
        draft = self._draft([secrets.token_bytes(KEY_BYTES)])
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, self._path)
        finally:
            draft.unlink()
        self._sync()

    def _write(self, keys: list[bytes]) -> None:
        try:
            self._draft(keys).replace(self._path)
            self._sync()
        except OSError as exc:
            raise ConfigurationError(f"`{self._path}`: can not be written ({exc.strerror})") from None
        self._seen = None

    def _draft(self, keys: list[bytes]) -> Path:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write("".join(f"{key.hex()}\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        return draft

    def _sync(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load_keyring(
    data_dir: Path,
    *,
    value: str | None = None,
    file: Path | None = None,
    kms: str | None = None,
    kms_key: str = "default",
) -> KeyRing:
    """Make the key ring that the settings describe; nothing is read yet. Raises ConfigurationError."""
    service = None if kms is None else KeyService(kms, kms_key)
    return KeyRing(data_dir, value=value, file=file, service=service)


def _lost(kek: str) -> Unavailable:
    return Unavailable(
        f"the content was sealed with the key `{kek}`, which this gateway does not hold; restore that key, or tell the "
        "gateway's operator"
    )
