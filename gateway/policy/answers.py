"""The decision on an answer (`release`) and what it does to the text (`redact`). Pure.

Both are offered by `gateway.policy.decide`. `verdict_on` decides on an `Answer`, of which `gateway.policy.replay` knows
less than all: a span is needed to carry a redaction out, not to decide on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from gateway.policy.decision import Admit, Reason, Redaction, Release, Retry, Withhold
from gateway.policy.evidence import Audited, AuditEvidence, StageFailed
from gateway.policy.model import AuditSpec, Policy
from gateway.policy.shares import worst_share
from gateway.values import Choice, Completion, Finding, Text

REFUSAL = "refusal"
"""The kind of a finding that says that the model has refused by itself: it never withholds."""

_RANK = {"nothing-to-answer": 0, "finding": 1, "stage-missing": 2, "stage-failed": 3}


class Answer(Protocol):
    """A model's answer, as far as a verdict on it must know it."""

    @property
    def choices(self) -> Collection[int]:
        """The choices, by their index."""
        ...

    def holds(self, finding: Finding, word: Audited) -> bool:
        """Tell whether the part of a finding is one of the choice that `word` is about."""
        ...

    def obstacle(self, finding: Finding, word: Audited, span: tuple[int, int]) -> str | None:
        """Tell, by a code, why the span of a finding can not be replaced; None where it can. The part is held."""
        ...


class Whole:
    """An answer of which all is known."""

    def __init__(self, completion: Completion) -> None:
        self._texts = {c.index: {text.id: text.text for text in reversed(c.texts())} for c in completion.choices}

    @property
    def choices(self) -> Collection[int]:
        """See `Answer`."""
        return self._texts.keys()

    def holds(self, finding: Finding, word: Audited) -> bool:
        """See `Answer`."""
        return finding.part in self._texts.get(word.choice, {})

    def obstacle(self, finding: Finding, word: Audited, span: tuple[int, int]) -> str | None:
        """See `Answer`."""
        text, (start, end) = self._texts[word.choice][finding.part], span
        if not 0 <= start < end <= len(text):
            return "bad-span"
        same = finding.replacement is None or finding.replacement == text[start:end]
        return "no-replacement" if same else None


class _Tally(Struct):
    """What the words on an answer come to, while they are read; `refusing` are the choices that refuse."""

    reasons: list[tuple[Reason, str]]
    redactions: list[Redaction]
    noted: set[str]
    excused: set[str]
    refusing: set[int]


def release(
    policy: Policy, admitted: Admit, completion: Completion, evidence: tuple[AuditEvidence, ...], attempt: int
) -> Release | Withhold | Retry:
    """Decide whether an answer leaves. To withhold beats to retry, and to retry beats to release.

    Every configured auditor must have a word on every choice of this `attempt`. A retry (at attempt 0 only) needs a
    policy with `over_defense`, a risk that the pre-screen really called benign, and a refusal in every choice.
    """
    return verdict_on(policy, admitted, Whole(completion), evidence, attempt)


def verdict_on(
    policy: Policy, admitted: Admit, answer: Answer, evidence: tuple[AuditEvidence, ...], attempt: int
) -> Release | Withhold | Retry:
    """Decide as `release` does on an answer of which only this much is known."""
    choices = answer.choices
    if not choices:
        return Withhold(reasons=(Reason(code="nothing-to-answer"),), rule="backend")
    tally = _Tally(reasons=[], redactions=[], noted=set(), excused=set(), refusing=set())
    now = tuple(word for word in evidence if word.attempt == attempt)
    specs = {spec.stage: (f"audit[{place}]", spec) for place, spec in enumerate(policy.audit)}
    for word in now:
        rule, spec = specs.get(word.stage, ("audit", None))
        if isinstance(word, StageFailed):
            if spec is not None and spec.allow_if_unavailable:
                tally.excused.add(word.stage)
            else:
                tally.reasons.append((Reason(code="stage-failed", stage=word.stage, cause=word.cause), rule))
            continue
        for finding in word.findings:
            _weigh(finding, word, spec, rule, answer, tally)
    _count_missing(policy, choices, now, tally)
    if tally.reasons:
        ordered = sorted(dict(tally.reasons).items(), key=lambda item: _order(item[0]))
        return Withhold(reasons=tuple(reason for reason, _ in ordered), rule=ordered[0][1])
    if attempt == 0 and policy.over_defense is not None and tally.refusing >= set(choices):
        ceiling = policy.over_defense.benign_below
        # An excused pre-screener has not called anything benign.
        if not admitted.excused and admitted.risk < (policy.tiers[0].below if ceiling is None else ceiling):
            return Retry(budget=policy.over_defense.retry.budget(), rule="over_defense")
    return Release(
        rule="audit",
        redactions=merge(tally.redactions),
        noted=tuple(sorted(tally.noted)),
        excused=tuple(spec.stage for spec in policy.audit if spec.stage in tally.excused),
    )


def _count_missing(policy: Policy, choices: Collection[int], words: tuple[AuditEvidence, ...], tally: _Tally) -> None:
    heard = {(word.stage, word.choice) for word in words}
    heard |= {(word.stage, index) for word in words if word.choice is None for index in choices}
    for place, spec in enumerate(policy.audit):
        for index in choices:
            if (spec.stage, index) not in heard:
                reason = Reason(code="stage-missing", stage=spec.stage, part=f"choices[{index}]")
                tally.reasons.append((reason, f"audit[{place}]"))


def _weigh(finding: Finding, word: Audited, spec: AuditSpec | None, rule: str, answer: Answer, tally: _Tally) -> None:
    """Count one finding: a reason to withhold, a redaction, a note, or a refusal of the model's own."""

    def withhold(cause: str | None = None) -> None:
        reason = Reason(code="finding", stage=word.stage, label=finding.kind, part=finding.part, cause=cause)
        tally.reasons.append((reason, rule))

    if not answer.holds(finding, word):
        withhold("unknown-part")  # a finding whose place is not known can not be acted on
    elif spec is None:
        withhold("unknown-stage")
    elif worst_share(finding.score) < spec.threshold:
        tally.noted.add(finding.kind)
    elif finding.kind == REFUSAL:
        tally.refusing.add(word.choice)
        tally.noted.add(finding.kind)
    elif spec.on_finding == "note":
        tally.noted.add(finding.kind)
    elif spec.on_finding == "withhold":
        withhold()
    elif finding.start is None or finding.end is None:
        withhold("no-span")
    elif (obstacle := answer.obstacle(finding, word, (finding.start, finding.end))) is not None:
        withhold(obstacle)
    else:
        tally.redactions.append(
            Redaction(
                choice=word.choice,
                part=finding.part,
                start=finding.start,
                end=finding.end,
                replacement=finding.replacement or "",
                label=finding.label or finding.kind,
            )
        )


def _order(reason: Reason) -> tuple[object, ...]:
    names = tuple(value or "" for value in (reason.stage, reason.part, reason.label, reason.cause))
    return (_RANK.get(reason.code, len(_RANK)), *names)


def merge(redactions: Iterable[Redaction]) -> tuple[Redaction, ...]:
    """Sort redactions by choice, part and place, and join those that overlap.

    Joined ones take replacement and label of the one that begins first, and of these the longest.
    """
    merged: list[Redaction] = []
    for item in sorted(redactions, key=lambda r: (r.choice, r.part, r.start, -r.end, r.label, r.replacement)):
        last = merged[-1] if merged else None
        if last is not None and (last.choice, last.part) == (item.choice, item.part) and item.start < last.end:
            merged[-1] = replace(last, end=max(last.end, item.end))
        else:
            merged.append(item)
    return tuple(merged)


def redact(completion: Completion, redactions: tuple[Redaction, ...]) -> Completion:
    """Replace the spans of `redactions` in the texts of `completion`, names and arguments of tool calls included.

    A choice that loses anything, if only among the tokens of its `logprobs`, loses all of these. Raises ValueError
    where a redaction names a span that is not there: an answer that was meant to lose something must not leave whole.
    """
    length = {(choice.index, text.id): len(text.text) for choice in completion.choices for text in choice.texts()}
    if any(not 0 <= item.start < item.end <= length.get((item.choice, item.part), -1) for item in redactions):
        raise ValueError("a redaction names a span that is not in the answer")
    merged = merge(redactions)
    return replace(completion, choices=tuple(_redact_choice(choice, merged) for choice in completion.choices))


def _redact_choice(choice: Choice, redactions: tuple[Redaction, ...]) -> Choice:
    def done(text: Text) -> Text:
        result = text.text
        for item in reversed(redactions):  # from the end, so that the offsets before stay true
            if (item.choice, item.part) == (choice.index, text.id):
                result = result[: item.start] + item.replacement + result[item.end :]
        return replace(text, text=result)

    calls = tuple(replace(call, name=done(call.name), arguments=done(call.arguments)) for call in choice.tool_calls)
    # The tokens spell what was replaced, and their alternatives may too, so they go as a whole.
    touched = any(item.choice == choice.index for item in redactions)
    logprobs = None if touched else choice.logprobs
    return replace(choice, text=done(choice.text), tool_calls=calls, logprobs=logprobs)
