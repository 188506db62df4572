"""`POST /v1/chat/completions`: who asks, what is asked, the decision, the answer, whole or as it may leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from litestar.types import Receive

from gateway.errors import Unavailable
from gateway.pipeline.windowed import Left
from gateway.records import Caller
from gateway.store import Logged, Opened
from gateway.values import Request
from gateway.web.auth import authenticate
from gateway.web.body import InFlight
from gateway.web.context import read_context
from gateway.web.openai.streams import Streamed, Streaming
from gateway.wire.chat import PATH, Asked, chat_request
from gateway.wire.decode import Decoder
from gateway.wire.errors import error_of, known
from gateway.wire.render import answer_of, completion_body, failure_of
from gateway.wire.stream import StreamWriter, failed, stream_body
from gateway.wire.strict import read_object

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.bootstrap.answering import Answering

EVENTS = "text/event-stream"


def _headers(proof: Logged | Opened, decision: str, outcome: str) -> dict[str, str]:
    streamed = proof.outcome.streamed
    headers = {
        "x-gateway-decision": decision,
        "x-gateway-leaf": proof.leaf,
        "x-gateway-outcome": outcome,
        "x-request-id": decision,
    }
    if isinstance(proof, Opened):
        headers["x-gateway-stream"] = "windowed"
    elif proof.outcome.request.stream:
        why = None if streamed is None else streamed.why
        headers["x-gateway-stream"] = "held" if why is None else f"held; {why}"
    return headers


def _respond(logged: Logged, *, include_usage: bool) -> Response[bytes]:
    headers = _headers(logged, logged.id, logged.outcome.word)
    failure = failure_of(logged.outcome, logged.id)
    if failure is not None:
        told, headers = msgspec.json.encode(failure.body), headers | dict(failure.headers)
        return Response(told, status_code=failure.status, media_type="application/json", headers=headers)
    answer = answer_of(logged.outcome, logged.id)
    if not logged.outcome.request.stream:
        return Response(completion_body(answer), media_type="application/json", headers=headers)
    return Response(stream_body(answer, include_usage=include_usage), media_type=EVENTS, headers=headers)


async def _events(answering: Answering, opened: Opened, *, include_usage: bool) -> AsyncGenerator[bytes, None]:
    """Write what leaves, as it does: each piece is audited, and the log has it that the stream is opened."""
    writer = StreamWriter(opened.outcome, opened.decision, include_usage=include_usage)
    try:
        async for item in answering.leaving():
            if isinstance(item, Left):
                yield writer.text(item.choice, item.text)
            else:
                yield writer.end(item.outcome)
    except Unavailable as exc:  # the log can not take the end of it: the status line has left, so the stream tells it
        problem = known(exc)
        yield failed(error_of(exc.message, problem.type, None, problem.code))


async def _watch(receive: Receive, answering: Answering) -> None:
    """Tell once the caller has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.gone.tell()


async def _first(receive: Receive, answering: Answering) -> Opened | Logged:
    watch = asyncio.create_task(_watch(receive, answering))
    try:
        return await answering.first()
    except asyncio.CancelledError:
        answering.gone.tell()
        raise
    finally:
        watch.cancel()  # from here on the response listens


def chat_route(runtime: Runtime, in_flight: InFlight) -> HTTPRouteHandler:
    """Make the route."""
    decoder = Decoder(runtime.settings.image_limits)

    @post(PATH, status_code=200)
    async def chat(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "ask")
        context = read_context(request)
        with contextlib.ExitStack() as held:
            place = held.enter_context(in_flight.place())
            held.enter_context(runtime.live.enter(caller.department))
            values, asked = await read(await place.read(request), caller)
            if asked.user is not None:
                context = msgspec.structs.replace(context, user=asked.user)
            answering = runtime.answering(values, caller, PATH, context=context)
            in_flight.start(answering.run())
            first = await _first(request.receive, answering)
            if not isinstance(first, Opened):
                return _respond(first, include_usage=asked.include_usage)
            later = held.pop_all()  # the place is taken until the stream has ended

            def closed() -> None:
                answering.gone.tell()  # after the end of the answer this changes nothing
                later.close()

            events = _events(answering, first, include_usage=asked.include_usage)
            headers = _headers(first, first.decision, "opened")
            return Streaming(Streamed(events, media_type=EVENTS, headers=headers, closed=closed))

    async def read(body: bytes, caller: Caller) -> tuple[Request, Asked]:
        """Read a body; a function of its own, so that images are not held as base64 while the model works."""
        return await chat_request(read_object(body), decoder, caller.department, runtime.models(caller.department))

    return chat
