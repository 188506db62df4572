"""An answer while it is written: its tokens, when it ends, its text, and how much of the text is settled."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gateway.plugin import Sampling

BROKEN = "\ufffd"
"""What a decoder writes for bytes that are no whole character yet."""

WINDOW = 64
"""Tokens after which bytes that still make no character are taken for what they are."""


class Written(Struct, frozen=True, kw_only=True):
    """One finished answer: its text, the tokens it took, and whether it ended by itself."""

    text: str
    tokens: int
    ended: bool


class Answer:
    """Collects the tokens of one answer and says when it is complete.

    Text is settled where no later token can change it: a character whose bytes have not all come is held back, and so
    is what may turn out to be the beginning of a stop string. What `take` gives adds up to the text of `written`.
    """

    def __init__(self, tokenizer: Any, sampling: Sampling, most: int, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(s for s in sampling.stop if s)
        self._longest = max(map(len, self._stop), default=1)
        self._most = most
        self._ends = ends
        self._text = ""
        # decoders read a word by its neighbours, so a window of tokens is decoded: `_from` begins it, up to `_read` its
        # text is in `_text` whole, and `_told` characters of the window's text are
        self._from = self._read = self._told = 0
        self._given = 0
        self.tokens: list[int] = []
        self.written: Written | None = None

    def add(self, token: int) -> bool:
        """Take the next token; true where the answer is complete."""
        self.tokens.append(token)
        if token in self._ends:
            self._finish(self._whole(self.tokens[:-1]), ended=True)
            return True
        searched = len(self._text)
        self._grow()
        cut = self._cut(max(0, searched - self._longest + 1))
        if cut is not None:
            self._finish(self._text[:cut], ended=True)
        elif len(self.tokens) >= self._most:
            self._finish(self._whole(self.tokens), ended=False)
        return self.written is not None

    def take(self) -> str:
        """Give the settled text that was not given before."""
        text = self._text if self.written is None else self.written.text
        until = len(text) if self.written is not None else len(text) - self._held()
        fresh = text[self._given : until]
        self._given = max(self._given, until)
        return fresh

    def _grow(self) -> None:
        text = self._decode(self.tokens[self._from :])
        forced = len(self.tokens) - self._from > WINDOW
        settled = text if forced else text.rstrip(BROKEN)
        self._text += settled[self._told :]
        self._told = max(self._told, len(settled))
        if len(settled) == len(text):
            self._from, self._read = self._read, len(self.tokens)
            self._told = len(self._decode(self.tokens[self._from : self._read]))

    def _held(self) -> int:
        """Count the last characters that may be the beginning of a stop string."""
        for length in range(min(self._longest - 1, len(self._text)), 0, -1):
            if any(stop.startswith(self._text[-length:]) for stop in self._stop):
                return length
        return 0

    def _cut(self, start: int) -> int | None:
        found = [at for at in (self._text.find(stop, start) for stop in self._stop) if at >= 0]
        return min(found) if found else None

    def _whole(self, tokens: list[int]) -> str:
        """Give the text of all tokens; where a decoder would now write otherwise what was settled, that stays."""
        text = self._decode(tokens)
        return text if text.startswith(self._text) else self._text

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def _finish(self, text: str, *, ended: bool) -> None:
        self.written = Written(text=text, tokens=len(self.tokens), ended=ended)
