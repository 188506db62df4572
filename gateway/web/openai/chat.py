"""`POST /v1/chat/completions`: who asks, what is asked, the decision, the answer. A stream is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from litestar import post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.records import Caller
from gateway.values import Request
from gateway.web.auth import authenticate
from gateway.web.body import InFlight
from gateway.web.context import read_context
from gateway.wire.chat import PATH, Asked, chat_request
from gateway.wire.decode import Decoder
from gateway.wire.render import answer_of, completion_body, failure_of, stream_body
from gateway.wire.strict import read_object

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.store import Logged


def _respond(logged: Logged, *, include_usage: bool) -> Response[bytes]:
    headers = {
        "x-gateway-decision": logged.id,
        "x-gateway-leaf": logged.leaf,
        "x-gateway-outcome": logged.outcome.word,
        "x-request-id": logged.id,
    }
    failure = failure_of(logged.outcome, logged.id)
    if failure is not None:
        told = msgspec.json.encode(failure.body)
        return Response(told, status_code=failure.status, media_type="application/json", headers=headers)
    answer = answer_of(logged.outcome, logged.id)
    if not logged.outcome.request.stream:
        return Response(completion_body(answer), media_type="application/json", headers=headers)
    body = stream_body(answer, include_usage=include_usage)
    return Response(body, media_type="text/event-stream", headers=headers)


def chat_route(runtime: Runtime, in_flight: InFlight) -> HTTPRouteHandler:
    """Make the route."""
    decoder = Decoder(runtime.settings.image_limits)

    @post(PATH, status_code=200)
    async def chat(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "ask")
        context = read_context(request)
        with in_flight.place() as place, runtime.live.enter(caller.department):
            values, asked = await read(await place.read(request), caller)
            if asked.user is not None:
                context = msgspec.structs.replace(context, user=asked.user)
            logged = await in_flight.finish(runtime.answer(values, caller, PATH, context=context))
            return _respond(logged, include_usage=asked.include_usage)

    async def read(body: bytes, caller: Caller) -> tuple[Request, Asked]:
        """Read a body; a function of its own, so that images are not held as base64 while the model works."""
        return await chat_request(read_object(body), decoder, caller.department, runtime.models(caller.department))

    return chat
