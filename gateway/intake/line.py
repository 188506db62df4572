"""What intake gives: lines of a batch, and the inputs that made none."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gateway.images import Limits
from gateway.wire.messages import MAX_IMAGES

DEFAULT_LINE = 32 << 20
"""Bytes of a line, where the gateway's settings say nothing else."""


class Options(Struct, frozen=True, kw_only=True):
    """What is the same for all lines of one intake.

    `images` is how many images of a series go into its line, 1 to 16; `pixels_only` sends DICOM images as PNG. `most`
    bounds a line in bytes, `limits` one image. `bare_patient` leaves out who issued a patient's number.
    """

    model: str = "auto"
    max_tokens: int | None = None
    task: str | None = None
    purpose: str | None = None
    on_behalf_of: str | None = None
    images: int = 1
    pixels_only: bool = False
    bare_patient: bool = False
    most: int = DEFAULT_LINE
    limits: Limits = Limits()


class Shown(Struct, frozen=True, kw_only=True):
    """What can be told of an image in a line: pixels of the frame that is looked at, bytes of the file, modality."""

    width: int
    height: int
    size: int
    modality: str | None = None


class Line(Struct, frozen=True, kw_only=True):
    """A line of a batch. `data` is its JSON, with no newline; `notes` tell what of the input did not go into it."""

    custom_id: str
    question: str
    images: tuple[Shown, ...]
    context: Mapping[str, str]
    data: bytes
    notes: tuple[str, ...] = ()


class Problem(Struct, frozen=True, kw_only=True):
    """An input that should have made a line. `where` names it, `why` says what to do."""

    where: str
    why: str


class Skipped(Struct, frozen=True, kw_only=True):
    """An input that is not meant to make a line, and why."""

    where: str
    why: str


Item = Line | Problem | Skipped


class Unfit(Exception):
    """Why an input makes no line. The message is for the person who runs the intake, and for no log."""


def spread(count: int, wanted: int) -> tuple[int, ...]:
    """Give `wanted` places, evenly spaced, of `count` things in a row (all where there are no more); one: the middle.

    Never more than a request may hold.
    """
    wanted = min(wanted, count, MAX_IMAGES)
    return tuple((2 * place + 1) * count // (2 * wanted) for place in range(wanted))


def shown_name(text: str, longest: int = 200) -> str:
    """Quote a name or a value from outside in backticks: printable, and cut."""
    kept = "".join(c if c.isprintable() and c != "`" else "�" for c in text[: longest + 1])
    return f"`{kept[:longest]}…`" if len(kept) > longest else f"`{kept}`"
