"""Export of what the decisions page shows: a reason, a form of the records, and a zip file that verifies by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response, Stream

from gateway.errors import InvalidRequest, TooMany
from gateway.store.export_files import FORMATS
from gateway.store.exports import wanted
from gateway.store.filters import parse_filter
from gateway.web.console.decision import one_line
from gateway.web.console.finding import address, chips, chosen
from gateway.web.console.guard import query_of, sent_form, signed_in
from gateway.web.console.templating import page
from gateway.web.exports import AT_ONCE, MOST, make_zip, pieces

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.store.sessions import Session

PATH = "/console/export"
_WORDS = {
    "ndjson": "JSON lines, the records byte for byte",
    "csv": "CSV, one row for each record",
    "parquet": "Parquet",
    "fhir": "FHIR R4 AuditEvent",
    "fhir-r5": "FHIR R5 AuditEvent",
    "dicom": "DICOM audit messages",
}


def export_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""
    busy = asyncio.Semaphore(AT_ONCE)

    def form_page(
        session: Session, pairs: tuple[tuple[str, str], ...], status: int = 200, problem: str | None = None
    ) -> Response[Any]:
        return page(
            "export", session, status, pairs=pairs, chips=chips(pairs), back=address(pairs), problem=problem,
            formats=[(name, _WORDS.get(name, name)) for name in FORMATS], most=MOST,
        )  # fmt: skip

    @get("/export")
    async def form_of(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session = await signed_in(request, runtime, "export")
        return form_page(session, chosen(query_of(request)))

    @post("/export", status_code=200)
    async def make(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session, form = await sent_form(request, runtime, "export")
        own = ("csrf", "format", "redaction", "why")
        pairs = chosen(pair for pair in form.pairs if pair[0] not in own)
        try:
            formats = [value for name, value in form.pairs if name == "format"]
            query = parse_filter((("kind", "decision.v1"), *pairs))
            what = wanted(query, formats, form.get("redaction"), one_line(form.get("why")))
            _check_free(busy)
            async with busy:
                made, file, size = await make_zip(runtime, what, session.caller, PATH)
        except (InvalidRequest, TooMany) as exc:
            return form_page(session, pairs, exc.status, exc.message)
        headers = {
            "content-disposition": f'attachment; filename="gateway-{made.access}.zip"',
            "content-length": str(size),
        }
        return cast("Response[Any]", Stream(pieces(file), media_type="application/zip", headers=headers))

    return [form_of, make]


def _check_free(busy: asyncio.Semaphore) -> None:
    if busy.locked():
        raise TooMany("the gateway makes as many exports as it takes at once; ask again in a moment")
