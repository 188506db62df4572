"""The public test kit for plugin authors: values to try a stage on, stages to try a pipeline on, and contract checks.

`check_stage` builds a stage from its configuration and runs the check of its kind; the gateway's own suite runs it over
every installed stage. All checks are coroutines, and raise AssertionError with what is wrong.
"""

from __future__ import annotations

from gateway.testing.builders import completion, demonstration, image, prompt, request
from gateway.testing.checks import (
    check_auditor,
    check_backend,
    check_injector,
    check_prescreener,
    check_stage,
)
from gateway.testing.corpus import MARKER, corpus
from gateway.testing.fakes import (
    FixedAuditor,
    FixedInjector,
    FixedPreScreener,
    Hangs,
    Raises,
    ReturnsNonsense,
    ReturnsNothing,
    ScriptedBackend,
    offer,
)
from gateway.testing.growing import found_late

__all__ = [
    "MARKER",
    "FixedAuditor",
    "FixedInjector",
    "FixedPreScreener",
    "Hangs",
    "Raises",
    "ReturnsNonsense",
    "ReturnsNothing",
    "ScriptedBackend",
    "check_auditor",
    "check_backend",
    "check_injector",
    "check_prescreener",
    "check_stage",
    "completion",
    "corpus",
    "demonstration",
    "found_late",
    "image",
    "offer",
    "prompt",
    "request",
]
