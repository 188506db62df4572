"""Ids of decisions: unguessable, and in the order of their time."""

from __future__ import annotations

import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u, so that ids can be read aloud
_ID = re.compile(r"dec_[0-9a-hjkmnp-tv-z]{26}")


def new_decision_id() -> str:
    """Make an id: ``dec_`` and 26 characters, 48 bits of Unix time in milliseconds before 80 random bits.

    The layout is that of ULID, so ids sort as text by the millisecond in which they were made.
    """
    value = ((time.time_ns() // 1_000_000) & ((1 << 48) - 1)) << 80 | secrets.randbits(80)
    return "dec_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def is_decision_id(text: str) -> bool:
    """Tell whether `text` has the form of a decision's id."""
    return _ID.fullmatch(text) is not None
