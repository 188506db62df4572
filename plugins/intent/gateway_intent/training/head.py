"""Fit what stands on the encoder: a head on frozen vectors, and the calibration of the risk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gateway_intent.loading import Linear
from gateway_intent.training.generate import Example
from gateway_intent.training.templates import HARMS, TECHNIQUES

Vectors = npt.NDArray[np.float32]


def fit_heads(vectors: Vectors, examples: list[Example]) -> tuple[Linear, Linear, Linear, Linear]:
    """Fit risk, category, clinical and technique by logistic regression on fixed vectors (rows, dimensions)."""
    risk = _binary(vectors, [example.harmful for example in examples])
    clinical = _binary(vectors, [example.clinical for example in examples])
    category = _several(vectors, [example.label for example in examples], HARMS)
    technique = _several(vectors, [example.technique for example in examples], TECHNIQUES)
    return risk, category, clinical, technique


def _binary(vectors: Vectors, targets: list[bool | None]) -> Linear:
    from sklearn.linear_model import LogisticRegression

    known = np.asarray([target is not None for target in targets])
    fit = LogisticRegression(C=10, max_iter=400, class_weight="balanced")
    fit.fit(vectors[known], np.asarray([bool(target) for target in targets if target is not None]))
    return _linear(fit.coef_, fit.intercept_)


def _several(vectors: Vectors, targets: list[str | None], labels: tuple[str, ...]) -> Linear:
    from sklearn.linear_model import LogisticRegression

    known = np.asarray([target in labels for target in targets])
    fit = LogisticRegression(C=10, max_iter=400)
    fit.fit(vectors[known], np.asarray([labels.index(target) for target in targets if target in labels]))
    weight = np.zeros((len(labels), vectors.shape[1]))
    bias = np.full(len(labels), -10.0)
    weight[fit.classes_], bias[fit.classes_] = fit.coef_, fit.intercept_
    return _linear(weight, bias)


def _linear(weight: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]) -> Linear:
    return Linear(weight=tuple(tuple(map(float, row)) for row in weight), bias=tuple(map(float, bias)))


def logits(vectors: Vectors, head: Linear) -> npt.NDArray[np.float64]:
    """Give the first output of a head for each row."""
    found: npt.NDArray[np.float64] = vectors @ np.asarray(head.weight[0]) + head.bias[0]
    return found


def calibrate(scores: npt.NDArray[np.float64], truths: list[bool]) -> tuple[float, float]:
    """Fit slope and offset so that ``sigmoid(slope * logit + offset)`` is a probability (Platt, 1999).

    Both classes weigh the same: the share of harm among the examples says nothing of a hospital's traffic.
    """
    from sklearn.linear_model import LogisticRegression

    fit = LogisticRegression(C=1e6, class_weight="balanced").fit(scores.reshape(-1, 1), np.asarray(truths))
    return float(fit.coef_[0, 0]), float(fit.intercept_[0])
