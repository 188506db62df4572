"""What may leave of a text that still grows, and what has left of it. Pure.

`hold_back` characters at the end are kept, since a finding may still begin in them; and text leaves never into a span
that is to be replaced, but up to its beginning, or with the whole replacement.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.policy.decision import Redaction


class LateFinding(Exception):
    """A span that is to be replaced lies in text that has left already."""


class Leaving:
    """One text on its way out. `left` counts the characters of the model's own text that have left or were replaced."""

    def __init__(self) -> None:
        self.left = 0
        self._said: list[str] = []
        self._done: list[Redaction] = []

    @property
    def said(self) -> str:
        """Give the text as it has left."""
        return "".join(self._said)

    def advance(self, text: str, redactions: Iterable[Redaction], hold_back: int) -> str:
        """Give what may leave further of `text`, of which everything so far was audited.

        `redactions` are spans of the whole of it, sorted and not overlapping; those that end in what has left are done
        already. Raises LateFinding where one begins in what has left, and goes on after it.
        """
        coming = [span for span in redactions if span.end > self.left]
        if coming and coming[0].start < self.left:
            raise LateFinding
        to = max(self.left, len(text) - hold_back)
        for span in coming:
            if span.start < to < span.end:
                to = span.start
        return self._leave(text, [span for span in coming if span.end <= to], to)

    def unsay(self) -> None:
        """Take back what `advance` gave last: nobody took it."""
        self._said.pop()

    def late(self, redactions: Iterable[Redaction]) -> bool:
        """Tell whether one of `redactions` lies, all or in part, in text that has left as it was."""
        return any(span.start < self.left and not self._replaced(span) for span in redactions)

    def finish(self, text: str, redactions: Iterable[Redaction]) -> str:
        """Give the rest of the whole `text`, with its `redactions`. Raises LateFinding where one is late."""
        spans = list(redactions)
        if self.late(spans):
            raise LateFinding
        return self._leave(text, [span for span in spans if span.start >= self.left], len(text))

    def _replaced(self, span: Redaction) -> bool:
        """Tell whether all of a span was replaced when it left."""
        at = span.start
        for done in self._done:
            if done.start <= at < done.end:
                at = done.end
        return at >= span.end

    def _leave(self, text: str, spans: list[Redaction], to: int) -> str:
        pieces, at = [], self.left
        for span in spans:
            pieces += [text[at : span.start], span.replacement]
            at = span.end
        pieces.append(text[at:to])
        self.left = to
        self._done += spans
        out = "".join(pieces)
        if out:
            self._said.append(out)
        return out
