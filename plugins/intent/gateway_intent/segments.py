"""Cut a text that looks like a jailbreak into pieces that could be requests by themselves."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

MAX_SEGMENTS = 24
"""Pieces judged of one text; a longer wrapping is judged in windows alone after that."""
MIN_WORDS, MAX_WORDS = 4, 80

_QUOTED = re.compile(r"[\"“«](?P<text>[^\"“”«»]{16,600})[\"”»]")
_END = re.compile(r"(?<=[.!?:;])[\"”»')]*\s+|\n+|</?\w[^<>]{0,40}>|<\|[^<>|]{1,40}\|>|\[/?[A-Z]{2,12}\]")


def segments(text: str) -> Iterator[str]:
    """Give what stands in quotation marks, each sentence, and each two sentences in a row: at most `MAX_SEGMENTS`."""
    given = 0
    for piece in _pieces(text):
        if MIN_WORDS <= len(piece.split()) <= MAX_WORDS:
            yield piece
            given += 1
            if given == MAX_SEGMENTS:
                return


def _pieces(text: str) -> Iterator[str]:
    for match in _QUOTED.finditer(text):
        yield match["text"].strip()
    sentences = [piece.strip() for piece in _END.split(text) if piece and piece.strip()]
    yield from sentences
    for first, second in itertools.pairwise(sentences):
        yield f"{first} {second}"
