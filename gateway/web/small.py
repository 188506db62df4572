"""Small JSON bodies, such as what people send about decisions: read strictly into a type."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from litestar.connection import Request as HttpRequest

from gateway.errors import InvalidRequest, TooLarge
from gateway.web.body import InFlight
from gateway.wire.strict import read_object

LARGEST = 64 * 1024
"""Bytes of a small body."""

_T = TypeVar("_T")


def small_bodies(in_flight: int) -> InFlight:
    """Bound small bodies: so many at once, each of `LARGEST` bytes at most."""
    return InFlight(in_flight, LARGEST)


async def read_small(request: HttpRequest[Any, Any, Any], bodies: InFlight, kind: type[_T] | Any) -> _T:
    """Read the body as `kind`.

    Raises InvalidRequest with the field that is wrong, TooLarge, and TooMany.
    """
    with bodies.place() as place:
        try:
            body = await place.read(request)
        except TooLarge:
            raise TooLarge(f"the body is over {LARGEST} bytes; send less", code="request_too_large") from None
    try:
        found: _T = msgspec.convert(read_object(body), kind, strict=True)
    except msgspec.ValidationError as exc:
        told, _, where = str(exc).partition(" - at ")
        field = where.strip("`").removeprefix("$").lstrip(".") or None
        place_ = f" at `{field}`" if field else ""
        raise InvalidRequest(f"{told[0].lower()}{told[1:]}{place_}; correct the body", param=field) from None
    return found
