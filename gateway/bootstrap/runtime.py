"""The joined gateway, and what can be asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from gateway.bootstrap.answering import Answering
from gateway.errors import Unavailable
from gateway.identity.limiter import Limiter
from gateway.pipeline import Built, Pipeline
from gateway.pipeline.built import Served
from gateway.pipeline.live import Live
from gateway.records import NOTHING_SAID, BatchLine, Caller, Context, Outcome
from gateway.registry import Registry
from gateway.settings import Settings
from gateway.store import Logged, Store
from gateway.values import Request

if TYPE_CHECKING:
    from gateway.identity.tokens import Tokens


async def _nobody() -> None:
    """Wake no worker: one looks by itself after a while."""


class Runtime(Struct, frozen=True, kw_only=True):
    """The joined gateway. `pipelines` is by department; `stages` are the distinct stage objects, closed at the end.

    `wake` wakes a worker once there is work for it; it never raises. `live` counts the requests that are answered now.
    """

    settings: Settings
    registry: Registry
    store: Store
    pipelines: Mapping[str, Pipeline]
    stages: tuple[Built, ...]
    limits: Limiter = msgspec.field(default_factory=Limiter)
    tokens: Tokens | None = None
    wake: Callable[[], Awaitable[None]] = _nobody
    live: Live = msgspec.field(default_factory=Live)

    def answering(self, request: Request, caller: Caller, endpoint: str, *, context: Context) -> Answering:
        """Give what decides `request` under the caller's policy, logs it, and hands its answer over as it may leave.

        Raises Unavailable where no policy covers the caller's department.
        """
        return Answering(self._pipeline(caller.department), self.store.decisions, request, caller, endpoint, context)

    async def moderate(
        self, requests: tuple[Request, ...], caller: Caller, endpoint: str, *, context: Context = NOTHING_SAID
    ) -> tuple[Logged, ...]:
        """Screen `requests` side by side under the caller's policy, and log each; no model is asked.

        Raises Unavailable where the log can not be written, or no policy covers the caller's department.
        """
        pipeline = self._pipeline(caller.department)
        gate = asyncio.Semaphore(max(2, os.cpu_count() or 1))  # more at once would only wait out each other's deadlines

        async def one(request: Request) -> Logged:
            async with gate:
                outcome = await pipeline.moderate(request, caller, endpoint, context=context)
            return await self.store.decisions.append(outcome)

        return tuple(await asyncio.shield(asyncio.gather(*map(one, requests))))

    async def judge(
        self,
        request: Request,
        caller: Caller,
        endpoint: str,
        *,
        context: Context = NOTHING_SAID,
        batch: BatchLine,
        screen_only: bool = False,
        gate: AbstractAsyncContextManager[object] | None = None,
    ) -> Outcome:
        """Decide the line of a batch by the policy of its request's department, as a live request, and do not log it.

        All deadlines are multiplied by the line's patience; `gate` is entered around each asking of the model. With
        `screen_only` no model is asked. Raises Unavailable where no policy covers the department.
        """
        pipeline = self._pipeline(request.department).patient(batch.patience, gate)
        take = pipeline.moderate if screen_only else pipeline.run
        return msgspec.structs.replace(await take(request, caller, endpoint, context=context), batch=batch)

    def upstream(self, department: str, model: str | None = None) -> object:
        """Give what tells the department's model of that name from others, the default's where it has none.

        Departments with the same model get the same object. Raises Unavailable where no policy covers the department.
        """
        pipeline = self._pipeline(department)
        return (pipeline if model is None else pipeline.of_model(model)).backend

    def models(self, department: str) -> tuple[str, ...]:
        """Name the models that a department may use; the first is the default."""
        return self._pipeline(department).models()

    def served(self, department: str) -> tuple[Served, ...]:
        """Tell of the models that a department may use, in the order of their names; raises Unavailable as `models`."""
        pipeline = self._pipeline(department)
        rows = []
        for name in pipeline.models():
            its = pipeline.of_model(name)
            own = its.backend.models()
            rows.append(Served(name=name, root=name if name in own else own[0], context=its.context))
        return tuple(rows)

    async def authenticate(self, token: str) -> Caller | None:
        """Tell who holds an API key or a bearer token; None for an unknown or revoked one.

        Raises NotAuthenticated where more can be told (the key was right and has expired), NotPermitted where a token
        is good and gives no role, and Unavailable where nobody can tell: nobody is let in then.
        """
        if self.tokens is not None and token.count(".") == 2:
            caller: Caller | None = await self.tokens.authenticate(token)
        else:
            caller = await self.store.keys.authenticate(token)
        return None if caller is None else await self.store.grants.active(caller)

    async def ready(self) -> tuple[tuple[str, bool], ...]:
        """Check what an answer needs: the log, a policy, and the Redis that counts, where one does."""
        counted = await self.limits.healthy()
        others = (("policies", bool(self.pipelines)), *(() if counted is None else (("limits", counted),)))
        try:
            await self.store.decisions.healthy()
        except Unavailable:
            return (("log", False), *others)
        return (("log", True), *others)

    async def close(self) -> None:
        """Close the stages, then flush and close the store."""
        for built in self.stages:
            aclose = getattr(built.stage, "aclose", None)
            if aclose is not None:
                with contextlib.suppress(Exception):  # what a stage does at its end must not keep the log from closing
                    await aclose()
        for each in (self.limits, self.tokens):
            with contextlib.suppress(Exception):  # nor must a Redis or an issuer that is away
                if each is not None:
                    await each.close()
        await self.store.close()

    def _pipeline(self, department: str) -> Pipeline:
        pipeline = self.pipelines.get(department)
        if pipeline is None:
            raise Unavailable(
                f"no policy covers the department `{department}`; ask the gateway's operator to add "
                f"`{department}.yaml` to the policies folder"
            )
        return pipeline
