"""One request to one server over a pooled session: sent, checked, and read under every bound of time and size."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
from msgspec import Struct
from yarl import URL

from gateway.plugin import Ended, Piece
from gateway_openai.chunks import Pieces, pieces_of
from gateway_openai.errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamNonsense,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnreachable,
)
from gateway_openai.faults import TOLD, fault_of
from gateway_openai.sse import Events
from gateway_openai.wire import decode

MOST = 8 * 2**20
"""The largest answer that is read, in bytes; of a stream, for each choice."""

_BIG = 2**16  # bytes above which a body is handed over bit by bit, so that the event loop turns in between
_ENDING = 5.0  # seconds to wait for the usage and the end of a stream whose choices have all ended
_LINGER = 0.05  # seconds in which a connection may come to its end, to be used again
_TELLING = 5.0  # seconds in which a refusal may say why


class Limits(Struct, frozen=True, kw_only=True):
    """The bounds of one request, in seconds, and its end in the event loop's time, None for none.

    `headers` is from the start to the first byte, `first_token` from the start to the first sign of the model in a
    stream, `body` between two pieces.
    """

    headers: float
    first_token: float
    body: float
    end: float | None

    def until(self, seconds: float, since: float | None = None) -> float:
        """Give the time at which `seconds` have passed (`since` then, else from now on), the end at the latest."""
        due = (asyncio.get_running_loop().time() if since is None else since) + seconds
        return due if self.end is None else min(due, self.end)


@asynccontextmanager
async def _faults(until: float, *, begun: bool = False) -> AsyncIterator[None]:
    """Make what aiohttp raises a fault of this stage's; `begun` says that a part of the answer was produced."""
    try:
        async with asyncio.timeout_at(until):
            yield
    except aiohttp.ConnectionTimeoutError:  # the server never took the request: another one can be asked
        raise UpstreamUnreachable("the server can not be reached in time") from None
    except TimeoutError:
        raise UpstreamTimeout("the server did not answer in time") from None
    except (aiohttp.ClientError, OSError):
        # its message may hold what the server sent, so only the kind of fault is kept
        if begun:
            raise UpstreamCut("the answer broke off") from None
        raise UpstreamUnreachable("the server can not be reached, or broke off") from None


async def open_response(
    session: aiohttp.ClientSession, url: URL, body: bytes, headers: Mapping[str, str], until: float
) -> aiohttp.ClientResponse:
    """Send a request and give its response, which has status 200 and is for the caller to close.

    Raises:
        UpstreamError: there is none.
    """
    data = io.BytesIO(body) if len(body) > _BIG else body
    async with _faults(until):
        response = await session.post(url, data=data, headers=headers, allow_redirects=False)
    if response.status == 200:
        return response
    try:
        told = await _told(response) if response.status in UpstreamRefused.CODES else b""
    finally:
        response.release()
    raise fault_of(response.status, response.headers, told, now=lambda: datetime.now(UTC))


async def _told(response: aiohttp.ClientResponse) -> bytes:
    """Read why a request was refused, as far as it comes quickly."""
    told = bytearray()
    try:
        async with asyncio.timeout(_TELLING):
            while len(told) < TOLD and (piece := await response.content.readany()):
                told += piece
    except (TimeoutError, aiohttp.ClientError, OSError):
        return b""
    return bytes(told)


async def read_whole(response: aiohttp.ClientResponse, limits: Limits) -> bytes:
    """Read a response to its end.

    Raises:
        UpstreamTooLarge: it is over 8 MiB.
        UpstreamError: it does not come to its end.
    """
    if response.content_length is not None and response.content_length > MOST:
        raise UpstreamTooLarge("the answer is over 8 MiB")
    whole = bytearray()
    while True:
        async with _faults(limits.until(limits.body)):
            piece = await response.content.readany()
        if not piece:
            return bytes(whole)
        whole += piece
        if len(whole) > MOST:
            raise UpstreamTooLarge("the answer is over 8 MiB")


class Streamed:
    """A streamed answer that is being read, from its first sign on. `close` ends it at once, and its connection."""

    def __init__(self, response: aiohttp.ClientResponse, pieces: Pieces, limits: Limits, *, n: int) -> None:
        self._response = response
        self._pieces = pieces
        self._limits = limits
        self._events = Events(most=n * MOST)
        self._ready: list[Piece | Ended] = []
        self._fault: UpstreamError | None = None
        self._over = False
        self._told = False

    async def begin(self, since: float) -> None:
        """Read until the model has written something; the request was begun at `since`, in the event loop's time.

        Raises:
            UpstreamError: it has not, so another server can be asked.
        """
        due = self._limits.until(self._limits.first_token, since)
        while not (self._pieces.signs or self._over):
            await self._read(due)
            if self._fault is not None and not self._ready:
                raise self._fault

    async def more(self) -> list[Piece | Ended]:
        """Give what was written further; an `Ended` is the last of all, and nothing comes after it.

        Raises:
            UpstreamError: the answer does not come to its end. What came before was given.
        """
        loop = asyncio.get_running_loop()
        left, signs = self._limits.body, self._pieces.signs
        while not (self._ready or self._fault or self._over):
            since = loop.time()
            await self._read(self._limits.until(min(left, _ENDING) if self._pieces.whole else left))
            left -= loop.time() - since
            if self._pieces.signs != signs:  # a keep-alive or an empty chunk says nothing of the model
                left, signs = self._limits.body, self._pieces.signs
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        if self._fault is not None:
            raise self._fault
        if self._told:
            return []
        self._told = True
        await self._linger()
        return [self._pieces.ended()]

    def close(self) -> None:
        """Give the connection back where the response has come to its end, and close it where it has not."""
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()

    async def _read(self, due: float) -> None:
        """Read what is there. A fault waits until the pieces before it are given."""
        try:
            async with _faults(due, begun=self._pieces.signs > 0):
                chunk = await self._response.content.readany()
        except (UpstreamTimeout, UpstreamUnreachable, UpstreamCut) as fault:
            self._over = self._pieces.whole  # nothing of the answer is missing but its usage
            self._fault = None if self._over else fault
            return
        try:
            for event in self._events.feed(chunk) if chunk else self._events.end():
                if event.strip() == "[DONE]":
                    self._over = True
                    break
                self._ready.extend(self._pieces.add(event))
            self._over = self._over or not chunk
            if self._over:
                self._pieces.ended()
        except UpstreamError as fault:
            self._fault = fault

    async def _linger(self) -> None:
        """Let the connection come to its end, so that it can be used again: most servers end right after the mark."""
        try:
            async with asyncio.timeout(_LINGER):
                await self._response.content.wait_eof()
        except (TimeoutError, aiohttp.ClientError, OSError):
            return


class Given:
    """A whole answer, from a server that gives no stream. It reads like one."""

    def __init__(self, response: aiohttp.ClientResponse, items: list[Piece | Ended]) -> None:
        self._response = response
        self._items = items

    async def more(self) -> list[Piece | Ended]:
        """Give all of it, and nothing more when asked again."""
        items, self._items = self._items, []
        return items

    def close(self) -> None:
        """Give the connection back."""
        self._response.release()


async def start_stream(
    response: aiohttp.ClientResponse, limits: Limits, since: float, *, model: str, n: int, calls_by_id: bool
) -> Streamed | Given:
    """Read a response until the model has written something. Closes it where that comes to nothing.

    Raises:
        UpstreamError: the response is no stream and no completion, or ends before anything was written.
    """
    kind = response.content_type
    if kind not in ("text/event-stream", "application/json"):
        response.close()
        raise UpstreamNonsense("the answer is not a stream of server-sent events")
    try:
        if kind == "application/json":
            body = await read_whole(response, limits)
            return Given(response, list(pieces_of(decode(body, model=model, n=n))))
        streamed = Streamed(response, Pieces(n, model=model, calls_by_id=calls_by_id), limits, n=n)
        await streamed.begin(since)
    except BaseException:
        response.close()
        raise
    return streamed
