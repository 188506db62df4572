"""`/v1/files`: OpenAI's Files API, for the input and output of batches."""

from __future__ import annotations

import datetime as dt
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

from litestar import delete, get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from litestar.types import ASGIApp

from gateway.errors import InvalidRequest, NotPermitted
from gateway.records import AccessV1, Caller, covers
from gateway.store.batch_shape import StoredFile
from gateway.store.file_writer import FileWriter
from gateway.store.office import reason
from gateway.web.auth import authenticate
from gateway.web.decisions import why_of
from gateway.web.openai.objects import (
    PURPOSE,
    file_object,
    is_file_id,
    json_of,
    limit_of,
    no_file,
    own_department,
    owner_of,
    owns,
    page_object,
    query_of,
    scope_of,
)
from gateway.web.openai.streams import Streamed
from gateway.web.openai.uploads import AROUND, Gate, Upload
from gateway.wire.words import quote

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

MOST = 10_000
"""Files on one page, which is as many as OpenAI gives where nothing is said."""

KEEPERS = ("operator", "admin")
"""The roles that may delete what others of their department have sent."""

_CONTENT = "/v1/files/{id}/content"
_PURPOSE_LONGEST = 32


def file_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""
    settings = runtime.settings
    gate = Gate()

    async def visible(file_id: str, caller: Caller) -> StoredFile:
        file = await runtime.store.files.get(file_id) if is_file_id(file_id) else None
        if file is None or not covers(caller, file.department):
            raise no_file(file_id)
        return file

    @post("/v1/files", status_code=200, request_max_body_size=settings.max_file_bytes + AROUND)
    async def create_file(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "batch")
        department = own_department(caller)

        def begin(name: str, expires: dt.datetime) -> FileWriter:
            return runtime.store.files.create(
                department, owner_of(caller), PURPOSE, name, expires, limit=settings.max_file_bytes
            )

        with gate.place():
            upload = Upload(request, begin, most=settings.max_file_bytes, days=settings.file_days)
            return json_of(file_object(await upload.read()))

    @get("/v1/files")
    async def list_files(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "batch")
        query = query_of(request, ("purpose", "limit", "order", "after"))
        limit, after, purpose = limit_of(query, MOST, MOST), query.get("after"), query.get("purpose")
        if purpose is not None and not 0 < len(purpose) <= _PURPOSE_LONGEST:
            raise InvalidRequest(f"`purpose` is {quote(purpose)}; give one such as `{PURPOSE}`", param="purpose")
        if after is not None:
            await visible(after, caller)
        found = await runtime.store.files.list(
            scope_of(caller), purpose=purpose, after=after, limit=limit + 1, order=_order(query.get("order", "desc"))
        )
        return json_of(page_object([file_object(file) for file in found[:limit]], more=len(found) > limit))

    @get("/v1/files/{file_id:str}")
    async def read_file(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "batch")
        return json_of(file_object(await visible(_id(request), caller)))

    @delete("/v1/files/{file_id:str}", status_code=200)
    async def delete_file(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "batch")
        file = await visible(_id(request), caller)
        if not owns(caller, file) and not set(caller.roles) & set(KEEPERS):
            raise NotPermitted(
                f"the file {quote(file.id)} was sent with another key; its owner deletes it, or a key with the role "
                f"{' or '.join(KEEPERS)}",
                code="insufficient_permissions",
            )
        if not await runtime.store.files.delete(file.id):
            raise no_file(file.id)
        return json_of({"id": file.id, "object": "file", "deleted": True})

    @get("/v1/files/{file_id:str}/content")
    async def read_content(request: HttpRequest[Any, Any, Any]) -> ASGIApp:
        caller = await authenticate(request, runtime, "batch")
        why = reason(why_of(request))
        file = await visible(_id(request), caller)
        if not owns(caller, file):
            raise no_file(file.id)
        if file.purpose != PURPOSE:  # answers leave the gateway; what was sent in goes back to its sender
            await runtime.store.decisions.append_event(
                AccessV1.of(
                    caller=caller,
                    endpoint=_CONTENT,
                    decisions=(),
                    at=dt.datetime.now(dt.UTC),
                    action="download",
                    why=why,
                    filter=f"file={file.id}",
                )
            )
        source = runtime.store.files.read(file.id)
        # The first piece is read before a status is sent: a file that can not be read is an error, and no short answer.
        first = await anext(source, b"")
        return Streamed(
            _pieces(first, source),
            media_type="application/jsonl" if file.filename.endswith(".jsonl") else "application/octet-stream",
            headers={"content-disposition": _disposition(file.filename), "content-length": str(file.bytes)},
        )

    return [create_file, list_files, read_file, delete_file, read_content]


async def _pieces(first: bytes, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for piece in source:
            yield piece
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


def _id(request: HttpRequest[Any, Any, Any]) -> str:
    return str(request.path_params["file_id"])


def _order(text: str) -> Literal["asc", "desc"]:
    match text:
        case "asc" | "desc":
            return text
    raise InvalidRequest(f"`order` is {quote(text)}; give `asc` or `desc`", param="order")


def _disposition(name: str) -> str:
    """Name the file in a header: in ASCII for old clients, and as it is (RFC 6266)."""
    plain = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{urllib.parse.quote(name, safe='')}"
