"""One answer being given: what a personality writes with."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable

import msgspec

from gateway.testing.upstream.asked import Asked
from gateway.testing.upstream.draft import Draft

JSON = "application/json"
EVENTS = "text/event-stream"
_PARTS = 16
_WORDS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 422: "Unprocessable Entity",
          429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
          503: "Service Unavailable"}  # fmt: skip


class Talk:
    """Writes the answer to one request.

    `draft` is the answer as the script says it, which a personality may replace. `number` counts the requests for the
    same model, from 1. `rate` is how many pieces leave in a second, None for as fast as they are taken. `over` says
    that the answer is whole, or was ended on purpose: a client that goes before that has broken off.
    """

    def __init__(
        self, asked: Asked, draft: Draft, writer: asyncio.StreamWriter, *, number: int = 1, rate: float | None = None
    ) -> None:
        self.asked = asked
        self.draft = draft
        self.number = number
        self.rate = rate
        self.over = False
        self._writer = writer
        self._chunked = False

    @property
    def closed(self) -> bool:
        """Tell whether the connection can take no further request."""
        return self._writer.is_closing()

    async def head(
        self, status: int = 200, kind: str = JSON, *, length: int | None = None, extra: Iterable[str] = ()
    ) -> None:
        """Write the status and the headers; without `length` the body comes in chunks."""
        self._chunked = length is None
        lines = [
            f"HTTP/1.1 {status} {_WORDS.get(status, 'Status')}",
            f"content-type: {kind}",
            "transfer-encoding: chunked" if length is None else f"content-length: {length}",
            *extra,
        ]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def raw(self, data: bytes) -> None:
        """Write bytes as they are, and wait while the client takes none."""
        self._writer.write(data)
        await self._writer.drain()

    async def send(self, data: bytes) -> None:
        """Write a part of the body."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """End the body; the connection stays for further requests."""
        self.over = True
        if self._chunked:
            await self.raw(b"0\r\n\r\n")

    async def whole(self, body: bytes, status: int = 200, kind: str = JSON, *, extra: Iterable[str] = ()) -> None:
        """Write an answer that is whole from the start."""
        await self.head(status, kind, length=len(body), extra=extra)
        await self.send(body)
        await self.end()

    async def error(
        self, status: int, message: str, code: str, *, kind: str = "api_error", extra: Iterable[str] = ()
    ) -> None:
        """Write an error in OpenAI's shape."""
        await self.whole(error_body(message, code, kind), status, extra=extra)

    async def open(self, *, extra: Iterable[str] = ()) -> None:
        """Write the headers of the drafted answer, of which `pieces` is the body."""
        if self.asked.stream:
            await self.head(kind=EVENTS, extra=extra)
        else:
            await self.head(length=len(self.draft.body()), extra=extra)

    def pieces(self) -> list[bytes]:
        """Give the drafted answer as it is written: the events of a stream, or the body in up to 16 parts."""
        if self.asked.stream:
            return list(self.draft.events())
        body = self.draft.body()
        size = -(-len(body) // _PARTS)
        return [body[start : start + size] for start in range(0, len(body), size)]

    async def paced(self, pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
        """Give `pieces` at the rate of this answer."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for place, piece in enumerate(pieces):
            if self.rate is not None:
                await asyncio.sleep(start + place / self.rate - loop.time())
            yield piece

    async def say(self) -> None:
        """Write the drafted answer as it should be."""
        if not self.asked.stream:
            await self.whole(self.draft.body())
            return
        await self.open()
        async for piece in self.paced(self.draft.events()):
            await self.send(piece)
        await self.end()

    async def halfway(self) -> None:
        """Write the headers and the first half of the drafted answer."""
        pieces = self.pieces()
        await self.open()
        async for piece in self.paced(pieces[: len(pieces) // 2]):
            await self.send(piece)

    def close(self) -> None:
        """Close the connection, after what is written."""
        self.over = True
        self._writer.close()

    async def reset(self) -> None:
        """Reset the connection: the client reads what is written, and then an error."""
        self.over = True
        transport = self._writer.transport
        transport.set_write_buffer_limits(high=0)
        await self._writer.drain()
        await asyncio.sleep(0.02)  # what is on its way is read, as nobody can wait for the other side's reading
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def error_body(message: str, code: str, kind: str = "api_error") -> bytes:
    """Write an error in OpenAI's shape."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
