"""What a policy would decide on evidence that was gathered under another one. Pure.

Three things are told apart: what the evidence shows, what nobody can know because a model would have been asked and was
not (``asked``), and what the evidence does not tell (``unknown``). A stage of which there is no word leaves the outcome
unknown, unless what others said refuses or withholds by itself: a further word can only add to that.

The words of stages that the candidate does not name are left out, with the text that they alone found in images; what
was asked for a second opinion counts where the candidate would have asked for it. What is not judged again: how the
model would have answered with other demonstrations, or how another model would have. The recorded answer stands for it,
and `Judged.caveats` says so. A candidate that has no model of the name that was asked is judged as for its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.policy.answers import Whole, verdict_on
from gateway.policy.decide import admit, rule_of
from gateway.policy.decision import Admit, Reason, Refuse, Release, Retry, Withhold
from gateway.policy.evidence import AuditEvidence, Inspected, ScreenEvidence, StageFailed
from gateway.policy.gather import gather
from gateway.policy.model import Policy
from gateway.policy.models import for_model
from gateway.policy.outline import Outline, Outlined
from gateway.stages import Kind
from gateway.values import Budget, Completion

After = Literal["released", "refused", "withheld", "screened", "asked", "unknown"]

Caveat = Literal["budget", "demonstrations", "model"]
"""Why a model might have answered otherwise: another budget of demonstrations, other demonstrations, another model."""

_SURE_REFUSAL = frozenset({"risk", "finding", "out-of-scope", "stage-failed", "nothing-to-answer"})
_SURE_WITHHELD = frozenset({"finding", "stage-failed"})
_GONE = "caller-gone"  # no policy would have kept the caller
_ROOM = "context"  # a question that leaves no room for demonstrations: the pipeline never excuses it


class Asking(Struct, frozen=True, kw_only=True):
    """One asking of the model: the budget, who failed, and what is known of the answer; None where none came.

    `injector` and `backend` name the stages that were asked, None where none was.
    """

    budget: Budget
    injector: str | None
    backend: str | None
    failed: tuple[StageFailed, ...]
    answer: Outline | None
    audits: tuple[AuditEvidence, ...]


class Past(Struct, frozen=True, kw_only=True):
    """What is known of a decision. `screen_only`: no model was to be asked, whatever the checks said.

    `model` is the name of the model that was asked for, None where it is not known.
    `other` are the stages that were configured otherwise than the candidate configures them. The words of pre-screeners
    and auditors among them are not in the evidence.
    """

    screening: tuple[ScreenEvidence, ...]
    coverage: tuple[Inspected, ...]
    askings: tuple[Asking, ...]
    screen_only: bool
    other: frozenset[tuple[Kind, str]] = frozenset()
    model: str | None = None


class Judged(Struct, frozen=True, kw_only=True):
    """What would have become of a decision, by which rule of the candidate, and why, worst first."""

    after: After
    rule: str | None
    reasons: tuple[Reason, ...] = ()
    caveats: tuple[Caveat, ...] = ()


def replay(policy: Policy, past: Past) -> Judged:
    """Decide on `past` as `policy` would have."""
    policy = for_model(policy, past.model)
    gathered = gather(policy, past.screening, past.coverage)
    admission = admit(policy, gathered.words, gathered.coverage)
    if gathered.lacking:
        sure = _sure(admission, _SURE_REFUSAL)
        if sure:
            return Judged(after="refused", rule=_rule(policy, admission, sure[0]), reasons=sure)
        reasons = _lacking("prescreener", gathered.lacking, past)
        return Judged(after="unknown", rule=rule_of(policy, gathered.lacking[0]), reasons=reasons)
    if isinstance(admission, Refuse):
        return Judged(after="refused", rule=admission.rule, reasons=admission.reasons)
    if past.screen_only:
        return Judged(after="screened", rule=admission.rule)
    if not past.askings:
        return Judged(after="asked", rule=admission.rule)
    return _answer(policy, admission, past)


def _sure(decision: Admit | Refuse | Release | Withhold | Retry, codes: frozenset[str]) -> tuple[Reason, ...]:
    """Give the reasons that hold whatever a further word says."""
    reasons = decision.reasons if isinstance(decision, Refuse | Withhold) else ()
    return tuple(reason for reason in reasons if reason.code in codes)


def _rule(policy: Policy, admission: Admit | Refuse, reason: Reason) -> str:
    """Give the rule behind a reason of a refusal that may not be its first."""
    if isinstance(admission, Refuse) and admission.reasons[0] == reason:
        return admission.rule
    return rule_of(policy, reason.stage or "")


def _lacking(kind: Kind, stages: Iterable[str], past: Past) -> tuple[Reason, ...]:
    return tuple(
        Reason(code="other-config" if (kind, stage) in past.other else "stage-missing", stage=stage)
        for stage in dict.fromkeys(stages)
    )


def _answer(policy: Policy, admitted: Admit, past: Past) -> Judged:
    """Judge the answers, as the pipeline goes from the first to the second."""
    first = past.askings[0]
    verdict = _verdict(policy, admitted, first, 0, admitted.budget, past)
    if not isinstance(verdict, Retry):
        return _with_caveats(verdict, policy, past, ((first, admitted.budget),))
    if len(past.askings) == 1:
        return Judged(after="asked", rule=verdict.rule)
    second, budget = past.askings[1], verdict.budget
    again = _verdict(policy, admitted, second, 1, budget, past)
    shown: tuple[tuple[Asking, Budget], ...] = ((first, admitted.budget), (second, budget))
    if second.answer is None and isinstance(again, Judged) and again.after == "withheld":
        # Where asking once more broke down, the first answer stands or falls by itself.
        again = _verdict(replace(policy, over_defense=None), admitted, first, 0, admitted.budget, past)
        shown = shown[:1]
    if isinstance(again, Retry):
        return Judged(after="asked", rule=again.rule)
    return _with_caveats(again, policy, past, shown)


def _with_caveats(judged: Judged, policy: Policy, past: Past, shown: tuple[tuple[Asking, Budget], ...]) -> Judged:
    if judged.after not in ("released", "withheld"):
        return judged
    found: dict[Caveat, None] = {}
    for asking, budget in shown:
        if asking.answer is None:
            continue
        if asking.budget != budget:
            found["budget"] = None
        injector = policy.demonstrations.stage if policy.demonstrations is not None and budget.demonstrations else None
        same = asking.injector == injector and ("injector", injector or "") not in past.other
        if not same:
            found["demonstrations"] = None
        if asking.backend != policy.backend.stage or ("backend", asking.backend) in past.other:
            found["model"] = None
    return replace(judged, caveats=tuple(found))


def _verdict(
    policy: Policy, admitted: Admit, asking: Asking, number: int, budget: Budget, past: Past
) -> Judged | Retry:
    """Decide on one asking of the model."""
    for failed in asking.failed:
        if failed.kind == "injector" and not _excused(policy, failed, budget):
            reason = Reason(code="demonstrations-failed", stage=failed.stage, cause=failed.cause)
            return Judged(after="withheld", rule="demonstrations", reasons=(reason,))
        if failed.kind == "backend":
            code = _GONE if failed.cause == _GONE else "model-failed"
            reason = Reason(code=code, stage=failed.stage, cause=failed.cause)
            return Judged(after="withheld", rule="backend", reasons=(reason,))
    outline = asking.answer
    if outline is None:
        return Judged(after="asked", rule=admitted.rule)
    named = {spec.stage for spec in policy.audit}
    words = tuple(word for word in asking.audits if word.stage in named)
    lacking = unheard(policy, asking)

    def decide(answer: Outlined) -> Release | Withhold | Retry:
        return verdict_on(policy, admitted, answer, words, number)

    return _weighed(policy, decide, outline, lacking, past)


def unheard(policy: Policy, asking: Asking) -> tuple[str, ...]:
    """Name the auditors whose word on the answer is not known, or not on every choice."""
    if asking.answer is None:
        return ()
    heard = {(word.stage, word.choice) for word in asking.audits}
    choices = range(len(asking.answer.lengths))
    return tuple(
        spec.stage
        for spec in policy.audit
        if (spec.stage, None) not in heard and any((spec.stage, index) not in heard for index in choices)
    )


def heard_anew(asking: Asking, completion: Completion, words: tuple[AuditEvidence, ...]) -> Asking:
    """Give an asking with what auditors say now of its answer, in place of what they said then."""
    whole, fresh = Whole(completion), {word.stage for word in words}
    outline = asking.answer or Outline(lengths=tuple(len(choice.text.text) for choice in completion.choices))
    stuck = {place for place in outline.stuck if place[0] not in fresh}
    misplaced = {place for place in outline.misplaced if place[0] not in fresh}
    told: list[AuditEvidence] = [word for word in asking.audits if word.stage not in fresh]
    for word in words:
        if isinstance(word, StageFailed):
            told.append(word)
            continue
        findings = []
        for one in word.findings:
            span = None if one.start is None or one.end is None else (one.start, one.end)
            done = span is not None and whole.holds(one, word) and whole.obstacle(one, word, span) is None
            if not done:
                stuck.add((word.stage, one.kind, one.part))
            findings.append(replace(one, replacement="" if done else None))
        told.append(replace(word, findings=tuple(findings)))
    answer = replace(outline, stuck=frozenset(stuck), misplaced=frozenset(misplaced))
    return replace(asking, answer=answer, audits=tuple(told))


def _weighed(
    policy: Policy,
    decide: Callable[[Outlined], Release | Withhold | Retry],
    outline: Outline,
    lacking: tuple[str, ...],
    past: Past,
) -> Judged | Retry:
    """Decide with the best that may be true of the answer, and with the worst where that is a guess."""
    streams = policy.stream == "windowed"
    best, worst = (Outlined(outline, replaces=replaces, streams=streams) for replaces in (True, False))
    verdict = decide(best)
    if lacking:
        places = {spec.stage: f"audit[{place}]" for place, spec in enumerate(policy.audit)}
        if sure := _sure(verdict, _SURE_WITHHELD):
            return Judged(after="withheld", rule=places.get(sure[0].stage or "", "audit"), reasons=sure)
        reasons = _lacking("auditor", lacking, past)
        return Judged(after="unknown", rule=places[lacking[0]], reasons=reasons)
    if best.guessed and not isinstance(verdict, Withhold):
        doubted = decide(worst)
        if isinstance(doubted, Withhold):
            reasons = tuple(replace(one, code="replacement-unknown", cause=None) for one in doubted.reasons)
            return Judged(after="unknown", rule=doubted.rule, reasons=reasons)
    if isinstance(verdict, Retry):
        return verdict
    if isinstance(verdict, Withhold):
        return Judged(after="withheld", rule=verdict.rule, reasons=verdict.reasons)
    if outline.cut:
        return Judged(after="unknown", rule=verdict.rule, reasons=(Reason(code="answer-cut"),))
    return Judged(after="released", rule=verdict.rule)


def _excused(policy: Policy, failed: StageFailed, budget: Budget) -> bool:
    """Tell whether the candidate would have gone on without demonstrations, or would not have asked this injector."""
    spec = policy.demonstrations
    if spec is None or budget.demonstrations == 0 or spec.stage != failed.stage:
        return True
    return spec.allow_if_unavailable and failed.cause != _ROOM
