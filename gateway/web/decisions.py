"""`GET /decisions/{id}`: a decision's record, byte for byte as the log holds it. Reading is itself recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import get
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import NotFound
from gateway.records import DecisionV1
from gateway.web.auth import authenticate
from gateway.web.ids import is_decision_id
from gateway.web.words import quote

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime


def decision_route(runtime: Runtime) -> HTTPRouteHandler:
    """Make the route."""

    @get("/decisions/{decision_id:str}")
    async def read_decision(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "read")
        decision_id = str(request.path_params["decision_id"])
        stored = await runtime.read_decision(decision_id, caller) if is_decision_id(decision_id) else None
        record = stored.record if stored is not None else None
        # Another department's decision is told as none at all: its id alone says that somebody was there.
        own = isinstance(record, DecisionV1) and record.department == caller.department
        if stored is None or not (own or "admin" in caller.roles):
            raise NotFound(
                f"there is no decision {quote(decision_id)} for this key; "
                "the `x-gateway-decision` header of an answer names it"
            )
        return Response(stored.bytes, media_type="application/json")

    return read_decision
