"""`Settings -> Runtime`: the only place where things are joined. Nothing is built at import."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import inspect
import os
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.errors import ConfigurationError, Unavailable, describe
from gateway.pipeline import Built, BuiltStages, Pipeline
from gateway.pipeline.room import never_fits
from gateway.policy.load import load_policies
from gateway.policy.model import LoadedPolicy, convert
from gateway.records import AccessV1, Caller
from gateway.registry import Offer, Registry, load_registry
from gateway.settings import Settings
from gateway.stages import Kind, ModelRef
from gateway.store import Logged, Store, Stored, load_secret
from gateway.values import Request

_METHOD: Mapping[Kind, str] = {
    "prescreener": "screen",
    "injector": "inject",
    "backend": "complete",
    "auditor": "audit",
}


def named_stages(loaded: LoadedPolicy) -> tuple[tuple[Kind, str, str, dict[str, Any]], ...]:
    """List the stages that a policy names: kind, name, place in the file, configuration."""
    policy = loaded.policy
    rows: list[tuple[Kind, str, str, dict[str, Any]]] = [
        ("prescreener", s.stage, f"prescreen[{i}]", s.config) for i, s in enumerate(policy.prescreen)
    ]
    if policy.demonstrations is not None:
        rows.append(("injector", policy.demonstrations.stage, "demonstrations", policy.demonstrations.config))
    rows.append(("backend", policy.backend.stage, "backend", policy.backend.config))
    rows += [("auditor", s.stage, f"audit[{i}]", s.config) for i, s in enumerate(policy.audit)]
    return tuple(rows)


class _Builder:
    """Builds each distinct stage once: the same stage with the same configuration is shared by all policies."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[tuple[Kind, str, bytes], Built] = {}
        self.problems: list[str] = []

    async def stages(self, loaded: LoadedPolicy) -> BuiltStages:
        """Build what a policy names; problems are gathered, not raised."""
        built: dict[tuple[Kind, str], Built] = {}
        for kind, name, place, config in named_stages(loaded):
            made = await self._made_once(kind, name, config, f"{loaded.path}: {place}")
            if made is not None:
                built[kind, name] = made
        return built

    async def _made_once(self, kind: Kind, name: str, config: dict[str, Any], where: str) -> Built | None:
        key = (kind, name, msgspec.json.encode(config, order="deterministic"))
        if key not in self._made:
            made = await self._build(self._registry.offers[kind][name], config, where)
            if made is None:
                return None
            self._made[key] = made
        return self._made[key]

    async def _asked(self, offer: Offer, config: Any, where: str) -> tuple[Any, ...] | None:
        """Build the model that a stage asks: nothing to hand over, the model, or None where it can not be built."""
        if offer.stage.asks is None:
            return ()
        ref: ModelRef = getattr(config, offer.stage.asks)
        place = f"{where}.config.{offer.stage.asks}"
        if ref.stage not in self._registry.offers["backend"]:
            known = ", ".join(f"`{name}`" for name in sorted(self._registry.offers["backend"])) or "none"
            self.problems.append(f"{place}.stage: no installed plugin offers the model `{ref.stage}`; known: {known}")
            return None
        made = await self._made_once("backend", ref.stage, ref.config, place)
        return None if made is None else (made.stage,)

    async def _build(self, offer: Offer, config: dict[str, Any], where: str) -> Built | None:
        try:
            given = convert(config, offer.stage.config)
            asked = await self._asked(offer, given, where)
            if asked is None:
                return None
            stage = await asyncio.to_thread(offer.stage.build, given, *asked)
        except (ValueError, msgspec.ValidationError) as exc:  # a plugin's own hint: no request has been seen yet
            self.problems.append(f"{where}: stage `{offer.name}` can not be built: {exc}")
            return None
        except Exception as exc:  # noqa: BLE001 - whatever else a plugin raises at start-up is told by its place
            self.problems.append(
                f"{where}: stage `{offer.name}` of `{offer.distribution}` failed to build ({describe(exc)})"
            )
            return None
        method = getattr(stage, _METHOD[offer.kind], None)
        if not inspect.iscoroutinefunction(method):
            self.problems.append(f"{where}: stage `{offer.name}` has no async method `{_METHOD[offer.kind]}`")
            return None
        return Built(name=offer.name, version=offer.version, stage=stage)

    def made(self) -> tuple[Built, ...]:
        return tuple(self._made.values())


class Runtime(Struct, frozen=True, kw_only=True):
    """The joined gateway. `pipelines` is by department; `stages` are the distinct stage objects, closed at the end."""

    settings: Settings
    registry: Registry
    store: Store
    pipelines: Mapping[str, Pipeline]
    stages: tuple[Built, ...]

    async def answer(self, request: Request, caller: Caller, endpoint: str) -> Logged:
        """Decide `request` under the caller's policy and log it; an answer is made only of what this gives.

        Raises Unavailable where the log can not be written, or no policy covers the caller's department.
        """
        outcome = await self._pipeline(caller.department).run(request, caller, endpoint)
        # The record is written even where the caller has gone meanwhile: the model was asked.
        return await asyncio.shield(self.store.decisions.append(outcome))

    async def moderate(self, requests: tuple[Request, ...], caller: Caller, endpoint: str) -> tuple[Logged, ...]:
        """Screen `requests` side by side under the caller's policy, and log each; no model is asked.

        Raises Unavailable as `answer` does.
        """
        pipeline = self._pipeline(caller.department)
        gate = asyncio.Semaphore(max(2, os.cpu_count() or 1))  # more at once would only wait out each other's deadlines

        async def one(request: Request) -> Logged:
            async with gate:
                outcome = await pipeline.moderate(request, caller, endpoint)
            return await self.store.decisions.append(outcome)

        return tuple(await asyncio.shield(asyncio.gather(*map(one, requests))))

    def models(self, department: str) -> tuple[str, ...]:
        """Name the models that a department may use; the first is the default."""
        return self._pipeline(department).models()

    async def authenticate(self, token: str) -> Caller | None:
        """Tell who holds an API key; None for an unknown or revoked one."""
        return await self.store.keys.authenticate(token)

    async def read_decision(self, id: str, caller: Caller) -> Stored | None:  # noqa: A002 - the word for it on the wire
        """Read a record, and record that it was read."""
        stored = await self.store.decisions.get(id)
        if stored is None:
            return None
        access = AccessV1.of(caller=caller, endpoint="/decisions", decisions=(id,), at=dt.datetime.now(dt.UTC))
        await self.store.decisions.append_event(access)
        return stored

    async def ready(self) -> tuple[tuple[str, bool], ...]:
        """Check what an answer needs: the log, and a policy."""
        try:
            await self.store.decisions.healthy()
        except Unavailable:
            return (("log", False), ("policies", bool(self.pipelines)))
        return (("log", True), ("policies", bool(self.pipelines)))

    async def close(self) -> None:
        """Close the stages, then flush and close the store."""
        for built in self.stages:
            aclose = getattr(built.stage, "aclose", None)
            if aclose is not None:
                with contextlib.suppress(Exception):  # what a stage does at its end must not keep the log from closing
                    await aclose()
        await self.store.close()

    def _pipeline(self, department: str) -> Pipeline:
        pipeline = self.pipelines.get(department)
        if pipeline is None:
            raise Unavailable(
                f"no policy covers the department `{department}`; ask the gateway's operator to add "
                f"`{department}.yaml` to the policies folder"
            )
        return pipeline


async def unfitting(loaded: LoadedPolicy, stages: BuiltStages, registry: Registry) -> list[str]:
    """Name the budgets of a policy that its model's context can never hold, as far as its configuration tells."""
    spec, backend = loaded.policy.demonstrations, loaded.policy.backend
    built = None if spec is None else stages.get(("injector", spec.stage))
    offer = registry.offers["backend"].get(backend.stage)
    if built is None or offer is None or offer.stage.context is None:
        return []
    context = offer.stage.context(convert(backend.config, offer.stage.config))
    return [f"{loaded.path}: {problem}" for problem in await never_fits(loaded.policy, built.stage, context)]


async def bootstrap(settings: Settings) -> Runtime:
    """Join everything. Raises ConfigurationError with every problem found, and leaves nothing open then."""
    registry = load_registry()
    loaded = load_policies(settings.policies_dir, registry.configs())
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    builder = _Builder(registry)
    stages = {department: await builder.stages(policy) for department, policy in loaded.items()}
    for department, policy in loaded.items():
        builder.problems += await unfitting(policy, stages[department], registry)
    if builder.problems:
        raise ConfigurationError(*dict.fromkeys(builder.problems))
    store = await Store.open(settings.database_url, secret=load_secret(settings.data_dir, settings.secret))
    return Runtime(
        settings=settings,
        registry=registry,
        store=store,
        pipelines={department: Pipeline(policy, stages[department]) for department, policy in loaded.items()},
        stages=builder.made(),
    )
