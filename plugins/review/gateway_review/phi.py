"""The stage `phi`: protected health information in an answer, with the words that a policy puts in its place."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from msgspec.structs import replace

from gateway.plugin import Completion, Finding, Prompt, Text, Window
from gateway_review.asked import off_loop
from gateway_review.identifiers import Identifier, identifiers
from gateway_review.rules import WIDEST

SURE = 0.5
"""Identifiers with at least this score are joined where they overlap; a less sure one gives way to them."""


class Phi:
    """Finds identifiers in every text of an answer. Each finding has exact offsets and a `replacement`."""

    def window(self) -> Window:
        """Ask for the widest pattern with its label and what it looks at around, and for three of them before it.

        A pattern may be misled where a stretch cuts a number in two, and then another by what the first one took.
        """
        return Window(characters=WIDEST, overlap=3 * WIDEST)

    async def audit(self, prompt: Prompt, completion: Completion) -> tuple[Finding, ...]:  # noqa: ARG002 -- the protocol's
        """Give the identifiers in `completion`, sorted within each text and not overlapping."""
        texts = [text for choice in completion.choices for text in choice.texts() if text.text]
        size = sum(len(text.text) for text in texts)
        return await off_loop(size, lambda: tuple(finding for text in texts for finding in _in_text(text)))


def disjoint(found: list[Identifier]) -> list[Identifier]:
    """Sort by place and join what overlaps: the earliest and surest names the whole span.

    What is not sure is never joined with what is, and loses what overlaps: else a few sure characters would make much
    before them sure that was not, and in a growing text has left already.
    """
    sure = _joined([one for one in found if one.score >= SURE])
    unsure = _joined([one for one in found if one.score < SURE])
    return sorted((*sure, *_without(unsure, sure)), key=lambda one: one.start)


def _without(unsure: list[Identifier], sure: list[Identifier]) -> Iterator[Identifier]:
    """Give what is left of `unsure` where `sure` is taken away; both are sorted and do not overlap."""
    place = 0
    for one in unsure:
        at = one.start
        while place < len(sure) and sure[place].end <= at:
            place += 1
        for other in islice(sure, place, None):
            if other.start >= one.end:
                break
            if other.start > at:
                yield replace(one, start=at, end=other.start)
            at = other.end
        if at < one.end:
            yield replace(one, start=at)


def _joined(found: list[Identifier]) -> list[Identifier]:
    kept: list[Identifier] = []
    for one in sorted(found, key=lambda i: (i.start, -i.score, -i.end)):
        if kept and one.start < kept[-1].end:
            last = kept[-1]
            best = max(last, one, key=lambda i: i.score)
            kept[-1] = Identifier(kind=best.kind, start=last.start, end=max(last.end, one.end), score=best.score)
        else:
            kept.append(one)
    return kept


def _in_text(text: Text) -> list[Finding]:
    return [
        Finding(
            kind="phi",
            score=one.score,
            part=text.id,
            start=one.start,
            end=one.end,
            label=one.kind.lower(),
            replacement=f"[REDACTED:{one.kind}]",
        )
        for one in disjoint(list(identifiers(text.text)))
    ]
