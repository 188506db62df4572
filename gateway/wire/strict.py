"""Strict reading of a JSON body: what readers could take differently, or what costs too much to read, is refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from gateway.errors import InvalidRequest
from gateway.wire.words import kind, quote

MAX_ITEMS = 250_000
"""A bound on commas and opening brackets: each may cost an object of 56 bytes or more, from two bytes on the wire."""

_LONGEST_NUMBER = 32  # characters
_HOW = "send one JSON object in UTF-8"


def _fail(message: str) -> NoReturn:
    raise InvalidRequest(f"the body is not valid JSON: {message}; {_HOW}", code="invalid_json")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                _fail(f"the key {quote(key)} stands twice in one object")
            seen.add(key)
    return found


def _constant(word: str) -> NoReturn:
    _fail(f"`{word}` is no JSON number")


def _int(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        _fail("a number has too many digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        _fail("a number is too large")
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_int, parse_float=_float)


def _check_surrogates(value: object) -> None:
    """Refuse half of a surrogate pair, written as an escape: it is no character, and can be neither stored nor sent."""
    rest = [value]
    while rest:
        match rest.pop():
            case str() as text:
                try:
                    if not text.isascii():  # known without a look at every character
                        text.encode()
                except UnicodeEncodeError:
                    _fail("a string holds half of a surrogate pair")
            case list() as items:
                rest.extend(items)
            case dict() as members:
                rest.extend(members.keys())
                rest.extend(members.values())


def read_object(body: bytes) -> dict[str, Any]:
    """Read `body` as one JSON object.

    Raises InvalidRequest, saying where, on: anything that is not JSON in UTF-8, NaN and infinities, numbers of absurd
    length, a key that stands twice in one object, unpaired surrogates, deep nesting, more than `MAX_ITEMS` items.
    """
    if not body.strip():
        _fail("it is empty")
    if len(body) > MAX_ITEMS and body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_ITEMS:
        _fail(f"it has more than {MAX_ITEMS} items")
    try:
        text = body.decode()
    except UnicodeDecodeError as exc:
        _fail(f"byte {exc.start} is not UTF-8")
    try:
        value: object = _decoder.decode(text)
    except json.JSONDecodeError as exc:
        told = exc.msg.split(":")[0]
        _fail(f"{told[0].lower()}{told[1:]} at line {exc.lineno} column {exc.colno}".replace("at at", "at"))
    except RecursionError:
        _fail("it is nested too deeply")
    if "\\" in text:  # without an escape, UTF-8 has let no half pair through
        _check_surrogates(value)
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body is {kind(value)}; send one JSON object", code="invalid_json")
    return value
