"""Chooses of the evidence that one policy gathered what another would have had. Pure.

The pipeline asks in two steps: those who are asked always, then the second opinions that they call for. Text that one
finds in images is judged by the others. A policy that leaves a finder out has not that text, nor what was said of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from gateway.policy.decide import wanted
from gateway.policy.evidence import Inspected, Screened, ScreenEvidence, Skipped, StageFailed
from gateway.policy.model import Policy, PrescreenSpec


class Gathered(Struct, frozen=True, kw_only=True):
    """The evidence that a policy's pre-screen would have had; `lacking` are the stages whose word is not known."""

    words: tuple[ScreenEvidence, ...]
    coverage: tuple[Inspected, ...]
    lacking: tuple[str, ...]


class _Heard:
    """What each stage said of the request, and of the text found in images, with that text."""

    def __init__(self, screening: Iterable[ScreenEvidence]) -> None:
        self.request: dict[str, Screened | StageFailed] = {}
        self.again: dict[str, tuple[Screened | StageFailed, frozenset[str]]] = {}
        self.found = frozenset[str]()
        for word in screening:  # in the order in which they were asked: the text that is known by then is judged
            if isinstance(word, Skipped):
                continue
            if word.round == "found":
                self.again[word.stage] = (word, self.found)
            else:
                self.request[word.stage] = word
                self.found |= _found(word)

    def on(self, stage: str, parts: frozenset[str]) -> Screened | StageFailed | None:
        """Give what a stage said of these texts and of no other, None where it said nothing of them alone."""
        word, about = self.again.get(stage, (None, frozenset[str]()))
        if word is None or about == parts:
            return word
        return word if isinstance(word, Screened) and frozenset(word.screening.inspected) == parts else None


def gather(policy: Policy, screening: Iterable[ScreenEvidence], coverage: Iterable[Inspected]) -> Gathered:
    """Choose what `policy` would have gathered."""
    heard = _Heard(screening)
    always = [spec for spec in policy.prescreen if spec.between is None]
    later = [spec for spec in policy.prescreen if spec.between is not None]
    words, judged, lacking = _asked(always, heard, frozenset())
    # Which second opinions would have been asked is known only where all are heard who are asked always.
    asked = [] if lacking else [spec for spec in later if wanted(spec, policy, words)]
    more, judged, also = _asked(asked, heard, judged)
    skipped = [Skipped(stage=spec.stage, version="") for spec in later if spec not in asked]
    gone = heard.found - judged
    return Gathered(
        words=(*words, *more, *skipped),
        coverage=tuple(row for row in coverage if row.part not in gone),
        lacking=(*lacking, *also),
    )


def _asked(
    specs: list[PrescreenSpec], heard: _Heard, before: frozenset[str]
) -> tuple[list[ScreenEvidence], frozenset[str], list[str]]:
    """Give the words of `specs` on the request, and on the text in images that they or others `before` have found.

    Beside them all that text, and who lacks a word. Whose word on the request is not known might have found more text,
    which the others would have judged as well.
    """
    first = {spec.stage: heard.request.get(spec.stage) for spec in specs}
    words: list[ScreenEvidence] = [word for word in first.values() if word is not None]
    lacking = [stage for stage, word in first.items() if word is None]
    more = bool(lacking)
    judged = before.union(*(_found(word) for word in first.values()))
    for stage, word in first.items():
        if word is None or not judged or _found(word):
            continue
        again = None if more else heard.on(stage, judged)
        if again is None:
            lacking.append(stage)
        else:
            words.append(again)
    return words, judged, lacking


def _found(word: ScreenEvidence | None) -> frozenset[str]:
    return frozenset(text.id for text in word.screening.found) if isinstance(word, Screened) else frozenset()
