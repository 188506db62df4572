"""Fit what stands on the encoder: a head on frozen vectors, and the calibration of the risk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gateway_intent.loading import Linear
from gateway_intent.training.generate import Example
from gateway_intent.training.templates import HARMS

Vectors = npt.NDArray[np.float32]


def fit_heads(vectors: Vectors, examples: list[Example]) -> tuple[Linear, Linear]:
    """Fit both heads by logistic regression on fixed vectors (rows, dimensions)."""
    from sklearn.linear_model import LogisticRegression

    harmful = np.asarray([example.harmful for example in examples])
    risk = LogisticRegression(C=10, max_iter=400, class_weight="balanced").fit(vectors, harmful)
    known = np.asarray([example.label in HARMS for example in examples])
    labels = np.asarray([HARMS.index(example.label) for example in examples if example.label in HARMS])
    category = LogisticRegression(C=10, max_iter=400).fit(vectors[known], labels)
    weight = np.zeros((len(HARMS), vectors.shape[1]))
    bias = np.full(len(HARMS), -10.0)
    weight[category.classes_], bias[category.classes_] = category.coef_, category.intercept_
    return _linear(risk.coef_, risk.intercept_), _linear(weight, bias)


def _linear(weight: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]) -> Linear:
    return Linear(weight=tuple(tuple(map(float, row)) for row in weight), bias=tuple(map(float, bias)))


def logits(vectors: Vectors, head: Linear) -> npt.NDArray[np.float64]:
    """Give the first output of a head for each row."""
    found: npt.NDArray[np.float64] = vectors @ np.asarray(head.weight[0]) + head.bias[0]
    return found


def calibrate(scores: npt.NDArray[np.float64], examples: list[Example]) -> tuple[float, float]:
    """Fit slope and offset so that ``sigmoid(slope * logit + offset)`` is a probability (Platt, 1999).

    Both classes weigh the same: the share of harm among the examples says nothing of a hospital's traffic.
    """
    from sklearn.linear_model import LogisticRegression

    harmful = np.asarray([example.harmful for example in examples])
    fit = LogisticRegression(C=1e6, class_weight="balanced").fit(scores.reshape(-1, 1), harmful)
    return float(fit.coef_[0, 0]), float(fit.intercept_[0])


def sharpening(
    scores: npt.NDArray[np.float64], examples: list[Example], slope: float, offset: float, *, allowed: float = 0.05
) -> float:
    """Give the factor by which the calibrated log-odds may be multiplied, 1 to 3 in steps of a quarter.

    Platt scaling over hard twins leaves much in the middle, where the default policy spends demonstrations. The factor
    is the largest with which at most the share `allowed` of the benign calibration texts stands at 0.9 or above.
    """
    odds = slope * scores + offset
    benign = odds[[not example.harmful for example in examples]]
    best = 1.0
    for quarters in range(5, 13):
        if float((quarters / 4 * benign >= np.log(9)).mean()) <= allowed:
            best = quarters / 4
    return best
