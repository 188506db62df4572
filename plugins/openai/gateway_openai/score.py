"""How likely an answer is, read off the likeliest first tokens that a server tells."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
from msgspec import Struct, structs

from gateway.plugin import Prompt, Sampling
from gateway_openai.errors import UpstreamNoLogprobs, UpstreamNonsense
from gateway_openai.wire import Asked

LOOK = 3
"""How many tokens are asked for: some models begin with a line break, and what counts is the first word."""
TOP = 20
"""How many of the likeliest tokens are asked for at each place: the most that OpenAI and vLLM give unless told else."""


ASKED: Asked = {"logprobs": True, "top_logprobs": TOP}
"""The fields that ask for the likeliest tokens."""


def scored(prompt: Prompt) -> Prompt:
    """Give the prompt that asks for the beginning of the likeliest answer alone."""
    sampling = Sampling(max_tokens=LOOK, temperature=0.0)
    return structs.replace(prompt, request=structs.replace(prompt.request, sampling=sampling))


class _Top(Struct, frozen=True, kw_only=True):
    token: str
    logprob: float


class _Place(Struct, frozen=True, kw_only=True):
    token: str
    top_logprobs: tuple[_Top, ...] = ()


class _Logprobs(Struct, frozen=True, kw_only=True):
    content: tuple[_Place, ...] | None = None


class _Choice(Struct, frozen=True, kw_only=True):
    logprobs: _Logprobs | None = None


class _Response(Struct, frozen=True, kw_only=True):
    choices: tuple[_Choice, ...]


_decoder = msgspec.json.Decoder(_Response, strict=True)


def decode_score(body: bytes, answers: tuple[str, ...]) -> tuple[float, ...]:
    """Read, for each of `answers`, the log-probability of the first tokens that begin it, upper and lower case alike.

    A token that begins several answers tells nothing of either. -inf where none of the tokens begins an answer.

    Raises:
        UpstreamNoLogprobs: the server gave no log-probabilities.
        UpstreamNonsense: the body is no chat completion, or a number in it is no log-probability.
    """
    try:
        response = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UpstreamNonsense("the answer is not a chat completion with log-probabilities") from None
    if len(response.choices) != 1:
        raise UpstreamNonsense(f"{len(response.choices)} choices where 1 was asked for")
    told = response.choices[0].logprobs
    place = next((place for place in (told.content if told else None) or () if fold(place.token)), None)
    if place is None or not place.top_logprobs:
        raise UpstreamNoLogprobs("the server gave no log-probabilities of a first word; it has to support top_logprobs")
    folded = tuple(fold(answer) for answer in answers)
    sums = [0.0] * len(answers)
    for top in place.top_logprobs:
        if math.isnan(top.logprob) or top.logprob > 1e-3:  # rounding may pass 0 by a little
            raise UpstreamNonsense("a log-probability is out of its range")
        begun = _begun(fold(top.token), folded)
        if begun is not None:
            sums[begun] += math.exp(min(top.logprob, 0.0))
    return tuple(math.log(min(total, 1.0)) if total > 0 else -math.inf for total in sums)


def fold(text: str) -> str:
    """Fold case and leading space, and the marks that tokenizers write for a space."""
    return text.lstrip(" \t\r\n▁Ġ").casefold()


def _begun(token: str, answers: Iterable[str]) -> int | None:
    """Give the place of the one answer that `token` begins, or that begins `token`; None where it is not one."""
    found = [n for n, answer in enumerate(answers) if token and (answer.startswith(token) or token.startswith(answer))]
    return found[0] if len(found) == 1 else None
