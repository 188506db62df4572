"""What is known of an answer without its words, and that much of it as a verdict reads it. Pure."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from gateway.policy.evidence import Audited
from gateway.values import Finding


class Outline(Struct, frozen=True, kw_only=True):
    """What is known of an answer without its words: the length of the text of each choice, in characters.

    A finding whose `replacement` is not None could be replaced. `stuck` and `misplaced` name findings that could not
    be, and findings whose part was not in the answer, by stage, kind and part. Of others that is not known.

    `late` names findings that could have been replaced, had their text not left already: in a stream it leaves again.
    `cut`: the gateway ended it before it was whole, and nobody knows how it would have gone on.
    """

    lengths: tuple[int, ...]
    stuck: frozenset[tuple[str, str, str]] = frozenset()
    misplaced: frozenset[tuple[str, str, str]] = frozenset()
    late: frozenset[tuple[str, str, str]] = frozenset()
    cut: bool = False


class Outlined:
    """An answer of which an outline is known; see `gateway.policy.answers.Answer`.

    `replaces` says what is taken for true of a replacement that is not known, `streams` whether text leaves before the
    answer is whole. `guessed` tells whether it mattered what is not known.
    """

    def __init__(self, outline: Outline, *, replaces: bool, streams: bool) -> None:
        self._outline = outline
        self._replaces = replaces
        self._streams = streams
        self.guessed = False

    @property
    def choices(self) -> Collection[int]:
        """See `Answer`."""
        return range(len(self._outline.lengths))

    def holds(self, finding: Finding, word: Audited) -> bool:
        """See `Answer`."""
        here = 0 <= word.choice < len(self._outline.lengths)
        return here and (word.stage, finding.kind, finding.part) not in self._outline.misplaced

    def obstacle(self, finding: Finding, word: Audited, span: tuple[int, int]) -> str | None:
        """See `Answer`."""
        outline, (start, end) = self._outline, span
        text = finding.part == f"choices[{word.choice}].content"
        if not 0 <= start < end or (text and end > outline.lengths[word.choice]):
            return "bad-span"
        place = (word.stage, finding.kind, finding.part)
        if place in outline.late and self._streams:
            return "late"
        if place in outline.late or finding.replacement is not None:
            return None
        if place in outline.stuck:
            return "no-replacement"
        self.guessed = True
        return None if self._replaces else "no-replacement"
