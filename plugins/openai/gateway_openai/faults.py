"""What a server's refusal means: by its status and codes, and where servers have no code for it, by their words.

The words are looked at and never kept: no exception holds any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec
from msgspec import Struct

from gateway_openai.errors import UpstreamBusy, UpstreamRefused, UpstreamStatus, UpstreamTooLong

TOLD = 2**16
"""How much of a refusal is read, in bytes."""

_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})  # OpenAI's; llama.cpp's type
_TOO_LONG_PARAMS = frozenset({"input_tokens", "input_text"})  # vLLM's name for the prompt it has counted
# vLLM and older SGLang know only the code 400: "maximum context length is 4096 tokens", "The input (9 tokens) is longer
# than the model's context length", "exceeds the available context size"
_TOO_LONG_WORDS = re.compile(
    r"maximum context length|longer than the model's context length|exceeds the (available|model's) context",
    re.IGNORECASE,
)


class _Error(Struct, frozen=True, kw_only=True):
    message: object = None
    kind: object = msgspec.field(name="type", default=None)
    param: object = None
    code: object = None


class _Body(_Error, frozen=True, kw_only=True):
    """OpenAI's form has an `error`; older vLLM's and SGLang's is flat."""

    error: _Error | str | None = None


_decoder = msgspec.json.Decoder(_Body, strict=True)


def fault_of(
    status: int, headers: Mapping[str, str], body: bytes | str, *, now: Callable[[], datetime]
) -> UpstreamStatus:
    """Give the fault that an answer with this status is. `now` gives the time in UTC, for a date in ``Retry-After``."""
    wait = retry_after(headers.get("Retry-After"), now())
    if status == 429:
        return UpstreamBusy("the server has too many requests", retry_after=wait)
    if status not in UpstreamRefused.CODES:
        return UpstreamStatus(status, retry_after=wait)
    return UpstreamTooLong(status) if _too_long(_read(body)) else UpstreamRefused(status)


def fault_in_stream(event: str) -> UpstreamStatus:
    """Give the fault that an error in the middle of a stream is. One that names no status counts as 500."""
    told = _read(event)
    code = told.code if isinstance(told.code, int) and 400 <= told.code < 600 else None
    if code is None and _too_long(told):
        code = 400
    return fault_of(code or 500, {}, event, now=_utc)


def retry_after(told: str | None, now: datetime) -> float | None:
    """Read the header ``Retry-After``: seconds, or a date. None where it says neither."""
    if told is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", told.strip(), re.ASCII):
        return float(told)
    try:
        due = parsedate_to_datetime(told)
    except ValueError:
        return None
    return max(0.0, (due.replace(tzinfo=due.tzinfo or UTC) - now).total_seconds())


def _utc() -> datetime:
    return datetime.now(UTC)


def _read(body: bytes | str) -> _Error:
    try:
        told = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _Error()
    if isinstance(told.error, str):
        return _Error(message=told.error)
    return told if told.error is None else told.error


def _too_long(told: _Error) -> bool:
    code, kind, param, message = (told.code, told.kind, told.param, told.message)
    if isinstance(code, str) and code in _TOO_LONG_CODES:
        return True
    if isinstance(kind, str) and kind in _TOO_LONG_CODES:
        return True
    if isinstance(param, str) and param in _TOO_LONG_PARAMS:
        return True
    return isinstance(message, str) and _TOO_LONG_WORDS.search(message) is not None
