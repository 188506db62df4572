"""The ``intent`` pre-screener: is there harm in what is asked, whatever its words?

A sentence encoder (all-MiniLM-L6-v2, fine-tuned on harmful and benign twins) runs in onnxruntime over every text
part of a request, in each of its readings. Importing this module loads nothing heavy; `build` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from gateway.plugin import Stage, hookimpl

if TYPE_CHECKING:
    from gateway_intent.stage import IntentScreen

__all__ = ["IntentConfig", "build", "gateway_prescreeners"]


class IntentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the stage runs.

    `threads` is onnxruntime's thread count for one text. `max_windows` bounds the windows of 128 tokens that are judged
    for one request; a part beyond it counts as not inspected. `weights` is a folder made by ``python -m
    gateway_intent.train`` (None: the one shipped with the plugin) and `sha256`, if given, pins its ``manifest.json``.
    """

    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    max_windows: Annotated[int, Meta(ge=1, le=4096)] = 64
    weights: str | None = None
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


def build(config: IntentConfig) -> IntentScreen:
    """Load the weights and make the stage.

    Raises:
        ValueError: the weights are missing, or are not the bytes that their manifest names.
    """
    from gateway_intent.judge import Judge
    from gateway_intent.loading import load
    from gateway_intent.stage import IntentScreen

    judge = Judge(load(config.weights, config.sha256), threads=config.threads)
    judge.warm()
    return IntentScreen(judge, max_windows=config.max_windows)


@hookimpl
def gateway_prescreeners() -> list[Stage[IntentConfig]]:
    """Offer the stage ``intent``."""
    return [Stage("intent", IntentConfig, build)]
