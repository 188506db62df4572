"""`POST /exports`: take the records that meet a filter away, as a zip file that verifies without the gateway."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

from litestar import post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from msgspec import Meta, Struct

from gateway.errors import InvalidRequest, TooMany, Unavailable
from gateway.records import Caller
from gateway.stages import in_thread
from gateway.store.exports import Made, Wanted, wanted
from gateway.store.filters import parse_filter
from gateway.web.auth import authenticate
from gateway.web.small import read_small, small_bodies

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

MOST = 250_000
"""Records of one export by HTTP: more would keep the caller waiting. The command line takes any number."""

AT_ONCE = 2
"""How many exports are made at once: each fills a disk and keeps a core busy."""

_PIECE = 256 * 1024  # bytes
_Words = Annotated[str, Meta(max_length=1000)]


class ExportBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be exported: a filter as fields and their values, one or several of each; and why."""

    why: _Words
    filter: dict[str, _Words | Annotated[list[_Words], Meta(max_length=100)]] = {}
    formats: Annotated[list[_Words], Meta(max_length=16)] = []
    redaction: _Words = "full"


def _asked(body: ExportBody) -> Wanted:
    pairs = [
        (name, one) for name, value in body.filter.items() for one in ([value] if isinstance(value, str) else value)
    ]
    if any(not value for value in body.filter.values()):
        raise InvalidRequest("`filter`: expected a value for each field; leave a field without one out", param="filter")
    return wanted(parse_filter(pairs), body.formats, body.redaction, body.why)


async def make_zip(runtime: Runtime, what: Wanted, caller: Caller, endpoint: str) -> tuple[Made, IO[bytes], int]:
    """Make an export, and give it as an open file of that many bytes that has no name any more: it ends when closed."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="gateway-export-"))
    except OSError:
        raise Unavailable("there is no room for an export; ask the gateway's operator to look at its disk") from None
    try:
        made = await runtime.store.exports.make(folder / "export.zip", what, caller, endpoint, most=MOST)
        size = made.path.stat().st_size
        return made, made.path.open("rb"), size
    except Unavailable as exc:
        # The place on this machine's disk is none of the caller's business.
        raise type(exc)(exc.message.replace(str(folder), "").replace("`/export.zip`", "the gateway's disk")) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    """Give the file piece by piece, and close it."""
    with file:
        while piece := await in_thread(lambda: file.read(_PIECE)):
            yield piece


def export_route(runtime: Runtime) -> HTTPRouteHandler:
    """Make the route."""
    bodies = small_bodies(runtime.settings.in_flight)
    busy = asyncio.Semaphore(AT_ONCE)

    @post("/exports", status_code=200)
    async def export(request: HttpRequest[Any, Any, Any]) -> Stream:
        caller = await authenticate(request, runtime, "export")
        what = _asked(await read_small(request, bodies, ExportBody))
        if busy.locked():
            raise TooMany("the gateway makes as many exports as it takes at once; ask again in a moment")
        async with busy:
            made, file, size = await make_zip(runtime, what, caller, "/exports")
        return Stream(
            pieces(file),
            media_type="application/zip",
            headers={
                "content-disposition": f'attachment; filename="gateway-export-{made.access}.zip"',
                "content-length": str(size),
                "x-gateway-records": str(made.rows),
                "x-gateway-access": made.access,
            },
        )

    return export
