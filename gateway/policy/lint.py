"""Weaknesses of a policy that are worth a word: it loads, and someone should have meant it so."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from gateway.policy.answers import REFUSAL
from gateway.policy.model import AuditSpec, OverDefense, Policy
from gateway.policy.models import for_model

_HIGH_THRESHOLD = 0.9
_LONG = 365 * 86400.0  # seconds


class Weakness(Struct, frozen=True, kw_only=True):
    """A weakness: the path in the policy file, and what it leads to."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def lint(policy: Policy) -> tuple[Weakness, ...]:
    """Find what weakens a policy, in the order of its file."""
    found = (*_models(policy), *_checks(policy), *_tiers(policy), *_over_defense(policy))
    found += (*_deadlines(policy), *_kept(policy), *_reviews(policy))
    return tuple(Weakness(path=path, text=text) for path, text in found)


def _models(policy: Policy) -> Iterator[tuple[str, str]]:
    """Look at what the caps of models leave of the budgets."""
    if policy.demonstrations is None:
        return
    for path, name in (("backend", None), *((f"models.{name}", name) for name in policy.models)):
        its = for_model(policy, name)
        bought = any(tier.budget.demonstrations for tier in policy.tiers)
        if bought and its.backend.cap.demonstrations == 0:
            yield f"{path}.cap.demonstrations", "this model is asked without demonstrations: its defence is off"
        elif _gains(policy, policy.over_defense) and not _gains(its, its.over_defense):
            yield f"{path}.cap.demonstrations", "asking again shows no more than at first: nothing is gained"


def _checks(policy: Policy) -> Iterator[tuple[str, str]]:
    """Look at the stages: what is excused, and what is only noted."""
    for place, screen in enumerate(policy.prescreen):
        if screen.on_finding != "note" and screen.threshold > _HIGH_THRESHOLD:
            yield (
                f"prescreen[{place}].threshold",
                f"what `{screen.stage}` finds below {screen.threshold:g} is only noted",
            )
        if screen.allow_if_unavailable:
            yield (
                f"prescreen[{place}].allow_if_unavailable",
                f"requests pass unchecked by `{screen.stage}` when it fails",
            )
    if policy.demonstrations is None:
        yield "demonstrations", "the model is asked without demonstrations: the defence is off"
    elif policy.demonstrations.allow_if_unavailable:
        yield "demonstrations.allow_if_unavailable", "the model is asked without demonstrations when the stage fails"
    for place, spec in enumerate(policy.audit):
        yield from _audit(f"audit[{place}]", spec)
    if policy.uninspected == "allow_uninspected":
        yield "uninspected", "parts that no stage looked at reach the model"


def _audit(path: str, spec: AuditSpec) -> Iterator[tuple[str, str]]:
    if spec.allow_if_unavailable:
        yield f"{path}.allow_if_unavailable", f"answers leave unchecked by `{spec.stage}` when it fails"
    if spec.stage == REFUSAL:
        return
    if spec.on_finding == "note":
        yield f"{path}.on_finding", f"what `{spec.stage}` finds is only noted: the answer leaves"
    elif spec.threshold > _HIGH_THRESHOLD:
        yield f"{path}.threshold", f"what `{spec.stage}` finds below {spec.threshold:g} is only noted"


def _tiers(policy: Policy) -> Iterator[tuple[str, str]]:
    last = len(policy.tiers) - 1
    most = 0
    for place, tier in enumerate(policy.tiers):
        path = f"tiers[{place}].budget"
        budget = tier.budget
        if policy.demonstrations is not None and budget.demonstrations == 0:
            yield f"{path}.demonstrations", "the model is asked without demonstrations at this risk"
        elif budget.demonstrations and budget.mix == 0.0:
            yield f"{path}.mix", "no demonstration refuses: the model is shown only how to answer"
        elif budget.demonstrations and budget.mix == 1.0:
            yield f"{path}.mix", "every demonstration refuses: the model will refuse benign questions too"
        if budget.demonstrations < most:
            yield f"{path}.demonstrations", "a higher risk buys fewer demonstrations than a lower one"
        most = max(most, budget.demonstrations)
    if policy.tiers[last].below == 1.0:
        yield f"tiers[{last}].below", "no risk under 1.0 is refused: leave room above the last tier"


def _over_defense(policy: Policy) -> Iterator[tuple[str, str]]:
    spec = policy.over_defense
    if spec is None:
        yield "over_defense", "a benign question that the model refuses is not asked again"
        return
    if all(audit.stage != REFUSAL for audit in policy.audit):
        yield (
            "over_defense",
            f"no auditor `{REFUSAL}` stands in `audit`: unless another finds refusals, nothing is retried",
        )
    first = policy.tiers[0]
    if not _gains(policy, spec):
        yield (
            "over_defense.retry",
            "neither more demonstrations nor more answering ones than at first: nothing is gained",
        )
    if spec.benign_below is not None and spec.benign_below > first.below:
        yield "over_defense.benign_below", "questions above the first tier are asked again with the retry's budget"


def _gains(policy: Policy, spec: OverDefense | None) -> bool:
    """Tell whether asking once more shows the model more demonstrations than at first, or more that answer."""
    first = policy.tiers[0].budget
    return spec is not None and (spec.retry.demonstrations > first.demonstrations or spec.retry.mix < first.mix)


def _kept(policy: Policy) -> Iterator[tuple[str, str]]:
    """Look at what is kept of patients longer than a review takes, and at records kept shorter than usual."""
    span = policy.content.for_
    if policy.content.keep == "sealed" and span is not None and span.seconds > _LONG:
        yield "content.for", f"the words and images of patients are kept for {span.seconds / 86400:g} days"
    if policy.records.keep == "6mo":
        yield "records.keep", "HIPAA asks for six years (45 CFR 164.316(b)(2)(i)); six months is the AI Act's least"


def _reviews(policy: Policy) -> Iterator[tuple[str, str]]:
    """Look at what people never see afterwards."""
    plan = policy.reviews
    for name, what in (("refused", "refusals"), ("withheld", "withheld answers"), ("excused", "excused answers")):
        if (share := getattr(plan, name)) < 1.0:
            yield f"reviews.{name}", f"of {what} a share of {share:g} is reviewed, and not every one"
    if plan.released == 0.0:
        yield "reviews.released", "no answer is drawn for review: nobody would find what the checks let through"


def _deadlines(policy: Policy) -> Iterator[tuple[str, str]]:
    """Add up one pass: both rounds of pre-screening, demonstrations, model, audit; stages of one step run side by side.

    A retry is not counted: where it runs out of time the first answer still stands.
    """
    checks = 2 * max(spec.deadline.seconds for spec in policy.prescreen)
    checks += max(spec.deadline.seconds for spec in policy.audit)
    if policy.demonstrations is not None:
        checks += policy.demonstrations.deadline.seconds
    specs = {"deadline": policy.backend} | {f"models.{name}.deadline": spec for name, spec in policy.models.items()}
    for path, spec in specs.items():
        seconds, whole = checks + spec.deadline.seconds, f"{policy.deadline.seconds:g}s"
        if seconds > policy.deadline.seconds:
            told = f"the stages may take {seconds:g}s, and {whole} are there: late stages are cut short, and refuse"
            yield path, told
