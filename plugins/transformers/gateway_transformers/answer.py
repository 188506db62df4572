"""An answer while it is written: its tokens, when it ends, and its text."""

from __future__ import annotations

from typing import Any

from gateway.plugin import Sampling
from gateway_transformers.worker import Written


class Answer:
    """Collects the tokens of one answer and says when it is complete."""

    def __init__(self, tokenizer: Any, sampling: Sampling, most: int, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(s for s in sampling.stop if s)
        self._most = most
        self._ends = ends
        self.tokens: list[int] = []
        self.written: Written | None = None

    def add(self, token: int) -> bool:
        """Take the next token; true where the answer is complete."""
        self.tokens.append(token)
        if token in self._ends:
            self._finish(self._text(self.tokens[:-1]), ended=True)
        elif self._stop and (cut := self._cut()) is not None:
            self._finish(cut, ended=True)
        elif len(self.tokens) >= self._most:
            self._finish(self._text(self.tokens), ended=False)
        return self.written is not None

    def _cut(self) -> str | None:
        text = self._text(self.tokens)
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        return text[: min(found)] if found else None

    def _text(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def _finish(self, text: str, *, ended: bool) -> None:
        self.written = Written(text=text, tokens=len(self.tokens), ended=ended)
