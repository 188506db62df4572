"""`/v1/batches`: OpenAI's Batch API; pausing, resuming and the stream of events are the gateway's own.

A call counts as one request of its key. The lines of a batch are no requests of a key: the section `batch` of the
department's policy bounds how many are worked on at once and how many a minute.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.errors import InvalidRequest, NotPermitted, TooLarge
from gateway.records import Caller, Context
from gateway.store.batch_shape import Batch, Kind
from gateway.web.auth import authenticate
from gateway.web.context import read_context
from gateway.web.openai.events import Streams, stopping_of
from gateway.web.openai.objects import (
    PURPOSE,
    batch_object,
    expiry,
    is_batch_id,
    is_file_id,
    json_of,
    limit_of,
    no_batch,
    no_file,
    own_department,
    owner_of,
    owns,
    page_object,
    query_of,
    scope_of,
    sees,
)
from gateway.web.openai.progress import Progress
from gateway.web.small import LARGEST, small_bodies
from gateway.wire.chat import PATH as CHAT
from gateway.wire.fields import Body, bad, integer, known, members, string
from gateway.wire.moderation import PATH as MODERATIONS
from gateway.wire.strict import read_object
from gateway.wire.words import kind, quote

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

ENDPOINTS: dict[str, Kind] = {CHAT: "answer", MODERATIONS: "screen"}
"""What a line may ask for, and what is done with it."""

WINDOWS = {"24h": 86400}
"""The times in which a batch may be asked to be done, in seconds."""

URGENT = ("operator", "admin")
"""The roles that may send a batch ahead of others of their department."""

MOST = 100
"""Batches on one page."""

_DEFAULT = 20
_PRIORITY = 10
_PAIRS, _KEY_LONGEST, _VALUE_LONGEST = 16, 64, 512
_IDEMPOTENCY = "idempotency-key"
_IDEMPOTENCY_LONGEST = 200
_FIELDS = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after", "priority")

EXPIRES = "output_expires_seconds"
"""The option of a batch that says how many seconds its output files are kept."""


class Wanted(Struct, frozen=True, kw_only=True):
    """A batch as it was asked for."""

    input_file: str
    endpoint: str
    window: str
    metadata: dict[str, str] | None
    priority: int
    keep: int | None


def batch_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""
    bodies = small_bodies(runtime.settings.in_flight)
    progress = Progress(runtime)

    async def visible(batch_id: str, caller: Caller) -> Batch:
        batch = await runtime.store.batches.get(batch_id) if is_batch_id(batch_id) else None
        if batch is None or not sees(caller, batch):
            raise no_batch(batch_id)
        return batch

    async def told(batch: Batch) -> dict[str, Any]:
        seen = await progress.of(batch)
        return batch_object(seen.batch, seen.counts, seen.pace)

    async def change(
        request: HttpRequest[Any, Any, Any], step: Callable[[str, Caller], Awaitable[Batch]]
    ) -> Response[bytes]:
        caller = await authenticate(request, runtime, "batch")
        batch = await visible(_id(request), caller)
        changed = await step(batch.id, caller)
        await runtime.wake()
        return json_of(await told(changed))

    @post("/v1/batches", status_code=200)
    async def create_batch(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "batch")
        department = own_department(caller)
        said, key = _said(request), _idempotency(request)
        with bodies.place() as place:
            try:
                body = await place.read(request)
            except TooLarge:
                raise TooLarge(f"the body is over {LARGEST} bytes; send less", code="request_too_large") from None
        wanted = _wanted(read_object(body))
        if wanted.priority > 0 and not set(caller.roles) & set(URGENT):
            raise NotPermitted(
                f"a `priority` above 0 needs a key with the role {' or '.join(URGENT)}; leave it out",
                code="insufficient_permissions",
                param="priority",
            )
        runtime.models(department)  # raises where no policy covers the department: no line could be decided
        file = await runtime.store.files.get(wanted.input_file) if is_file_id(wanted.input_file) else None
        if file is None or not owns(caller, file) or file.department != department:
            raise no_file(wanted.input_file, "input_file_id")
        if file.purpose != PURPOSE:
            bad("input_file_id", f"the file was not sent with the purpose `{PURPOSE}`; send its lines as such a file")
        batch = await runtime.store.batches.create(
            kind=ENDPOINTS[wanted.endpoint],
            caller=caller,
            owner=owner_of(caller),
            department=department,
            said=said,
            endpoint=wanted.endpoint,
            input_file=file.id,
            completion_window=wanted.window,
            metadata=wanted.metadata,
            priority=wanted.priority,
            options={} if wanted.keep is None else {EXPIRES: wanted.keep},
            idempotency_key=key,
            window_seconds=WINDOWS[wanted.window],
        )
        await runtime.wake()
        return json_of(await told(batch))

    @get("/v1/batches")
    async def list_batches(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "batch")
        query = query_of(request, ("limit", "after"))
        limit, after = limit_of(query, MOST, _DEFAULT), query.get("after")
        if after is not None:
            await visible(after, caller)
        rows: list[Batch] = []
        while len(rows) <= limit:  # more than once only where re-audits stand between, which not everybody sees
            found = await runtime.store.batches.list(scope_of(caller), after=after, limit=limit + 1)
            rows += [batch for batch in found if sees(caller, batch)]
            if len(found) <= limit:
                break
            after = found[-1].id
        return json_of(page_object([await told(row) for row in rows[:limit]], more=len(rows) > limit))

    @get("/v1/batches/{batch_id:str}")
    async def read_batch(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "batch")
        return json_of(await told(await visible(_id(request), caller)))

    @post("/v1/batches/{batch_id:str}/cancel", status_code=200)
    async def cancel_batch(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        return await change(request, lambda *of: runtime.store.batches.cancel(*of))

    @post("/v1/batches/{batch_id:str}/pause", status_code=200)
    async def pause_batch(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        return await change(request, lambda *of: runtime.store.batches.pause(*of))

    @post("/v1/batches/{batch_id:str}/resume", status_code=200)
    async def resume_batch(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        return await change(request, lambda *of: runtime.store.batches.resume(*of))

    streams = Streams(progress)

    @get("/v1/batches/{batch_id:str}/events")
    async def watch_batch(request: HttpRequest[Any, Any, Any]) -> ASGIApp:
        caller = await authenticate(request, runtime, "batch")
        batch = await visible(_id(request), caller)
        return streams.answer(batch.id, stopping_of(request.app.state))

    return [
        create_batch,
        list_batches,
        read_batch,
        cancel_batch,
        pause_batch,
        resume_batch,
        watch_batch,
    ]


def _id(request: HttpRequest[Any, Any, Any]) -> str:
    return str(request.path_params["batch_id"])


def _said(request: HttpRequest[Any, Any, Any]) -> Context:
    """Read what is said of all lines. A patient or a study is one line's own."""
    said = read_context(request)
    for field in ("patient", "study"):
        if getattr(said, field) is not None:
            name = f"x-gateway-{field}"
            bad(
                name,
                f"`{name}` would be said of every line of the batch; give `{field}` in each line's own `context`",
                "invalid_header",
            )
    return said


def _idempotency(request: HttpRequest[Any, Any, Any]) -> str | None:
    given = request.headers.getall(_IDEMPOTENCY, [])
    if not given:
        return None
    key = given[0].strip()
    if len(given) > 1 or not 1 <= len(key) <= _IDEMPOTENCY_LONGEST or not key.isascii() or not key.isprintable():
        raise InvalidRequest(
            f"`Idempotency-Key`: give one header of 1 to {_IDEMPOTENCY_LONGEST} printable ASCII characters",
            param=_IDEMPOTENCY,
            code="invalid_header",
        )
    return key


def _wanted(body: Body) -> Wanted:
    known(body, _FIELDS, "")
    listed = " or ".join(f"`{path}`" for path in ENDPOINTS)
    expires = body.get("output_expires_after")
    return Wanted(
        input_file=string(_given(body, "input_file_id", "the id of a file"), "input_file_id", "the id of a file"),
        endpoint=_one_of(body, "endpoint", ENDPOINTS, listed),
        window=_one_of(body, "completion_window", WINDOWS, " or ".join(f"`{window}`" for window in WINDOWS)),
        metadata=_metadata(body.get("metadata")),
        priority=integer(body, "priority", -_PRIORITY, _PRIORITY) or 0,
        keep=None if expires is None else expiry(expires, "output_expires_after"),
    )


def _given(body: Body, name: str, wanted: str) -> object:
    if body.get(name) is None:
        bad(name, f"`{name}` is missing; give {wanted}", "missing_parameter")
    return body[name]


def _one_of(body: Body, name: str, allowed: dict[str, Any], listed: str) -> str:
    value = string(_given(body, name, listed), name, listed)
    if value not in allowed:
        bad(name, f"`{name}` is {quote(value)}; give {listed}", "invalid_value")
    return value


def _metadata(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    found = dict(members(value, "metadata", "an object of strings"))
    if len(found) > _PAIRS:
        bad("metadata", f"`metadata` has {len(found)} pairs; give at most {_PAIRS}", "too_many_items")
    for name, text in found.items():
        place = f"metadata.{name[:_KEY_LONGEST]}"
        if not 1 <= len(name) <= _KEY_LONGEST or "\0" in name:
            bad("metadata", f"`metadata` has the key {quote(name)}; a key has 1 to {_KEY_LONGEST} characters")
        if not isinstance(text, str):
            bad(place, f"{quote(name)} in `metadata` is {kind(text)}; give a string", "invalid_type")
        if len(text) > _VALUE_LONGEST or "\0" in text:
            bad(place, f"{quote(name)} in `metadata` is too long; a value has at most {_VALUE_LONGEST} characters")
    return found
