"""The frozen values of a request at each step of its way.

Each step makes a new value; none is changed in place. Every piece of text or image that a model could read is a
*part* with an `id` that names its place in the request (``messages[2].content[0]``, ``messages[2].content[1]#ocr``,
``tools``), and coverage is accounted by these ids: a part is inspected by a stage, or it is not.
"""

from gateway.values.answer import Choice, Completion, Ended, FinishReason, Piece, TokenLogprob, Usage
from gateway.values.found import Finding, Score, Screening, Window
from gateway.values.prompt import Budget, Demonstration, Form, Prompt
from gateway.values.request import Image, Modality, Part, Request, Role, Sampling, Text, ToolCall, Turn

__all__ = [
    "Budget",
    "Choice",
    "Completion",
    "Demonstration",
    "Ended",
    "Finding",
    "FinishReason",
    "Form",
    "Image",
    "Modality",
    "Part",
    "Piece",
    "Prompt",
    "Request",
    "Role",
    "Sampling",
    "Score",
    "Screening",
    "Text",
    "TokenLogprob",
    "ToolCall",
    "Turn",
    "Usage",
    "Window",
]
