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
from gateway.policy.evidence import Inspected, Screened, ScreenEvidence, Skipped, StageFailed
from gateway.policy.model import Policy, PrescreenSpec
from gateway.policy.shares import worst_share
from gateway.policy.validate import is_share
from gateway.policy.words import refusal_text

__all__ = ["admit", "redact", "refusal_text", "release", "rule_of", "wanted"]

_CODES = (
    "risk", "finding", "out-of-scope", "nothing-to-answer", "scope-unknown", "stage-missing", "stage-failed",
    "uninspected",
)  # fmt: skip
_RANK = {code: place for place, code in enumerate(_CODES)}


def admit(policy: Policy, evidence: tuple[ScreenEvidence, ...], coverage: tuple[Inspected, ...]) -> Admit | Refuse:
    """Decide whether the model may be asked, and with which budget of demonstrations.

    The worst risk of all screenings, of the request and of text found in images, chooses the tier. Where a
    pre-screener's failure was excused, that risk is only a lower bound, so the last tier counts: the most cautious one.
    It counts too where a finding calls for it.
    """
    screened = tuple(word for word in evidence if isinstance(word, Screened))
    failed = tuple(word for word in evidence if isinstance(word, StageFailed))
    risk = max((worst_share(word.screening.risk) for word in screened), default=None)
    tier = _tier(policy, risk)
    excused, reasons = _failures(policy, failed)
    reasons += _missing(policy, screened, failed, frozenset(w.stage for w in evidence if isinstance(w, Skipped)))
    cautions, forbidden = _findings(policy, screened)
    reasons += forbidden + _out_of_scope(policy, screened, excused)
    waived, unseen = _uninspected(policy, screened, coverage, excused)
    reasons += unseen
    if tier is None:
        reasons += _too_risky(policy, screened)
    if reasons:
        ordered = tuple(sorted(dict(reasons).items(), key=lambda item: _order(item[0], screened)))
        return Refuse(reasons=tuple(reason for reason, _ in ordered), rule=ordered[0][1], risk=risk)
    assert tier is not None  # noqa: S101 - without a tier there is a reason
    chosen = len(policy.tiers) - 1 if excused or cautions else tier
    return Admit(
        budget=policy.tiers[chosen].budget.budget(),
        tier=chosen,
        risk=1.0 if risk is None else risk,  # a risk that nobody knows is no benign one
        rule=f"{cautions[0]}.on_finding" if cautions and chosen > tier else f"tiers[{chosen}]",
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


def rule_of(policy: Policy, stage: str) -> str:
    """Give the path in the policy file at which a pre-screener is named."""
    place = next((place for place, spec in enumerate(policy.prescreen) if spec.stage == stage), None)
    return "prescreen" if place is None else f"prescreen[{place}]"


def _failures(policy: Policy, failed: Iterable[StageFailed]) -> tuple[tuple[str, ...], _Reasons]:
    """Part the failures into excused stages, in the policy's order, and reasons."""
    allowed = {spec.stage for spec in policy.prescreen if spec.allow_if_unavailable}
    fallen = {word.stage for word in failed}
    excused = tuple(spec.stage for spec in policy.prescreen if spec.stage in allowed & fallen)
    reasons = [
        (Reason(code="stage-failed", stage=word.stage, cause=word.cause), rule_of(policy, word.stage))
        for word in failed
        if word.stage not in allowed
    ]
    return excused, reasons


def wanted(spec: PrescreenSpec, policy: Policy, words: Iterable[ScreenEvidence]) -> bool:
    """Tell whether a pre-screener is to be asked, given the `words` of those that are always asked.

    A second opinion is, where the worst risk lies in its `between`; and where one of the others failed, since nobody
    knows then where the risk lies.
    """
    if spec.between is None:
        return True
    always = {other.stage for other in policy.prescreen if other.between is None}
    told = [word for word in words if word.stage in always]
    if not told or any(not isinstance(word, Screened) for word in told):
        return True
    worst = max(worst_share(word.screening.risk) for word in told if isinstance(word, Screened))
    return spec.between[0] <= worst < spec.between[1]


def _findings(policy: Policy, screened: tuple[Screened, ...]) -> tuple[tuple[str, ...], _Reasons]:
    """Part the findings that count into rules that call for the last tier, in the policy's order, and reasons."""
    specs = {spec.stage: (place, spec) for place, spec in enumerate(policy.prescreen)}
    cautions: set[int] = set()
    reasons: _Reasons = []
    for word in screened:
        place, spec = specs.get(word.stage, (-1, None))
        for finding in word.screening.findings:
            if spec is None or spec.on_finding == "note" or worst_share(finding.score) < spec.threshold:
                continue
            if spec.on_finding == "last_tier":
                cautions.add(place)
                continue
            reason = Reason(code="finding", stage=word.stage, label=finding.kind, part=finding.part)
            reasons.append((reason, f"prescreen[{place}]"))
    return tuple(f"prescreen[{place}]" for place in sorted(cautions)), reasons


def _out_of_scope(policy: Policy, screened: tuple[Screened, ...], excused: tuple[str, ...]) -> _Reasons:
    """Refuse what is not clinical where the policy says so; where no stage can tell, too, unless one was excused."""
    if policy.scope == "any":
        return []
    told = [(word.stage, word.screening.clinical) for word in screened if word.screening.clinical is not None]
    if not told:
        return [] if excused else [(Reason(code="scope-unknown"), "scope")]
    outside = {stage for stage, value in told if not is_share(value) or value < policy.clinical_at_least}
    return [(Reason(code="out-of-scope", stage=stage), "scope") for stage in sorted(outside)]


def _missing(
    policy: Policy, screened: tuple[Screened, ...], failed: tuple[StageFailed, ...], skipped: frozenset[str]
) -> _Reasons:
    """Find the pre-screeners without a word: of the request, and of the text that others found in images.

    A second opinion that was skipped owes none where it rightly was.
    """
    heard = {(word.stage, word.round) for word in screened} | {(word.stage, word.round) for word in failed}
    finders = {word.stage for word in screened if word.screening.found}
    reasons: _Reasons = []
    for spec in policy.prescreen:
        if spec.stage in skipped and not wanted(spec, policy, (*screened, *failed)):
            continue
        # Who found the text has judged it while finding; everyone else judges it as if the user had typed it.
        judges = bool(finders) and spec.stage not in finders
        if (spec.stage, "request") not in heard or (judges and (spec.stage, "found") not in heard):
            reasons.append((Reason(code="stage-missing", stage=spec.stage), rule_of(policy, spec.stage)))
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
