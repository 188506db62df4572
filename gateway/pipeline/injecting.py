"""Demonstrations before a question: what the budget buys, cut to what the model's context holds."""

from __future__ import annotations

import time
from typing import cast

from msgspec.structs import replace

from gateway.pipeline.built import BuiltStages
from gateway.pipeline.call import Fault, call_stage
from gateway.pipeline.room import CONTEXT, fitted, reserved
from gateway.policy.evidence import StageFailed
from gateway.policy.model import Policy
from gateway.policy.validate import demonstrations_problem
from gateway.records import Injected
from gateway.stages import MeasuringBackend
from gateway.values import Budget, Demonstration, Prompt, Request


class Injecting:
    """Asks a policy's injector. The model is given `shorter` tokens fewer than it says that it reads."""

    def __init__(self, policy: Policy, stages: BuiltStages, shorter: int) -> None:
        self._policy, self._stages, self._shorter = policy, stages, shorter

    def excused(self, failed: StageFailed) -> bool:
        """Tell whether the policy goes on without demonstrations.

        A question that leaves no room for them is no failure of the stage: whoever asks could bring it about.
        """
        spec = self._policy.demonstrations
        return spec is not None and spec.allow_if_unavailable and failed.cause != CONTEXT

    def shown(self, bare: Prompt, demonstrations: tuple[Demonstration, ...]) -> Prompt:
        """Give the prompt with `demonstrations`, in the form that the policy says."""
        spec = self._policy.demonstrations
        if spec is None:
            return bare
        return replace(bare, demonstrations=demonstrations, form=spec.form, role=spec.role)

    async def fitting(
        self, bare: Prompt, budget: Budget, number: int, end: float
    ) -> tuple[Injected | StageFailed | None, Budget | None]:
        """Inject what `budget` buys, or what fits of it, with the budget as it was cut for that."""
        injected = await self._inject(bare.request, budget, number, end)
        backend = self._stages["backend", self._policy.backend.stage].stage
        if not isinstance(injected, Injected) or not isinstance(backend, MeasuringBackend):
            return injected, None

        async def left(demonstrations: tuple[Demonstration, ...]) -> int | None:
            # by the same rule as any stage: what raises, hangs or gives nonsense is not known, and the model will say
            said, _ = await call_stage(
                lambda: backend.room(self.shown(bare, demonstrations)),
                deadline=min(self._policy.backend.deadline.seconds, end - time.perf_counter()),
                check=lambda v: None if v is None or type(v) is int else "nonsense:type",
            )
            return said - self._shorter if isinstance(said, int) else None

        async def again(cut: Budget) -> Injected | StageFailed | None:
            return await self._inject(bare.request, cut, number, end)

        fit, cut = await fitted(injected, budget, free=reserved(bare), left=left, inject=again)
        if cut is not None and isinstance(fit, Injected) and not fit.demonstrations:
            fit = StageFailed(
                stage=fit.stage, version=fit.version, kind="injector", cause=CONTEXT, ms=fit.ms, attempt=number
            )
        return fit, cut

    async def _inject(self, request: Request, budget: Budget, number: int, end: float) -> Injected | StageFailed | None:
        spec = self._policy.demonstrations
        if spec is None or budget.demonstrations == 0:
            return None

        def check(value: object) -> str | None:
            # An injector that silently gives none where some were bought would leave the model undefended.
            capped = budget.tokens is not None
            return "nothing" if value == () and not capped else demonstrations_problem(value, budget)

        built = self._stages["injector", spec.stage]
        value, ms = await call_stage(
            lambda: built.stage.inject(request, budget),
            deadline=min(spec.deadline.seconds, end - time.perf_counter()),
            check=check,
        )
        if isinstance(value, Fault):
            return StageFailed(
                stage=built.name, version=built.version, kind="injector", cause=value.cause, ms=ms, attempt=number
            )
        shown = cast("tuple[Demonstration, ...]", value)
        return Injected(stage=built.name, version=built.version, ms=ms, demonstrations=shown)
