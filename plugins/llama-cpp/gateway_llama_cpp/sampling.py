"""How the next token is chosen from a row of logits: one sampler for each answer, repeatable by its seed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gateway.plugin import Sampling
from gateway_llama_cpp.errors import RequestRefused

Logits = NDArray[np.float32]

_RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, float("inf")),
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (-1, float("inf")),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0.01, 100),
    "n": (1, 128),
    "logprobs": (0, 20),
}


def check(sampling: Sampling) -> None:
    """Refuse values that have no meaning.

    Raises:
        RequestRefused: names the field and its range.
    """
    for name, (low, high) in _RANGES.items():
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:
            raise RequestRefused(f"`{name}` is out of its range; give a value from {low:g} to {high:g}")


def told(logits: Logits) -> NDArray[np.float64]:
    """Give the natural logarithm of the model's own probability of every token."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    return wide


def likeliest(values: NDArray[np.float64], count: int) -> list[int]:
    """Give the places of the `count` highest of `values`, the highest first."""
    some = np.argpartition(-values, min(count, len(values) - 1))[:count] if count else np.empty(0, np.intp)
    return [int(place) for place in some[np.argsort(-values[some], kind="stable")]]


class Sampler:
    """Chooses the tokens of one answer.

    Order of the steps: repetition penalty (over prompt and answer, as in CTRL, arXiv 1909.05858), presence and
    frequency penalties (over the answer, as OpenAI defines them), temperature, top-k, top-p, min-p. No temperature, or
    0, takes the likeliest token.
    """

    def __init__(self, sampling: Sampling, choice: int, prompt: Iterable[int]) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(
            None if sampling.seed is None else (sampling.seed % 2**64, choice)  # a choice has its own numbers
        )
        self._seen = set(prompt)
        self._counts: dict[int, int] = {}

    def pick(self, logits: Logits) -> int:
        """Choose a token. `logits` has shape `[words]` and is left as it is."""
        scores = self._penalised(logits)
        token = self._draw(scores) if self._sampling.temperature else int(scores.argmax())
        self._seen.add(token)
        self._counts[token] = self._counts.get(token, 0) + 1
        return token

    def _penalised(self, logits: Logits) -> Logits:
        asked = self._sampling
        factor = asked.repetition_penalty or 1.0
        minus, each = asked.presence_penalty or 0.0, asked.frequency_penalty or 0.0
        if factor == 1.0 and not minus and not each:
            return logits
        scores = logits.copy()
        if factor != 1.0:
            seen = np.fromiter(self._seen, np.intp)
            scores[seen] = np.where(scores[seen] > 0, scores[seen] / factor, scores[seen] * factor)
        for token, count in self._counts.items():
            scores[token] -= minus + each * count
        return scores

    def _draw(self, scores: Logits) -> int:
        asked = self._sampling
        wide = scores.astype(np.float64) / (asked.temperature or 1.0)
        width = min(asked.top_k, len(wide)) if asked.top_k and asked.top_k > 0 else len(wide)
        tokens = np.argpartition(-wide, width - 1)[:width] if width < len(wide) else np.arange(len(wide))
        tokens = tokens[np.argsort(-wide[tokens], kind="stable")]
        chances = np.exp(wide[tokens] - wide[tokens[0]])
        chances /= chances.sum()
        if asked.top_p is not None and asked.top_p < 1:
            chances[1:][np.cumsum(chances)[:-1] >= asked.top_p] = 0
        if asked.min_p:
            chances[chances < asked.min_p * chances[0]] = 0
        steps = np.cumsum(chances)
        place = int(np.searchsorted(steps, self._random.random() * steps[-1], side="right"))
        return int(tokens[min(place, int(np.flatnonzero(chances)[-1]))])
