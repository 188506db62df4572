"""A record read back as evidence, so that it can be judged again. Pure; the reverse of `gateway.records.keep`.

What a record leaves out is left out here: texts are empty, and what a redaction would have put in a place is known only
where the record tells that there was something. Ids and codes that had not the right form are there as the record has
them, the same for the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from gateway.policy.answers import REFUSAL
from gateway.policy.decision import Reason
from gateway.policy.evidence import Audited, AuditEvidence, Inspected, Screened, ScreenEvidence, Skipped, StageFailed
from gateway.policy.outline import Outline
from gateway.policy.replay import Asking, Past
from gateway.records import shapes
from gateway.records.record import DecisionV1
from gateway.stages import Kind
from gateway.values import Budget, Finding, Score, Screening, Text

Configs = Mapping[tuple[Kind, str], str]
"""Digests of the configurations of stages, by kind and name; see `gateway.records.shapes.SkippedV1`."""

_SCREENS = "/moderations"
_LATE = "late"
_STUCK = frozenset({"no-replacement", "bad-span"})


def restored(record: DecisionV1, configs: Configs | None = None, *, other_too: bool = False) -> Past:
    """Give the evidence of a decision.

    `configs` are those of the candidate. The word of a pre-screener or auditor that was configured otherwise is left
    out, since it is not the candidate's, unless `other_too`.
    """
    other = _other(record, configs or {})
    screening = tuple(map(screening_of, record.screening))
    askings = tuple(_asking(record, number) for number in range(len(record.attempts)))
    if not other_too:
        screening = tuple(word for word in screening if ("prescreener", word.stage) not in other)
        askings = tuple(
            replace(one, audits=tuple(word for word in one.audits if ("auditor", word.stage) not in other))
            for one in askings
        )
    return Past(
        screening=screening,
        coverage=tuple(Inspected(part=row.part, kind=row.kind, by=row.by) for row in record.coverage),
        askings=askings,
        screen_only=isinstance(record.final, shapes.AdmitV1) or record.endpoint.endswith(_SCREENS),
        other=other,
        model=record.model,
    )


def _other(record: DecisionV1, configs: Configs) -> frozenset[tuple[Kind, str]]:
    """Name the stages that were configured otherwise; where the record does not say, they count as the same."""
    seen: set[tuple[Kind, str, str | None]] = {("prescreener", word.stage, word.config) for word in record.screening}
    for attempt in record.attempts:
        seen |= {("auditor", word.stage, word.config) for word in attempt.audits}
        if attempt.injected is not None:
            seen.add(("injector", attempt.injected.stage, attempt.injected.config))
        if attempt.completed is not None:
            seen.add(("backend", attempt.completed.stage, attempt.completed.config))
    return frozenset(
        (kind, stage)
        for kind, stage, config in seen
        if config is not None and configs.get((kind, stage), config) != config
    )


def screening_of(word: shapes.ScreenedV1 | shapes.SkippedV1 | shapes.FailedV1) -> ScreenEvidence:
    """Give a pre-screener's word; text that it found in images is empty."""
    if isinstance(word, shapes.FailedV1):
        return _failed(word, 0)
    if isinstance(word, shapes.SkippedV1):
        return Skipped(stage=word.stage, version=word.version)
    said = Screening(
        risk=word.risk,
        inspected=word.inspected,
        scores=tuple(Score(label=score.label, value=score.value) for score in word.scores),
        found=tuple(Text(id=part, text="") for part in word.found),
        findings=tuple(map(_finding, word.findings)),
        clinical=word.clinical,
        part=word.part,
        view=word.view,
        notes=word.notes,
    )
    return Screened(stage=word.stage, version=word.version, ms=word.ms, screening=said, round=word.round)


def _failed(word: shapes.FailedV1, attempt: int) -> StageFailed:
    return StageFailed(
        stage=word.stage, version=word.version, kind=word.kind, cause=word.cause, ms=word.ms, round=word.round,
        choice=word.choice, attempt=attempt,
    )  # fmt: skip


def _finding(one: shapes.FindingV1) -> Finding:
    return Finding(kind=one.kind, score=one.score, part=one.part, start=one.start, end=one.end, label=one.label)


def _asking(record: DecisionV1, number: int) -> Asking:
    attempt = record.attempts[number]
    injected, completed, spent = attempt.injected, attempt.completed, attempt.budget
    failed = [_failed(word, number) for word in (injected, completed) if isinstance(word, shapes.FailedV1)]
    return Asking(
        budget=Budget(demonstrations=spent.demonstrations, mix=spent.mix, tokens=spent.tokens, images=spent.images),
        injector=None if injected is None else injected.stage,
        backend=None if completed is None else completed.stage,
        failed=tuple(failed),
        answer=_outline(record, attempt, completed) if isinstance(completed, shapes.CompletedV1) else None,
        audits=tuple(_audited(word, number, attempt, _replaced(record, number)) for word in attempt.audits),
    )


def _outline(record: DecisionV1, attempt: shapes.AttemptV1, completed: shapes.CompletedV1) -> Outline:
    why = attempt.verdict.reasons if isinstance(attempt.verdict, shapes.WithholdV1) else ()
    found = [(r.cause, (r.stage or "", r.label or "", r.part or "")) for r in why if r.code == "finding"]
    return Outline(
        lengths=tuple(choice.characters for choice in completed.choices),
        stuck=frozenset(place for cause, place in found if cause in _STUCK),
        misplaced=frozenset(place for cause, place in found if cause == "unknown-part"),
        late=frozenset(place for cause, place in found if cause == _LATE),
        cut=_cut(record, attempt, completed),
    )


def _cut(record: DecisionV1, attempt: shapes.AttemptV1, completed: shapes.CompletedV1) -> bool:
    """Tell whether the gateway ended an answer while it grew: only one that was withheld, and has no end of its own."""
    streamed = record.streamed
    if streamed is None or streamed.why not in (None, "retry") or not isinstance(attempt.verdict, shapes.WithholdV1):
        return False  # what needs the whole answer was given it whole
    return any(choice.finish_reason == "content_filter" for choice in completed.choices)


def _replaced(record: DecisionV1, number: int) -> tuple[shapes.RedactionV1, ...]:
    """Give the spans of an answer that were replaced.

    Where asking once more broke down, the final decision was on the first answer.
    """
    verdict, final = record.attempts[number].verdict, record.final
    done = verdict.redactions if isinstance(verdict, shapes.ReleaseV1) else ()
    last = record.attempts[-1]
    alone = number == 0 and len(record.attempts) == 2 and not isinstance(last.completed, shapes.CompletedV1)
    return (*done, *final.redactions) if alone and isinstance(final, shapes.ReleaseV1) else done


def _audited(
    word: shapes.AuditedV1 | shapes.FailedV1,
    number: int,
    attempt: shapes.AttemptV1,
    replaced: tuple[shapes.RedactionV1, ...],
) -> AuditEvidence:
    if isinstance(word, shapes.FailedV1):
        return _failed(word, number)
    # A record keeps no redactions of an answer that led to asking once more, and that it did tells that each was done.
    all_done = isinstance(attempt.verdict, shapes.RetryV1)
    findings = []
    for one in word.findings:
        counted = one.kind != REFUSAL and (word.threshold is None or one.score >= word.threshold)
        done = (all_done and counted) or any(_covers(span, word.choice, one) for span in replaced)
        findings.append(replace(_finding(one), replacement="" if done else None))
    return Audited(
        stage=word.stage, version=word.version, ms=word.ms, choice=word.choice, findings=tuple(findings), attempt=number
    )


def _covers(span: shapes.RedactionV1, choice: int, one: shapes.FindingV1) -> bool:
    if one.start is None or one.end is None or (span.choice, span.part) != (choice, one.part):
        return False
    return span.start <= one.start and one.end <= span.end


def codes(reasons: tuple[Reason, ...]) -> tuple[str, ...]:
    """Write reasons as codes, each with its label or stage after a colon: ``risk:insurance-fraud``."""
    written = (f"{one.code}:{one.label or one.stage}" if one.label or one.stage else one.code for one in reasons)
    return tuple(dict.fromkeys(written))
