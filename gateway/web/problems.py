"""Every exception as an HTTP answer: OpenAI's error shape under ``/v1``, RFC 9457 elsewhere.

What is not told to the caller in a `RequestError` or an `Unavailable` is not told at all: other messages may quote a
prompt. Process logs get `gateway.errors.describe`, which has no message.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar.connection import Request as HttpRequest
from litestar.exceptions import HTTPException
from litestar.response import Response

from gateway.errors import GatewayError, RequestError, TooMany, Unavailable, describe
from gateway.wire.errors import error_of, known
from gateway.wire.words import quote

_log = logging.getLogger("gateway.web")

_FAILED = "the gateway failed on this request and gave no answer; ask its operator to look into its log"


def is_openai(path: str) -> bool:
    """Tell whether errors of `path` have OpenAI's shape."""
    return path == "/v1" or path.startswith("/v1/")


def problem(
    path: str,
    status: int,
    message: str,
    *,
    type: str = "invalid_request_error",  # noqa: A002 - OpenAI's word
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response[bytes]:
    """Make the answer that tells `message` to the caller of `path`."""
    if is_openai(path):
        body: dict[str, Any] = error_of(message, type, param, code)
        media = "application/json"
    else:
        body = {"type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status, "detail": message}
        if code is not None:
            body["code"] = code
        media = "application/problem+json"
    return Response(msgspec.json.encode(body), status_code=status, media_type=media, headers=dict(headers or {}))


def _http(request: HttpRequest[Any, Any, Any], exc: HTTPException) -> Response[bytes]:
    """Tell what Litestar found wrong. Its details may quote the request, so they are not repeated."""
    path, status = request.scope["path"], exc.status_code
    place = quote(f"{request.scope['method']} {path}")
    match status:
        case 404:
            message = (
                f"there is no {place}; the gateway serves POST /v1/chat/completions, POST /v1/moderations, "
                "GET /v1/models, /v1/files, /v1/batches, GET /decisions/ID"
            )
        case 405:
            message = f"{place} is not a method of this path; the `Allow` header names those that are"
        case 413:
            message = "the body is too large; send fewer or smaller images"
        case _ if status < 500:
            message = f"{place} is malformed; check its address, headers and body"
        case _:
            message = _FAILED
    code = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}.get(status)
    headers = {name: value for name, value in (exc.headers or {}).items() if name.lower() in ("allow", "retry-after")}
    type_ = "invalid_request_error" if status < 500 else "api_error"
    return problem(path, status, message, type=type_, code=code, headers=headers)


def answer_exception(request: HttpRequest[Any, Any, Any], exc: Exception) -> Response[bytes]:
    """Answer any exception; the one handler of the application."""
    path = request.scope["path"]
    if isinstance(exc, HTTPException):
        if exc.status_code >= 500:
            _log.error("unexpected: %s", describe(exc))
        return _http(request, exc)
    if not isinstance(exc, GatewayError):
        _log.error("unexpected: %s", describe(exc))
        return problem(path, 500, _FAILED, type="api_error", code="internal_error")
    found = known(exc)
    message, code, param = _FAILED, found.code, None
    if isinstance(exc, RequestError):
        message, code, param = exc.message, exc.code or found.code, exc.param
    elif isinstance(exc, Unavailable):
        message = exc.message
        _log.warning("unavailable: %s", describe(exc))
    else:
        _log.error("unexpected: %s", describe(exc))
    headers = dict(found.headers)
    if isinstance(exc, TooMany) and exc.retry_after is not None:
        headers["retry-after"] = str(exc.retry_after)
    return problem(path, found.status, message, type=found.type, param=param, code=code, headers=headers)
