"""The decisions of a policy: `admit` before the model is asked, `release` before its answer leaves. Pure.

Both look at evidence alone, gather every reason, and do not depend on the order of the evidence. Silence is no: a check
without a word refuses, and only an option that the policy wrote out (`allow_if_unavailable`, `allow_uninspected`) lets
a failure pass. Such an excuse covers a stage that is known to have failed; a stage of which nothing at all is known is
never excused.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.policy.answers import redact, release
from gateway.policy.decision import Admit, Reason, Refuse
from gateway.policy.evidence import Inspected, Screened, ScreenEvidence, StageFailed
from gateway.policy.model import Policy
from gateway.policy.shares import worst_share
from gateway.policy.words import refusal_text

__all__ = ["admit", "redact", "refusal_text", "release"]

_RANK = {"risk": 0, "nothing-to-answer": 1, "stage-missing": 2, "stage-failed": 3, "uninspected": 4}


def admit(policy: Policy, evidence: tuple[ScreenEvidence, ...], coverage: tuple[Inspected, ...]) -> Admit | Refuse:
    """Decide whether the model may be asked, and with which budget of demonstrations.

    The worst risk of all screenings, of the request and of text found in images, chooses the tier. Where a
    pre-screener's failure was excused, that risk is only a lower bound, so the last tier counts: the most cautious one.
    """
    screened = tuple(word for word in evidence if isinstance(word, Screened))
    failed = tuple(word for word in evidence if isinstance(word, StageFailed))
    risk = max((worst_share(word.screening.risk) for word in screened), default=None)
    tier = _tier(policy, risk)
    excused, reasons = _failures(policy, failed)
    reasons += _missing(policy, screened, failed)
    waived, unseen = _uninspected(policy, screened, coverage, excused)
    reasons += unseen
    if tier is None:
        reasons += _too_risky(policy, screened)
    if reasons:
        ordered = tuple(sorted(dict(reasons).items(), key=lambda item: _order(item[0], screened)))
        return Refuse(reasons=tuple(reason for reason, _ in ordered), rule=ordered[0][1], risk=risk)
    assert tier is not None  # noqa: S101 - without a tier there is a reason
    chosen = len(policy.tiers) - 1 if excused else tier
    return Admit(
        budget=policy.tiers[chosen].budget.budget(),
        tier=chosen,
        risk=1.0 if risk is None else risk,  # a risk that nobody knows is no benign one
        rule=f"tiers[{chosen}]",
        excused=excused,
        waived=waived,
    )


_Reasons = list[tuple[Reason, str]]
"""Reasons with the rule (a path in the policy file) behind each."""


def _tier(policy: Policy, risk: float | None) -> int | None:
    """Find the first tier whose `below` exceeds `risk`; the last one where no risk is known; None where none admits."""
    if risk is None:
        return len(policy.tiers) - 1
    return next((place for place, tier in enumerate(policy.tiers) if risk < tier.below), None)


def _rule(policy: Policy, stage: str) -> str:
    place = next((place for place, spec in enumerate(policy.prescreen) if spec.stage == stage), None)
    return "prescreen" if place is None else f"prescreen[{place}]"


def _failures(policy: Policy, failed: Iterable[StageFailed]) -> tuple[tuple[str, ...], _Reasons]:
    """Part the failures into excused stages, in the policy's order, and reasons."""
    allowed = {spec.stage for spec in policy.prescreen if spec.allow_if_unavailable}
    fallen = {word.stage for word in failed}
    excused = tuple(spec.stage for spec in policy.prescreen if spec.stage in allowed & fallen)
    reasons = [
        (Reason(code="stage-failed", stage=word.stage, cause=word.cause), _rule(policy, word.stage))
        for word in failed
        if word.stage not in allowed
    ]
    return excused, reasons


def _missing(policy: Policy, screened: tuple[Screened, ...], failed: tuple[StageFailed, ...]) -> _Reasons:
    """Find the pre-screeners without a word: of the request, and of the text that others found in images."""
    heard = {(word.stage, word.round) for word in screened} | {(word.stage, word.round) for word in failed}
    finders = {word.stage for word in screened if word.screening.found}
    reasons: _Reasons = []
    for spec in policy.prescreen:
        # Who found the text has judged it while finding; everyone else judges it as if the user had typed it.
        judges = bool(finders) and spec.stage not in finders
        if (spec.stage, "request") not in heard or (judges and (spec.stage, "found") not in heard):
            reasons.append((Reason(code="stage-missing", stage=spec.stage), _rule(policy, spec.stage)))
    return reasons


def _uninspected(
    policy: Policy, screened: tuple[Screened, ...], coverage: tuple[Inspected, ...], excused: tuple[str, ...]
) -> tuple[tuple[str, ...], _Reasons]:
    """Part what no stage inspected into waived parts and reasons.

    A part counts as inspected where coverage names a configured stage and that stage's own word names the part. A part
    is waived where the policy allows it, or where an excused stage gave no word and no other stage looked at a part of
    the same kind; where a working stage looked at such parts and left this one out, leaving it out is its word.
    """
    configured = {spec.stage for spec in policy.prescreen}
    looked = {(word.stage, part) for word in screened if word.stage in configured for part in word.screening.inspected}
    covered = {row.part for row in coverage}
    found = {text.id for word in screened for text in word.screening.found}
    rows: list[tuple[str, str, bool]] = [
        (row.part, row.kind, any((stage, row.part) in looked for stage in row.by)) for row in coverage
    ]
    rows += [(part, "text", False) for part in sorted(found - covered)]
    if not rows:
        return (), [(Reason(code="nothing-to-answer"), "uninspected")]
    working = {word.stage for word in screened}
    silent = any(stage not in working for stage in excused)
    seen_kinds = {kind for _, kind, seen in rows if seen}
    waived: list[str] = []
    reasons: _Reasons = []
    for part, kind, seen in rows:
        if seen:
            continue
        if policy.uninspected == "allow_uninspected" or (silent and kind not in seen_kinds):
            waived.append(part)
        else:
            reasons.append((Reason(code="uninspected", part=part), "uninspected"))
    return tuple(waived), reasons


def _too_risky(policy: Policy, screened: tuple[Screened, ...]) -> _Reasons:
    """Give a reason for every screening whose risk no tier admits."""
    return [
        (Reason(code="risk", stage=word.stage, label=_label(word), part=word.screening.part), "tiers")
        for word in screened
        if _tier(policy, worst_share(word.screening.risk)) is None
    ]


def _label(word: Screened) -> str | None:
    """Name the label with the best score; of equal ones the first by name, so that no order counts."""
    scores = word.screening.scores
    return min(scores, key=lambda score: (-worst_share(score.value), score.label)).label if scores else None


def _order(reason: Reason, screened: tuple[Screened, ...]) -> tuple[object, ...]:
    """Sort worst first: by code, then by risk, then by name."""
    risks = (worst_share(word.screening.risk) for word in screened if word.stage == reason.stage)
    risk = max(risks, default=0.0) if reason.code == "risk" else 0.0
    names = tuple(value or "" for value in (reason.stage, reason.part, reason.label, reason.cause))
    return (_RANK.get(reason.code, len(_RANK)), -risk, *names)
