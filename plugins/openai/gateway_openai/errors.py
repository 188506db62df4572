"""What can go wrong with a server. The class name is the code that the record keeps; no message holds content.

The end of a name tells what a caller hears: ``Busy`` to come back later, ``Timeout`` that the model was late,
``TooLong`` and ``Refused`` that the request has to change, everything else that the model is away.
"""

from __future__ import annotations


class UpstreamError(Exception):
    """Root of the faults of a server behind this stage."""


class UpstreamUnreachable(UpstreamError):
    """No connection, or it broke before anything was produced; or every server is left alone after many faults."""


class UpstreamTimeout(UpstreamError):
    """The server took the request and did not answer in time."""


class UpstreamCut(UpstreamError):
    """The answer broke off in the middle: a part was produced, or the server says that it gave up."""


class UpstreamStatus(UpstreamError):
    """The server answered with a status other than 200, or named one in its stream. `status` holds it.

    `retry_after` is how many seconds the server asks to wait, None where it does not say.
    """

    def __init__(self, status: int, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message or f"the server answered with status {status}")
        self.status = status
        self.retry_after = retry_after


class UpstreamBusy(UpstreamStatus):
    """Too many requests at once, for the server (status 429) or for this stage's own bound."""

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(429, message, retry_after=retry_after)


class UpstreamRefused(UpstreamStatus):
    """The server is well and takes no such request: asked again, it would say the same."""

    CODES = frozenset({400, 413, 414, 415, 422})


class UpstreamTooLong(UpstreamRefused):
    """The prompt, with the answer that was asked for, is longer than the model's context."""


class UnsupportedRefused(UpstreamError):
    """The request needs what a server of this dialect would pass over in silence. Nothing was sent."""


class UpstreamTooLarge(UpstreamError):
    """The answer is over the size that is taken."""


class UpstreamNoLogprobs(UpstreamError):
    """The server told no log-probabilities where an answer was to be scored."""


class UpstreamNonsense(UpstreamError):
    """The answer is not a chat completion as OpenAI describes it, or not the one that was asked for."""
