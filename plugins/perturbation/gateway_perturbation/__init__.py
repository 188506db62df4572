"""The pre-screener `perturbation`: a score of adversarial noise for each image.

It gives no risk, and names no part as inspected, because an image without such noise may still be harmful. Importing
this module loads nothing heavy; `build` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from gateway.plugin import Stage, hookimpl

if TYPE_CHECKING:
    from gateway_perturbation.stage import PerturbationScreen

__all__ = ["PerturbationConfig", "build", "gateway_prescreeners"]


class PerturbationConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the stage runs.

    `threads` is onnxruntime's thread count for one image. `max_images` bounds the images that are judged in one
    request. `floor` is the least score, in 0..1, that is given as a finding. `cache` counts the images whose score is
    kept in memory, by digest. `weights` is a folder made by ``python -m gateway_perturbation.train`` (None: the one
    shipped) and `sha256`, if given, pins its ``manifest.json``.
    """

    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    max_images: Annotated[int, Meta(ge=1, le=256)] = 8
    floor: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.05
    cache: Annotated[int, Meta(ge=0, le=100_000)] = 4096
    weights: str | None = None
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


def build(config: PerturbationConfig) -> PerturbationScreen:
    """Load the weights and make the stage.

    Raises:
        ValueError: the weights are missing, or are not the bytes that their manifest names.
    """
    from gateway_perturbation.detector import Detector
    from gateway_perturbation.loading import load
    from gateway_perturbation.stage import PerturbationScreen

    detector = Detector(load(config.weights, config.sha256), threads=config.threads)
    return PerturbationScreen(detector, max_images=config.max_images, floor=config.floor, cache=config.cache)


@hookimpl
def gateway_prescreeners() -> list[Stage[PerturbationConfig]]:
    """Offer the stage ``perturbation``."""
    return [Stage("perturbation", PerturbationConfig, build)]
