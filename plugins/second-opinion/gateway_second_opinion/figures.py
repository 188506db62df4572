"""Figures of a judge: how well it orders, how far its probabilities can be believed, and how to mend them. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 10


def auc(risk: Any, harm: Any) -> float | None:
    """Give the chance that a harmful text scores above a benign one, ties counted half; None without both kinds."""
    bad, good = risk[harm == 1], np.sort(risk[harm == 0])
    if not len(bad) or not len(good):
        return None
    below, upto = np.searchsorted(good, bad, "left"), np.searchsorted(good, bad, "right")
    return float((below + upto).mean() / (2 * len(good)))


def calibration(risk: Any, harm: Any) -> dict[str, float]:
    """Give the Brier score, and the expected calibration error over ten bins of equal width."""
    place = np.minimum((risk * BINS).astype(int), BINS - 1)
    gaps = [
        abs(float(risk[place == n].mean() - harm[place == n].mean())) * float((place == n).mean())
        for n in range(BINS)
        if (place == n).any()
    ]
    return {"brier": float(((risk - harm) ** 2).mean()), "ece": float(sum(gaps))}


def rates(risk: Any, harm: Any, bound: float) -> dict[str, float]:
    """Give the shares of harmful and of benign texts at or above `bound`."""
    return {
        "harmful_refused": float((risk[harm == 1] >= bound).mean()),
        "benign_refused": float((risk[harm == 0] >= bound).mean()),
    }


def _odds(risk: Any) -> Any:
    inner = np.clip(risk, 1e-9, 1 - 1e-9)
    return np.log(inner / (1 - inner))


def applied(risk: Any, slope: float, offset: float) -> Any:
    """Give `risk` with its log-odds times `slope` plus `offset`."""
    return 1 / (1 + np.exp(-(slope * _odds(risk) + offset)))


def fit(risk: Any, harm: Any, steps: int = 50) -> tuple[float, float]:
    """Fit `slope` and `offset` of the log-odds by logistic regression, lightly held to 0 (Newton's steps)."""
    odds = _odds(risk)
    rows = np.stack([odds, np.ones_like(odds)], axis=1)
    weights = np.zeros(2)
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-rows @ weights))
        slope = rows.T @ (chance - harm) + 1e-2 * weights
        bend = (rows * (chance * (1 - chance))[:, None]).T @ rows + 1e-2 * np.eye(2)
        weights -= np.linalg.solve(bend, slope)
    return float(weights[0]), float(weights[1])
