"""Answers that are streamed: their source is closed in any case, whether it ran out or the caller has gone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping

from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send


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
        try:
            await super().__call__(scope, receive, send)
        finally:
            try:
                await self._pieces.aclose()
            finally:
                if self._closed is not None:
                    self._closed()
