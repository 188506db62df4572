"""How messages to callers quote what was sent: short, in backticks, never the whole of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 64  # characters of a caller's word that a message repeats


def quote(word: object) -> str:
    """Quote a caller's word in backticks, cut to 64 characters, printable and encodable."""
    text = word if isinstance(word, str) else kind(word)
    shown = "".join(c if c.isprintable() and c != "`" else "�" for c in text[:_LONGEST])
    return f"`{shown}…`" if len(text) > _LONGEST else f"`{shown}`"


def kind(value: object) -> str:
    """Name the JSON type of `value`, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def hint(word: str, names: Iterable[str]) -> str:
    """Give ``; did you mean `x`?`` where one of `names` is close to `word`, else an empty string."""
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.7) if len(word) <= _LONGEST else []
    return f"; did you mean `{close[0]}`?" if close else ""
