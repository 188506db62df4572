"""The model stage ``llama-cpp``: a GGUF file in this process, on the CPU. llama.cpp is loaded only by `build`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.plugin import Stage, hookimpl

EMBEDDED = "smollm2-135m-instruct"
"""The name of the embedded default model."""

EMBEDDED_CONTEXT = 8192
"""How many tokens the embedded default model reads at once."""

Count = Annotated[int, Meta(ge=1)]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model, and how much of the machine it may take.

    `model` is the name for callers. `path` is a ``.gguf`` file; without it the embedded model is served.
    `chat_template` is a file with a Jinja chat template, for a model that brings none, or another than its own.
    `max_new_tokens` bounds an answer whose request does not. `context` caps prompt and answer together, in tokens;
    where not given it is the model's own, at most 8192. `batch` is how many answers are written at once, `queue` how
    many requests may wait and `queue_seconds` how long. `threads` is how many CPU threads the model uses (all cores but
    one where not given). `prefix_mib` is the memory, in MiB, for kept demonstration prefixes.

    Memory for `batch` times `context` tokens is taken at once when the model is loaded.
    """

    model: Annotated[str, Meta(min_length=1)] = EMBEDDED
    path: Annotated[str, Meta(min_length=1)] | None = None
    chat_template: Annotated[str, Meta(min_length=1)] | None = None
    max_new_tokens: Count = 256
    context: Count | None = None
    batch: Annotated[int, Meta(ge=1, le=128)] = 4
    queue: Count = 64
    queue_seconds: Annotated[float, Meta(gt=0)] = 30.0
    threads: Count | None = None
    prefix_mib: Annotated[int, Meta(ge=0)] = 256


def build(config: Config) -> Any:
    """Load the model. Raises ValueError with a hint where it can not be found, read or verified."""
    from gateway_llama_cpp.backend import build as load  # numpy and jinja2 stay unimported until a policy names this

    return load(config)


def context(config: Config) -> int | None:
    """Tell how many tokens the model reads at once, by its configuration alone."""
    if config.path is None:
        return min(EMBEDDED_CONTEXT, config.context or EMBEDDED_CONTEXT)
    return config.context


@hookimpl
def gateway_backends() -> list[Stage[Any]]:
    """Offer the stage ``llama-cpp``."""
    return [Stage("llama-cpp", Config, build, context=context)]
