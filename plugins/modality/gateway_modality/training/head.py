"""The linear heads over the encoder's vectors: how they are fitted, tried on sources held out, and given thresholds.

Two heads look at different parts of the vector, one at the last layer and one at the three inner ones; both with the
colours. Their agreement is part of being sure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway_modality.encoder import COLOURS, Encoder, two_views
from gateway_modality.judge import coloured, read, sums
from gateway_modality.loading import Rules
from gateway_modality.training.changes import change
from gateway_modality.training.pictures import Picture

LABELS = (
    "ct", "dermoscopy", "endoscopy", "fundus", "histopathology", "mammography", "mri", "none", "oct", "ultrasound",
    "xray",
)  # fmt: skip
CHANGES = 8
"""Changed copies of each picture."""
DEEP = 1280
PARTS = ((0, DEEP, 0.0003), (DEEP, None, 0.001))
"""For each head: which dimensions it sees (the colours always), and how loosely it is fitted (scikit-learn's C)."""
DRAWN = 0.3  # what a drawn source weighs against a true one
FLOOR = 1.25
"""The least margin of any label; below it every fold has errors."""
SLACK = 0.1


class Vectors(NamedTuple):
    """Vectors of all pictures: (pictures, 1 + CHANGES, 2 views, dimensions); the first is the unchanged picture."""

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    sources: NDArray[Any]
    real: NDArray[np.bool_]


def encode(pictures: Sequence[Picture], encoder: Encoder, seed: int) -> Vectors:
    """Encode each picture and `CHANGES` changed copies of it."""
    from tqdm import tqdm

    found = []
    for place, picture in enumerate(tqdm(pictures, desc="encoding", unit="picture", mininterval=2)):
        copies = [change(picture.pixels, np.random.default_rng((seed, place, n))) for n in range(CHANGES)]
        found.append([encoder.encode(two_views(copy)) for copy in (picture.pixels, *copies)])
    return Vectors(
        np.asarray(found, np.float32),
        np.asarray([LABELS.index(picture.kind) for picture in pictures]),
        np.asarray([picture.source for picture in pictures]),
        np.asarray([picture.real for picture in pictures]),
    )


def weigh(vectors: Vectors, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give each chosen picture a weight: labels alike in sum, sources within a label by the root of their size."""
    counts = Counter(zip(vectors.labels[chosen].tolist(), vectors.sources[chosen].tolist(), strict=True))
    real = {(vectors.labels[i], str(vectors.sources[i])): bool(vectors.real[i]) for i in chosen}
    mass = {pair: np.sqrt(count) * (1.0 if real[pair] else DRAWN) for pair, count in counts.items()}
    whole: Counter[int] = Counter()
    for (label, _), value in mass.items():
        whole[label] += value
    weights = [
        mass[label, source] / whole[label] / counts[label, source]
        for label, source in zip(vectors.labels[chosen].tolist(), vectors.sources[chosen].tolist(), strict=True)
    ]
    found: NDArray[np.float64] = np.asarray(weights) * len(chosen) / sum(weights)
    return found


def fit(vectors: Vectors, chosen: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit both heads on the chosen pictures: weight (heads, labels, dimensions) and bias (heads, labels)."""
    from sklearn.linear_model import LogisticRegression

    size = vectors.values.shape[-1]
    each = int(np.prod(vectors.values.shape[1:3]))
    rows = vectors.values[chosen].reshape(-1, size)
    labels = np.repeat(vectors.labels[chosen], each)
    weights = np.repeat(weigh(vectors, chosen), each)
    centre = np.average(rows, axis=0, weights=weights)
    spread = np.sqrt(np.average((rows - centre) ** 2, axis=0, weights=weights)) + 1e-3
    scaled = (rows - centre) / spread
    weight = np.zeros((len(PARTS), len(LABELS), size))
    bias = np.full((len(PARTS), len(LABELS)), -1e3)  # of a label that is not among the chosen
    for head, (start, stop, loose) in enumerate(PARTS):
        seen = np.r_[start : stop or size - COLOURS, size - COLOURS : size]
        model = LogisticRegression(C=loose, max_iter=300, tol=1e-3).fit(scaled[:, seen], labels, sample_weight=weights)
        for place, label in enumerate(model.classes_):
            weight[head, label, seen] = model.coef_[place] / spread[seen]
            bias[head, label] = model.intercept_[place] - float(weight[head, label] @ centre)
    return weight.astype(np.float32), bias.astype(np.float32)


def out_of_fold(vectors: Vectors) -> NDArray[np.float64]:
    """Leave each source out in turn and give its sums: (pictures, 1 + CHANGES, heads x views, labels)."""
    from tqdm import tqdm

    shape = (*vectors.values.shape[:2], len(PARTS) * vectors.values.shape[2], len(LABELS))
    found = np.full(shape, np.nan)
    for source in tqdm(sorted(set(vectors.sources[vectors.real].tolist())), desc="leaving out", unit="source"):
        held = np.flatnonzero((vectors.sources == source) & vectors.real)
        weight, bias = fit(vectors, np.flatnonzero(vectors.sources != source))
        for picture in held:
            for copy in range(shape[1]):
                found[picture, copy] = sums(vectors.values[picture, copy], weight, bias)
    return found


def claimed(vectors: Vectors) -> list[str]:
    """Give the labels that may be called sure: those with true pictures from two sources or more, and ``none``."""
    pairs = set(zip(vectors.labels[vectors.real].tolist(), vectors.sources[vectors.real].tolist(), strict=True))
    counts = Counter(label for label, _ in pairs)
    return [label for place, label in enumerate(LABELS) if counts[place] >= 2]


def rules(vectors: Vectors, found: NDArray[np.float64], judged: NDArray[np.int64]) -> Rules:
    """Choose temperature and margins from the out-of-fold sums of the `judged` pictures, unchanged.

    A label's margin is `SLACK` above the largest with which one of them was wrongly called so, and at least `FLOOR`.
    """
    labels = claimed(vectors)
    free = Rules(labels=LABELS, temperature=1.0, margins=dict.fromkeys(labels, 0.0))
    margins = dict.fromkeys(labels, FLOOR)
    for picture in judged:
        verdict = read(found[picture, 0], coloured(vectors.values[picture, 0]), free)
        if verdict.sure and verdict.label != LABELS[vectors.labels[picture]]:
            top = np.sort(found[picture, 0].mean(0))
            margins[verdict.label] = max(margins[verdict.label], float(top[-1] - top[-2]) + SLACK)
    return Rules(labels=LABELS, temperature=_temperature(vectors, found, judged), margins=margins)


def _temperature(vectors: Vectors, found: NDArray[np.float64], judged: NDArray[np.int64]) -> float:
    """Find the temperature with the least log loss, on labels that may be called sure."""
    known = [i for i in judged if LABELS[vectors.labels[i]] in claimed(vectors)]
    mean = found[known, 0].mean(1)
    best = (np.inf, 1.0)
    for temperature in np.geomspace(0.2, 3.0, 40):
        scaled = mean / temperature
        top = scaled.max(1, keepdims=True)
        loss = np.log(np.exp(scaled - top).sum(1)) + top[:, 0] - scaled[np.arange(len(known)), vectors.labels[known]]
        best = min(best, (float(loss.mean()), float(temperature)))
    return best[1]
