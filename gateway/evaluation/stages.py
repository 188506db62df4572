"""Build a policy's pre-screeners alone: a measurement of the pre-screen loads no backend that nobody will ask."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from gateway.errors import ConfigurationError, describe
from gateway.pipeline import Built, BuiltStages
from gateway.policy.model import LoadedPolicy, convert
from gateway.registry import Offer, Registry
from gateway.stages import Kind, ModelRef


@contextlib.asynccontextmanager
async def prescreeners(loaded: LoadedPolicy, registry: Registry) -> AsyncIterator[BuiltStages]:
    """Build the pre-screeners that a policy names, and the models that they ask; close them at the end.

    Raises ConfigurationError with every stage that can not be built.
    """
    built: dict[tuple[Kind, str], Built] = {}
    problems: list[str] = []
    try:
        for place, spec in enumerate(loaded.policy.prescreen):
            where = f"{loaded.path}: prescreen[{place}]"
            try:
                stage, asked = await _build(registry, spec.stage, spec.config)
            except (ValueError, msgspec.ValidationError) as exc:  # a plugin's own hint: no question was seen yet
                problems.append(f"{where}: stage `{spec.stage}` can not be built: {exc}")
                continue
            except Exception as exc:  # noqa: BLE001 - whatever else a plugin raises while it is built
                problems.append(f"{where}: stage `{spec.stage}` failed to build ({describe(exc)})")
                continue
            built["prescreener", spec.stage] = stage
            if asked is not None:
                built["backend", f"{spec.stage} asks {asked.name}"] = asked
        if problems:
            raise ConfigurationError(*problems)
        yield built
    finally:
        for made in built.values():
            aclose = getattr(made.stage, "aclose", None)
            if aclose is not None:
                with contextlib.suppress(Exception):  # the figures are made; how a stage ends changes none
                    await aclose()


async def _build(registry: Registry, name: str, config: dict[str, Any]) -> tuple[Built, Built | None]:
    """Give the stage, and the model it asks where it asks one."""
    offer = registry.offers["prescreener"][name]
    given = convert(config, offer.stage.config)
    if offer.stage.asks is None:
        stage = _built(offer, await asyncio.to_thread(offer.stage.build, given))
        return stage, None
    ref: ModelRef = getattr(given, offer.stage.asks)
    backend = registry.offers["backend"].get(ref.stage)
    if backend is None:
        raise ValueError(f"no installed plugin offers the model `{ref.stage}`")
    model = await asyncio.to_thread(backend.stage.build, convert(ref.config, backend.stage.config))
    return _built(offer, await asyncio.to_thread(offer.stage.build, given, model)), _built(backend, model)


def _built(offer: Offer, stage: Any) -> Built:
    if offer.kind == "prescreener" and not inspect.iscoroutinefunction(getattr(stage, "screen", None)):
        raise ValueError("it has no async method `screen`")
    return Built(name=offer.name, version=offer.version, stage=stage)
