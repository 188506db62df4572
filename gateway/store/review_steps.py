"""What a step of a review takes, what refuses it, and what is told of it."""

from __future__ import annotations

from msgspec import Struct

from gateway.errors import Conflict, InvalidRequest, NotPermitted
from gateway.records import ReviewV1
from gateway.records.events import REASON_LONGEST
from gateway.records.reviews import REASON_SHORTEST, Obstacle, Review, Told

REVIEW_MEANING = "review"
SECOND_MEANING = "second review"


class Stepped(Struct, frozen=True, kw_only=True):
    """A step that took effect: its record, and the state after all steps that are in the log."""

    step: ReviewV1
    review: Review


class History(Struct, frozen=True, kw_only=True):
    """A review with all its records, those without effect included."""

    review: Review
    steps: tuple[Told, ...]


def printable(name: str, text: str, shortest: int, longest: int) -> str:
    """Give a text without the spaces around it; InvalidRequest naming `name` where it is no line of that length."""
    text = text.strip()
    if not shortest <= len(text) <= longest or not text.isprintable():
        raise InvalidRequest(f"`{name}` takes {shortest} to {longest} printable characters, in one line", param=name)
    return text


def reason_if_given(text: str | None) -> str | None:
    """Give a reason where there is one; InvalidRequest where it is too short or long, or no line."""
    return None if text is None else printable("reason", text, REASON_SHORTEST, REASON_LONGEST)


def refuse(found: Obstacle | None) -> None:
    """Raise what stands in the way of a step: NotPermitted, Conflict or InvalidRequest."""
    if found is None:
        return
    if found.kind == "person":
        raise NotPermitted(found.text, code="another_person")
    raise Conflict(found.text) if found.kind == "state" else InvalidRequest(found.text)
