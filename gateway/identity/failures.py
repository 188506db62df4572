"""Slows the guessing of keys and tokens, by the address that guesses.

Counted are different wrong tokens of one address, and how often each comes. Over the rate, tokens that were not right
before are not looked at until the window ends. Tokens that were right before are: many clients of a hospital come by
the same proxy, and one that guesses, or one that was set up wrongly, must not lock out the others.

It is kept in this process alone and never in a database: it must not become a way to fill one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import TooMany
from gateway.identity.rates import Rate

_PEERS = 4096  # addresses that are remembered; the one that was longest silent is forgotten
_RIGHT = 16384  # tokens that were right before


class _Window:
    __slots__ = ("began", "wrong")

    def __init__(self, began: float) -> None:
        self.began = began
        self.wrong: dict[bytes, int] = {}


class Failures:
    """Counts failed authentications by address; `rate` None counts none. `clock` is monotonic, in seconds."""

    def __init__(self, rate: Rate | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._salt = secrets.token_bytes(16)
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._right: OrderedDict[bytes, None] = OrderedDict()

    def check(self, peer: str, token: str) -> None:
        """Raise TooMany where `peer` has failed too often to be listened to now."""
        window = self._window(peer)
        if self._rate is None or window is None:
            return
        digest = self._digest(token)
        if digest in self._right:
            return
        if max(len(window.wrong), window.wrong.get(digest, 0)) >= self._rate.amount:
            wait = max(1, math.ceil(window.began + self._rate.seconds - self._clock()))
            raise TooMany(
                "too many wrong keys came from this address; correct the key, then ask again later",
                code="rate_limit_exceeded",
                retry_after=wait,
            )

    def failed(self, peer: str, token: str) -> None:
        """Count a token that was wrong."""
        if self._rate is None:
            return
        digest = self._digest(token)
        self._right.pop(digest, None)
        peer = _network(peer)
        window = self._window(peer)
        if window is None:
            window = self._windows[peer] = _Window(self._clock())
            if len(self._windows) > _PEERS:
                self._windows.popitem(last=False)
        self._windows.move_to_end(peer)
        window.wrong[digest] = window.wrong.get(digest, 0) + 1

    def passed(self, token: str) -> None:
        """Note a token that was right."""
        if self._rate is None:
            return
        digest = self._digest(token)
        self._right[digest] = None
        self._right.move_to_end(digest)
        if len(self._right) > _RIGHT:
            self._right.popitem(last=False)

    def _window(self, peer: str) -> _Window | None:
        peer = _network(peer)
        window = self._windows.get(peer)
        if window is None or self._rate is None or self._clock() < window.began + self._rate.seconds:
            return window
        del self._windows[peer]
        return None

    def _digest(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(), digest_size=16, key=self._salt).digest()


def _network(peer: str) -> str:
    """Give what one person holds: an IPv4 address, or the /64 that an IPv6 address is of."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return peer
