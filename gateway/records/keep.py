"""Evidence and decisions, copied into the shapes that are kept, with the thresholds and configurations in force."""

from __future__ import annotations

import re

import msgspec

from gateway.policy.decision import Admit, Refuse, Release, Retry, Verdict, Withhold
from gateway.policy.evidence import AuditEvidence, Inspected, ScreenEvidence, Skipped, StageFailed
from gateway.policy.validate import is_code
from gateway.records import shapes
from gateway.records.content import answer_bytes, demonstrations_digest
from gateway.records.digest import Digester
from gateway.records.outcome import Attempt, Completed, Injected, Outcome
from gateway.stages import Kind
from gateway.values import Budget, Finding

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:#@+/\[\]-]{0,199}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:/@-]{0,199}")
_UNFIT = "unfit"


def kept_ms(value: float) -> float:
    """Round a time in ms to microseconds."""
    return round(float(value), 3)


def _share(value: float) -> float:
    return float(value)  # a plugin may give the whole number 1, which would be written otherwise than 1.0


def _code(value: str) -> str:
    return value if is_code(value) else _UNFIT


def _maybe(value: str | None) -> str | None:
    return None if value is None else _code(value)


def _budget(budget: Budget) -> shapes.BudgetV1:
    return msgspec.convert(budget, shapes.BudgetV1, from_attributes=True)


class Keeper:
    """Copies values of the request's way into shapes that are kept, with the thresholds and configurations in force.

    Codes, ids of parts and names of models come in part from plugins and servers. Where one has not the form of a code
    it could carry content, so the word ``unfit`` or a keyed digest takes its place.
    """

    def __init__(self, digester: Digester, outcome: Outcome) -> None:
        policy = outcome.policy.policy
        self._digester = digester
        self._configs = outcome.configs
        self._screens = {spec.stage: spec.threshold for spec in policy.prescreen}
        self._audits = {spec.stage: spec.threshold for spec in policy.audit}
        self._bounds = tuple(_share(tier.below) for tier in policy.tiers)
        self._clinical = None if policy.scope == "any" else _share(policy.clinical_at_least)
        again = policy.over_defense
        benign = self._bounds[0] if again is None or again.benign_below is None else _share(again.benign_below)
        self._benign = None if again is None else benign

    def _config(self, kind: Kind, stage: str) -> str | None:
        return self._configs.get((kind, stage))

    @staticmethod
    def _threshold(thresholds: dict[str, float], stage: str) -> float | None:
        return _share(thresholds[stage]) if stage in thresholds else None

    def part(self, part: str) -> str:
        """Keep the id of a part, or a keyed digest of what is none."""
        return part if _PART.fullmatch(part) else f"{_UNFIT}:{self._digester.digest('part', part.encode())[:16]}"

    def _parts(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(self.part, parts))

    def model(self, name: str) -> str:
        """Keep a model's name, or a keyed digest of what is none."""
        return name if _MODEL.fullmatch(name) else f"{_UNFIT}:{self._digester.digest('model', name.encode())[:16]}"

    def _failed(self, word: StageFailed) -> shapes.FailedV1:
        return shapes.FailedV1(
            stage=word.stage,
            version=word.version,
            kind=word.kind,
            cause=_code(word.cause),
            ms=kept_ms(word.ms),
            round=word.round,
            choice=word.choice,
            config=self._config(word.kind, word.stage),
        )

    def screened(self, word: ScreenEvidence) -> shapes.ScreenedV1 | shapes.SkippedV1 | shapes.FailedV1:
        """Keep a pre-screener's word."""
        if isinstance(word, StageFailed):
            return self._failed(word)
        if isinstance(word, Skipped):
            config = self._config("prescreener", word.stage)
            return shapes.SkippedV1(stage=word.stage, version=word.version, config=config)
        said = word.screening
        return shapes.ScreenedV1(
            stage=word.stage,
            version=word.version,
            round=word.round,
            ms=kept_ms(word.ms),
            risk=_share(said.risk),
            scores=tuple(shapes.ScoreV1(label=_code(s.label), value=_share(s.value)) for s in said.scores),
            inspected=self._parts(said.inspected),
            found=self._parts(tuple(text.id for text in said.found)),
            part=None if said.part is None else self.part(said.part),
            view=_maybe(said.view),
            notes=tuple(map(_code, said.notes)),
            findings=tuple(map(self._finding, said.findings)),
            clinical=None if said.clinical is None else _share(said.clinical),
            config=self._config("prescreener", word.stage),
            threshold=self._threshold(self._screens, word.stage),
        )

    def _finding(self, found: Finding) -> shapes.FindingV1:
        return shapes.FindingV1(
            kind=_code(found.kind),
            score=_share(found.score),
            part=self.part(found.part),
            start=found.start,
            end=found.end,
            label=_maybe(found.label),
        )

    def covered(self, row: Inspected) -> shapes.CoveredV1:
        """Keep who looked at a part."""
        return shapes.CoveredV1(part=self.part(row.part), kind=row.kind, by=row.by)

    def _audited(self, word: AuditEvidence) -> shapes.AuditedV1 | shapes.FailedV1:
        if isinstance(word, StageFailed):
            return self._failed(word)
        findings = tuple(map(self._finding, word.findings))
        return shapes.AuditedV1(
            stage=word.stage,
            version=word.version,
            choice=word.choice,
            ms=kept_ms(word.ms),
            findings=findings,
            config=self._config("auditor", word.stage),
            threshold=self._threshold(self._audits, word.stage),
        )

    def _reasons(self, decision: Refuse | Withhold) -> tuple[shapes.ReasonV1, ...]:
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

    def _refuse(self, decision: Refuse) -> shapes.RefuseV1:
        risk = None if decision.risk is None else _share(decision.risk)
        return shapes.RefuseV1(
            reasons=self._reasons(decision),
            rule=decision.rule,
            risk=risk,
            bounds=self._bounds,
            clinical_at_least=self._clinical,
        )

    def _withhold(self, decision: Withhold) -> shapes.WithholdV1:
        return shapes.WithholdV1(reasons=self._reasons(decision), rule=decision.rule)

    def _release(self, decision: Release) -> shapes.ReleaseV1:
        redactions = tuple(
            shapes.RedactionV1(choice=r.choice, part=self.part(r.part), start=r.start, end=r.end, label=_code(r.label))
            for r in decision.redactions
        )
        noted = tuple(map(_code, decision.noted))
        return shapes.ReleaseV1(rule=decision.rule, redactions=redactions, noted=noted, excused=decision.excused)

    def admission(self, decision: Admit | Refuse) -> shapes.AdmitV1 | shapes.RefuseV1:
        """Keep the decision on a request."""
        if isinstance(decision, Refuse):
            return self._refuse(decision)
        return shapes.AdmitV1(
            budget=_budget(decision.budget),
            tier=decision.tier,
            risk=_share(decision.risk),
            rule=decision.rule,
            excused=decision.excused,
            waived=self._parts(decision.waived),
            bounds=self._bounds,
            clinical_at_least=self._clinical,
        )

    def final(
        self, decision: Refuse | Withhold | Release | Admit
    ) -> shapes.RefuseV1 | shapes.WithholdV1 | shapes.ReleaseV1 | shapes.AdmitV1:
        """Keep the decision that counted."""
        if isinstance(decision, Refuse | Admit):
            return self.admission(decision)
        return self._withhold(decision) if isinstance(decision, Withhold) else self._release(decision)

    def _verdict(self, decision: Verdict) -> shapes.ReleaseV1 | shapes.WithholdV1 | shapes.RetryV1:
        if isinstance(decision, Retry):
            return shapes.RetryV1(budget=_budget(decision.budget), rule=decision.rule, below=self._benign)
        return self._withhold(decision) if isinstance(decision, Withhold) else self._release(decision)

    def _injected(self, word: Injected | StageFailed) -> shapes.InjectedV1 | shapes.FailedV1:
        if isinstance(word, StageFailed):
            return self._failed(word)
        return shapes.InjectedV1(
            stage=word.stage,
            version=word.version,
            ms=kept_ms(word.ms),
            demonstrations=tuple(_code(demo.id) for demo in word.demonstrations),
            refusing=sum(demo.refuses for demo in word.demonstrations),
            digest=demonstrations_digest(word.demonstrations),
            config=self._config("injector", word.stage),
        )

    def _completed(self, word: Completed | StageFailed) -> shapes.CompletedV1 | shapes.FailedV1:
        if isinstance(word, StageFailed):
            return self._failed(word)
        answer = word.completion
        return shapes.CompletedV1(
            stage=word.stage,
            version=word.version,
            ms=kept_ms(word.ms),
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
            config=self._config("backend", word.stage),
            revision=None if answer.revision is None else self.model(answer.revision),
        )

    def attempt(self, attempt: Attempt) -> shapes.AttemptV1:
        """Keep one asking of the model."""
        return shapes.AttemptV1(
            budget=_budget(attempt.budget),
            injected=None if attempt.injected is None else self._injected(attempt.injected),
            completed=None if attempt.completed is None else self._completed(attempt.completed),
            audits=tuple(map(self._audited, attempt.audits)),
            verdict=self._verdict(attempt.verdict),
            trimmed=None if attempt.trimmed is None else _budget(attempt.trimmed),
        )
