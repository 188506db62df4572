"""Build the stages that a measurement asks and no others: nobody waits for a model that nobody will ask."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from gateway.errors import ConfigurationError, describe
from gateway.pipeline import Built, BuiltStages
from gateway.policy.model import LoadedPolicy, convert
from gateway.registry import Offer, Registry
from gateway.stages import Kind, ModelRef

_METHOD: Mapping[Kind, str] = {
    "prescreener": "screen",
    "injector": "inject",
    "backend": "complete",
    "auditor": "audit",
}


class Workbench:
    """Builds stages, each distinct one once, gathers what can not be built, and closes them all at the end."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[tuple[Kind, str, bytes], Built] = {}
        self.problems: list[str] = []

    async def stage(self, kind: Kind, name: str, config: dict[str, Any], where: str) -> Built | None:
        """Build a stage, or give the one that was built of the same; None, with a problem, where that fails."""
        try:
            return await self._once(kind, name, config)
        except (ValueError, msgspec.ValidationError) as exc:  # a plugin's own hint: no question was seen yet
            self.problems.append(f"{where}: stage `{name}` can not be built: {exc}")
        except Exception as exc:  # noqa: BLE001 - whatever else a plugin raises while it is built
            self.problems.append(f"{where}: stage `{name}` failed to build ({describe(exc)})")
        return None

    def check(self) -> None:
        """Raise ConfigurationError with every stage that can not be built."""
        if self.problems:
            raise ConfigurationError(*dict.fromkeys(self.problems))

    async def close(self) -> None:
        """Close what was built."""
        for made in self._made.values():
            aclose = getattr(made.stage, "aclose", None)
            if aclose is not None:
                with contextlib.suppress(Exception):  # the figures are made; how a stage ends changes none
                    await aclose()

    def asked(self, kind: Kind, name: str, config: dict[str, Any]) -> Built | None:
        """Give the model that a stage asks, once the stage is built; None where it asks none."""
        offer = self._registry.offers[kind][name]
        if offer.stage.asks is None:
            return None
        ref: ModelRef = getattr(convert(config, offer.stage.config), offer.stage.asks)
        return self._made.get(("backend", ref.stage, _canonical(ref.config)))

    async def _once(self, kind: Kind, name: str, config: dict[str, Any]) -> Built:
        key = (kind, name, _canonical(config))
        if key not in self._made:
            offer = self._registry.offers[kind].get(name)
            if offer is None:
                known = ", ".join(f"`{other}`" for other in self._registry.offers[kind]) or "none"
                word = "model" if kind == "backend" else kind
                raise ValueError(f"no installed plugin offers the {word} `{name}`; installed: {known}")
            given = convert(config, offer.stage.config)
            asked: tuple[Any, ...] = ()
            if offer.stage.asks is not None:
                ref: ModelRef = getattr(given, offer.stage.asks)
                asked = ((await self._once("backend", ref.stage, ref.config)).stage,)
            self._made[key] = _built(offer, await asyncio.to_thread(offer.stage.build, given, *asked))
        return self._made[key]


def _canonical(config: dict[str, Any]) -> bytes:
    return msgspec.json.encode(config, order="deterministic")


def _built(offer: Offer, stage: Any) -> Built:
    method = _METHOD[offer.kind]
    if not inspect.iscoroutinefunction(getattr(stage, method, None)):
        raise ValueError(f"it has no async method `{method}`")
    return Built(name=offer.name, version=offer.version, stage=stage)


@contextlib.asynccontextmanager
async def workbench(registry: Registry) -> AsyncIterator[Workbench]:
    """Give a workbench whose stages are closed at the end."""
    bench = Workbench(registry)
    try:
        yield bench
    finally:
        await bench.close()


@contextlib.asynccontextmanager
async def prescreeners(loaded: LoadedPolicy, registry: Registry) -> AsyncIterator[BuiltStages]:
    """Build the pre-screeners that a policy names, and the models that they ask; close them at the end.

    Raises ConfigurationError with every stage that can not be built.
    """
    async with workbench(registry) as bench:
        built = await screening(loaded, bench)
        bench.check()
        yield built


async def screening(loaded: LoadedPolicy, bench: Workbench) -> dict[tuple[Kind, str], Built]:
    """Build a policy's pre-screeners, and name the models that they ask beside them."""
    built: dict[tuple[Kind, str], Built] = {}
    for place, spec in enumerate(loaded.policy.prescreen):
        made = await bench.stage("prescreener", spec.stage, spec.config, f"{loaded.path}: prescreen[{place}]")
        if made is None:
            continue
        built["prescreener", spec.stage] = made
        asked = bench.asked("prescreener", spec.stage, spec.config)
        if asked is not None:
            built["backend", f"{spec.stage} asks {asked.name}"] = asked
    return built


async def whole(loaded: LoadedPolicy, bench: Workbench) -> dict[tuple[Kind, str], Built]:
    """Build every stage that a policy names."""
    policy, built = loaded.policy, await screening(loaded, bench)
    rows: list[tuple[Kind, str, dict[str, Any], str]] = [
        ("backend", policy.backend.stage, policy.backend.config, "backend")
    ]
    if policy.demonstrations is not None:
        rows.append(("injector", policy.demonstrations.stage, policy.demonstrations.config, "demonstrations"))
    rows += [("auditor", spec.stage, spec.config, f"audit[{place}]") for place, spec in enumerate(policy.audit)]
    for kind, name, config, where in rows:
        made = await bench.stage(kind, name, config, f"{loaded.path}: {where}")
        if made is not None:
            built[kind, name] = made
    return built
