"""An issuer's public keys (JWKS, RFC 7517): fetched beside the requests, kept for a while, and matched strictly.

An unknown key id makes the keys be asked for again, at most once in the issuer's `cooldown`, however many tokens come
with made-up ids: nobody can make the gateway ask the issuer more often. All who wait share one fetch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jwt
import msgspec
from msgspec import Struct

from gateway.errors import Unavailable, describe
from gateway.identity.model import Issuer

FETCH_SECONDS = 5.0
"""The time in which an issuer must give its keys, in seconds."""

MAX_BYTES = 256 * 1024
_MAX_KEYS = 100
_RETRY = 5.0  # seconds after a failed fetch before the next
_log = logging.getLogger("gateway.identity")

_FITS: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
        "ES256": ("EC", "P-256"),
        "ES384": ("EC", "P-384"),
        "ES512": ("EC", "P-521"),
        "EdDSA": ("OKP", None),
    }
)
"""By algorithm: the type of key, and its curve, that it is used with."""

Fetch = Callable[[], Awaitable[bytes]]


class _Jwk(Struct, frozen=True, kw_only=True):
    kty: str
    kid: str | None = None
    alg: str | None = None
    use: str | None = None
    key_ops: tuple[str, ...] | None = None
    crv: str | None = None
    d: Any = None


class _Jwks(Struct, frozen=True, kw_only=True):
    keys: tuple[msgspec.Raw, ...]


class PublicKey(Struct, frozen=True, kw_only=True):
    """A key as it was published: its id, what it is for, and its numbers."""

    kid: str | None
    kty: str
    crv: str | None
    alg: str | None
    numbers: dict[str, Any]

    def serves(self, algorithm: str) -> bool:
        """Tell whether signatures of `algorithm` are checked with it."""
        kty, crv = _FITS[algorithm]
        return self.kty == kty and (crv is None or self.crv == crv) and self.alg in (None, algorithm)


def read_keys(data: bytes) -> tuple[PublicKey, ...]:
    """Read a JWKS; keys that are not for checking signatures, or are no public keys, are left out.

    Raises ValueError where it is none, or holds no key that can be used.
    """
    try:
        entries = msgspec.json.decode(data, type=_Jwks).keys[:_MAX_KEYS]
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("no JWKS") from None
    found = []
    for raw in entries:
        try:
            key = msgspec.json.decode(raw, type=_Jwk)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        usable = key.use in (None, "sig") and (key.key_ops is None or "verify" in key.key_ops) and key.d is None
        if usable and key.kty in ("RSA", "EC", "OKP"):
            numbers = msgspec.json.decode(raw)
            found.append(PublicKey(kid=key.kid, kty=key.kty, crv=key.crv, alg=key.alg, numbers=numbers))
    if not found:
        raise ValueError("no usable key")
    return tuple(found)


class KeySet:
    """The keys of one issuer. `fetch` gives the JWKS; `clock` is monotonic, in seconds."""

    def __init__(self, issuer: Issuer, fetch: Fetch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._made: dict[tuple[int, str], jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Give the one key with this id that serves `algorithm`, None where there is none, or where there are two.

        Without an id it must be the only key for the algorithm. Raises Unavailable where the keys can not be had, and
        those of before are too old.
        """
        if self._too_old():
            await self._refresh()
            if self._too_old():
                raise self._away()
        elif self._fetched is not None and self._clock() - self._fetched >= self._issuer.refresh.seconds:
            self._start()
        key = self._match(kid, algorithm)
        if key is None and await self._refresh():
            key = self._match(kid, algorithm)
        if key is None and self._failed:
            raise self._away()  # the key may be a new one, which is not known only because the issuer does not answer
        return key

    async def close(self) -> None:
        """Give up a fetch that is on its way."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _away(self) -> Unavailable:
        return Unavailable(
            f"the keys of the identity provider `{self._issuer.id}` can not be had, so its token can not be checked; "
            "ask again in a moment, or use an API key"
        )

    def _too_old(self) -> bool:
        return self._fetched is None or self._clock() - self._fetched > self._issuer.stale.seconds

    def _match(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        places = [
            place for place, key in enumerate(self._keys) if key.serves(algorithm) and (kid is None or key.kid == kid)
        ]
        if len(places) != 1:
            return None
        name = (places[0], algorithm)
        if name not in self._made:
            try:
                self._made[name] = jwt.PyJWK(self._keys[places[0]].numbers, algorithm=algorithm)
            except Exception as exc:  # noqa: BLE001 - what is published may be anything, and then it is no key
                _log.warning("a key of the issuer %s can not be used: %s", self._issuer.id, describe(exc))
                return None
        return self._made[name]

    async def _refresh(self) -> bool:
        """Ask for the keys, or wait for who is asking; False where it is too early to ask again."""
        task = self._start()
        if task is None:
            return False
        await asyncio.shield(task)
        return True

    def _start(self) -> asyncio.Task[None] | None:
        if self._task is not None and not self._task.done():
            return self._task
        now = self._clock()
        pause = min(_RETRY, self._issuer.cooldown.seconds) if self._failed else self._issuer.cooldown.seconds
        if self._tried is not None and now - self._tried < pause:
            return None
        self._tried = now
        self._task = asyncio.get_running_loop().create_task(self._load(), name=f"keys of {self._issuer.id}")
        return self._task

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = read_keys(await self._fetch())
        except Exception as exc:  # noqa: BLE001 - whatever it is, the keys of before hold on for their time
            self._failed = True
            _log.warning("the keys of the issuer %s can not be had: %s", self._issuer.id, describe(exc))
            return
        self._keys, self._made = keys, {}
        self._fetched, self._failed = self._clock(), False


def file_fetch(path: Path) -> Fetch:
    """Give what reads a JWKS from a file."""

    def read() -> bytes:
        with path.open("rb") as handle:
            return handle.read(MAX_BYTES + 1)

    async def fetch() -> bytes:
        data = await asyncio.to_thread(read)
        if len(data) > MAX_BYTES:
            raise ValueError("larger than a JWKS")
        return data

    return fetch


class UrlFetcher:
    """Fetches JWKS by HTTP: no redirects, no proxies of the environment, no compression, at most `MAX_BYTES`."""

    def __init__(self) -> None:
        self._session: Any = None

    def of(self, url: str) -> Fetch:
        """Give what fetches from `url`."""

        async def fetch() -> bytes:
            import aiohttp

            if self._session is None:
                timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
                headers = {"accept": "application/json", "accept-encoding": "identity"}
                self._session = aiohttp.ClientSession(
                    timeout=timeout, headers=headers, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
                )
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise ValueError("another answer than 200")
                data = bytearray()
                async for chunk in answer.content.iter_chunked(16 * 1024):
                    data += chunk
                    if len(data) > MAX_BYTES:
                        raise ValueError("larger than a JWKS")
                return bytes(data)

        return fetch

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()
