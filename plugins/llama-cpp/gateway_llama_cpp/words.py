"""What this stage can not carry is refused."""

from __future__ import annotations

from typing import Any

from msgspec.json import decode

from gateway.plugin import Request, Text
from gateway_llama_cpp.errors import RequestRefused


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
