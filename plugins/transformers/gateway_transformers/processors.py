"""Loading a checkpoint's processor, without its part for videos.

Some families' processors (Qwen2.5-VL, InternVL) want one for videos too, which transformers makes with torchvision
alone. The gateway has no videos, so the processor is made without it. Images are read by torchvision where it is there,
and else by Pillow.
"""

from __future__ import annotations

from typing import Any

VIDEO = "video_processor"


def load_processor(path: str, config: Any, **where: Any) -> Any:
    """Load the processor of the checkpoint `path`, whose configuration is `config`."""
    from transformers import AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    kind = PROCESSOR_MAPPING.get(type(config), None)
    if kind is None or VIDEO not in kind.get_attributes():
        return AutoProcessor.from_pretrained(path, **where)
    return still(kind).from_pretrained(path, **where)


def still(kind: Any) -> Any:
    """Give the processor class `kind` without its part for videos."""

    def attributes(_: Any) -> list[str]:
        return [name for name in kind.get_attributes() if name != VIDEO]

    return type(kind.__name__, (kind,), {"get_attributes": classmethod(attributes), "__module__": kind.__module__})
