"""One uploaded file: `multipart/form-data`, read piece by piece and written to the store as it comes.

Nothing of the file is held in memory beyond the piece at hand, and nothing is kept of a file that did not come whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from litestar.connection import Request as HttpRequest
from litestar.exceptions import ClientException, InternalServerException
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE
from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from gateway.errors import InvalidRequest, TooLarge, TooMany
from gateway.store.batch_shape import StoredFile
from gateway.store.file_writer import FileWriter
from gateway.web.openai.objects import PURPOSE, expiry
from gateway.wire.fields import bad
from gateway.wire.words import hint, quote

AT_ONCE = 4
"""How many files one process takes at once: each keeps a disk and, to encrypt it, a core busy."""

IDLE_SECONDS = 60.0
"""How long the next piece of a file may take to come, in seconds. The whole may take any time."""

LEAST = 64 * 1024
"""The least that must come of a file in that time, in bytes."""

AROUND = 64 * 1024
"""Bytes of a body that may come around the file: the other fields, the boundaries and the heads of parts."""

_FIELD_LONGEST = 256  # bytes of a field that is no file
_NAME_LONGEST = 255  # characters
_BOUNDARY_LONGEST = 200  # characters; RFC 2046 allows 70
_PARTS = 8
_UNNAMED = "upload.jsonl"
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_FIELDS = ("purpose", _ANCHOR, _SECONDS)
_HOW = "send `multipart/form-data` with the fields `purpose` and `file`, as OpenAI's clients do"

Begin = Callable[[str, dt.datetime], FileWriter]
"""Makes the writer of a file with this name, which expires then."""


class Gate:
    """Bounds the uploads of one process."""

    def __init__(self, places: int = AT_ONCE) -> None:
        self._free = places
        self._places = places

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Take a place; TooMany where none is free."""
        if not self._free:
            raise TooMany(
                f"the gateway takes {self._places} files at once, and does; send yours again in a moment",
                code="rate_limit_exceeded",
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class Upload:
    """Reads one upload. `most` is how many bytes a file may have, `days` how long it is kept unless its sender says."""

    def __init__(self, request: HttpRequest[Any, Any, Any], begin: Begin, *, most: int, days: int) -> None:
        self._request = request
        self._begin = begin
        self._most = most
        self._days = days
        self._fields: dict[str, str] = {}
        self._said: bytearray | None = None  # the value of the field at hand
        self._name = ""
        self._size = 0
        self._stack = contextlib.AsyncExitStack()
        self._writer: FileWriter | None = None

    async def read(self) -> StoredFile:
        """Read the body and store its file.

        Raises TooLarge as soon as the limit is passed, InvalidRequest for a body that is not what it must be or ends
        early, and Unavailable where the file can not be written. Nothing is kept then.
        """
        boundary = _boundary(self._request)
        self._check_length()
        parser = PushMultipartParser(boundary, max_segment_count=_PARTS)
        async with self._stack:
            try:
                async for chunk in self._chunks():
                    for event in parser.parse(chunk):
                        await self._take(event)
            except ParserLimitReached:
                raise InvalidRequest(f"the body has too many parts, or too long heads of parts; {_HOW}") from None
            except MultipartError:
                raise InvalidRequest(f"the body is malformed multipart; {_HOW}", code="invalid_multipart") from None
            try:
                parser.close()
            except MultipartError:  # the last boundary has not come
                raise _early() from None
            return await self._finish()

    async def _take(self, event: MultipartSegment | bytes | None) -> None:
        """Take what the parser found: the head of a part, some of its bytes, or its end."""
        if isinstance(event, MultipartSegment):
            await self._head(event)
        elif event is None:
            if self._said is not None:
                self._fields[self._name] = _text(self._name, self._said)
        elif self._said is not None:
            if len(self._said) + len(event) > _FIELD_LONGEST:
                bad(self._name, f"`{self._name}` is over {_FIELD_LONGEST} bytes; see OpenAI's API for what it takes")
            self._said += event
        elif self._writer is not None:
            self._size += len(event)
            if self._size > self._most:
                raise self._too_large()
            await self._writer.write(event)

    async def _head(self, part: MultipartSegment) -> None:
        self._name = name = part.name or ""
        if name == "file":
            if self._writer is not None:
                bad("file", "`file` stands twice; send one file a call")
            _check_coding(part)
            self._said = None
            seconds = self._keep()
            expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
            self._writer = await self._stack.enter_async_context(self._begin(_file_name(part.filename), expires))
            return
        if name not in _FIELDS:
            told = hint(name, (*_FIELDS, "file")) or "; the gateway takes purpose, file and expires_after"
            bad(name[:64], f"unknown field {quote(name)}{told}", "unknown_parameter")
        if name in self._fields:
            bad(name, f"`{name}` stands twice; send it once")
        if self._writer is not None and name != "purpose":
            # How long a file is kept is fixed when it begins; `purpose` has one value, and can be looked at later.
            bad("expires_after", "`expires_after` stands behind the file; send it before the file")
        self._said = bytearray()

    def _keep(self) -> int:
        """Tell how many seconds the file is kept."""
        if "purpose" in self._fields:
            self._check_purpose()  # before the file is taken, where it is known
        if _ANCHOR not in self._fields and _SECONDS not in self._fields:
            return self._days * 24 * 3600
        given: dict[str, Any] = {"anchor": self._fields.get(_ANCHOR)}
        text = self._fields.get(_SECONDS)
        if text is not None:
            given["seconds"] = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else text
        return expiry(given, "expires_after")

    def _check_purpose(self) -> None:
        given = self._fields.get("purpose")
        if given is None:
            bad("purpose", f"`purpose` is missing; send `{PURPOSE}`, the one that is taken", "missing_parameter")
        if given != PURPOSE:
            bad("purpose", f"`purpose` is {quote(given)}; send `{PURPOSE}`, the one that is taken")

    async def _finish(self) -> StoredFile:
        self._check_purpose()
        if self._writer is None:
            bad("file", f"there is no field `file`; {_HOW}", "missing_parameter")
        if self._size == 0:
            bad("file", "`file` is empty; send a file with one request a line", "empty_file")
        return await self._writer.finish()

    def _check_length(self) -> None:
        """Refuse a body that is announced to be too long before any of it is read."""
        with contextlib.suppress(ClientException):  # what is no number is told when the body is read
            length = self._request.content_length
            if length is not None and length > self._most + AROUND:
                raise self._too_large()

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"the file is over {self._most} bytes; split it into several batches, or ask the gateway's operator to "
            "raise GATEWAY_MAX_FILE_BYTES",
            code="request_too_large",
            param="file",
        )

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Give the body as it comes, without its empty end."""
        stream = self._request.stream()
        since, brought = time.monotonic(), 0
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    chunk = await anext(stream, None)
            except TimeoutError:
                raise InvalidRequest(
                    f"nothing of the file came for {IDLE_SECONDS:.0f} s; send it again, without a pause"
                ) from None
            except ClientException as exc:
                if exc.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
                    raise self._too_large() from None
                raise InvalidRequest(
                    "the `Content-Length` header is not a number; leave it to your HTTP client"
                ) from None
            except InternalServerException:  # what Litestar makes of a caller that has gone
                raise _early() from None
            if chunk is None:
                return
            if chunk:
                brought += len(chunk)
                yield chunk
            if time.monotonic() - since >= IDLE_SECONDS:
                if brought < LEAST:  # who drips bytes would hold a place for ever
                    raise InvalidRequest(
                        f"less than {LEAST} bytes of the file came in {IDLE_SECONDS:.0f} s; send it over a faster line"
                    )
                since, brought = time.monotonic(), 0


def _early() -> InvalidRequest:
    return InvalidRequest("the body ended early, and nothing of the file was kept; send it again")


def _boundary(request: HttpRequest[Any, Any, Any]) -> str:
    """Read the boundary of the parts out of the head of the request."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise InvalidRequest("the body has a `Content-Encoding`; send it uncompressed", code="unsupported_media_type")
    media, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = str(options.get("boundary", ""))
    known = 0 < len(boundary) <= _BOUNDARY_LONGEST and boundary.isascii() and boundary.isprintable()
    if media != "multipart/form-data" or not known:
        raise InvalidRequest(f"the body is no form with a file; {_HOW}", code="unsupported_media_type")
    return boundary


def _check_coding(part: MultipartSegment) -> None:
    """Refuse a file in another coding than its own bytes: it would be stored as it was coded."""
    for name, value in part.headerlist:
        if name == "Content-Transfer-Encoding" and value.strip().lower() not in ("binary", "8bit", "7bit"):
            bad("file", "`file` has a `Content-Transfer-Encoding`; send its bytes as they are")


def _text(name: str, value: bytearray) -> str:
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        bad(name, f"`{name}` is not in UTF-8; send it in UTF-8")


def _file_name(given: str | None) -> str:
    """Give the last part of a file's name, printable and cut to 255 characters."""
    name = (given or "").replace("\\", "/").rpartition("/")[2]
    name = "".join(c for c in name if c.isprintable()).strip()[:_NAME_LONGEST]
    return _UNNAMED if name in ("", ".", "..") else name
