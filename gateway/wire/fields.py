"""Readers of single fields: a wrong type or range is told with the field's name. None stands for *not given*."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from gateway.errors import InvalidRequest
from gateway.wire.words import hint, kind, quote

Body = Mapping[str, Any]
"""A JSON object as it was read."""


def bad(param: str, message: str, code: str | None = None) -> NoReturn:
    """Refuse the field `param`."""
    raise InvalidRequest(message, param=param, code=code)


def wrong(param: str, value: object, wanted: str) -> NoReturn:
    """Refuse the type or the value of the field `param`."""
    got = quote(value) if isinstance(value, str) else kind(value)
    bad(param, f"`{param}` is {got}; give {wanted}", "invalid_type")


def known(members: Body, allowed: Iterable[str], where: str) -> None:
    """Refuse members that are not `allowed`; `where` is their object's place, empty for the body itself."""
    allowed = tuple(allowed)
    for name in members:
        if name not in allowed:
            param = f"{where}.{name[:64]}" if where else name[:64]
            place = f" in `{where}`" if where else ""
            told = hint(name, allowed) or f"; the gateway takes {', '.join(sorted(allowed))}"
            bad(param, f"unknown field {quote(name)}{place}{told}", "unknown_parameter")


def number(body: Body, name: str, low: float, high: float, *, above: bool = False) -> float | None:
    """Read a number from `low` to `high`; with `above`, `low` itself is out of range."""
    value = body.get(name)
    if value is None:
        return None
    wanted = f"a number {'above' if above else 'from'} {low:g} {'up ' if above else ''}to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        wrong(name, value, wanted)
    if not (low < value if above else low <= value) or value > high or not math.isfinite(value):
        bad(name, f"`{name}` is {value:.6g}; give {wanted}", "out_of_range")
    return float(value)


def integer(body: Body, name: str, low: int, high: int) -> int | None:
    """Read a whole number from `low` to `high`."""
    value = body.get(name)
    if value is None:
        return None
    wanted = f"a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int):
        wrong(name, value, wanted)
    if not low <= value <= high:
        bad(name, f"`{name}` is {value}; give {wanted}", "out_of_range")
    return value


def flag(body: Body, name: str, param: str | None = None) -> bool:
    """Read true or false; what is not given is false."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        wrong(param or name, value, "true or false")
    return bool(value)


def string(value: object, param: str, wanted: str = "a string") -> str:
    """Read a string."""
    if not isinstance(value, str):
        wrong(param, value, wanted)
    return value


def members(value: object, param: str, wanted: str = "an object") -> Body:
    """Read an object."""
    if not isinstance(value, dict):
        wrong(param, value, wanted)
    return value


def items(value: object, param: str, most: int, wanted: str = "a list") -> list[Any]:
    """Read a list of at most `most` items."""
    if not isinstance(value, list):
        wrong(param, value, wanted)
    if len(value) > most:
        bad(param, f"`{param}` has {len(value)} items; give at most {most}", "too_many_items")
    return value
