"""The pictures that the head is made from and measured on, each with its modality and its source.

Clinical ones come from the development data (never committed) and from test files inside installed packages; those
without a modality from packages and from `drawing`. What shares a patient, a device or a collection shares a source,
and a source is on one side of a split.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from gateway.plugin import decode_image
from gateway_modality.training import drawing

LONGEST = 768  # pixels; what is larger is scaled down once, as it is only looked at in 224


class Picture(NamedTuple):
    """`kind` is a modality or ``none``; `real` is False for what was drawn to stand for a modality."""

    pixels: Pillow.Image
    kind: str
    source: str
    name: str
    real: bool = True


_SAME = 6.0  # mean difference in grey levels of a small copy
_SOURCES = {  # of the data's file: what belongs together
    "CHAOS CT contact sheet": "CHAOS",
    "CHAOS CT contact sheet 2": "CHAOS",
    "Kermany OCT contact sheet": "Kermany OCT",
    "Kermany OCT copy": "Kermany OCT",
    "pydicom-data": "pydicom",
    "skimage ihc": "scikit-image",
}
_SKIMAGE_CLINICAL = {"retina.jpg": "fundus", "ihc.png": "histopathology"}
_SKIMAGE_SKIPPED = {"microaneurysms.png", "phantom.png", "cell.png"}  # clinical, but neither a modality nor none
_PYDICOM = (
    "CT_small", "693_J2KI", "J2K_pixelrep_mismatch", "MR_small", "examples_overlay", "examples_jpeg2k",
    "examples_palette", "examples_rgb_color", "examples_ybr_color",
)  # fmt: skip
_NIFTI = (
    ("nibabel", "tests/data/anatomical.nii"),
    ("nibabel", "tests/data/functional.nii"),
    ("nibabel", "tests/data/example4d.nii.gz"),
    ("nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"),
    ("dipy", "data/files/S0_10slices.nii.gz"),
)


def load(data: Path, seed: int = 0) -> tuple[list[Picture], list[str]]:
    """Give all pictures, and the names of packages that are missing and whose pictures are therefore left out.

    Raises:
        ValueError: `data` does not hold the development files.
    """
    missing: set[str] = set()
    try:
        found = [*_rows(data), *_medpix(data)]
    except OSError as error:
        raise ValueError(f"`{data}` does not hold `medical_images.jsonl` and its `images`: name that folder") from error
    found += [*_pydicom(missing), *_volumes(missing), *_packaged(missing)]
    found = _unlike(found)
    found += [Picture(image, kind, f"drawn {kind}", name, real=False) for image, kind, name in drawing.phantoms(seed)]
    found += [Picture(image, "none", f"drawn {name[:-3]}", name) for image, name in drawing.others(seed)]
    return found, sorted(missing)


def _unlike(pictures: list[Picture]) -> list[Picture]:
    """Leave out what shows the same as an earlier picture: test files are handed on from package to package."""
    kept: list[Picture] = []
    seen: list[NDArray[np.float32]] = []
    for picture in pictures:
        small = np.asarray(picture.pixels.convert("L").resize((24, 24), Pillow.Resampling.BOX), np.float32)
        if picture.source == "pydicom" and any(np.abs(small - other).mean() < _SAME for other in seen):
            continue
        kept.append(picture)
        seen.append(small)
    return kept


def open_pixels(source: Path | io.BytesIO) -> Pillow.Image:
    """Open an image as RGB, at most `LONGEST` on a side."""
    with Pillow.open(source) as image:
        return _small(image.convert("RGB"))


def _small(image: Pillow.Image) -> Pillow.Image:
    image.thumbnail((LONGEST, LONGEST), Pillow.Resampling.BOX)
    return image


def _rows(data: Path) -> Iterator[Picture]:
    for line in (data / "medical_images.jsonl").read_text().splitlines():
        row = json.loads(line)
        source = _SOURCES.get(row["source"], row["source"])
        if row["source"] != "skimage ihc":  # it comes with the package
            yield Picture(open_pixels(data / row["image"]), row["modality"], source, row["id"])


def _medpix(data: Path) -> Iterator[Picture]:
    for line in Path(__file__).with_name("medpix.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        kind, *numbers = line.split()
        for number in numbers:
            path = data / "images" / "vqamed2021" / f"synpic{number}.jpg"
            yield Picture(open_pixels(path), kind, "MedPix", f"medpix-{number}")


def _folder(package: str, missing: set[str]) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        missing.add(package)
        return None
    return Path(spec.origin).parent


def _pydicom(missing: set[str]) -> Iterator[Picture]:
    folder = _folder("pydicom", missing)
    for name in _PYDICOM if folder is not None else ():
        assert folder is not None  # noqa: S101 -- for the type checker
        raw = (folder / "data" / "test_files" / f"{name}.dcm").read_bytes()
        try:
            shown = decode_image(f"data:application/dicom;base64,{base64.b64encode(raw).decode()}", id="image")
        except Exception:  # noqa: BLE001, S112 -- a compression that this installation does not read
            continue
        if shown.modality is not None:
            yield Picture(open_pixels(io.BytesIO(shown.data)), shown.modality, "pydicom", name)


def _volumes(missing: set[str]) -> Iterator[Picture]:
    """Cut slices through the magnetic resonance volumes that neuroimaging packages carry."""
    reader = _folder("nibabel", missing)
    for package, place in _NIFTI:
        folder = _folder(package, missing)
        if reader is None or folder is None:
            continue
        volume = np.asarray(importlib.import_module("nibabel").load(folder / place).get_fdata(), np.float32)
        volume = volume[..., 0] if volume.ndim == 4 else volume
        for axis in range(3):
            for part in (0.4, 0.5, 0.6):
                cut = np.rot90(np.take(volume, int(volume.shape[axis] * part), axis))
                if min(cut.shape) < 24 or cut.std() == 0:
                    continue
                name = f"{package}-{Path(place).stem}-{axis}-{part}"
                yield Picture(_grey(cut), "mri", package, name)


def _grey(values: Any) -> Pillow.Image:
    low, high = np.percentile(values, (0.5, 99.5))
    shown = np.clip((values - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    image = Pillow.fromarray(shown).convert("RGB")
    factor = max(1, 256 // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Pillow.Resampling.BICUBIC)


def _packaged(missing: set[str]) -> Iterator[Picture]:
    for package, place in (
        ("skimage", "data"),
        ("matplotlib", "mpl-data/sample_data"),
        ("sklearn", "datasets/images"),
        ("stardist", "data/images"),
    ):
        folder = _folder(package, missing)
        if folder is None:
            continue
        for path in sorted((folder / place).iterdir()):
            if path.suffix not in (".png", ".jpg") or path.name in _SKIMAGE_SKIPPED:
                continue
            kind = _SKIMAGE_CLINICAL.get(path.name, "histopathology" if package == "stardist" else "none")
            source = "scikit-image" if package == "skimage" else package
            yield Picture(open_pixels(path), kind, source, f"{package}-{path.stem}")
