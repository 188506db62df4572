"""Weights on disk: what a folder of them holds, and how it is checked before anything is loaded from it.

A folder holds ``encoder.onnx`` (token ids to a unit vector), ``tokenizer.json``, ``head.json`` (risk and harm
category over that vector, with the calibration) and ``manifest.json``, which names the SHA-256 of the other three.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

FOLDER = Path(__file__).parent / "weights"
FILES = ("encoder.onnx", "tokenizer.json", "head.json")
BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the published all-MiniLM-L6-v2 ``model.safetensors``, from which every encoder here descends."""


class Linear(Struct, frozen=True, kw_only=True):
    """A linear map over the encoder's vector: `weight` is (outputs, dimensions), `bias` (outputs,)."""

    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]


class Head(Struct, frozen=True, kw_only=True, tag="gateway-intent-head/2", tag_field="format"):
    """What turns a vector into a verdict.

    `risk` has one output, a logit; ``sigmoid(slope * logit + offset)`` is the probability of harm (Platt, 1999).
    `category` has one output for each of `labels`, read by softmax, and `technique` one for each of `techniques`.
    `clinical` is read as `risk` is, with its own slope and offset. `window` is the number of tokens judged at once,
    with the two special ones; `overlap` the number shared by neighbouring windows.
    """

    labels: tuple[str, ...]
    techniques: tuple[str, ...]
    risk: Linear
    category: Linear
    clinical: Linear
    technique: Linear
    slope: float
    offset: float
    clinical_slope: float
    clinical_offset: float
    window: int
    overlap: int


class Manifest(Struct, frozen=True, kw_only=True, tag="gateway-intent/1", tag_field="format"):
    """What a folder of weights says of itself. `files` maps names to SHA-256 in hex; `base` is the source encoder's."""

    files: dict[str, str]
    base: str
    recipe: dict[str, str | int | float | bool | None] = {}


class Weights(Struct, frozen=True, kw_only=True):
    """Weights after checking: the very bytes that were hashed."""

    encoder: bytes
    tokenizer: bytes
    head: Head
    digest: str


def sha256(data: bytes) -> str:
    """Give the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def write_manifest(folder: Path, recipe: dict[str, str | int | float | bool | None]) -> str:
    """Write ``manifest.json`` for the files in `folder` and give its own SHA-256."""
    files = {name: sha256((folder / name).read_bytes()) for name in FILES}
    data = msgspec.json.format(msgspec.json.encode(Manifest(files=files, base=BASE_SHA256, recipe=recipe)), indent=1)
    (folder / "manifest.json").write_bytes(data + b"\n")
    return sha256(data + b"\n")


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
                "repository, or make weights with `python -m gateway_intent.train`"
            )
    try:
        head = msgspec.json.decode(data["head.json"], type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"`{place / 'head.json'}` is not a head of this plugin: train the weights again") from error
    return Weights(
        encoder=data["encoder.onnx"], tokenizer=data["tokenizer.json"], head=head, digest=sha256(manifest_bytes)
    )


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ValueError(
            f"`{folder / name}` can not be read: set `weights` to a folder made by `python -m gateway_intent.train`, "
            "or leave it out to use the shipped one"
        ) from error
