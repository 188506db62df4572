"""The flow of one request: screen, admit, inject, complete, audit, release or retry. It decides nothing by itself."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, cast

import msgspec

from gateway.pipeline.built import BuiltStages
from gateway.pipeline.call import Fault, call_stage
from gateway.pipeline.coverage import coverage_of, found_in, view_of
from gateway.pipeline.defuse import defused
from gateway.pipeline.ending import final_of
from gateway.pipeline.patient import patient_policy
from gateway.pipeline.room import CONTEXT, fitted, reserved
from gateway.pipeline.witness import Witness
from gateway.policy.decide import admit, release, wanted
from gateway.policy.decision import Admit, Reason, Retry, Withhold
from gateway.policy.evidence import Audited, AuditEvidence, Screened, ScreenEvidence, Skipped, StageFailed
from gateway.policy.model import AuditSpec, LoadedPolicy, PrescreenSpec
from gateway.policy.validate import completion_problem, demonstrations_problem, findings_problem, screening_problem
from gateway.records import NOTHING_SAID, Attempt, Caller, Completed, Context, Injected, Outcome
from gateway.stages import Kind, MeasuringBackend
from gateway.values import Budget, Choice, Completion, Demonstration, Finding, Prompt, Request, Screening, Text


class Pipeline:
    """One department's way: its policy and the stage objects it names.

    `witness` tells where it runs and what the clock is worth; without one, records say neither.
    """

    def __init__(self, loaded: LoadedPolicy, stages: BuiltStages, witness: Witness | None = None) -> None:
        self.loaded = loaded
        self.policy = loaded.policy
        self._stages = stages
        self._witness = witness
        self._gate: AbstractAsyncContextManager[object] = nullcontext()
        self._configs = {place: built.config for place, built in stages.items() if built.config is not None}

    @property
    def backend(self) -> Any:
        """Give the model stage: departments with the same configuration of it share one object."""
        return self._stages["backend", self.policy.backend.stage].stage

    def models(self) -> tuple[str, ...]:
        """Name the models that this department may use; the first is the default."""
        return cast("tuple[str, ...]", self.backend.models())

    def patient(self, factor: float, gate: AbstractAsyncContextManager[object] | None = None) -> Pipeline:
        """Give the same pipeline with all deadlines times `factor`. `gate` is entered around each asking of the model.

        Records name the policy as it was loaded.
        """
        made = copy.copy(self)
        made.policy = patient_policy(self.policy, factor)
        made._gate = gate or self._gate
        return made

    async def run(self, request: Request, caller: Caller, endpoint: str, *, context: Context = NOTHING_SAID) -> Outcome:
        """Take `request` all the way. Never raises for what a stage does; the outcome is not yet logged."""
        screened = await self.moderate(request, caller, endpoint, context=context)
        if not isinstance(screened.admission, Admit):
            return screened
        clock = time.perf_counter() - screened.ms / 1000
        prompt, broken = defused(request, found_in(screened.screening))
        attempts = await self._attempts(prompt, screened.admission, clock + self.policy.deadline.seconds)
        final, answer = final_of(self.policy, screened.admission, attempts)
        return msgspec.structs.replace(
            screened, ms=(time.perf_counter() - clock) * 1000, attempts=attempts, final=final, answer=answer,
            defused=broken,
        )  # fmt: skip

    async def moderate(
        self, request: Request, caller: Caller, endpoint: str, *, context: Context = NOTHING_SAID
    ) -> Outcome:
        """Ask the pre-screeners alone, and decide whether a model might be asked. The outcome is not yet logged.

        Second opinions are asked where the risk of the others calls for them. Text that one of them finds in an image
        is judged by the others, as if the user had typed it.
        """
        started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
        screening = await self._screen(request, clock + self.policy.deadline.seconds)
        coverage = coverage_of(request, screening)
        admission = admit(self.policy, screening, coverage)
        return Outcome(
            request=request,
            caller=caller,
            policy=self.loaded,
            endpoint=endpoint,
            started=started,
            ms=(time.perf_counter() - clock) * 1000,
            screening=screening,
            coverage=coverage,
            admission=admission,
            attempts=(),
            final=admission,
            context=context,
            where=None if self._witness is None else self._witness.where,
            clock=None if self._witness is None else self._witness.clock(),
            configs=self._configs,
        )

    async def audit(self, prompt: Prompt, completion: Completion, number: int = 0) -> tuple[AuditEvidence, ...]:
        """Ask the auditors alone about an answer that was given before, at that attempt."""
        return await self._audit(prompt, completion, number, time.perf_counter() + self.policy.deadline.seconds)

    async def _call(
        self, kind: Kind, name: str, method: str, deadline: float, end: float, check: Any, *values: Any
    ) -> Any:
        """Call a stage within its own deadline and the request's; give its Built, the value or Fault, and the ms."""
        built = self._stages[kind, name]
        left = min(deadline, end - time.perf_counter())
        value, ms = await call_stage(lambda: getattr(built.stage, method)(*values), deadline=left, check=check)
        return built, value, ms

    async def _screen(self, request: Request, end: float) -> tuple[ScreenEvidence, ...]:
        always = [spec for spec in self.policy.prescreen if spec.between is None]
        words = await self._both_rounds(always, request, (), end)
        later = [spec for spec in self.policy.prescreen if spec.between is not None]
        asked = [spec for spec in later if wanted(spec, self.policy, words)]
        skipped = tuple(self._skipped(spec) for spec in later if spec not in asked)
        return (*words, *await self._both_rounds(asked, request, found_in(words), end), *skipped)

    async def _both_rounds(
        self, specs: list[PrescreenSpec], request: Request, found: tuple[Text, ...], end: float
    ) -> tuple[ScreenEvidence, ...]:
        """Ask `specs` for the request, and for the text found in its images: by others before, or by one of them."""
        first = await asyncio.gather(*(self._ask_prescreener(s, request, "request", end) for s in specs))
        texts = (*found, *found_in(first))
        if not texts:
            return tuple(first)
        finders = {word.stage for word in first if isinstance(word, Screened) and word.screening.found}
        again = view_of(texts, request)
        second = await asyncio.gather(
            *(self._ask_prescreener(s, again, "found", end) for s in specs if s.stage not in finders)
        )
        return (*first, *second)

    def _skipped(self, spec: PrescreenSpec) -> Skipped:
        built = self._stages["prescreener", spec.stage]
        return Skipped(stage=built.name, version=built.version)

    async def _ask_prescreener(self, spec: PrescreenSpec, request: Request, round_: Any, end: float) -> ScreenEvidence:
        parts = frozenset(p.id for p in request.parts())
        images = frozenset(i.id for i in request.images())
        built, value, ms = await self._call(
            "prescreener", spec.stage, "screen", spec.deadline.seconds, end,
            lambda v: screening_problem(v, parts, images), request,
        )  # fmt: skip
        if isinstance(value, Fault):
            return StageFailed(
                stage=built.name, version=built.version, kind="prescreener", cause=value.cause, ms=ms, round=round_
            )
        return Screened(stage=built.name, version=built.version, ms=ms, screening=cast(Screening, value), round=round_)

    async def _attempts(self, bare: Prompt, admission: Admit, end: float) -> tuple[Attempt, ...]:
        first = await self._attempt(bare, admission, admission.budget, 0, end)
        if not isinstance(first.verdict, Retry):
            return (first,)
        return (first, await self._attempt(bare, admission, first.verdict.budget, 1, end))

    async def _attempt(self, bare: Prompt, admission: Admit, budget: Budget, number: int, end: float) -> Attempt:
        injected, trimmed = await self._inject_fitting(bare, budget, number, end)
        demonstrations: tuple[Demonstration, ...] = ()
        if isinstance(injected, Injected):
            demonstrations = injected.demonstrations
        made = partial(Attempt, budget=budget, injected=injected, trimmed=trimmed)
        if isinstance(injected, StageFailed) and not self._excused(injected):
            reason = Reason(code="demonstrations-failed", stage=injected.stage, cause=injected.cause)
            return made(completed=None, audits=(), verdict=Withhold(reasons=(reason,), rule="demonstrations"))
        prompt = self._shown(bare, demonstrations)
        asked = time.perf_counter()
        async with self._gate:
            end += time.perf_counter() - asked  # to wait for a place at the model takes nothing of the request's time
            completed = await self._complete(prompt, number, end)
        if isinstance(completed, StageFailed):
            reason = Reason(code="model-failed", stage=completed.stage, cause=completed.cause)
            return made(completed=completed, audits=(), verdict=Withhold(reasons=(reason,), rule="backend"))
        audits = await self._audit(prompt, completed.completion, number, end)
        verdict = release(self.policy, admission, completed.completion, audits, number)
        return made(completed=completed, audits=audits, verdict=verdict)

    def _excused(self, failed: StageFailed) -> bool:
        """Tell whether the policy goes on without demonstrations.

        A question that leaves no room for them is no failure of the stage: whoever asks could bring it about.
        """
        spec = self.policy.demonstrations
        return spec is not None and spec.allow_if_unavailable and failed.cause != CONTEXT

    def _shown(self, bare: Prompt, demonstrations: tuple[Demonstration, ...]) -> Prompt:
        spec = self.policy.demonstrations
        if spec is None:
            return bare
        return msgspec.structs.replace(bare, demonstrations=demonstrations, form=spec.form, role=spec.role)

    async def _inject_fitting(
        self, bare: Prompt, budget: Budget, number: int, end: float
    ) -> tuple[Injected | StageFailed | None, Budget | None]:
        """Inject what `budget` buys, or what fits of it, with the budget as it was cut for that."""
        injected = await self._inject(bare.request, budget, number, end)
        backend = self.backend
        if not isinstance(injected, Injected) or not isinstance(backend, MeasuringBackend):
            return injected, None

        async def left(demonstrations: tuple[Demonstration, ...]) -> int | None:
            # by the same rule as any stage: what raises, hangs or gives nonsense is not known, and the model will say
            said, _ = await call_stage(
                lambda: backend.room(self._shown(bare, demonstrations)),
                deadline=min(self.policy.backend.deadline.seconds, end - time.perf_counter()),
                check=lambda v: None if v is None or type(v) is int else "nonsense:type",
            )
            return said if isinstance(said, int) else None

        async def again(cut: Budget) -> Injected | StageFailed | None:
            return await self._inject(bare.request, cut, number, end)

        fit, cut = await fitted(injected, budget, free=reserved(bare), left=left, inject=again)
        if cut is not None and isinstance(fit, Injected) and not fit.demonstrations:
            fit = StageFailed(
                stage=fit.stage, version=fit.version, kind="injector", cause=CONTEXT, ms=fit.ms, attempt=number
            )
        return fit, cut

    async def _inject(self, request: Request, budget: Budget, number: int, end: float) -> Injected | StageFailed | None:
        spec = self.policy.demonstrations
        if spec is None or budget.demonstrations == 0:
            return None

        def check(value: object) -> str | None:
            # An injector that silently gives none where some were bought would leave the model undefended.
            capped = budget.tokens is not None
            return "nothing" if value == () and not capped else demonstrations_problem(value, budget)

        built, value, ms = await self._call(
            "injector", spec.stage, "inject", spec.deadline.seconds, end, check, request, budget
        )
        if isinstance(value, Fault):
            return StageFailed(
                stage=built.name, version=built.version, kind="injector", cause=value.cause, ms=ms, attempt=number
            )
        shown = cast("tuple[Demonstration, ...]", value)
        return Injected(stage=built.name, version=built.version, ms=ms, demonstrations=shown)

    async def _complete(self, prompt: Prompt, number: int, end: float) -> Completed | StageFailed:
        spec = self.policy.backend
        built, value, ms = await self._call(
            "backend", spec.stage, "complete", spec.deadline.seconds, end,
            lambda v: completion_problem(v, prompt.request.sampling.n), prompt,
        )  # fmt: skip
        if isinstance(value, Fault):
            return StageFailed(
                stage=built.name, version=built.version, kind="backend", cause=value.cause, ms=ms, attempt=number
            )
        return Completed(stage=built.name, version=built.version, ms=ms, completion=cast(Completion, value))

    async def _audit(
        self, prompt: Prompt, completion: Completion, number: int, end: float
    ) -> tuple[AuditEvidence, ...]:
        # One call per choice: an auditor that looks only at the first answer can not exist.
        words = await asyncio.gather(
            *(
                self._ask_auditor(spec, prompt, completion, choice, number, end)
                for choice in completion.choices
                for spec in self.policy.audit
            )
        )
        return tuple(words)

    async def _ask_auditor(
        self, spec: AuditSpec, prompt: Prompt, completion: Completion, choice: Choice, number: int, end: float
    ) -> AuditEvidence:
        texts = {t.id: t.text for t in choice.texts()}
        one = msgspec.structs.replace(completion, choices=(choice,))
        built, value, ms = await self._call(
            "auditor", spec.stage, "audit", spec.deadline.seconds, end,
            lambda v: findings_problem(v, texts), prompt, one,
        )  # fmt: skip
        if isinstance(value, Fault):
            return StageFailed(
                stage=built.name, version=built.version, kind="auditor", cause=value.cause, ms=ms,
                choice=choice.index, attempt=number,
            )  # fmt: skip
        findings = cast("tuple[Finding, ...]", value)
        return Audited(
            stage=built.name, version=built.version, ms=ms, choice=choice.index, findings=findings, attempt=number
        )
