"""The log's tree over HTTP: `GET /log/checkpoint`, `GET /log/keys`, and `GET /decisions/{id}/proof`."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import get
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import NotFound, NotPermitted
from gateway.records import AccessV1, BreakGlassV1, DecisionV1, OpenedV1, ReauditV1, ReviewV1, covers
from gateway.web.auth import authenticate
from gateway.wire.ids import is_decision_id
from gateway.wire.words import quote

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.records import Record


def _department(record: Record) -> str:
    if isinstance(record, DecisionV1 | OpenedV1 | ReviewV1 | BreakGlassV1 | ReauditV1):
        return record.department
    return record.caller.department


def log_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""

    @get("/log/checkpoint")
    async def checkpoint(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        await authenticate(request, runtime, "verify")
        found = await runtime.store.tree.checkpoint()
        if found is None:
            raise NotFound("the log has no checkpoint yet; ask again in a moment")
        return Response(found.note.encode(), media_type="text/plain; charset=utf-8")

    @get("/log/keys")
    async def keys(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        await authenticate(request, runtime, "verify")
        return Response(msgspec.json.encode(await runtime.store.tree.keys()), media_type="application/json")

    @get("/decisions/{decision_id:str}/proof")
    async def proof(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        try:
            caller = await authenticate(request, runtime, "verify")
        except NotPermitted:
            caller = await authenticate(request, runtime, "read")
        decision_id = str(request.path_params["decision_id"])
        found = None
        store = runtime.store
        stored = await store.decisions.get(decision_id) if is_decision_id(decision_id) else None
        # Another department's record is told as none at all: its id alone says that somebody was there.
        if stored is not None and covers(caller, _department(stored.record)):
            now = dt.datetime.now(dt.UTC)
            endpoint = "/decisions/{id}/proof"
            access = AccessV1.of(caller=caller, endpoint=endpoint, decisions=(decision_id,), at=now, action="verify")
            await store.decisions.append_event(access)
            await store.sequencer.catch_up()
            found = await store.tree.prove(decision_id)
        if found is None:
            raise NotFound(f"there is no decision {quote(decision_id)} for this key; it has no proof")
        return Response(msgspec.json.encode(found), media_type="application/json")

    return [checkpoint, keys, proof]
