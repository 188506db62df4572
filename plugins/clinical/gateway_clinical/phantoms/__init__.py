"""Pictures for the demonstrations, drawn by code: they look like the ten modalities and show no patient.

They are free of licences and consent and weigh nothing in the package. The same arguments give the same bytes under one
NumPy, Pillow and zlib on one kind of processor; elsewhere a rounding may tip a few pixels by one step of grey, so no
digest of them belongs in a file. They are no data: nothing is measured or learnt on them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import numpy as np

from gateway.plugin import Modality
from gateway_clinical.phantoms import breast, ct, eye, mri, skin, tissue, ultrasound, xray
from gateway_clinical.phantoms.canvas import SIDE, Plane, Rng, encode

__all__ = ["SIDE", "draw"]

_MAKERS: dict[Modality, tuple[Callable[[Rng, frozenset[str]], Plane], int]] = {
    "xray": (xray.draw, 3),
    "ct": (ct.draw, 3),
    "mri": (mri.draw, 3),
    "ultrasound": (ultrasound.draw, 3),
    "mammography": (breast.draw, 2),
    "oct": (eye.oct_scan, 4),
    "fundus": (eye.fundus, 200),
    "dermoscopy": (skin.draw, 200),
    "endoscopy": (tissue.endoscopy, 200),
    "histopathology": (tissue.histopathology, 28),
}
"""What draws each modality, and the steps between its greys or the number of its colours: what its grain bears."""

_SAME = {
    "hemorrhage": "haemorrhage", "bleeding": "haemorrhage", "edema": "oedema", "fluid": "oedema", "fetal": "fetus",
    "pregnancy": "fetus", "calculus": "stone", "gallstone": "stone", "femoral": "vein", "venous": "vein",
    "vascular": "vein", "pulmonary": "lung", "hepatic": "liver", "renal": "kidney", "cerebral": "brain",
    "spinal": "spine", "lumbar": "spine", "back": "spine", "disc": "spine", "disk": "spine", "tumor": "mass",
    "tumour": "mass", "cancer": "mass", "carcinoma": "mass", "microcalcification": "calcification",
    "pelvis": "hip", "finger": "hand", "radius": "wrist", "pneumonia": "consolidation", "opacity": "consolidation",
    "bronchial": "bronchus", "herniated": "herniation", "bulge": "herniation", "swollen": "papilloedema",
    "metastasis": "lesion", "metastase": "lesion", "skull": "head", "thorax": "chest",
}  # fmt: skip


def draw(modality: Modality, seed: str, view: str | None = None) -> bytes:
    """Give the picture of `modality` that belongs to `seed`, as PNG.

    `view` may name what is shown ("wrist", "head", "sagittal lumbar spine") and a finding ("fracture", "effusion").
    It is read word by word, so "no fracture" shows one; a word that the modality does not know changes nothing.
    """
    digest = hashlib.sha256(f"{modality}\n{seed}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    make, fineness = _MAKERS[modality]
    return encode(make(rng, _words(view or "")), fineness)


def _words(view: str) -> frozenset[str]:
    """Give the words, each also without a last "s" and under the name that the drawings know."""
    found = re.findall(r"[a-z0-9]+", view.lower())
    return frozenset(_SAME.get(word, word) for word in (*found, *(word.removesuffix("s") for word in found)))
