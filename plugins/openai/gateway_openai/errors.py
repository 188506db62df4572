"""What can go wrong with a server. The class name is the code that the record keeps; no message holds content."""

from __future__ import annotations


class UpstreamError(Exception):
    """Root of the faults of a server behind this stage."""


class UpstreamUnreachable(UpstreamError):
    """No connection, or it broke before the answer was whole."""


class UpstreamTimeout(UpstreamError):
    """The server took the request and did not answer in time."""


class UpstreamStatus(UpstreamError):
    """The server answered with a status other than 200. `status` holds it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered with status {status}")
        self.status = status


class UpstreamRefused(UpstreamStatus):
    """The server is well and takes no such request: asked again, it would say the same."""

    CODES = frozenset({400, 413, 414, 415, 422})


class UpstreamTooLarge(UpstreamError):
    """The answer is over the size that is taken."""


class UpstreamNoLogprobs(UpstreamError):
    """The server told no log-probabilities where an answer was to be scored."""


class UpstreamNonsense(UpstreamError):
    """The answer is not a chat completion as OpenAI describes it, or not the one that was asked for."""
