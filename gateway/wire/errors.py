"""Exceptions and failed answers in OpenAI's shape: the status, the type and the code of each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from gateway.errors import (
    ConfigurationError,
    Conflict,
    FileDamaged,
    GatewayError,
    InvalidImage,
    InvalidRequest,
    LogDamaged,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    RequestError,
    TooLarge,
    TooMany,
    Unavailable,
)

RETRY_SECONDS = 1
"""What `Retry-After` says, in seconds."""


class Problem(Struct, frozen=True, kw_only=True):
    """How a kind of exception is answered. `type` and `code` are OpenAI's; `headers` are sent besides."""

    status: int
    type: str = "invalid_request_error"
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


_RETRY = (("retry-after", str(RETRY_SECONDS)),)

PROBLEMS: Mapping[type[GatewayError], Problem] = MappingProxyType(
    {
        GatewayError: Problem(status=500, type="api_error"),
        ConfigurationError: Problem(status=500, type="api_error"),
        RequestError: Problem(status=400),
        InvalidRequest: Problem(status=400),
        InvalidImage: Problem(status=400, code="invalid_image"),
        NotAuthenticated: Problem(status=401, code="invalid_api_key", headers=(("www-authenticate", "Bearer"),)),
        NotPermitted: Problem(status=403, code="insufficient_permissions"),
        NotFound: Problem(status=404, code="not_found"),
        Conflict: Problem(status=409, code="conflict"),
        TooLarge: Problem(status=413, code="request_too_large"),
        TooMany: Problem(status=429, type="rate_limit_error", code="rate_limit_exceeded", headers=_RETRY),
        LogDamaged: Problem(status=503, type="api_error", code="unavailable", headers=_RETRY),
        FileDamaged: Problem(status=503, type="api_error", code="unavailable", headers=_RETRY),
        Unavailable: Problem(status=503, type="api_error", code="unavailable", headers=_RETRY),
    }
)
"""The whole tree of the gateway's exceptions; a test walks it and fails on one that is not here."""


def known(exc: GatewayError) -> Problem:
    """Tell how `exc` is answered, by the nearest of its kinds."""
    return next(PROBLEMS[kind] for kind in type(exc).__mro__ if kind in PROBLEMS)


def error_of(message: str, type_: str, param: str | None, code: str | None) -> dict[str, Any]:
    """Make the body of an error as OpenAI's API gives it."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def refused(exc: RequestError) -> tuple[int, dict[str, Any]]:
    """Give the status and the body that tell a caller their mistake."""
    problem = known(exc)
    return problem.status, error_of(exc.message, problem.type, exc.param, exc.code or problem.code)
