"""The parameters of sampling, in the ranges of OpenAI's API and, for those it lacks, of vLLM's."""

from __future__ import annotations

from gateway.values import Sampling
from gateway.wire.fields import Body, bad, flag, integer, items, number

MAX_TOKENS = 32_768
"""The longest answer that may be asked for, in tokens."""

MAX_CHOICES = 8
"""The most answers to one request."""

MAX_ALTERNATIVES = 20
"""The most of the likeliest tokens that are told at the place of each token of an answer."""

_MAX_STOPS = 4
_LONGEST_STOP = 256  # characters

FIELDS = (
    "frequency_penalty",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "min_p",
    "n",
    "presence_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "temperature",
    "top_k",
    "top_logprobs",
    "top_p",
)
"""The fields of the body that `read_sampling` reads."""


def _max_tokens(body: Body) -> int | None:
    old = integer(body, "max_tokens", 1, MAX_TOKENS)
    new = integer(body, "max_completion_tokens", 1, MAX_TOKENS)
    if old is not None and new is not None and old != new:
        bad("max_tokens", "`max_tokens` and `max_completion_tokens` differ; give one of them")
    return new if new is not None else old


def _stop(body: Body) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else items(value, "stop", _MAX_STOPS, "a string or a list of strings")
    for text in given:
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_STOP:
            bad(
                "stop",
                f"`stop` is no text or too long; give strings of 1 to {_LONGEST_STOP} characters",
                "invalid_type",
            )
    return tuple(given)


def _top_k(body: Body) -> int | None:
    value = integer(body, "top_k", -1, 1_000_000)
    return value if value is not None and value > 0 else None  # -1 and 0 are how vLLM's clients switch it off


def _logprobs(body: Body) -> int | None:
    told, others = flag(body, "logprobs"), integer(body, "top_logprobs", 0, MAX_ALTERNATIVES) or 0
    if others and not told:
        bad("top_logprobs", "`top_logprobs` is given without `logprobs: true`; give both or none")
    return others if told else None


def read_sampling(body: Body) -> Sampling:
    """Read how the model is asked to sample. Raises InvalidRequest with the field, its value and its range."""
    return Sampling(
        max_tokens=_max_tokens(body),
        temperature=number(body, "temperature", 0, 2),
        top_p=number(body, "top_p", 0, 1, above=True),
        top_k=_top_k(body),
        min_p=number(body, "min_p", 0, 1),
        presence_penalty=number(body, "presence_penalty", -2, 2),
        frequency_penalty=number(body, "frequency_penalty", -2, 2),
        repetition_penalty=number(body, "repetition_penalty", 0, 2, above=True),
        seed=integer(body, "seed", -(2**63), 2**63 - 1),
        n=integer(body, "n", 1, MAX_CHOICES) or 1,
        stop=_stop(body),
        logprobs=_logprobs(body),
    )
