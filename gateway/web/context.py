"""What a caller says of a request beside its body, in headers ``x-gateway-…``: why, for whom, about which patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from litestar.connection import Request as HttpRequest

from gateway.errors import InvalidRequest
from gateway.records import NOTHING_SAID, Context
from gateway.wire.said import checked
from gateway.wire.words import hint, quote

_PREFIX = b"x-gateway-"
_CODE = "invalid_header"

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "x-gateway-purpose": "purpose",
        "x-gateway-on-behalf-of": "on_behalf_of",
        "x-gateway-patient": "patient",
        "x-gateway-study": "study",
        "x-gateway-task": "task",
        "x-gateway-person": "claimed_person",
        "x-gateway-application": "claimed_application",
    }
)
"""The headers, and the field of `Context` that each fills."""


def read_context(request: HttpRequest[Any, Any, Any]) -> Context:
    """Read the context headers of a request.

    Raises InvalidRequest where one stands twice, is empty or is not what is expected, and where a header looks like one
    of them but is misspelt: what a caller meant to say would be missing in the record.
    """
    return context_in(request.scope["headers"])


def context_in(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """Read the context in raw headers, whose names are in lower case, as `read_context` does."""
    said: dict[str, str] = {}
    for raw, value in headers:
        if not raw.startswith(_PREFIX):
            continue
        name = raw.decode("latin-1")
        field = FIELDS.get(name)
        if field is None:
            _misspelt(name)
            continue
        if field in said:
            _bad(name, f"`{name}` stands twice; send it once")
        said[field] = checked(field, value.decode("latin-1"), name, _CODE)
    return Context(**said) if said else NOTHING_SAID


def _misspelt(name: str) -> None:
    prefix = _PREFIX.decode()
    meant = hint(name.removeprefix(prefix), (known.removeprefix(prefix) for known in FIELDS))
    if meant:
        _bad(name[:64], f"unknown header {quote(name)}{meant.replace('`', f'`{prefix}', 1)}")


def _bad(name: str, message: str) -> NoReturn:
    raise InvalidRequest(message, param=name, code=_CODE)
