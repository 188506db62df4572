"""The detector: a small network over the signs, tried on sources held out, and given a cut and a slope."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway_perturbation.detector import sums
from gateway_perturbation.loading import Rules
from gateway_perturbation.training.making import Table

HIDDEN = 12
MEMBERS = 5
"""Networks whose sums are averaged; together they are one wider network."""
DECAY = 10.0
CLEAN = 0.01
"""Share of clean samples, of pictures not trained on, that may reach the cut; half of what is promised."""
Arrays = dict[str, NDArray[np.float64]]


def fit(table: Table, chosen: NDArray[np.int64], seed: int) -> Arrays:
    """Fit on the chosen samples of role ``clean`` and ``attack``; see `weigh`."""
    from sklearn.neural_network import MLPClassifier

    signs, truth = table.signs[chosen], table.role[chosen] == "attack"
    weights = weigh(table, chosen)
    centre = np.average(signs, axis=0, weights=weights)
    spread = np.sqrt(np.average((signs - centre) ** 2, axis=0, weights=weights)) + 1e-3
    scaled = np.clip((signs - centre) / spread, -6, 6)
    first, first_bias, second, second_bias = [], [], [], []
    for member in range(MEMBERS):
        model = MLPClassifier(
            (HIDDEN,), activation="tanh", solver="lbfgs", alpha=DECAY, max_iter=2000, random_state=seed + member
        ).fit(scaled, truth, sample_weight=weights)
        first.append(model.coefs_[0])
        first_bias.append(model.intercepts_[0])
        second.append(model.coefs_[1][:, 0] / MEMBERS)
        second_bias.append(model.intercepts_[1][0] / MEMBERS)
    return {
        "centre": centre,
        "spread": spread,
        "first": np.concatenate(first, 1),
        "first_bias": np.concatenate(first_bias),
        "second": np.concatenate(second),
        "second_bias": np.asarray(sum(second_bias)),
    }


def weigh(table: Table, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give each chosen sample a weight: both roles alike in sum, sources within them by the root of their size."""
    role, source = table.role[chosen], table.source[chosen]
    weights = np.zeros(len(chosen))
    for part in ("clean", "attack"):
        of_part = role == part
        for name in set(source[of_part].tolist()):
            held = of_part & (source == name)
            weights[held] = 1 / np.sqrt(held.sum())
        weights[of_part] /= weights[of_part].sum()
    scaled: NDArray[np.float64] = weights * len(chosen) / weights.sum()
    return scaled


def out_of_fold(table: Table, seed: int) -> NDArray[np.float64]:
    """Leave each source out in turn and give its sums: (samples,)."""
    from tqdm import tqdm

    found = np.full(len(table.signs), np.nan)
    usable = table.role != "other"
    for source in tqdm(sorted(set(table.source.tolist())), desc="leaving out", unit="source"):
        held = table.source == source
        found[held] = sums(table.signs[held], fit(table, np.flatnonzero(~held & usable), seed))
    return found


def rules(table: Table, found: NDArray[np.float64], judged: NDArray[np.bool_]) -> Rules:
    """Choose the cut that `CLEAN` of the judged clean samples reach, and the slope by Platt's scaling."""
    from sklearn.linear_model import LogisticRegression

    clean, attack = judged & (table.role == "clean"), judged & (table.role == "attack")
    cut = float(np.quantile(found[clean], 1 - CLEAN, method="higher"))
    both = clean | attack
    model = LogisticRegression(class_weight="balanced").fit(found[both][:, None], table.role[both] == "attack")
    return Rules(cut=cut, slope=float(max(model.coef_[0, 0], 0.1)))
