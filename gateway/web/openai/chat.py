"""`POST /v1/chat/completions`: who asks, what is asked, the decision, the answer. A stream is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from litestar import post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import Unavailable
from gateway.policy.decide import refusal_text
from gateway.policy.decision import Reason, Refuse, Withhold
from gateway.records import Caller
from gateway.values import Request
from gateway.web.auth import authenticate
from gateway.web.body import InFlight
from gateway.web.context import read_context
from gateway.web.ids import new_decision_id
from gateway.web.openai.decode import Decoder
from gateway.web.openai.render import answer_of, completion_body, stream_body
from gateway.web.openai.strict import read_object
from gateway.web.openai.wire import read_chat
from gateway.web.problems import problem

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.store import Logged

PATH = "/v1/chat/completions"


def _model_failed(final: Refuse | Withhold) -> Reason | None:
    return next((reason for reason in final.reasons if reason.code == "model-failed"), None)


def _respond(logged: Logged, *, include_usage: bool) -> Response[bytes]:
    outcome = logged.outcome
    headers = {
        "x-gateway-decision": logged.id,
        "x-gateway-leaf": logged.leaf,
        "x-gateway-outcome": outcome.word,
        "x-request-id": logged.id,
    }
    final = outcome.final
    if isinstance(final, Refuse | Withhold):
        failed = _model_failed(final)
        if failed is not None:
            late = failed.cause == "deadline"
            told = "did not answer within its deadline" if late else "failed"
            message = f"the model {told}, so there is no answer; ask again later (decision {logged.id})"
            status = 504 if late else 502
            return problem(PATH, status, message, type="api_error", code="model_unavailable", headers=headers)
        if outcome.policy.policy.refuse_as == "error":
            message = refusal_text(final, logged.id)
            return problem(PATH, 400, message, code="content_filter", headers=headers)
    answer = answer_of(outcome, logged.id)
    if not outcome.request.stream:
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
        with in_flight.place() as place:
            values, include_usage, user = await read(await place.read(request), caller)
            if user is not None:
                context = msgspec.structs.replace(context, user=user)
            logged = await in_flight.finish(runtime.answer(values, caller, PATH, context=context))
            return _respond(logged, include_usage=include_usage)

    async def read(body: bytes, caller: Caller) -> tuple[Request, bool, str | None]:
        """Read a body; a function of its own, so that images are not held as base64 while the model works."""
        models = runtime.models(caller.department)
        if not models:
            raise Unavailable("the department's backend serves no model; ask the gateway's operator")
        asked = read_chat(read_object(body), id=new_decision_id(), department=caller.department, models=models)
        return asked.request(await decoder.images(asked.links())), asked.include_usage, asked.user

    return chat
