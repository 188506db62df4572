"""How much is taken at once: requests in flight, the bytes of their bodies, and the time a body may take to arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from litestar.connection import Request as HttpRequest
from litestar.exceptions import ClientException, InternalServerException
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE

from gateway.errors import InvalidRequest, TooLarge, TooMany

_T = TypeVar("_T")

BODY_SECONDS = 60.0
"""The time in which a body must arrive, in seconds: a caller that dribbles would hold its place for ever."""

BODIES_AT_ONCE = 8
"""How many bodies of the largest size are held in memory at once, whatever the number of requests in flight."""


class InFlight:
    """Bounds the requests that are worked on at once, and the bytes of their bodies.

    Over the bound a request is told to come again (TooMany) and is not queued: a queue would only move the wait to
    where nobody sees it.
    """

    def __init__(self, requests: int, body_bytes: int) -> None:
        self._requests = requests
        self._body_bytes = body_bytes
        self._bytes_limit = body_bytes * BODIES_AT_ONCE
        self._count = 0
        self._bytes = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.contextmanager
    def place(self) -> Iterator[Place]:
        """Take a place; TooMany where none is free."""
        if self._count >= self._requests:
            raise TooMany(
                "the gateway works on as many requests as it takes; ask again in a moment", code="rate_limit_exceeded"
            )
        self._count += 1
        place = Place(self)
        try:
            yield place
        finally:
            self._count -= 1
            self._bytes -= place.bytes

    def too_large(self) -> TooLarge:
        """Make the exception for a body over the limit."""
        return TooLarge(
            f"the body is over {self._body_bytes} bytes; send fewer or smaller images", code="request_too_large"
        )

    def hold(self, place: Place, size: int) -> None:
        """Count `size` more bytes for `place`; TooLarge or TooMany where they are too many."""
        if place.bytes + size > self._body_bytes:
            raise self.too_large()
        if self._bytes + size > self._bytes_limit:
            raise TooMany(
                "the gateway holds as many bytes of requests as it takes; ask again in a moment",
                code="rate_limit_exceeded",
            )
        place.bytes += size
        self._bytes += size

    async def finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await `work`, which goes on to its end even where the caller has gone: what was asked gets its record."""
        return await asyncio.shield(self.start(work))

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Begin `work` in a task that goes on to its end, and that a stop of the server waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen: where nobody awaits it any more, asyncio would log its message

    async def drain(self, seconds: float) -> None:
        """Wait for the work that goes on, at most `seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)


class Place:
    """One request's place. `bytes` counts what its body holds."""

    __slots__ = ("_in_flight", "bytes")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self.bytes = 0

    async def read(self, request: HttpRequest[Any, Any, Any]) -> bytes:
        """Read a JSON body.

        Raises TooLarge (as soon as the limit is passed, whatever the length that was announced), TooMany, or
        InvalidRequest where the body is not said to be JSON, ends early or does not arrive in `BODY_SECONDS`.
        """
        _check_media(request)
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    self._in_flight.hold(self, len(chunk))
                    chunks.append(chunk)
        except TimeoutError:
            raise InvalidRequest(f"the body did not arrive in {BODY_SECONDS:.0f} s; send it at once") from None
        except ClientException as exc:
            if exc.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
                raise self._in_flight.too_large() from None
            raise InvalidRequest("the `Content-Length` header is not a number; leave it to your HTTP client") from None
        except InternalServerException:  # what Litestar makes of a caller that has gone
            raise InvalidRequest("the body ended early; send it again") from None
        return b"".join(chunks)


def _check_media(request: HttpRequest[Any, Any, Any]) -> None:
    """Let JSON through, and a body of which nothing is said."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise InvalidRequest("the body has a `Content-Encoding`; send it uncompressed", code="unsupported_media_type")
    media, _, options = request.headers.get("content-type", "").partition(";")
    media = media.strip().lower()
    subtype = media.rpartition("/")[2]
    if media and subtype != "json" and not subtype.endswith("+json"):
        raise InvalidRequest(
            "the body is not said to be JSON; send it with `Content-Type: application/json`",
            code="unsupported_media_type",
        )
    name, _, charset = options.partition("=")
    if name.strip().lower() == "charset" and charset.strip(" \"'").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise InvalidRequest("the body is not in UTF-8; send JSON in UTF-8", code="unsupported_media_type")
