"""The keys of files and batches: each has one of its own, wrapped by the vault's, and is opened once."""

from __future__ import annotations

import secrets
from collections import OrderedDict

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import Unavailable
from gateway.records.sealing import KEY_BYTES
from gateway.store.kek import KeyRing

_KEPT = 256  # keys that are remembered opened


class OwnKeys:
    """Makes, wraps and opens keys. `keyring` is None where the process was given none."""

    def __init__(self, keyring: KeyRing | None) -> None:
        self._keyring = keyring
        self._open: OrderedDict[str, AESGCM] = OrderedDict()

    def ring(self) -> KeyRing:
        """Give the key ring; Unavailable where there is none."""
        if self._keyring is None:
            raise Unavailable(
                "this process was given no keys for the vault, and what batches hold is encrypted with them; start it "
                "with the gateway's data folder, or with GATEWAY_VAULT_KEY"
            )
        return self._keyring

    def make(self) -> bytes:
        """Make a key."""
        return secrets.token_bytes(KEY_BYTES)

    async def wrap(self, key: bytes, id: str) -> tuple[str, bytes]:
        """Wrap the key of the file or batch `id`; give what wrapped it, and the wrapped key. Raises Unavailable."""
        wrapped = await self.ring().wrap(key, id)
        self._keep(id, AESGCM(key))
        return wrapped

    def known(self, id: str) -> AESGCM | None:
        """Give the cipher of `id` where its key was opened lately."""
        cipher = self._open.get(id)
        if cipher is not None:
            self._open.move_to_end(id)
        return cipher

    async def open(self, id: str, kek: str, wrapped: bytes) -> AESGCM:
        """Give the cipher of `id`. Raises Unavailable where its key can not be had, ValueError where it was changed."""
        cipher = self.known(id)
        if cipher is None:
            cipher = AESGCM(await self.ring().unwrap(wrapped, kek, id))
            self._keep(id, cipher)
        return cipher

    def forget(self, id: str) -> None:
        """Forget the key of `id`."""
        self._open.pop(id, None)

    def _keep(self, id: str, cipher: AESGCM) -> None:
        self._open[id] = cipher
        while len(self._open) > _KEPT:
            self._open.popitem(last=False)
