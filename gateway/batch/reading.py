"""The input file of a batch, line by line: where each lies, and its envelope, read strictly."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from gateway.errors import InvalidRequest
from gateway.records import Context
from gateway.store.batch_shape import Batch
from gateway.wire.fields import known
from gateway.wire.said import said_of_line
from gateway.wire.strict import read_object
from gateway.wire.words import kind, quote

CUSTOM_ID_LONGEST = 512
"""Characters of a line's own id."""

_BOM = b"\xef\xbb\xbf"
_MEMBERS = ("custom_id", "method", "url", "body", "context")
_JUDGED = ("custom_id", "decision")
_PLACE = re.compile(r" at line 1 column (\d+)")


class RawLine(Struct, frozen=True):
    """A line as it lies in the file: its number (from 1), its first byte, and its bytes with their newline.

    `raw` is what it says, without newline; None where it is longer than is read.
    """

    number: int
    start: int
    size: int
    raw: bytes | None

    @property
    def blank(self) -> bool:
        """Tell whether nothing stands in it."""
        return self.raw is not None and not self.raw.strip()


class Envelope(Struct, frozen=True):
    """A line of the input: its id, the body that would be sent live, and what is said of it beside."""

    custom_id: str
    body: dict[str, Any]
    context: Context


class _Body(Struct, frozen=True):
    """Of the body of a line no more than the model."""

    model: str | None = None


class _Line(Struct, frozen=True):
    """Of a line no more than the body."""

    body: _Body


_peek = msgspec.json.Decoder(_Line).decode


class LineError(Exception):
    """A line that is no good: the code and the message for the error file, and its `custom_id` where it has one."""

    def __init__(self, code: str, message: str, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.custom_id = custom_id


async def lines_of(pieces: AsyncIterable[bytes], *, longest: int) -> AsyncIterator[RawLine]:
    """Cut a file into lines as it comes; of a line of more than `longest` bytes only where it lies is kept.

    Lines end with a newline, or the file does. A byte order mark at the start of the file belongs to no line.
    """
    number, start, length = 1, 0, 0
    begun = bytearray()

    def line(tail: bytes, end: int) -> RawLine:
        whole = bytes(begun) + tail
        over = length + len(tail) > longest
        size, place = length + len(tail) + end, start
        if number == 1 and whole.startswith(_BOM):
            whole, size, place = whole[len(_BOM) :], size - len(_BOM), len(_BOM)
        return RawLine(number, place, size, None if over else whole)

    async for piece in pieces:
        at = 0
        while (end := piece.find(b"\n", at)) >= 0:
            found = line(piece[at:end], 1)
            yield found
            number, start, length, at = number + 1, found.start + found.size, 0, end + 1
            begun.clear()
        rest = piece[at:]
        length += len(rest)
        begun += rest if length <= longest else rest[: len(_BOM)]
        if length > longest:
            del begun[len(_BOM) :]  # enough to know a byte order mark by
    if length:
        yield line(b"", 0)


def lines_in(chunk: bytes, first: int, count: int) -> dict[int, bytes]:
    """Cut the bytes of a job into its lines, by number."""
    return dict(zip(range(first, first + count), chunk.split(b"\n"), strict=False))


def read_envelope(raw: bytes, batch: Batch) -> Envelope:
    """Read a line of the input of `batch`. Raises LineError with what is wrong with it."""
    line = _object(raw)
    custom_id = _custom_id(line)
    try:
        known(line, _MEMBERS, "")
        method, url, body = line.get("method"), line.get("url"), line.get("body")
        if method != "POST":
            _bad(f"`method` is {_told(line, 'method')}; give `POST`")
        if url != batch.endpoint:
            _bad(f"`url` is {_told(line, 'url')}; the batch is for `{batch.endpoint}`, give that")
        if not isinstance(body, dict):
            _bad(f"`body` is {_told(line, 'body')}; give the object that would be sent to `{batch.endpoint}`")
        if body.get("stream") is True:
            _bad("`body.stream` is true; a batch has no streams, leave it out")
        return Envelope(custom_id, body, said_of_line(batch.said, line.get("context")))
    except InvalidRequest as exc:
        raise LineError("invalid_line", exc.message, custom_id) from None


def read_judged(raw: bytes) -> str:
    """Read a line of a re-audit: the id of the decision to be judged, which is its `custom_id`. Raises LineError."""
    line = _object(raw)
    custom_id = _custom_id(line)
    try:
        known(line, _JUDGED, "")
        if line.get("decision") != custom_id:
            _bad(f"`decision` is {_told(line, 'decision')}; give the id of the decision, as in `custom_id`")
    except InvalidRequest as exc:
        raise LineError("invalid_line", exc.message, custom_id) from None
    return custom_id


def read_id(raw: bytes, batch: Batch) -> str:
    """Read a line as far as it is checked before anything is tried, and give its `custom_id`. Raises LineError."""
    return read_judged(raw) if batch.kind == "reaudit" else read_envelope(raw, batch).custom_id


def model_of(raw: bytes) -> str | None:
    """Give the model that a line asks for, without a look at anything else; None where it says none.

    What is wrong with the line is told when it is read.
    """
    try:
        return _peek(raw).body.model
    except (ValueError, RecursionError):
        return None


def error_line(line_id: str, custom_id: str | None, number: int, code: str, message: str) -> bytes:
    """Write a line of the error file for a line that has no response."""
    error = {"code": code, "message": f"line {number}: {message}", "line": number}
    return msgspec.json.encode({"id": line_id, "custom_id": custom_id, "response": None, "error": error})


def _object(raw: bytes) -> dict[str, Any]:
    try:
        return read_object(raw)
    except InvalidRequest as exc:
        told = _PLACE.sub(r" at column \1", exc.message.replace("the body is", "it is", 1))
        raise LineError("invalid_line", told) from None


def _custom_id(line: dict[str, Any]) -> str:
    given = line.get("custom_id")
    wanted = f"give each line a string of 1 to {CUSTOM_ID_LONGEST} characters of its own"
    if given is None:
        raise LineError("invalid_line", f"`custom_id` is missing; {wanted}")
    if not isinstance(given, str):
        raise LineError("invalid_line", f"`custom_id` is {kind(given)}; {wanted}")
    if not 0 < len(given) <= CUSTOM_ID_LONGEST:
        raise LineError("invalid_line", f"`custom_id` is {'too long' if given else 'empty'}; {wanted}")
    return given


def _told(line: dict[str, Any], name: str) -> str:
    if name not in line:
        return "missing"
    value = line[name]
    return quote(value) if isinstance(value, str) else kind(value)


def _bad(message: str) -> NoReturn:
    raise InvalidRequest(message)
