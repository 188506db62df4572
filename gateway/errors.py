"""The exceptions of the gateway itself.

Decisions are values (`gateway.values`, `gateway.policy`) and a plugin's fault is evidence; only the gateway's own
trouble is an exception::

    GatewayError
    ├── ConfigurationError        the start stops; carries every problem found
    ├── RequestError              the caller's mistake: HTTP 4xx
    │   ├── InvalidRequest        400  malformed body, unknown field, part that can not be read
    │   │   └── InvalidImage      400  an image or DICOM file that is hostile, broken or over a limit
    │   ├── NotAuthenticated      401  key missing, unknown, revoked, expired
    │   ├── NotPermitted          403  the key's roles do not allow this
    │   ├── NotFound              404  unknown model or decision
    │   ├── Conflict              409  someone was first, or it is not in a state for this
    │   ├── TooLarge              413  body over the limit
    │   └── TooMany               429  more in flight than the gateway takes, or than a limit allows
    └── Unavailable               503  the log can not be written, or the gateway is starting or stopping
        ├── LogDamaged            503  a record is not as it was written
        └── FileDamaged           503  a file of a batch is not as it was written

Messages are lowercase without full stop, quote the caller's words in backticks, and say what to do next. They go to the
caller only: process logs get `describe(exc)`, which holds no message, because messages may carry a patient's text.
"""

from __future__ import annotations

import traceback
from typing import ClassVar


class GatewayError(Exception):
    """Root of the gateway's own exceptions."""


class ConfigurationError(GatewayError):
    """Settings, policies or plugins are wrong; the start stops.

    `problems` holds every problem that was found, each one line: where, what, and a hint.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


class RequestError(GatewayError):
    """The caller's mistake. `code` is OpenAI's machine-readable code, `param` the field at fault."""

    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


class InvalidRequest(RequestError):
    """The body is malformed, or holds what the gateway does not take."""


class InvalidImage(InvalidRequest):
    """An image that can not be decoded within the limits."""


class NotAuthenticated(RequestError):
    """No key, an unknown key or a revoked one."""

    status = 401


class NotPermitted(RequestError):
    """The key is good, and its roles do not allow this."""

    status = 403


class NotFound(RequestError):
    """No such model, decision or route."""

    status = 404


class Conflict(RequestError):
    """What was asked is not possible in the state that things are in: someone was first, or it is done."""

    status = 409


class TooLarge(RequestError):
    """The body is over the limit."""

    status = 413


class TooMany(RequestError):
    """More requests than the gateway takes at once, or than a limit allows; `retry_after` is in seconds."""

    status = 429
    type = "rate_limit_error"

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.retry_after = retry_after


class Unavailable(GatewayError):
    """The gateway can not do its duty now: no answer leaves (HTTP 503). `message` goes to the caller."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class LogDamaged(Unavailable):
    """A record of the decision log is not as it was written: it is shown to nobody as if it were."""


class FileDamaged(Unavailable):
    """The bytes of a batch's file are not as they were written, or are gone."""


def describe(exc: BaseException) -> str:
    """Tell an exception for process logs: its type and where it was raised, never its message.

    A message may quote a prompt or an answer, so it must not reach a log. The five innermost frames are given as
    `file:line function`.
    """
    frames = traceback.extract_tb(exc.__traceback__)[-5:]
    where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in reversed(frames))
    return f"{type(exc).__name__} at {where or 'unknown'}"
