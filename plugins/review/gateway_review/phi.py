"""The stage `phi`: protected health information in an answer, with the words that a policy puts in its place."""

from __future__ import annotations

from gateway.plugin import Completion, Finding, Prompt, Text
from gateway_review.asked import off_loop
from gateway_review.identifiers import Identifier, identifiers


class Phi:
    """Finds identifiers in every text of an answer. Each finding has exact offsets and a `replacement`."""

    async def audit(self, prompt: Prompt, completion: Completion) -> tuple[Finding, ...]:  # noqa: ARG002 -- the protocol's
        """Give the identifiers in `completion`, sorted within each text and not overlapping."""
        texts = [text for choice in completion.choices for text in choice.texts() if text.text]
        size = sum(len(text.text) for text in texts)
        return await off_loop(size, lambda: tuple(finding for text in texts for finding in _in_text(text)))


def disjoint(found: list[Identifier]) -> list[Identifier]:
    """Sort by place and join what overlaps: the earliest and surest names the whole span."""
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
