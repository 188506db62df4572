"""The stages that policies name, each distinct one built once."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.errors import describe
from gateway.pipeline import Built, BuiltStages
from gateway.pipeline.room import bounded, never_fits
from gateway.policy.model import BackendSpec, LoadedPolicy, convert
from gateway.policy.models import for_model
from gateway.registry import Offer, Registry
from gateway.stages import Kind, ModelRef

_METHOD: Mapping[Kind, str] = {
    "prescreener": "screen",
    "injector": "inject",
    "backend": "complete",
    "auditor": "audit",
}


def named_stages(loaded: LoadedPolicy) -> tuple[tuple[Kind, str, str, dict[str, Any]], ...]:
    """List the stages that a policy names, but those of its further models: kind, name, place, configuration."""
    policy = loaded.policy
    rows: list[tuple[Kind, str, str, dict[str, Any]]] = [
        ("prescreener", s.stage, f"prescreen[{i}]", s.config) for i, s in enumerate(policy.prescreen)
    ]
    if policy.demonstrations is not None:
        rows.append(("injector", policy.demonstrations.stage, "demonstrations", policy.demonstrations.config))
    rows.append(("backend", policy.backend.stage, "backend", policy.backend.config))
    rows += [("auditor", s.stage, f"audit[{i}]", s.config) for i, s in enumerate(policy.audit)]
    return tuple(rows)


def config_digest(config: Struct) -> str:
    """Give the SHA-256, in hex, of a stage's configuration as it is in effect: defaults written out, keys sorted."""
    return hashlib.sha256(msgspec.json.encode(config, order="deterministic", enc_hook=repr)).hexdigest()


class Builder:
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

    async def models(self, loaded: LoadedPolicy, stages: BuiltStages) -> dict[str, Built]:
        """Build a policy's further models, by the name that requests give; `stages` are its others, the default's too.

        Problems are gathered, not raised; a name that the default answers to already is one.
        """
        policy = loaded.policy
        built: dict[str, Built] = {}
        default = stages.get(("backend", policy.backend.stage))
        taken = default.stage.models() if policy.models and default is not None else ()
        for name, spec in policy.models.items():
            place = f"{loaded.path}: models.{name}"
            if name in taken:
                self.problems.append(
                    f"{place}: the model of `backend` has this name already; give another, or remove it"
                )
            made = await self._made_once("backend", spec.stage, spec.config, place)
            if made is not None:
                built[name] = made
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
            reads = None if offer.stage.context is None else offer.stage.context(given)
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
        return Built(name=offer.name, version=offer.version, stage=stage, config=config_digest(given), context=reads)

    def made(self) -> tuple[Built, ...]:
        """Give the distinct stages that were built."""
        return tuple(self._made.values())


async def unfitting(loaded: LoadedPolicy, stages: BuiltStages, registry: Registry) -> list[str]:
    """Name what the contexts of a policy's models can never hold, as far as their configurations tell.

    That is each budget that is too large, and each `context` that nobody could keep to.
    """
    policy = loaded.policy
    injector = None if policy.demonstrations is None else stages.get(("injector", policy.demonstrations.stage))
    problems = []
    for name in (None, *policy.models):
        its = for_model(policy, name)
        where = f"{loaded.path}: " if name is None else f"{loaded.path}: models.{name}: "
        tells = _reads(its.backend, registry)
        if tells is None and its.backend.context is not None:
            place = f"{loaded.path}: backend.context" if name is None else f"{loaded.path}: models.{name}.context"
            hint = "say it in the stage's `config`, or leave `context` out"
            problems.append(f"{place}: the stage `{its.backend.stage}` does not tell how many tokens it reads; {hint}")
            continue
        reads, _ = bounded(tells, its.backend.context)
        found = await never_fits(its, None if injector is None else injector.stage, reads)
        problems += [where + problem for problem in found]
    return problems


def _reads(spec: BackendSpec, registry: Registry) -> int | None:
    """Give how many tokens a model reads at once, None where its stage does not tell."""
    offer = registry.offers["backend"].get(spec.stage)
    if offer is None or offer.stage.context is None:
        return None
    told: int | None = offer.stage.context(convert(spec.config, offer.stage.config))
    return told
