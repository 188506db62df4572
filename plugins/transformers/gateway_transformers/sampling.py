"""How the next token is chosen from a row of logits: one sampler for each answer, repeatable by its seed."""

from __future__ import annotations

import torch

from gateway.plugin import Sampling
from gateway_transformers.errors import RequestRefused

_SEEDS = 2**63


def check(sampling: Sampling) -> None:
    """Refuse values that have no meaning.

    Raises:
        RequestRefused: names the field and its range.
    """
    ranges: tuple[tuple[str, float | None, float, float], ...] = (
        ("max_tokens", sampling.max_tokens, 1, float("inf")),
        ("temperature", sampling.temperature, 0, 100),
        ("top_p", sampling.top_p, 0, 1),
        ("top_k", sampling.top_k, -1, float("inf")),
        ("min_p", sampling.min_p, 0, 1),
        ("presence_penalty", sampling.presence_penalty, -2, 2),
        ("frequency_penalty", sampling.frequency_penalty, -2, 2),
        ("repetition_penalty", sampling.repetition_penalty, 0.01, 100),
        ("n", sampling.n, 1, 128),
    )
    for name, value, low, high in ranges:
        if value is not None and not low <= value <= high:
            raise RequestRefused(f"`{name}` is out of its range; give a value from {low:g} to {high:g}")


class Sampler:
    """Chooses the tokens of one answer.

    Order of the steps: repetition penalty (over prompt and answer, as in CTRL, arXiv 1909.05858), presence and
    frequency penalties (over the answer, as OpenAI defines them), temperature, top-k, top-p, min-p. No temperature, or
    0, takes the likeliest token.
    """

    def __init__(self, sampling: Sampling, choice: int, prompt: list[int], vocabulary: int) -> None:
        self._sampling = sampling
        self._greedy = not sampling.temperature
        self._penal = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self._repeat = sampling.repetition_penalty not in (None, 1.0)
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed((sampling.seed + choice) % _SEEDS)
        self._counts = torch.zeros(vocabulary, dtype=torch.float32) if self._penal else None
        self._seen = torch.zeros(vocabulary, dtype=torch.bool) if self._repeat else None
        if self._seen is not None:
            self._seen[torch.tensor([t for t in prompt if t < vocabulary], dtype=torch.long)] = True

    def pick(self, logits: torch.Tensor) -> int:
        """Choose a token. `logits` has shape `[vocabulary]`."""
        if self._greedy and not self._penal and not self._repeat:
            return int(logits.argmax())
        scores = logits.detach().to("cpu", torch.float32, copy=True)
        self._penalise(scores)
        token = int(scores.argmax()) if self._greedy else self._draw(scores)
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True
        return token

    def _penalise(self, scores: torch.Tensor) -> None:
        asked = self._sampling
        if self._seen is not None and asked.repetition_penalty is not None:
            seen = scores[self._seen]
            scores[self._seen] = torch.where(seen > 0, seen / asked.repetition_penalty, seen * asked.repetition_penalty)
        if self._counts is not None:
            scores -= self._counts * (asked.frequency_penalty or 0.0)
            scores -= (self._counts > 0) * (asked.presence_penalty or 0.0)

    def _draw(self, scores: torch.Tensor) -> int:
        asked = self._sampling
        scores /= asked.temperature or 1.0
        width = asked.top_k if asked.top_k and asked.top_k > 0 else len(scores)
        values, tokens = torch.topk(scores, min(width, len(scores)))  # sorted, likeliest first
        chances = torch.softmax(values, dim=-1)
        if asked.top_p is not None and asked.top_p < 1:
            chances[1:][(chances.cumsum(-1)[:-1] >= asked.top_p)] = 0
        if asked.min_p:
            chances[chances < asked.min_p * chances[0]] = 0
        return int(tokens[torch.multinomial(chances, 1, generator=self._random)])
