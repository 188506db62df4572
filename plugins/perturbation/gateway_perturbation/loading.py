"""Weights on disk: what a folder of them holds, and how it is checked before anything is loaded from it.

A folder holds ``encoder.onnx`` (pixels to a vector), ``detector.npz`` (a small network over the
signs), ``detector.json`` (its calibration) and ``manifest.json``, which names the SHA-256 of the other three.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "weights"
NAMES = ("centre", "spread", "first", "first_bias", "second", "second_bias")
FILES = ("encoder.onnx", "detector.npz", "detector.json")


class Rules(Struct, frozen=True, kw_only=True, tag="gateway-perturbation-detector/1", tag_field="format"):
    """How the detector's sum becomes a score: ``sigmoid(slope * (sum - cut))``, so `cut` is where it is 0.5."""

    cut: float
    slope: float


class Manifest(Struct, frozen=True, kw_only=True, tag="gateway-perturbation/1", tag_field="format"):
    """What a folder of weights says of itself. `files` maps names to SHA-256 in hex."""

    files: dict[str, str]
    recipe: dict[str, str | int | float] = {}


class Weights(Struct, frozen=True, kw_only=True):
    """Weights after checking. `arrays` are those of `detector.Detector`, by name."""

    encoder: bytes
    arrays: dict[str, NDArray[np.float64]]
    rules: Rules
    digest: str


def sha256(data: bytes) -> str:
    """Give the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def write_manifest(folder: Path, recipe: dict[str, str | int | float]) -> str:
    """Write ``manifest.json`` for the files in `folder` and give its own SHA-256."""
    files = {name: sha256((folder / name).read_bytes()) for name in FILES}
    data = msgspec.json.format(msgspec.json.encode(Manifest(files=files, recipe=recipe)), indent=1) + b"\n"
    (folder / "manifest.json").write_bytes(data)
    return sha256(data)


def load(folder: str | Path | None = None, pin: str | None = None) -> Weights:
    """Read and check a folder of weights.

    Args:
        folder: Where they are; None for those shipped with the plugin.
        pin: The SHA-256 that ``manifest.json`` must have, if given.

    Raises:
        ValueError: a file is missing, unreadable, or not the one that the manifest names.
    """
    place = FOLDER if folder is None else Path(folder)
    manifest_bytes = _read(place, "manifest.json")
    if pin is not None and sha256(manifest_bytes) != pin:
        raise ValueError(
            f"`{place / 'manifest.json'}` has another sha256 than the configured `{pin}`: "
            "restore the weights, or set `sha256` to what `sha256sum` prints if the new weights are meant"
        )
    try:
        manifest = msgspec.json.decode(manifest_bytes, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(
            f"`{place / 'manifest.json'}` is not a manifest of this plugin: restore the weights or train them again"
        ) from error
    data = {name: _read(place, name) for name in FILES}
    for name, content in data.items():
        if sha256(content) != manifest.files.get(name):
            raise ValueError(
                f"`{place / name}` is not the file that its manifest names (sha256 differs): restore it from the "
                "repository, or make weights with `python -m gateway_perturbation.train`"
            )
    try:
        rules = msgspec.json.decode(data["detector.json"], type=Rules)
        with np.load(io.BytesIO(data["detector.npz"]), allow_pickle=False) as arrays:
            values = {name: np.asarray(arrays[name], np.float64) for name in NAMES}
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, OSError, ValueError) as error:
        raise ValueError(f"`{place}` does not hold a detector of this plugin: train the weights again") from error
    return Weights(encoder=data["encoder.onnx"], arrays=values, rules=rules, digest=sha256(manifest_bytes))


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ValueError(
            f"`{folder / name}` can not be read: set `weights` to a folder made by "
            "`python -m gateway_perturbation.train`, "
            "or leave it out to use the shipped one"
        ) from error
