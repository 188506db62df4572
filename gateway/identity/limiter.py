"""Rate limits and quotas, by key and by department: counted in this process, or in a Redis that several share.

Sliding windows after the library `limits`: the count of the window before is weighted by how much of it is still in the
last minute (hour, day), so that no burst of twice the rate fits around the turn of a window.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from gateway.errors import TooMany, Unavailable, describe
from gateway.identity.failures import Failures
from gateway.identity.rates import Rate, redis_url, replaced
from gateway.records import Caller

PATIENCE = 1.0
"""Seconds in which Redis must answer."""

_PAUSE = 1.0  # seconds after Redis failed in which it is not asked again, so that not every request waits for it
_PREFIX = "medvlm-gateway"
_log = logging.getLogger("gateway.identity")


class Left(Struct, frozen=True, kw_only=True):
    """What is left of the tightest limit: of `limit` requests `remaining`, until more come free in `reset` seconds."""

    limit: int
    remaining: int
    reset: int


class Limiter:
    """Bounds the requests of keys and departments.

    `key` and `department` are the rates for each; `failures` bounds wrong keys by address. `url` names the Redis that
    counts, None counts in this process. `allow_if_unavailable` lets requests pass, counted in this process alone, while
    Redis is away: off unless asked for, since each process then gives the whole limit once more.
    """

    def __init__(
        self,
        *,
        key: Iterable[Rate] = (),
        department: Iterable[Rate] = (),
        failures: Rate | None = None,
        url: str | None = None,
        allow_if_unavailable: bool = False,
    ) -> None:
        self._key = tuple(key)
        self._department = tuple(department)
        self.failures = Failures(failures)
        self._allow = allow_if_unavailable
        self._url = None if url is None else redis_url(url)
        self._redis: Any = None
        self._shared: Any = None
        self._own: Any = None
        self._away_until = 0.0

    async def spend(self, caller: Caller, cost: int = 1, *, asks: bool) -> Left | None:
        """Count `cost` requests of `caller`, towards the department's limits as well where it `asks` a model.

        Gives what is left, None where there is no limit. Raises TooMany where a limit is reached (nothing is counted
        then), and Unavailable where Redis, which counts, does not answer.
        """
        if cost < 1:
            return None
        rates = [(rate, "key", caller.key) for rate in replaced(self._key, caller.per_minute, caller.per_day)]
        if asks:
            rates += [(rate, "department", caller.department) for rate in self._department]
        if not rates:
            return None
        if self._url is None:
            return await self._spend(self._local(), rates, cost)
        if time.monotonic() < self._away_until:
            return await self._without(rates, cost)
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._spend(self._remote(), rates, cost)
        except TooMany:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever the client raises, it means that nothing was counted
            self._away_until = time.monotonic() + _PAUSE
            _log.warning("the limits can not be counted in Redis: %s", describe(exc))
            return await self._without(rates, cost)

    async def healthy(self) -> bool | None:
        """Tell whether Redis answers; None where none is used, or none is needed."""
        if self._url is None or self._allow:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                self._remote()
                return bool(await self._redis.check())
        except Exception as exc:  # noqa: BLE001 - whatever it is, it does not answer
            _log.warning("the limits can not be counted in Redis: %s", describe(exc))
            return False

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._redis is not None:
            storage, self._redis, self._shared = self._redis, None, None
            await storage.bridge.storage.aclose()

    async def _without(self, rates: list[tuple[Rate, str, str]], cost: int) -> Left | None:
        if self._allow:
            return await self._spend(self._local(), rates, cost)
        raise Unavailable("the limits can not be counted, so nothing is let through; ask again in a moment")

    async def _spend(self, counter: Any, rates: list[tuple[Rate, str, str]], cost: int) -> Left:
        items = [(rate, kind, _item(rate, kind), _short(name)) for rate, kind, name in rates]
        # All are looked at before any is counted: what one limit refuses must not eat up another.
        for rate, kind, item, name in items:
            if not await counter.test(item, name, cost=cost):
                raise await _refusal(counter, rate, kind, item, name, cost)
        counted = []
        for rate, kind, item, name in items:
            if not await counter.hit(item, name, cost=cost):
                raise await _refusal(counter, rate, kind, item, name, cost)
            until, remaining = await counter.get_window_stats(item, name)
            counted.append(Left(limit=rate.amount, remaining=remaining, reset=_seconds(until)))
        return min(counted, key=lambda left: left.remaining)

    def _local(self) -> Any:
        if self._own is None:
            from limits.aio.storage import MemoryStorage
            from limits.aio.strategies import SlidingWindowCounterRateLimiter

            self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        return self._own

    def _remote(self) -> Any:
        if self._shared is None:
            from limits.aio.storage import RedisStorage
            from limits.aio.strategies import SlidingWindowCounterRateLimiter

            self._redis = RedisStorage(
                f"async+{self._url}",
                implementation="redispy",
                key_prefix=_PREFIX,
                socket_timeout=PATIENCE,
                socket_connect_timeout=PATIENCE,
            )
            self._shared = SlidingWindowCounterRateLimiter(self._redis)
        return self._shared


async def _refusal(counter: Any, rate: Rate, kind: str, item: Any, name: str, cost: int) -> TooMany:
    of = "this key" if kind == "key" else "this department"
    if cost > rate.amount:
        return TooMany(
            f"the call counts as {_requests(cost)}, and {of} may make {rate.amount} a {rate.unit}; send fewer at once",
            code="rate_limit_exceeded",
            retry_after=rate.seconds,
        )
    until, _ = await counter.get_window_stats(item, name)
    wait = _seconds(until)
    return TooMany(
        f"{of} may make {_requests(rate.amount)} a {rate.unit}, and has; ask again in {wait} s",
        code="rate_limit_exceeded",
        retry_after=wait,
    )


def _requests(count: int) -> str:
    return f"{count} request" if count == 1 else f"{count} requests"


def _item(rate: Rate, kind: str) -> Any:
    from limits import RateLimitItemPerDay, RateLimitItemPerHour, RateLimitItemPerMinute, RateLimitItemPerSecond

    made = {
        "second": RateLimitItemPerSecond,
        "minute": RateLimitItemPerMinute,
        "hour": RateLimitItemPerHour,
        "day": RateLimitItemPerDay,
    }[rate.unit]
    return made(rate.amount, namespace=kind)


def _short(name: str) -> str:
    """Give a digest for the name: the id of a token's holder does not belong into another database."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _seconds(until: float) -> int:
    return max(1, math.ceil(until - time.time()))
