"""Asking the auditors of a policy: each of them about each choice of an answer."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from msgspec.structs import replace

from gateway.pipeline.built import BuiltStages
from gateway.pipeline.call import Fault, call_stage
from gateway.policy.evidence import Audited, AuditEvidence, StageFailed
from gateway.policy.model import AuditSpec, Policy
from gateway.policy.validate import findings_problem
from gateway.values import Choice, Completion, Finding, Prompt


class Auditors:
    """The auditors of one policy. `end` is when the request's time is over, by `time.perf_counter`."""

    def __init__(self, policy: Policy, stages: BuiltStages) -> None:
        self._policy, self._stages = policy, stages

    async def whole(self, prompt: Prompt, completion: Completion, number: int, end: float) -> tuple[AuditEvidence, ...]:
        """Ask every auditor about every choice of a whole answer."""
        # One call per choice: an auditor that looks only at the first answer can not exist.
        words = await asyncio.gather(
            *(
                self.one(spec, prompt, completion, choice, number, end)
                for choice in completion.choices
                for spec in self._policy.audit
            )
        )
        return tuple(words)

    async def one(
        self, spec: AuditSpec, prompt: Prompt, completion: Completion, choice: Choice, number: int, end: float
    ) -> AuditEvidence:
        """Ask one auditor about one choice of an answer, within its own deadline and the request's."""
        texts = {t.id: t.text for t in choice.texts()}
        one = replace(completion, choices=(choice,))
        built = self._stages["auditor", spec.stage]
        value, ms = await call_stage(
            lambda: built.stage.audit(prompt, one),
            deadline=min(spec.deadline.seconds, end - time.perf_counter()),
            check=lambda v: findings_problem(v, texts),
        )
        if isinstance(value, Fault):
            return StageFailed(
                stage=built.name, version=built.version, kind="auditor", cause=value.cause, ms=ms,
                choice=choice.index, attempt=number,
            )  # fmt: skip
        findings = cast("tuple[Finding, ...]", value)
        return Audited(
            stage=built.name, version=built.version, ms=ms, choice=choice.index, findings=findings, attempt=number
        )
