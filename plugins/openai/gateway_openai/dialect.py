"""What servers that speak OpenAI's protocol do otherwise than OpenAI. Pure.

Read off their sources: Ollama's ``openai/openai.go`` decodes a fixed set of fields and passes over the rest in silence,
and takes an image as an object or a plain string; vLLM's and SGLang's ``ChatCompletionRequest`` know every field here.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gateway.plugin import Request, Sampling
from gateway_openai.errors import UnsupportedRefused

Name = Literal["openai", "vllm", "sglang", "ollama"]
"""The dialects that are known."""


class Dialect(Struct, frozen=True, kw_only=True):
    """One way of speaking OpenAI's protocol.

    `lacks` are the fields that the server would pass over in silence. With `plain_images` an image's address is a plain
    string and no object. With `calls_by_id` a tool call of a stream is told from another by its id: the server may
    number all of them 0.
    """

    name: Name
    lacks: frozenset[str] = frozenset()
    plain_images: bool = False
    calls_by_id: bool = False

    def check(self, request: Request) -> None:
        """Refuse a request that the server would answer as if it were another.

        Raises:
            UnsupportedRefused: it names a field that the server passes over.
        """
        missing = sorted(self.lacks & _named(request))
        if missing:
            fields = ", ".join(f"`{field}`" for field in missing)
            raise UnsupportedRefused(f"the server's dialect `{self.name}` has no {fields}; leave it out")


DIALECTS: dict[Name, Dialect] = {
    "openai": Dialect(name="openai"),
    "vllm": Dialect(name="vllm"),
    "sglang": Dialect(name="sglang"),
    "ollama": Dialect(
        name="ollama",
        lacks=frozenset({"n", "top_k", "min_p", "repetition_penalty", "tool_choice", "parallel_tool_calls"}),
        plain_images=True,
        calls_by_id=True,
    ),
}


def _named(request: Request) -> set[str]:
    """Name the fields that are given and mean something else than the server's way."""
    asked, default = request.sampling, Sampling()
    given = {field for field in asked.__struct_fields__ if getattr(asked, field) != getattr(default, field)}
    if request.tool_choice is not None and request.tool_choice.text.strip() != '"auto"':
        given.add("tool_choice")
    if request.parallel_tool_calls is False and request.tools is not None:
        given.add("parallel_tool_calls")
    return given
