"""Every exception under /console as a page, with the words and the status that the API would give."""

from __future__ import annotations

import http
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as percent

from litestar.connection import Request as HttpRequest
from litestar.exceptions import HTTPException
from litestar.response import Response

from gateway.errors import GatewayError, NotAuthenticated, RequestError, Unavailable, describe
from gateway.web.console.templating import page, see_other
from gateway.wire.errors import PROBLEMS

if TYPE_CHECKING:
    from gateway.store.sessions import Session

_log = logging.getLogger("gateway.web")
_FAILED = "the gateway failed on this request; ask its operator to look into its log"
_HTTP = {
    404: "there is no such page",
    405: "this page can not be asked for in that way; open it by its link",
    413: "the form is too large; write less",
}


def _told(exc: Exception) -> tuple[int, str]:
    """Give the status and what may be told; other messages may quote a prompt, and are not told."""
    if isinstance(exc, HTTPException):
        if exc.status_code >= 500:
            _log.error("unexpected: %s", describe(exc))
            return exc.status_code, _FAILED
        return exc.status_code, _HTTP.get(exc.status_code, "the request is malformed; load the page again")
    if not isinstance(exc, GatewayError):
        _log.error("unexpected: %s", describe(exc))
        return 500, _FAILED
    status = next(PROBLEMS[kind].status for kind in type(exc).__mro__ if kind in PROBLEMS)
    if isinstance(exc, RequestError):
        return status, exc.message
    if isinstance(exc, Unavailable):
        _log.warning("unavailable: %s", describe(exc))
        return status, exc.message
    _log.error("unexpected: %s", describe(exc))
    return status, _FAILED


def answer_error(request: HttpRequest[Any, Any, Any], exc: Exception) -> Response[Any]:
    """Answer an exception of a page: whoever is not signed in is sent to sign in, and comes back."""
    if isinstance(exc, NotAuthenticated):
        return _to_sign_in(request)
    status, message = _told(exc)
    session: Session | None = request.state.get("session")
    return page("error", session, status, title=http.HTTPStatus(status).phrase, message=message, code=status)


def _to_sign_in(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
    path = "/console/sign-in"
    if request.method == "GET":
        query = request.url.query
        back = request.url.path + (f"?{query}" if query else "")
        if "hx-request" not in request.headers:
            path += f"?next={percent(back, safe='/')}"
    if "hx-request" in request.headers:  # a redirect would be followed out of sight, and its page swapped into this one
        return Response(b"", status_code=204, headers={"hx-redirect": path})
    return see_other(path)
