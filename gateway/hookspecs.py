"""The four hooks by which a plugin offers stages.

They are called once, at start-up; requests never pass through pluggy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from gateway.stages import Stage

hookspec = pluggy.HookspecMarker("gateway")
hookimpl = pluggy.HookimplMarker("gateway")


@hookspec
def gateway_prescreeners() -> Iterable[Stage[Any]]:
    """Offer pre-screeners: `build` gives an object with `PreScreener.screen`."""
    raise AssertionError("a hook specification is never run")


@hookspec
def gateway_injectors() -> Iterable[Stage[Any]]:
    """Offer injectors: `build` gives an object with `Injector.inject`."""
    raise AssertionError("a hook specification is never run")


@hookspec
def gateway_backends() -> Iterable[Stage[Any]]:
    """Offer model backends: `build` gives an object with `Backend.complete`."""
    raise AssertionError("a hook specification is never run")


@hookspec
def gateway_auditors() -> Iterable[Stage[Any]]:
    """Offer auditors: `build` gives an object with `Auditor.audit`."""
    raise AssertionError("a hook specification is never run")
