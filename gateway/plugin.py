"""Everything a plugin may import from the gateway: hooks, the four kinds of stage, and the values they take and give.

A plugin is a distribution with an entry point in the group ``gateway`` that names a module with functions marked
`hookimpl`.
"""

from __future__ import annotations

from gateway.hookspecs import hookimpl
from gateway.images import decode_image
from gateway.images.told import UNSEEN_NOTE, UnseenNoting, image_in_words, with_unseen_note
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
    WindowedAuditor,
    in_thread,
)
from gateway.text import View, views
from gateway.values import (
    Budget,
    Choice,
    Completion,
    Demonstration,
    Ended,
    Finding,
    FinishReason,
    Image,
    Modality,
    Part,
    Piece,
    Prompt,
    Request,
    Role,
    Sampling,
    Score,
    Screening,
    Text,
    TokenLogprob,
    ToolCall,
    Turn,
    Usage,
    Window,
)

__all__ = [
    "UNSEEN_NOTE",
    "Auditor",
    "Backend",
    "Budget",
    "Choice",
    "Completion",
    "Demonstration",
    "Ended",
    "Finding",
    "FinishReason",
    "IllustratingInjector",
    "Image",
    "Injector",
    "MeasuringBackend",
    "Modality",
    "ModelRef",
    "NoConfig",
    "Part",
    "Piece",
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
    "TokenLogprob",
    "ToolCall",
    "Turn",
    "UnseenNoting",
    "Usage",
    "View",
    "Window",
    "WindowedAuditor",
    "decode_image",
    "hookimpl",
    "image_in_words",
    "in_thread",
    "views",
    "with_unseen_note",
]
