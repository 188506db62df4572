"""What is asked of people before they see, hold or erase: a reason in words, and a time that ends."""

from __future__ import annotations

import re

from gateway.errors import InvalidRequest
from gateway.records.events import REASON_LONGEST

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SHORTEST = 5
"""Characters that a reason has at least; `gateway.records.events.REASON_LONGEST` at most."""


def check_reason(text: object) -> str:
    """Give a reason without the spaces around it; InvalidRequest where it is too short, too long or not printable."""
    reason = text.strip() if isinstance(text, str) else ""
    if not SHORTEST <= len(reason) <= REASON_LONGEST or not reason.isprintable():
        raise InvalidRequest(
            f"a reason has {SHORTEST} to {REASON_LONGEST} printable characters; say what it is for", param="reason"
        )
    return reason


def check_minutes(minutes: object, most: int) -> int:
    """Give a number of minutes from 1 to `most`; InvalidRequest where it is none."""
    if type(minutes) is not int or not 1 <= minutes <= most:
        raise InvalidRequest(f"`minutes` is a whole number from 1 to {most}", param="minutes")
    return minutes


def is_id(word: str) -> bool:
    """Tell whether `word` has the form of a record's id; a database may stumble over what has not."""
    return _ID.fullmatch(word) is not None


def shown(word: str) -> str:
    """Give a caller's word as a message quotes it: at most 64 characters, all printable."""
    return "".join(c if c.isprintable() and c != "`" else "�" for c in word[:64])
