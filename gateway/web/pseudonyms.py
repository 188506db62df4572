"""`POST /pseudonyms`: the pseudonym of a patient's, study's or user's number, to search by. It is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from msgspec import Meta, Struct

from gateway.records import Pseudonymised
from gateway.records.events import REASON_LONGEST
from gateway.store.lookup import look_up
from gateway.web.auth import authenticate
from gateway.web.small import read_small, small_bodies

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

PATH = "/pseudonyms"


class Wanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose number it is, the number, and why it is looked up."""

    of: Pseudonymised
    number: str
    why: Annotated[str, Meta(max_length=REASON_LONGEST)] | None = None


def pseudonyms_route(runtime: Runtime) -> HTTPRouteHandler:
    """Make the route. The number comes in a body, because addresses stand in the logs of proxies."""
    bodies = small_bodies(runtime.settings.in_flight)

    @post(PATH, status_code=200)
    async def pseudonym(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "search")
        wanted: Wanted = await read_small(request, bodies, Wanted)
        log = runtime.store.decisions
        found = await look_up(log, wanted.of, wanted.number, caller=caller, endpoint=PATH, why=wanted.why)
        return Response(msgspec.json.encode({"of": wanted.of, "pseudonym": found}), media_type="application/json")

    return pseudonym
