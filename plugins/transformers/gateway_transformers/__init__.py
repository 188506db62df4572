"""The model stage ``transformers``: a Hugging Face model in this process. torch is imported only by `build`."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.plugin import Stage, hookimpl

EMBEDDED = "smollm2-135m-instruct"
"""The name of the embedded default model."""

EMBEDDED_CONTEXT = 8192
"""How many tokens the embedded default model reads at once."""

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model, where, and how much of the machine it may take.

    `model` is the name for callers. `path` is a folder, a ``.gguf`` file or a hub id; without it the embedded model
    is served, or the small one that sees where `model` is ``smollm2-sight``. Only a hub id may reach the hub.
    `chat_template` is a file with a Jinja chat template, for a model that brings none, or another than its own.
    `dtype` ``auto`` takes bfloat16 where the processor multiplies it in hardware and float32 elsewhere.
    `max_new_tokens` bounds an answer whose request does not. `context` caps prompt and answer together, in tokens.
    `batch` is how many answers are written at once, `queue` how many requests may wait, and `queue_seconds` how long
    one waits at most. `threads` is how many CPU threads the model uses (all cores but one where not given),
    `prefix_mib` the memory, in MiB, for kept demonstration prefixes. `memory_mib` bounds weights, kept prefixes and the
    answers at work together; without it nothing does. After `unload_after` seconds without a request the weights are
    freed, and loaded again for the next; without it they stay.
    """

    model: Annotated[str, Meta(min_length=1)] = EMBEDDED
    path: Annotated[str, Meta(min_length=1)] | None = None
    chat_template: Annotated[str, Meta(min_length=1)] | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_new_tokens: Count = 256
    context: Count | None = None
    batch: Count = 8
    queue: Count = 64
    queue_seconds: Seconds = 30.0
    threads: Count | None = None
    prefix_mib: Annotated[int, Meta(ge=0)] = 256
    memory_mib: Count | None = None
    unload_after: Seconds | None = None


def build(config: Config) -> Any:
    """Load the model. Raises ValueError with a hint where it can not be found or does not verify."""
    # OpenMP's threads spin while they wait for one another, which makes a busy machine fifty times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from gateway_transformers.backend import build as load  # torch stays unimported until a policy names this stage

    return load(config)


def context(config: Config) -> int | None:
    """Tell how many tokens the model reads at once, by its configuration alone."""
    if config.path is None:
        return min(EMBEDDED_CONTEXT, config.context or EMBEDDED_CONTEXT)
    return config.context


@hookimpl
def gateway_backends() -> list[Stage[Any]]:
    """Offer the stage ``transformers``."""
    return [Stage("transformers", Config, build, context=context)]
