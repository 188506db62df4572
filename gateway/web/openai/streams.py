"""Answers that are streamed: their source is closed in any case, whether it ran out or the caller has gone.

A caller that takes nothing for `STALLED` seconds has gone: it would hold its place for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from litestar.response import Response
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Message, Receive, Scope, Send

STALLED = 60.0
"""Seconds in which a caller takes nothing, after which it counts as gone."""


class Streamed(ASGIStreamingResponse):
    """Streams `pieces`, and closes it; `closed` is called after that, also where nothing was sent at all."""

    __slots__ = ("_closed", "_pieces")

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str],
        closed: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(iterator=pieces, media_type=media_type, headers=dict(headers))
        self._pieces = pieces
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""

        async def bounded(message: Message) -> None:
            async with asyncio.timeout(STALLED):
                await send(message)

        try:
            await super().__call__(scope, receive, bounded)
        finally:
            try:
                await self._pieces.aclose()
            finally:
                if self._closed is not None:
                    self._closed()


class Streaming(Response[bytes]):
    """A `Streamed` as the answer of a route that may give another `Response` as well."""

    def __init__(self, streamed: Streamed) -> None:
        super().__init__(b"")
        self._streamed = streamed

    def to_asgi_response(self, *_: Any, **__: Any) -> Streamed:
        """Give what streams; it has its headers already."""
        return self._streamed
