"""A request: what came over the wire, checked and typed, part by part."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Role = Literal["system", "user", "assistant", "tool"]
"""Who speaks in a turn. OpenAI's ``developer`` is read as ``system``."""

Modality = Literal[
    "xray", "ct", "mri", "ultrasound", "fundus", "oct", "dermoscopy", "endoscopy", "histopathology", "mammography"
]
"""The ten imaging modalities that the gateway knows."""


class Text(Struct, frozen=True, kw_only=True, tag="text"):
    """A piece of text that a model could read. `id` is its place in the request."""

    id: str
    text: str


class Image(Struct, frozen=True, kw_only=True, tag="image"):
    """An image after decoding, checking, stripping of metadata and re-encoding: the only bytes a model may see.

    `data` is a PNG or JPEG file (`media_type`), `width` and `height` are in pixels, `digest` is the SHA-256 of `data`
    in hex. `source` is the format it arrived in. For DICOM, `modality` comes from the Modality tag, `burned_in` from
    BurnedInAnnotation, `frames` counts the frames in the file and `frame` is the one shown (0-based), and `texts` are
    the free-text tags, which stages inspect and no model is given.
    """

    id: str
    data: bytes
    media_type: Literal["image/png", "image/jpeg"]
    width: int
    height: int
    digest: str
    source: Literal["png", "jpeg", "webp", "dicom"]
    modality: Modality | None = None
    burned_in: Literal["yes", "no", "unknown"] = "unknown"
    frames: int = 1
    frame: int = 0
    texts: tuple[Text, ...] = ()


Part = Text | Image


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call of a tool by a model. `arguments` is JSON text, as the model wrote it."""

    id: str
    name: Text
    arguments: Text


class Turn(Struct, frozen=True, kw_only=True):
    """One message of a conversation. `tool_call_id` says which call a ``tool`` turn answers."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def all_parts(self) -> tuple[Part, ...]:
        """Give every part a model could read in this turn, the free-text tags of its images included."""
        found: list[Part] = []
        for part in self.parts:
            found.append(part)
            if isinstance(part, Image):
                found.extend(part.texts)
        for call in self.tool_calls:
            found += (call.name, call.arguments)
        return tuple(found)


class Sampling(Struct, frozen=True, kw_only=True):
    """How a model is asked to sample. None leaves the model's own default. `max_tokens` bounds the answer.

    With `logprobs` each token of the answer comes with its log-probability, and with as many of the likeliest tokens
    at its place, 0 for none.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


class Request(Struct, frozen=True, kw_only=True):
    """A request as it came over the wire, checked and typed.

    `id` is the decision's id. `tools`, `tool_choice` and `response_format` hold JSON text, because a model reads them
    too. `parallel_tool_calls` is None where the caller left it to the model.
    """

    id: str
    department: str
    model: str
    turns: tuple[Turn, ...]
    sampling: Sampling = Sampling()
    tools: Text | None = None
    tool_choice: Text | None = None
    response_format: Text | None = None
    parallel_tool_calls: bool | None = None
    stream: bool = False

    def parts(self) -> tuple[Part, ...]:
        """Give every part that a model could read, in reading order."""
        extra = tuple(t for t in (self.tools, self.tool_choice, self.response_format) if t is not None)
        return extra + tuple(part for turn in self.turns for part in turn.all_parts())

    def texts(self) -> tuple[Text, ...]:
        """Give the text parts, in reading order."""
        return tuple(part for part in self.parts() if isinstance(part, Text))

    def images(self) -> tuple[Image, ...]:
        """Give the images, in reading order."""
        return tuple(part for part in self.parts() if isinstance(part, Image))
