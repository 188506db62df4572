"""Tokens that are taken once. What was seen is kept until the token would have ended anyway."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from gateway.errors import Unavailable, describe
from gateway.identity.limiter import PATIENCE
from gateway.identity.rates import redis_url

_MOST = 100_000  # tokens in memory
_log = logging.getLogger("gateway.identity")


class Seen(Protocol):
    """Remembers which tokens were taken."""

    async def first(self, issuer: str, jti: str, *, issued: float, until: float) -> bool:
        """Tell whether this token was not taken before, and take it. Times are Unix seconds.

        Raises Unavailable where that can not be known.
        """
        ...

    async def close(self) -> None:
        """Close what was opened."""
        ...


class MemorySeen:
    """Remembers in this process, and so takes no token that was issued before the process began.

    It could not know whether that was taken already. Another process has a memory of its own.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, most: int = _MOST) -> None:
        self._clock = clock
        self._began = clock()
        self._most = most
        self._seen: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    async def first(self, issuer: str, jti: str, *, issued: float, until: float) -> bool:
        """Tell whether this token was not taken before."""
        now = self._clock()
        while self._ends and self._ends[0][0] < now:
            self._seen.discard(heapq.heappop(self._ends)[1])
        if issued < int(self._began):
            return False
        name = _name(issuer, jti)
        if name in self._seen:
            return False
        if len(self._seen) >= self._most:
            raise Unavailable("more single-use tokens are in use than can be remembered; ask again later")
        self._seen.add(name)
        heapq.heappush(self._ends, (until, name))
        return True

    async def close(self) -> None:
        """Nothing was opened."""


class RedisSeen:
    """Remembers in a Redis that all processes share."""

    def __init__(self, url: str) -> None:
        self._url = redis_url(url)
        self._client: Any = None

    async def first(self, issuer: str, jti: str, *, issued: float, until: float) -> bool:
        """Tell whether this token was not taken before."""
        del issued
        lasts = max(1, int(until - time.time()) + 1)
        try:
            async with asyncio.timeout(PATIENCE):
                if self._client is None:
                    import redis.asyncio

                    self._client = redis.asyncio.Redis.from_url(
                        self._url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
                    )
                taken = await self._client.set(f"medvlm-gateway:jti:{_name(issuer, jti)}", b"1", nx=True, ex=lasts)
        except Exception as exc:  # noqa: BLE001 - whatever it is, nobody knows whether the token was taken before
            _log.warning("single-use tokens can not be checked in Redis: %s", describe(exc))
            raise Unavailable("a single-use token can not be checked now; ask again in a moment") from None
        return bool(taken)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()


def _name(issuer: str, jti: str) -> str:
    return hashlib.sha256(f"{issuer}\x00{jti}".encode()).hexdigest()
