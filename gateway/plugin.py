"""Everything a plugin may import from the gateway: hooks, the four kinds of stage, and the values they take and give.

A plugin is a distribution with an entry point in the group ``gateway`` that names a module with functions marked
`hookimpl`.
"""

from __future__ import annotations

from gateway.hookspecs import hookimpl
from gateway.images import decode_image
from gateway.stages import (
    Auditor,
    Backend,
    IllustratingInjector,
    Injector,
    MeasuringBackend,
    ModelRef,
    NoConfig,
    PreScreener,
    ScoringBackend,
    Stage,
    StreamingBackend,
    in_thread,
)
from gateway.text import View, views
from gateway.values import (
    Budget,
    Choice,
    Completion,
    Demonstration,
    Finding,
    Image,
    Modality,
    Part,
    Prompt,
    Request,
    Role,
    Sampling,
    Score,
    Screening,
    Text,
    ToolCall,
    Turn,
    Usage,
)

__all__ = [
    "Auditor",
    "Backend",
    "Budget",
    "Choice",
    "Completion",
    "Demonstration",
    "Finding",
    "IllustratingInjector",
    "Image",
    "Injector",
    "MeasuringBackend",
    "Modality",
    "ModelRef",
    "NoConfig",
    "Part",
    "PreScreener",
    "Prompt",
    "Request",
    "Role",
    "Sampling",
    "Score",
    "ScoringBackend",
    "Screening",
    "Stage",
    "StreamingBackend",
    "Text",
    "ToolCall",
    "Turn",
    "Usage",
    "View",
    "decode_image",
    "hookimpl",
    "in_thread",
    "views",
]
