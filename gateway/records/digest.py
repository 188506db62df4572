"""Keyed digests. A bare SHA-256 of a short prompt can be guessed by trying prompts; one keyed with a secret can not."""

from __future__ import annotations

import hashlib
import hmac

SECRET_BYTES = 32


class Digester:
    """HMAC-SHA256 with a key per domain, derived from the gateway's secret: digests of two domains never compare.

    The key of a domain is HMAC-SHA256(secret, "gateway digest v1" 0x00 domain); whoever holds the secret and a text can
    show that a record is about it.
    """

    __slots__ = ("_keys", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_BYTES:
            raise ValueError(f"expected a secret of at least {SECRET_BYTES} bytes")
        self._secret = secret
        self._keys: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return "Digester(…)"

    def digest(self, domain: str, data: bytes) -> str:
        """Give the digest of `data` in `domain`, 64 hex characters."""
        return hmac.digest(self._key(domain), data, hashlib.sha256).hex()

    def _key(self, domain: str) -> bytes:
        key = self._keys.get(domain)
        if key is None:
            message = b"gateway digest v1\x00" + domain.encode()
            key = self._keys[domain] = hmac.digest(self._secret, message, hashlib.sha256)
        return key
