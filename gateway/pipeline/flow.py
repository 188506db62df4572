"""The flow of one request: screen, admit, inject, complete, audit, release or retry. It decides nothing by itself."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, cast

import msgspec

from gateway.pipeline.auditing import Auditors
from gateway.pipeline.built import Built, BuiltStages
from gateway.pipeline.call import Fault, call_stage
from gateway.pipeline.coverage import coverage_of, found_in, view_of
from gateway.pipeline.defuse import defused
from gateway.pipeline.ending import final_of
from gateway.pipeline.gone import Gone
from gateway.pipeline.injecting import Injecting
from gateway.pipeline.patient import patient_policy
from gateway.pipeline.room import bounded
from gateway.pipeline.windowed import Opening, Windowed, model_failed, told
from gateway.pipeline.windows import Windows, windows_of
from gateway.pipeline.witness import Witness
from gateway.policy.decide import admit, release, wanted
from gateway.policy.decision import Admit, Reason, Retry, Withhold
from gateway.policy.evidence import AuditEvidence, Screened, ScreenEvidence, Skipped, StageFailed
from gateway.policy.model import LoadedPolicy, PrescreenSpec
from gateway.policy.models import for_model
from gateway.policy.validate import completion_problem, screening_problem
from gateway.records import NOTHING_SAID, Attempt, Caller, Completed, Context, Injected, Outcome
from gateway.stages import Kind
from gateway.values import Budget, Completion, Demonstration, Prompt, Request, Screening, Text


class Pipeline:
    """One department's way: its policy, as it holds for the default model, and the stage objects it names.

    `witness` tells where it runs and what the clock is worth; without one, records say neither. `models` are the built
    stages of the policy's further models, by name; one that is not among them can not be asked. `context` is how many
    tokens the model may be given at once, None where nobody knows.
    """

    def __init__(
        self,
        loaded: LoadedPolicy,
        stages: BuiltStages,
        witness: Witness | None = None,
        models: Mapping[str, Built] | None = None,
    ) -> None:
        self.loaded = loaded
        self.policy = for_model(loaded.policy)
        self._stages = stages
        self._witness = witness
        self._gate: AbstractAsyncContextManager[object] = nullcontext()
        self._gone: Gone | None = None
        self._windowed: Windowed | None = None
        self._configs = {place: built.config for place, built in stages.items() if built.config is not None}
        default: tuple[Kind, str] = ("backend", self.policy.backend.stage)
        built = stages.get(default)
        self.context, self._shorter = bounded(None if built is None else built.context, self.policy.backend.context)
        self._others: dict[str, Pipeline] = {}
        rest = {place: other for place, other in stages.items() if place != default}
        for name, other in (models or {}).items():
            alone = msgspec.structs.replace(loaded, policy=for_model(loaded.policy, name))
            its = Pipeline(alone, {**rest, ("backend", alone.policy.backend.stage): other}, witness)
            its.loaded = loaded  # records name the policy as it was loaded
            self._others[name] = its

    @property
    def backend(self) -> Any:
        """Give the model stage: departments with the same configuration of it share one object."""
        return self._stages["backend", self.policy.backend.stage].stage

    def models(self) -> tuple[str, ...]:
        """Name the models that this department may use; the first is the default."""
        return tuple(dict.fromkeys((*self.backend.models(), *self._others)))

    def of_model(self, name: str) -> Pipeline:
        """Give the pipeline that asks the model `name`: this one for the default's names, and for unknown ones."""
        return self._others.get(name, self)

    def patient(self, factor: float, gate: AbstractAsyncContextManager[object] | None = None) -> Pipeline:
        """Give the same pipeline with all deadlines times `factor`. `gate` is entered around each asking of the model.

        Records name the policy as it was loaded.
        """
        made = copy.copy(self)
        made.policy = patient_policy(self.policy, factor)
        made._gate = gate or self._gate
        made._others = {name: other.patient(factor, gate) for name, other in self._others.items()}
        return made

    async def run(
        self,
        request: Request,
        caller: Caller,
        endpoint: str,
        *,
        context: Context = NOTHING_SAID,
        gone: Gone | None = None,
        opening: Opening | None = None,
    ) -> Outcome:
        """Take `request` all the way. Never raises for what a stage does; the outcome is not yet logged.

        The model is stopped once `gone` tells that nobody waits any more. `opening` takes what is known once the
        request is admitted, and gives what hands over the text of an answer that leaves window by window; what that
        raises is raised here.
        """
        if (its := self.of_model(request.model)) is not self:
            return await its.run(request, caller, endpoint, context=context, gone=gone, opening=opening)
        screened = await self.moderate(request, caller, endpoint, context=context)
        if not isinstance(screened.admission, Admit):
            return screened
        clock = time.perf_counter() - screened.ms / 1000
        prompt, broken = defused(request, found_in(screened.screening))
        asking = copy.copy(self)
        asking._gone = gone
        asking._windowed = None if opening is None else self._windows_for(screened, gone, opening, clock)
        attempts = await asking._attempts(prompt, screened.admission, clock + self.policy.deadline.seconds)
        early = None if asking._windowed is None else asking._windowed.final
        final, answer = early or final_of(self.policy, screened.admission, attempts)
        streamed = None
        if self._streams(request):
            why = windows_of(self.policy, self._stages, request.sampling)
            streamed = told(asking._windowed, why, len(attempts))
        return msgspec.structs.replace(
            screened, ms=(time.perf_counter() - clock) * 1000, attempts=attempts, final=final, answer=answer,
            defused=broken, streamed=streamed,
        )  # fmt: skip

    def windows(self) -> Windows | str:
        """Give the windows by which answers leave, or a code of what needs the whole answer."""
        return windows_of(self.policy, self._stages)

    def _streams(self, request: Request) -> bool:
        return request.stream and self.policy.stream == "windowed"

    def _windows_for(self, screened: Outcome, gone: Gone | None, opening: Opening, began: float) -> Windowed | None:
        """Make what lets the answer to an admitted request leave in windows, None where it is held."""
        windows = windows_of(self.policy, self._stages, screened.request.sampling)
        if not self._streams(screened.request) or not isinstance(windows, Windows):
            return None
        return Windowed(
            policy=self.policy,
            backend=self._stages["backend", self.policy.backend.stage],
            auditors=self._auditors,
            windows=windows,
            leave=opening(screened, windows.hold_back),
            gone=gone,
            began=began,
        )

    @property
    def _auditors(self) -> Auditors:
        return Auditors(self.policy, self._stages)

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
        end = time.perf_counter() + self.policy.deadline.seconds
        return await self._auditors.whole(prompt, completion, number, end)

    async def _call(
        self, kind: Kind, name: str, method: str, deadline: float, end: float, check: Any, *values: Any
    ) -> Any:
        """Call a stage within its own deadline and the request's; give its Built, the value or Fault, and the ms."""
        built = self._stages[kind, name]
        left = min(deadline, end - time.perf_counter())
        gone = self._gone if kind == "backend" else None
        value, ms = await call_stage(
            lambda: getattr(built.stage, method)(*values), deadline=left, check=check, gone=gone
        )
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
        injecting = Injecting(self.policy, self._stages, self._shorter)
        injected, trimmed = await injecting.fitting(bare, budget, number, end)
        demonstrations: tuple[Demonstration, ...] = ()
        if isinstance(injected, Injected):
            demonstrations = injected.demonstrations
        made = partial(Attempt, budget=budget, injected=injected, trimmed=trimmed)
        if isinstance(injected, StageFailed) and not injecting.excused(injected):
            reason = Reason(code="demonstrations-failed", stage=injected.stage, cause=injected.cause)
            return made(completed=None, audits=(), verdict=Withhold(reasons=(reason,), rule="demonstrations"))
        prompt = injecting.shown(bare, demonstrations)
        asked = time.perf_counter()
        async with self._gate:
            end += time.perf_counter() - asked  # to wait for a place at the model takes nothing of the request's time
            if self._windowed is not None:
                completed, audits, verdict = await self._windowed.answer(prompt, admission, number, end)
                return made(completed=completed, audits=audits, verdict=verdict)
            completed = await self._complete(prompt, number, end)
        if isinstance(completed, StageFailed):
            return made(completed=completed, audits=(), verdict=model_failed(completed))
        audits = await self._auditors.whole(prompt, completed.completion, number, end)
        verdict = release(self.policy, admission, completed.completion, audits, number)
        return made(completed=completed, audits=audits, verdict=verdict)

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
