"""From entry points to a frozen registry: which stages are installed, and by which distribution each is offered.

pluggy is used at start-up only. Hook implementations are called one by one, so that one plugin's fault names that
plugin and hides no other's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Any

import pluggy
from msgspec import Struct

from gateway import hookspecs
from gateway.errors import ConfigurationError, describe
from gateway.stages import Kind, Stage

GROUP = "gateway"
"""The entry-point group in which plugins name their modules."""

HOOKS: Mapping[str, Kind] = MappingProxyType(
    {
        "gateway_prescreeners": "prescreener",
        "gateway_injectors": "injector",
        "gateway_backends": "backend",
        "gateway_auditors": "auditor",
    }
)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class Offer(Struct, frozen=True, kw_only=True):
    """A stage and where it comes from. `version` is the distribution's: it is stamped on every evidence."""

    kind: Kind
    name: str
    distribution: str
    version: str
    stage: Any


class Registry(Struct, frozen=True, kw_only=True):
    """Every installed stage, by kind and name."""

    offers: Mapping[Kind, Mapping[str, Offer]]

    def configs(self) -> Mapping[Kind, Mapping[str, type[Struct]]]:
        """Give each stage's type of configuration, for the check of policies."""
        return {
            kind: {name: offer.stage.config for name, offer in named.items()} for kind, named in self.offers.items()
        }

    def all(self) -> tuple[Offer, ...]:
        """Give the offers, by kind and name."""
        return tuple(named[name] for named in self.offers.values() for name in sorted(named))


def _register(manager: pluggy.PluginManager, problems: list[str]) -> dict[str, tuple[str, str]]:
    """Import every entry point's module; return, by plugin name, its distribution and version."""
    origin: dict[str, tuple[str, str]] = {}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: p.name):
        where = point.dist.name if point.dist else "unknown"
        if point.name in origin:
            problems.append(
                f"plugin `{point.name}` is offered by `{origin[point.name][0]}` and by `{where}`; uninstall one"
            )
            continue
        try:
            module = point.load()
            manager.register(module, name=point.name)
        except BaseException as exc:
            if isinstance(exc, KeyboardInterrupt):
                raise
            problems.append(
                f"plugin `{point.name}` of `{where}` can not be imported ({describe(exc)}); fix or uninstall it"
            )
            continue
        origin[point.name] = (where, point.dist.version if point.dist else "0")
    return origin


def _offers(found: object, plugin: str, hook: str, problems: list[str]) -> Iterable[Stage[Any]]:
    if not isinstance(found, Iterable):
        problems.append(f"plugin `{plugin}`: `{hook}` must give a list of `Stage`, not {type(found).__name__}")
        return
    for stage in found:
        if not isinstance(stage, Stage):
            problems.append(f"plugin `{plugin}`: `{hook}` gave {type(stage).__name__} where a `Stage` belongs")
        elif not _NAME.fullmatch(stage.name):
            problems.append(
                f"plugin `{plugin}`: stage name `{stage.name}` must be lowercase letters, digits and hyphens"
            )
        elif not (isinstance(stage.config, type) and issubclass(stage.config, Struct)):
            problems.append(f"plugin `{plugin}`: the `config` of stage `{stage.name}` must be a msgspec Struct type")
        else:
            yield stage


def load_registry() -> Registry:
    """Find every installed stage.

    Raises ConfigurationError, with every problem, where a plugin can not be imported, a hook is misspelt or fails, or
    two plugins offer the same stage: a defence that is installed and silently absent would be worse than no start.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    problems: list[str] = []
    origin = _register(manager, problems)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as exc:
        problems.append(f"a plugin implements an unknown hook: {exc}; the hooks are {', '.join(HOOKS)}")
    offers: dict[Kind, dict[str, Offer]] = {kind: {} for kind in HOOKS.values()}
    for hook, kind in HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin_name
            try:
                stages = tuple(_offers(implementation.function(), plugin, hook, problems))
            except Exception as exc:  # noqa: BLE001 - a plugin's fault at start-up is told with the plugin's name
                problems.append(f"plugin `{plugin}`: `{hook}` failed ({describe(exc)})")
                continue
            for stage in stages:
                known = offers[kind].get(stage.name)
                if known is not None:
                    other = origin[plugin][0]
                    problems.append(
                        f"{kind} `{stage.name}` is offered by `{known.distribution}` and by `{other}`; uninstall one"
                    )
                    continue
                offers[kind][stage.name] = Offer(
                    kind=kind, name=stage.name, distribution=origin[plugin][0], version=origin[plugin][1], stage=stage
                )
    if problems:
        raise ConfigurationError(*problems)
    return Registry(offers={kind: dict(sorted(named.items())) for kind, named in offers.items()})
