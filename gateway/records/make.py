"""The record of an outcome: evidence and decisions are copied, content is digested with a key or left out."""

from __future__ import annotations

import datetime as dt
import re

import msgspec

from gateway import __version__
from gateway.policy.decision import Admit, Refuse, Release, Retry, Verdict, Withhold
from gateway.policy.evidence import AuditEvidence, Inspected, ScreenEvidence, Skipped, StageFailed
from gateway.policy.validate import is_code
from gateway.records import record, shapes
from gateway.records.content import answer_bytes, demonstrations_digest, erased, prompt_bytes
from gateway.records.digest import Digester
from gateway.records.events import CallerV1
from gateway.records.outcome import Attempt, Completed, Injected, Outcome
from gateway.values import Budget, Finding, Sampling

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:#@+\[\]-]{0,199}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:/@-]{0,199}")
_UNFIT = "unfit"


def record_of(outcome: Outcome, digester: Digester) -> record.DecisionV1:
    """Make the record of `outcome`; no word of a prompt, an answer or a redaction is in it."""
    keep = _Keeper(digester)
    request = outcome.request
    return record.DecisionV1(
        id=request.id,
        at=outcome.started.astimezone(dt.UTC),
        gateway=__version__,
        department=outcome.policy.policy.department,
        caller=CallerV1.of(outcome.caller),
        endpoint=outcome.endpoint,
        model=keep.model(request.model),
        stream=request.stream,
        sampling=_sampling(request.sampling),
        policy=record.PolicyV1(
            department=outcome.policy.policy.department,
            revision=outcome.policy.policy.revision,
            digest=outcome.policy.digest,
        ),
        prompt=digester.digest("prompt", prompt_bytes(request)),
        images=tuple(
            record.ImageV1(
                part=keep.part(image.id),
                digest=digester.digest("image", image.data),
                source=image.source,
                modality=image.modality,
                width=image.width,
                height=image.height,
            )
            for image in request.images()
        ),
        screening=tuple(keep.screened(word) for word in outcome.screening),
        coverage=tuple(keep.covered(row) for row in outcome.coverage),
        admission=keep.admission(outcome.admission),
        attempts=tuple(keep.attempt(attempt) for attempt in outcome.attempts),
        final=keep.final(outcome.final),
        outcome=outcome.word,
        answer=None if outcome.answer is None else digester.digest("answer", answer_bytes(outcome.answer)),
        ms=_ms(outcome.ms),
        erased=erased(outcome),
        defused=outcome.defused,
    )


def _ms(value: float) -> float:
    return round(float(value), 3)


def _share(value: float) -> float:
    return float(value)  # a plugin may give the whole number 1, which would be written otherwise than 1.0


def _code(value: str) -> str:
    return value if is_code(value) else _UNFIT


def _maybe(value: str | None) -> str | None:
    return None if value is None else _code(value)


def _budget(budget: Budget) -> shapes.BudgetV1:
    return msgspec.convert(budget, shapes.BudgetV1, from_attributes=True)


def _sampling(sampling: Sampling) -> record.SamplingV1:
    values = {name: getattr(sampling, name) for name in record.SamplingV1.__struct_fields__ if name != "stops"}
    return msgspec.convert({**values, "stops": len(sampling.stop)}, record.SamplingV1)


class _Keeper:
    """Copies values of the request's way into shapes that are kept.

    Codes, ids of parts and names of models come in part from plugins and servers. Where one has not the form of a code
    it could carry content, so the word ``unfit`` or a keyed digest takes its place.
    """

    def __init__(self, digester: Digester) -> None:
        self._digester = digester

    def part(self, part: str) -> str:
        return part if _PART.fullmatch(part) else f"{_UNFIT}:{self._digester.digest('part', part.encode())[:16]}"

    def parts(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(self.part, parts))

    def model(self, name: str) -> str:
        return name if _MODEL.fullmatch(name) else f"{_UNFIT}:{self._digester.digest('model', name.encode())[:16]}"

    def failed(self, word: StageFailed) -> shapes.FailedV1:
        return shapes.FailedV1(
            stage=word.stage,
            version=word.version,
            kind=word.kind,
            cause=_code(word.cause),
            ms=_ms(word.ms),
            round=word.round,
            choice=word.choice,
        )

    def screened(self, word: ScreenEvidence) -> shapes.ScreenedV1 | shapes.SkippedV1 | shapes.FailedV1:
        if isinstance(word, StageFailed):
            return self.failed(word)
        if isinstance(word, Skipped):
            return shapes.SkippedV1(stage=word.stage, version=word.version)
        said = word.screening
        return shapes.ScreenedV1(
            stage=word.stage,
            version=word.version,
            round=word.round,
            ms=_ms(word.ms),
            risk=_share(said.risk),
            scores=tuple(shapes.ScoreV1(label=_code(s.label), value=_share(s.value)) for s in said.scores),
            inspected=self.parts(said.inspected),
            found=self.parts(tuple(text.id for text in said.found)),
            part=None if said.part is None else self.part(said.part),
            view=_maybe(said.view),
            notes=tuple(map(_code, said.notes)),
            findings=tuple(map(self.finding, said.findings)),
            clinical=None if said.clinical is None else _share(said.clinical),
        )

    def finding(self, found: Finding) -> shapes.FindingV1:
        return shapes.FindingV1(
            kind=_code(found.kind),
            score=_share(found.score),
            part=self.part(found.part),
            start=found.start,
            end=found.end,
            label=_maybe(found.label),
        )

    def covered(self, row: Inspected) -> shapes.CoveredV1:
        return shapes.CoveredV1(part=self.part(row.part), kind=row.kind, by=row.by)

    def audited(self, word: AuditEvidence) -> shapes.AuditedV1 | shapes.FailedV1:
        if isinstance(word, StageFailed):
            return self.failed(word)
        findings = tuple(map(self.finding, word.findings))
        return shapes.AuditedV1(
            stage=word.stage, version=word.version, choice=word.choice, ms=_ms(word.ms), findings=findings
        )

    def reasons(self, decision: Refuse | Withhold) -> tuple[shapes.ReasonV1, ...]:
        return tuple(
            shapes.ReasonV1(
                code=_code(r.code),
                stage=r.stage,
                label=_maybe(r.label),
                part=None if r.part is None else self.part(r.part),
                cause=_maybe(r.cause),
            )
            for r in decision.reasons
        )

    def refuse(self, decision: Refuse) -> shapes.RefuseV1:
        risk = None if decision.risk is None else _share(decision.risk)
        return shapes.RefuseV1(reasons=self.reasons(decision), rule=decision.rule, risk=risk)

    def withhold(self, decision: Withhold) -> shapes.WithholdV1:
        return shapes.WithholdV1(reasons=self.reasons(decision), rule=decision.rule)

    def release(self, decision: Release) -> shapes.ReleaseV1:
        redactions = tuple(
            shapes.RedactionV1(choice=r.choice, part=self.part(r.part), start=r.start, end=r.end, label=_code(r.label))
            for r in decision.redactions
        )
        noted = tuple(map(_code, decision.noted))
        return shapes.ReleaseV1(rule=decision.rule, redactions=redactions, noted=noted, excused=decision.excused)

    def admission(self, decision: Admit | Refuse) -> shapes.AdmitV1 | shapes.RefuseV1:
        if isinstance(decision, Refuse):
            return self.refuse(decision)
        return shapes.AdmitV1(
            budget=_budget(decision.budget),
            tier=decision.tier,
            risk=_share(decision.risk),
            rule=decision.rule,
            excused=decision.excused,
            waived=self.parts(decision.waived),
        )

    def final(
        self, decision: Refuse | Withhold | Release | Admit
    ) -> shapes.RefuseV1 | shapes.WithholdV1 | shapes.ReleaseV1 | shapes.AdmitV1:
        if isinstance(decision, Refuse | Admit):
            return self.admission(decision)
        return self.withhold(decision) if isinstance(decision, Withhold) else self.release(decision)

    def verdict(self, decision: Verdict) -> shapes.ReleaseV1 | shapes.WithholdV1 | shapes.RetryV1:
        if isinstance(decision, Retry):
            return shapes.RetryV1(budget=_budget(decision.budget), rule=decision.rule)
        return self.withhold(decision) if isinstance(decision, Withhold) else self.release(decision)

    def injected(self, word: Injected | StageFailed) -> shapes.InjectedV1 | shapes.FailedV1:
        if isinstance(word, StageFailed):
            return self.failed(word)
        return shapes.InjectedV1(
            stage=word.stage,
            version=word.version,
            ms=_ms(word.ms),
            demonstrations=tuple(_code(demo.id) for demo in word.demonstrations),
            refusing=sum(demo.refuses for demo in word.demonstrations),
            digest=demonstrations_digest(word.demonstrations),
        )

    def completed(self, word: Completed | StageFailed) -> shapes.CompletedV1 | shapes.FailedV1:
        if isinstance(word, StageFailed):
            return self.failed(word)
        answer = word.completion
        return shapes.CompletedV1(
            stage=word.stage,
            version=word.version,
            ms=_ms(word.ms),
            model=self.model(answer.model),
            choices=tuple(
                shapes.ChoiceV1(
                    finish_reason=choice.finish_reason,
                    characters=len(choice.text.text),
                    tool_calls=len(choice.tool_calls),
                )
                for choice in answer.choices
            ),
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            blind=answer.blind,
            answer=self._digester.digest("answer", answer_bytes(answer)),
        )

    def attempt(self, attempt: Attempt) -> shapes.AttemptV1:
        return shapes.AttemptV1(
            budget=_budget(attempt.budget),
            injected=None if attempt.injected is None else self.injected(attempt.injected),
            completed=None if attempt.completed is None else self.completed(attempt.completed),
            audits=tuple(map(self.audited, attempt.audits)),
            verdict=self.verdict(attempt.verdict),
            trimmed=None if attempt.trimmed is None else _budget(attempt.trimmed),
        )
