"""The servers behind the stage: where each is, what it is sent, and how it does."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from yarl import URL

from gateway_openai import Config, Server
from gateway_openai.breaker import Breaker
from gateway_openai.choosing import LONGEST_WAIT, again, backoff, choose, ill
from gateway_openai.errors import UpstreamBusy, UpstreamError, UpstreamStatus, UpstreamUnreachable

_log = logging.getLogger("gateway_openai")
_T = TypeVar("_T")


class Upstream:
    """One server. `headers` hold its key."""

    def __init__(self, url: URL, model: str, weight: float, headers: dict[str, str], breaker: Breaker) -> None:
        self.url = url
        self.model = model
        self.weight = weight
        self.headers = headers
        self.breaker = breaker

    def heard(self) -> None:
        """Note the first sign of an answer."""
        if self.breaker.heard():
            _log.warning("the server `%s` answers again", self.url)

    def note(self, fault: UpstreamError, *, probe: int = 0) -> None:
        """Note how a request ended that was not answered."""
        if isinstance(fault, UpstreamStatus) and fault.retry_after is not None:
            self.breaker.rest(fault.retry_after)
        if not ill(fault):
            self.breaker.spared(probe=probe)
        elif self.breaker.failed(probe=probe):
            _log.warning("the server `%s` has failed again and again; it is left alone, and probed", self.url)


class Upstreams:
    """All servers of the stage, and the tries of one request among them."""

    def __init__(self, upstreams: tuple[Upstream, ...], *, retries: int, draw: Callable[[], float]) -> None:
        self._all = upstreams
        self._retries = retries
        self._draw = draw

    async def ask(self, attempt: Callable[[Upstream], Awaitable[_T]], *, until: float | None) -> tuple[Upstream, _T]:
        """Try servers until one answers; give it, and what `attempt` made of it.

        `attempt` raises only where nothing was produced. `until` is the end of the request, in the event loop's time.

        Raises:
            UpstreamError: the last fault, or that every server is left alone.
        """
        tried: set[Upstream] = set()
        fault: UpstreamError | None = None
        for number in range(self._retries + 1):
            found = self._next(tried, fault, number - 1)
            if found is None:
                break
            upstream, wait = found
            if wait and until is not None and asyncio.get_running_loop().time() + wait >= until:
                break
            if wait:
                await asyncio.sleep(wait)
                if upstream.breaker.open:  # others have failed there meanwhile
                    break
            probe = upstream.breaker.begin()
            try:
                answer = await attempt(upstream)
            except UpstreamError as exc:
                upstream.note(exc, probe=probe)
                tried.add(upstream)
                fault = exc
            except BaseException:  # given up: it tells nothing of the server
                upstream.breaker.spared(probe=probe)
                raise
            else:
                upstream.heard()
                return upstream, answer
        raise fault or self._away()

    def _next(self, tried: set[Upstream], fault: UpstreamError | None, number: int) -> tuple[Upstream, float] | None:
        """Give who is tried next, and after how many seconds; None where no try makes sense."""
        chance = "any" if fault is None else again(fault)
        if chance == "no":
            return None
        fresh = self._choose([up not in tried and up.breaker.ready() for up in self._all])
        if fresh is not None:
            return fresh, 0.0
        if chance == "another":
            return None
        rests = [up.breaker.resting() for up in self._all if not up.breaker.open]
        if not rests or min(rests) > LONGEST_WAIT:
            return None
        wait = max(min(rests), 0.0 if fault is None else backoff(number, self._draw()))
        chosen = self._choose([not up.breaker.open and up.breaker.resting() <= wait for up in self._all])
        return None if chosen is None else (chosen, wait)

    def _choose(self, fit: list[bool]) -> Upstream | None:
        place = choose([up.weight for up in self._all], fit, self._draw())
        return None if place is None else self._all[place]

    def _away(self) -> UpstreamError:
        """Give the fault where no server was asked."""
        rests = [up.breaker.resting() for up in self._all if not up.breaker.open]
        if rests:
            return UpstreamBusy("every server asks to be left alone for a while", retry_after=min(rests))
        return UpstreamUnreachable("every server has failed again and again; the next try of one is soon")


def upstreams_of(config: Config, *, clock: Callable[[], float], draw: Callable[[], float]) -> Upstreams:
    """Make the servers that a configuration names.

    Raises:
        ValueError: an address is none, or the environment variable of a key holds none.
    """
    servers = config.upstreams or (Server(base_url=config.base_url or ""),)
    made = tuple(
        Upstream(
            _url(server.base_url),
            server.model or config.model,
            server.weight,
            _headers(server.api_key_env or config.api_key_env),
            Breaker(clock=clock, draw=draw),
        )
        for server in servers
    )
    return Upstreams(made, retries=config.retries, draw=draw)


def _url(base_url: str) -> URL:
    try:
        url = URL(base_url.rstrip("/") + "/chat/completions")
    except ValueError:
        raise ValueError("`base_url` is not an address; write it as `http://host:port/v1`") from None
    if not url.host or url.user or url.password or url.query_string or url.fragment:
        raise ValueError("`base_url` has to be scheme, host and path alone; give a key by `api_key_env`")
    return url


def _headers(key_env: str | None) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if key_env is None:
        return headers
    key = os.environ.get(key_env)
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(f"the environment variable `{key_env}` holds no key; set it, or leave `api_key_env` out")
    return headers | {"authorization": f"Bearer {key}"}
