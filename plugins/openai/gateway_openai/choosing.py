"""Which server is asked, whether another try makes sense, and how long to wait before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gateway_openai.errors import (
    UpstreamBusy,
    UpstreamCut,
    UpstreamError,
    UpstreamNonsense,
    UpstreamRefused,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamUnreachable,
)

BASE = 0.2
"""The longest wait before the first try of the same server again, in seconds; each further one is twice as long."""

LONGEST_WAIT = 5.0
"""The longest wait before a try, in seconds: a server that asks for more is not waited for."""

_PASSING = frozenset({502, 503, 504})
"""Statuses of a server that is away for a while."""

Again = Literal["any", "another", "no"]
"""Who may be asked again after a fault: any server, another one, or none."""


def again(fault: UpstreamError) -> Again:
    """Tell who may be asked again, where nothing was produced yet.

    `any`: the fault may pass by itself. `another`: it is this server's, and asking it again would not help, or would
    load it twice. `no`: it is the request's, or every server would end the same.
    """
    match fault:
        case UpstreamUnreachable() | UpstreamBusy():
            return "any"
        case UpstreamRefused():
            return "no"
        case UpstreamStatus(status=status):
            return "any" if status in _PASSING else "another"
        case UpstreamTimeout() | UpstreamCut() | UpstreamNonsense():
            return "another"
    return "no"


def ill(fault: UpstreamError) -> bool:
    """Tell whether a fault says that the server itself is ill, and not busy, set up wrongly, or right to refuse."""
    match fault:
        case UpstreamStatus(status=status):
            return status >= 500
        case UpstreamUnreachable() | UpstreamTimeout() | UpstreamCut() | UpstreamNonsense():
            return True
    return False


def choose(weights: Sequence[float], fit: Sequence[bool], draw: float) -> int | None:
    """Give the place of one of those that are `fit`, each with a chance by its weight; None where none is.

    `draw` is in 0..1, 1 excluded.
    """
    places = [place for place, good in enumerate(fit) if good]
    if not places:
        return None
    left = draw * sum(weights[place] for place in places)
    for place in places:
        left -= weights[place]
        if left < 0:
            return place
    return places[-1]  # where rounding left a rest


def backoff(number: int, draw: float) -> float:
    """Give the seconds to wait before try `number` (0 for the first one after a fault): half fixed, half by chance."""
    return min(BASE * 2.0**number, LONGEST_WAIT) * (0.5 + 0.5 * draw)
