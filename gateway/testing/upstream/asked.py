"""What the upstream was asked: a request of HTTP/1.1, read off a stream."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

_MOST = 2**26
"""The largest body that is read, in bytes."""


class BadRequest(Exception):
    """What was sent is no request of HTTP/1.1, or its body is no JSON object where one is needed."""


class Asked(Struct, frozen=True, kw_only=True):
    """A request as it came: `headers` by their names in lower case, and the body as parsed JSON.

    The body is empty where none was sent.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any] = {}

    @property
    def model(self) -> str:
        """Give the model that was asked for, empty where none was named."""
        return str(self.body.get("model") or "")

    @property
    def stream(self) -> bool:
        """Tell whether the answer shall come as server-sent events."""
        return bool(self.body.get("stream"))

    @property
    def tools(self) -> list[dict[str, Any]]:
        """Give the functions that may be called."""
        return [tool["function"] for tool in self.body.get("tools") or () if "function" in tool]

    def text(self) -> str:
        """Give the text of the last message."""
        return " ".join(text for text in map(_text, self._parts(slice(-1, None))) if text is not None)

    def images(self) -> list[bytes]:
        """Give the images of all messages, decoded; `image_url` may be an object or a string, as with Ollama."""
        urls = (part["image_url"] for part in self._parts() if part.get("type") == "image_url")
        return [binascii.a2b_base64((url if isinstance(url, str) else url["url"]).partition(",")[2]) for url in urls]

    def prompt_tokens(self) -> int:
        """Count the prompt: a token for each word, and 256 for each image."""
        texts = map(_text, self._parts())
        return sum(256 if text is None else len(text.split()) for text in texts)

    def _parts(self, which: slice = slice(None)) -> Iterator[dict[str, Any]]:
        for message in (self.body.get("messages") or [])[which]:
            content = message.get("content") or []
            yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


class _Needed(Struct, frozen=True, kw_only=True):
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    model: str = ""
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: dict[str, bool] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None


def check(asked: Asked) -> None:
    """Check of a request for a completion what the answer depends on.

    Raises:
        BadRequest: a field is missing or of a wrong type.
    """
    try:
        msgspec.convert(asked.body, _Needed)
    except msgspec.ValidationError as exc:
        raise BadRequest(f"the body is no request for a completion: {exc}") from None


def _text(part: dict[str, Any]) -> str | None:
    return str(part.get("text", "")) if part.get("type") == "text" else None


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked | None:
    """Read the next request of a connection; None where the client has closed it.

    Raises:
        BadRequest: what came is no request, or too large.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            raise BadRequest("the request ends in its headers") from None
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest("the headers are too long") from None
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest("the first line is no request of HTTP/1.1")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    raw = await _read_body(reader, headers)
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any]) if raw else {}
    except msgspec.MsgspecError:
        raise BadRequest("the body is no JSON object") from None
    return Asked(method=words[0], path=words[1].partition("?")[0], headers=headers, body=body)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        whole = bytearray()
        while size := _number((await reader.readuntil(b"\r\n")).split(b";")[0].strip(), 16):
            if len(whole) + size > _MOST:
                raise BadRequest("the body is too large")
            whole += await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers
        return bytes(whole)
    size = _number(headers.get("content-length", "0").encode(), 10)
    if size > _MOST:
        raise BadRequest("the body is too large")
    return await reader.readexactly(size)


def _number(digits: bytes, base: int) -> int:
    try:
        return int(digits, base)
    except ValueError:
        raise BadRequest("a length is no number") from None
