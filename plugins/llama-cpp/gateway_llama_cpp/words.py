"""What a model that reads only text is told: images in words, and nothing that this stage can not carry."""

from __future__ import annotations

from typing import Any

from msgspec.json import decode

from gateway.plugin import Image, Modality, Request, Text
from gateway_llama_cpp.errors import RequestRefused

BLIND_NOTE = "Note: this model reads text only and has not seen the image."
"""The last sentence of an answer whose request had an image."""

MAX_FOUND = 600
"""How many characters of the text found in an image are told."""

_KIND = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP", "dicom": "DICOM"}
_MODALITY: dict[Modality, str] = {
    "xray": "X-ray", "ct": "CT", "mri": "MRI", "ultrasound": "ultrasound", "fundus": "fundus photography", "oct": "OCT",
    "dermoscopy": "dermoscopy", "endoscopy": "endoscopy", "histopathology": "histopathology",
    "mammography": "mammography",
}  # fmt: skip


def in_words(image: Image, number: int, text: str = "") -> str:
    """Tell an image: number, kind, size in pixels, and what is known of it.

    `text` is what a pre-screener read in the image; at most `MAX_FOUND` characters of it are told.
    """
    told = [_KIND[image.source], f"{image.width}×{image.height} pixels"]
    if image.modality is not None:
        told.append(f"modality {_MODALITY[image.modality]}")
    if image.frames > 1:
        told.append(f"frame {image.frame + 1} of {image.frames}")
    read = " ".join(text.split())
    if read:
        told.append(f'text in it: "{read[:MAX_FOUND]}{"…" if len(read) > MAX_FOUND else ""}"')
    return f"[image {number}: {', '.join(told)}]"


def noted(text: str) -> str:
    """Give an answer with the note that its images were not seen."""
    return f"{text.rstrip()}\n\n{BLIND_NOTE}".lstrip()


def refuse_unsupported(request: Request) -> None:
    """Refuse what this stage can not carry, rather than drop it silently.

    Raises:
        RequestRefused: the request has tools or tool turns, or asks for an answer in a given form.
    """
    instead = "use a server behind the stage `openai`"
    if any(turn.role == "tool" or turn.tool_calls for turn in request.turns):
        raise RequestRefused(f"tool turns are not supported by this stage; {instead}")
    if request.tools is not None and not (request.tool_choice and _json(request.tool_choice) == "none"):
        raise RequestRefused(f"`tools` are not supported by this stage; {instead}")
    if request.response_format and _json(request.response_format) != {"type": "text"}:
        raise RequestRefused(f"this `response_format` is not supported by this stage; {instead}")


def _json(text: Text) -> Any:
    return decode(text.text)
