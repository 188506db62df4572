"""`POST /v1/moderations`: the pre-screen alone, of text and images; logged as decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.values import Request
from gateway.web.auth import authenticate, spend
from gateway.web.body import InFlight
from gateway.web.context import read_context
from gateway.wire.decode import Decoder
from gateway.wire.moderation import PATH, moderation_body, moderation_requests
from gateway.wire.strict import read_object

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.records import Caller


def moderations_route(runtime: Runtime, in_flight: InFlight) -> HTTPRouteHandler:
    """Make the route."""
    decoder = Decoder(runtime.settings.image_limits)

    async def read(body: bytes, caller: Caller) -> tuple[Request, ...]:
        """Read a body; a function of its own, so that images are not held as base64 while they are judged."""
        return await moderation_requests(read_object(body), decoder, caller.department)

    @post(PATH, status_code=200)
    async def moderate(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "ask")
        context = read_context(request)
        with in_flight.place() as place, runtime.live.enter(caller.department):
            requests = await read(await place.read(request), caller)
            await spend(request, runtime, caller, len(requests) - 1, asks=True)
            logged = await in_flight.finish(runtime.moderate(requests, caller, PATH, context=context))
        headers = {
            "x-gateway-decision": ",".join(each.id for each in logged[:16]),
            "x-gateway-leaf": ",".join(each.leaf for each in logged[:16]),
            "x-request-id": logged[0].id,
        }
        body = moderation_body([(each.outcome, each.id) for each in logged])
        return Response(body, media_type="application/json", headers=headers)

    return moderate
