"""An answer while it is written: its tokens, when it ends, its text, and how much of the text is settled."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from msgspec import Struct, structs

from gateway.plugin import Sampling, TokenLogprob


class Written(Struct, frozen=True, kw_only=True):
    """One finished answer: its text, the tokens it took, whether it ended by itself, and log-probabilities if asked."""

    text: str
    tokens: int
    ended: bool
    logprobs: tuple[TokenLogprob, ...] | None = None


class Answer:
    """Collects the tokens of one answer and says when it is complete.

    Text is settled where no later token can change it: a character whose bytes have not all come is held back, and so
    is what may turn out to be the beginning of a stop string. What `take` gives adds up to the text of `written`.
    """

    def __init__(self, sampling: Sampling, most: int) -> None:
        self._stop = tuple(stop for stop in sampling.stop if stop)
        self._longest = max(map(len, self._stop), default=1)
        self._most = most
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._logprobs: list[TokenLogprob] | None = None if sampling.logprobs is None else []
        self._text = ""
        self._given = 0
        self._count = 0
        self.written: Written | None = None

    def add(self, piece: bytes | None, told: Callable[[], TokenLogprob] | None = None) -> bool:
        """Take the next token's bytes, None where it ends the answer; true where the answer is complete.

        `told` gives its log-probability; its text is filled in here.
        """
        self._count += 1
        searched = len(self._text)
        fresh = self._decoder.decode(piece or b"", final=piece is None or self._count >= self._most)
        self._text += fresh
        if self._logprobs is not None:
            _keep(self._logprobs, fresh, None if piece is None else told)
        cut = self._cut(max(0, searched - self._longest + 1))
        if cut is not None:
            self._text = self._text[:cut]
        if piece is None or cut is not None or self._count >= self._most:
            self._finish(ended=piece is None or cut is not None)
        return self.written is not None

    def take(self) -> str:
        """Give the settled text that was not given before."""
        until = len(self._text) - (0 if self.written is not None else self._held())
        fresh = self._text[self._given : until]
        self._given = max(self._given, until)
        return fresh

    def _cut(self, start: int) -> int | None:
        found = [at for at in (self._text.find(stop, start) for stop in self._stop) if at >= 0]
        return min(found) if found else None

    def _held(self) -> int:
        """Count the last characters that may be the beginning of a stop string."""
        for length in range(min(self._longest - 1, len(self._text)), 0, -1):
            if any(stop.startswith(self._text[-length:]) for stop in self._stop):
                return length
        return 0

    def _finish(self, *, ended: bool) -> None:
        logprobs = None if self._logprobs is None else tuple(_spelling(self._logprobs, len(self._text)))
        self.written = Written(text=self._text, tokens=self._count, ended=ended, logprobs=logprobs)


def _keep(logprobs: list[TokenLogprob], fresh: str, told: Callable[[], TokenLogprob] | None) -> None:
    if told is not None:
        logprobs.append(structs.replace(told(), token=fresh))
    elif fresh and logprobs:  # the end came inside a character: its bytes belong to the token before
        logprobs[-1] = structs.replace(logprobs[-1], token=logprobs[-1].token + fresh)


def _spelling(logprobs: list[TokenLogprob], length: int) -> list[TokenLogprob]:
    """Give as many tokens as spell `length` characters, the last of them cut."""
    kept: list[TokenLogprob] = []
    for place in logprobs:
        if length <= 0:
            break
        kept.append(structs.replace(place, token=place.token[:length]))
        length -= len(place.token)
    return kept
