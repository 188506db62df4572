"""The pre-screener `modality`: which imaging modality each image shows, and whether that is what was said.

It abstains where it is not sure. It gives no risk, and names no part as inspected, because what an image is of says
nothing about harm. Importing this module loads nothing heavy; `build` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from gateway.plugin import Stage, hookimpl

if TYPE_CHECKING:
    from gateway_modality.stage import ModalityScreen

__all__ = ["ModalityConfig", "build", "gateway_prescreeners"]


class ModalityConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the stage runs.

    `threads` is onnxruntime's thread count for one image. `max_images` bounds the images that are looked at in one
    request. `cache` counts the images whose verdict is kept in memory, by digest. `weights` is a folder made by
    ``python -m gateway_modality.train`` (None: the one shipped) and `sha256`, if given, pins its ``manifest.json``.
    """

    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    max_images: Annotated[int, Meta(ge=1, le=256)] = 16
    cache: Annotated[int, Meta(ge=0, le=100_000)] = 4096
    weights: str | None = None
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


def build(config: ModalityConfig) -> ModalityScreen:
    """Load the weights and make the stage.

    Raises:
        ValueError: the weights are missing, or are not the bytes that their manifest names.
    """
    from gateway_modality.judge import Judge
    from gateway_modality.loading import load
    from gateway_modality.stage import ModalityScreen

    judge = Judge(load(config.weights, config.sha256), threads=config.threads)
    return ModalityScreen(judge, max_images=config.max_images, cache=config.cache)


@hookimpl
def gateway_prescreeners() -> list[Stage[ModalityConfig]]:
    """Offer the stage ``modality``."""
    return [Stage("modality", ModalityConfig, build)]
