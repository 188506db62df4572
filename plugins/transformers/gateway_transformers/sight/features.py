"""The pictures of the training as features of the encoder, made once.

Photographs come from the development data, phantoms from the packages `gateway-modality` and `gateway-clinical`, which
only the training needs. Only sources whose licence lets weights made from them be handed on are trained on; all others
are held out, and so are a few small ones that would allow it, so that every modality has a source to be measured on
where there are two.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image as Pillow

TRAINED = ("MedPix", "CHASE_DB1 copy", "Kermany OCT", "BreaKHis copy", "EAD2019 sample", "lung-segmentation-2d demo")
"""Sources that are trained on: CC BY 4.0 or MIT."""

_REGIONS = {
    "CHASE_DB1 copy": "the retina",
    "Kermany OCT": "the retina",
    "BreaKHis copy": "breast tissue",
    "EAD2019 sample": "the digestive tract",
    "lung-segmentation-2d demo": "the chest",
}
_VIEWS = {  # of the phantoms: what is asked of the drawing, and what it is called
    "xray": ("chest", "wrist", "hand", "hip", "knee"),
    "ct": ("head", "chest", "abdomen"),
    "mri": ("brain", "knee", "spine"),
    "ultrasound": ("liver", "kidney", "fetus", "vein"),
    "fundus": ("retina",),
    "oct": ("retina",),
    "dermoscopy": ("skin",),
    "endoscopy": ("colon",),
    "histopathology": ("tissue",),
    "mammography": ("breast",),
}
EACH = 24
"""Phantoms of each modality."""


class Seen(NamedTuple):
    """A picture. `region` is what it shows, with its article; `weight` is how often it is drawn beside others."""

    picture: Pillow.Image
    kind: str
    source: str
    region: str | None
    weight: float
    name: str


def pictures(data: Path, seed: int) -> list[Seen]:
    """Give every picture, the held-out ones too.

    Raises:
        ValueError: `data` does not hold the development files, or a package of the training is missing.
    """
    try:
        reader = importlib.import_module("gateway_modality.training.pictures")
        phantoms = importlib.import_module("gateway_clinical.phantoms")
    except ImportError as exc:
        raise ValueError("training needs the plugins `gateway-modality` and `gateway-clinical`; install both") from exc
    found, _ = reader.load(data, seed)
    made = [
        Seen(p.pixels, p.kind, p.source, _REGIONS.get(p.source), 1.0 if p.real else 0.15, p.name)
        for p in found
        if p.real or p.source.startswith("drawn")
    ]
    for kind, views in _VIEWS.items():
        for number in range(EACH):
            view = views[number % len(views)]
            with Pillow.open(io.BytesIO(phantoms.draw(kind, f"sight {seed} {number}", view))) as opened:
                picture = opened.convert("RGB")
            made.append(Seen(picture, kind, f"phantom {kind}", f"the {view}", 0.15, f"phantom-{kind}-{number}"))
    return made


def trained_on(seen: Seen) -> bool:
    """Tell whether a picture is trained on: drawn ones, pictures of no patient, and those of `TRAINED`."""
    return seen.source in TRAINED or seen.source.startswith(("drawn", "phantom")) or seen.kind == "none"


def views(seen: Seen, count: int, rng: np.random.Generator) -> Iterator[Pillow.Image]:
    """Give the picture, and `count` changed copies."""
    change: Any = importlib.import_module("gateway_modality.training.changes").change
    yield seen.picture
    for _ in range(count):
        yield change(seen.picture, rng)


def features(tower: Any, processor: Any, shown: list[Pillow.Image]) -> torch.Tensor:
    """Give the tokens of pictures, `[n, TOKENS, channels]`, in half precision."""
    with torch.inference_mode():
        values = processor(images=shown, return_tensors="pt")["pixel_values"]
        tokens: torch.Tensor = tower(values).last_hidden_state.half()
    return tokens
