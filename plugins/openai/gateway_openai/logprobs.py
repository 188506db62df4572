"""The log-probabilities of an answer's tokens, taken where the tokens spell the text."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from gateway.plugin import TokenLogprob

_ROUNDING = 1e-3  # a logarithm of a probability may pass 0 by so much


class _Top(Struct, frozen=True, kw_only=True):
    token: str
    logprob: float


class _Place(Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    top_logprobs: tuple[_Top, ...] | None = None


class _Logprobs(Struct, frozen=True, kw_only=True):
    content: tuple[_Place, ...] | None = None


_decoder = msgspec.json.Decoder(_Logprobs | None, strict=True)


def read_logprobs(told: msgspec.Raw, text: str, top: int) -> tuple[TokenLogprob, ...] | None:
    """Give the log-probabilities where the tokens spell `text`, which is what is audited; else None.

    A last token beyond the text, the mark of its end, is left out. `top` is how many of the likeliest tokens were asked
    for at each place.
    """
    try:
        logprobs = _decoder.decode(told)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # tokens that can not be read are no reason to lose an answer
    places = (logprobs.content if logprobs else None) or ()
    if places and "".join(place.token for place in places[:-1]) == text:
        places = places[:-1]
    if not places or "".join(place.token for place in places) != text:
        return None
    if any(pair.logprob > _ROUNDING for place in places for pair in (place, *(place.top_logprobs or ()))):
        return None
    return tuple(
        TokenLogprob(
            token=place.token,
            logprob=min(place.logprob, 0.0),
            top=tuple((pair.token, min(pair.logprob, 0.0)) for pair in (place.top_logprobs or ())[:top]),
        )
        for place in places
    )
