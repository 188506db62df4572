"""From the encoder's vectors to a modality, or to none that is sure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway_modality.encoder import COLOURS, Encoder, Vectors, views
from gateway_modality.loading import Rules, Weights

GREY = frozenset({"xray", "ct", "mri", "oct", "mammography"})
"""Modalities without colour. Ultrasound may have it: flow is drawn so."""
_COLOURED = 0.3  # share of coloured pixels from which on a picture is not called one of `GREY`


class Verdict(NamedTuple):
    """`label` is the likeliest and `sure` whether it may be relied on; `shares` are (label, probability), falling."""

    label: str
    sure: bool
    shares: tuple[tuple[str, float], ...]


class Judge:
    """Judges one image at a time. One instance serves several threads."""

    def __init__(self, weights: Weights, *, threads: int) -> None:
        self._encoder = Encoder(weights.encoder, threads=threads)
        self._weight, self._bias, self._rules = weights.weight, weights.bias, weights.rules

    def look(self, data: bytes) -> Verdict:
        """Judge the PNG or JPEG file `data`; raises what `views` raises."""
        return self.verdict(self._encoder.encode(views(data)))

    def verdict(self, vectors: Vectors) -> Verdict:
        """Judge the vectors of one image's views."""
        return read(sums(vectors, self._weight, self._bias), coloured(vectors), self._rules)


def sums(vectors: Vectors, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give each head's sum for each view: (heads x views, labels)."""
    found = np.einsum("vd,hld->hvl", vectors, weight, dtype=np.float64) + bias[:, None, :]
    return np.asarray(found.reshape(-1, weight.shape[1]), np.float64)


def coloured(vectors: Vectors) -> float:
    """Give the share of coloured pixels in the whole image."""
    return float(vectors[0, -COLOURS])


def read(found: NDArray[np.float64], colour: float, rules: Rules) -> Verdict:
    """Read the heads' sums, (heads x views, labels): sure only where all of them name the same, and by far."""
    mean = found.mean(0)
    order = np.argsort(-mean, kind="stable")
    scaled = np.exp((mean - mean.max()) / rules.temperature)
    shares = scaled / scaled.sum()
    label = rules.labels[order[0]]
    sure = (
        label in rules.margins
        and bool(mean[order[0]] - mean[order[1]] >= rules.margins[label])
        and bool((found.argmax(1) == order[0]).all())
        and not (label in GREY and colour > _COLOURED)
    )
    return Verdict(label, sure, tuple((rules.labels[i], float(shares[i])) for i in order))
