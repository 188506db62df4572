"""A prompt as a model reads it: tokens, and the stretches of them that come with images."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from msgspec import Struct


class Segment(Struct, kw_only=True):
    """A stretch of a prompt, from token `start` to `end`, that is read by itself: the kept prefix, or the rest.

    `inputs` makes the tensors that the model takes beside the tokens, or is None where there are none.
    """

    start: int
    end: int
    inputs: Callable[[], dict[str, Any]] | None = None


class Read(Struct, frozen=True, kw_only=True):
    """A prompt as `text` and as tokens.

    `mark` counts the tokens that come again in other requests (system turns and demonstrations); `pictures` are the
    digests of the images among them. `segments` are there where the prompt has images, and then cover all of `ids`.
    """

    text: str
    ids: array[int]
    mark: int = 0
    pictures: bytes = b""
    segments: tuple[Segment, ...] = ()
