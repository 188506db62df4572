"""The clean clinical pictures, each with its source: the development data's (never committed) and packages' test files.

What shares a patient, a device or a collection shares a source, and a source is on one side of a split.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from gateway.plugin import decode_image
from gateway_perturbation.signs import Pixels

MOST = 3
"""Pictures taken from one source and modality."""
_SOURCES = {
    "CHAOS CT contact sheet": "CHAOS",
    "CHAOS CT contact sheet 2": "CHAOS",
    "Kermany OCT contact sheet": "Kermany OCT",
    "Kermany OCT copy": "Kermany OCT",
    "pydicom-data": "pydicom",
    "skimage ihc": "scikit-image",
}
_PYDICOM = ("693_J2KI", "J2K_pixelrep_mismatch", "CT_small", "examples_palette", "examples_ybr_color")


class Picture(NamedTuple):
    """A clean picture; `kind` is its modality, or what is known of it."""

    pixels: Pixels
    kind: str
    source: str


def load(data: Path) -> list[Picture]:
    """Give the clean pictures, at most `MOST` of each source and modality.

    Raises:
        ValueError: `data` does not hold the development files.
    """
    counts: Counter[tuple[str, str]] = Counter()
    kept = []
    try:
        for picture in (*_rows(data), *_radiology(data), *_packages()):
            counts[picture.source, picture.kind] += 1
            limit = 3 * MOST if picture.kind == "radiology" else MOST
            if counts[picture.source, picture.kind] <= limit and min(picture.pixels.shape[:2]) >= 96:
                kept.append(picture)
    except OSError as error:
        raise ValueError(f"`{data}` does not hold `medical_images.jsonl` and its `images`: name that folder") from error
    return kept


def _open(source: Path | io.BytesIO) -> Pixels:
    with Pillow.open(source) as image:
        return np.asarray(image.convert("RGB"), np.uint8)


def _rows(data: Path) -> Iterator[Picture]:
    for line in (data / "medical_images.jsonl").read_text().splitlines():
        row = json.loads(line)
        yield Picture(_open(data / row["image"]), row["modality"], _SOURCES.get(row["source"], row["source"]))


def _radiology(data: Path) -> Iterator[Picture]:
    for path in sorted((data / "images" / "vqamed2021").glob("*.jpg")):
        yield Picture(_open(path), "radiology", "MedPix")


def _packages() -> Iterator[Picture]:
    for package, places in (
        ("pydicom", [f"data/test_files/{name}.dcm" for name in _PYDICOM]),
        ("skimage", ["data/retina.jpg"]),
    ):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ValueError(f"pictures are taken from a package that is missing: install `{package}`")
        for place in places:
            raw = (Path(spec.origin).parent / place).read_bytes()
            if package == "skimage":
                yield Picture(_open(io.BytesIO(raw)), "fundus", "scikit-image")
                continue
            try:
                shown = decode_image(f"data:application/dicom;base64,{base64.b64encode(raw).decode()}", id="image")
            except Exception:  # noqa: BLE001, S112 -- a compression that this installation does not read
                continue
            yield Picture(_open(io.BytesIO(shown.data)), str(shown.modality), "pydicom")


def scaled(pixels: Pixels, longest: int) -> Pixels:
    """Scale down so that the longer side is at most `longest` pixels."""
    image = Pillow.fromarray(pixels)
    image.thumbnail((longest, longest), Pillow.Resampling.LANCZOS)
    return np.asarray(image, np.uint8)
