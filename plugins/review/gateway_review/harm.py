"""The second look at a question: the probability that it asks for harm, from hashed n-grams and cues of intent."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from array import array
from pathlib import Path

from gateway_review.features import BUCKETS, CUES, SIZE, features, normalise, windows

HOME = Path(__file__).parent / "weights"
CARD = "card.json"
WEIGHTS = "harm.f32"
CUE_VALUE = 0.6
"""Value of a cue in the feature vector; an n-gram's is one over the root of the number of n-grams."""

PRIOR = -0.3
"""Added to the log-odds: training weighs both classes alike, and in a clinic few questions ask for harm."""

UNSUPPORTED = 0.4
"""Highest probability of a question in which no act or manner of harm is named."""

_ACTS = {
    "forge",
    "hide",
    "unseen",
    "unconsented",
    "unlicensed",
    "fraud",
    "coerce",
    "deny",
    "steal",
    "misinform",
    "assault",
}
_NAMES = [name for name, _ in CUES]


class HarmModel:
    """A linear model over `features`; `weights` has `SIZE` numbers, and `bias` is added to the sum."""

    def __init__(self, weights: array[float], bias: float) -> None:
        if len(weights) != SIZE:
            raise ValueError(
                f"the harm weights hold {len(weights)} numbers and not {SIZE}: install gateway-review again"
            )
        self._weights = weights
        self._bias = bias

    def probability(self, question: str, limit: int = 200_000) -> float:
        """Give the probability in 0..1 that `question` asks for harm: the worst of its windows. Linear.

        Without an act or manner of harm, or a wish to hurt, it is at most `UNSUPPORTED`: words of the trade alone do
        not make a question harmful. Beyond `limit` characters the text is not read.
        """
        return max(map(self._window, windows(normalise(question[:limit]))))

    def _window(self, text: str) -> float:
        grams, cues = features(text)
        weights = self._weights
        total = sum(weights[i] for i in grams) / math.sqrt(len(grams) + 1)
        total += CUE_VALUE * sum(weights[i] for i in cues) + self._bias + PRIOR
        probability = 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, total))))
        named = {_NAMES[(i - BUCKETS) // 3] for i in cues}
        supported = bool(named & _ACTS) or ("hurt" in named and bool(named & {"how", "make", "i-want"}))
        return probability if supported else min(probability, UNSUPPORTED)


def load(folder: Path = HOME) -> HarmModel:
    """Read the weights in `folder`; ValueError with a hint where they are not the ones that the card names."""
    card = json.loads((folder / CARD).read_text())
    data = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise ValueError(f"`{WEIGHTS}` is not the file that `{CARD}` names: install gateway-review again")
    weights = array("f")
    weights.frombytes(data)
    if sys.byteorder == "big":
        weights.byteswap()
    return HarmModel(weights, float(card["bias"]))
