"""`/decisions`: search the log, read a decision byte for byte, and see what was done about it since.

Each of these is itself recorded before anything is given; `x-gateway-why` says why it was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from litestar import get
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import InvalidRequest, NotFound
from gateway.records import Caller, DecisionV1
from gateway.store import Complete, Found, Page, parse_filter
from gateway.store.search_summary import open_to, summary
from gateway.web.auth import authenticate
from gateway.wire.ids import is_decision_id
from gateway.wire.words import quote

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

WHY = "x-gateway-why"
"""The header that says why somebody looks."""

MOST = 200
"""Records on one page."""

_DEFAULT = 50
_OWN = ("limit", "cursor", "facets", "view")
_ABOUT = "/decisions/{id}/about"


def why_of(request: HttpRequest[Any, Any, Any]) -> str | None:
    """Read the reason of a look, None where none is given; InvalidRequest where it is given twice or is no UTF-8."""
    given = request.headers.getall(WHY, [])
    if not given:
        return None
    try:
        (text,) = given
        return text.encode("latin-1").decode("utf-8")
    except ValueError:
        raise InvalidRequest(f"`{WHY}`: expected one header in UTF-8", param=WHY) from None


def decision_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""

    @get("/decisions")
    async def search_decisions(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "search")
        pairs = [(str(name), str(value)) for name, value in request.query_params.multi_items()]
        own = _own(pairs)
        filter_ = parse_filter(pair for pair in pairs if pair[0] not in _OWN).of_decisions()
        view = own.get("view", "summary")
        if view not in ("summary", "full"):
            raise InvalidRequest("`view`: expected `summary` or `full`", param="view")
        facets = tuple(name for name in own.get("facets", "").split(",") if name)
        page = await runtime.store.office.search(
            filter_,
            caller,
            "/decisions",
            limit=_limit(own.get("limit")),
            cursor=own.get("cursor"),
            why=why_of(request),
            counted="cursor" not in own,
            facets=facets,
        )
        rows = [_whole(row, caller) if view == "full" else summary(row, caller, filter_.subject) for row in page.rows]
        return _json({"decisions": rows, "next": page.next, **_counts(page), "complete_to": page.complete})

    @get("/decisions/{decision_id:str}")
    async def read_decision(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "read")
        decision_id = str(request.path_params["decision_id"])
        stored = None
        if is_decision_id(decision_id):
            stored = await runtime.store.office.read(decision_id, caller, "/decisions", why_of(request))
        # Another department's decision is told as none at all: its id alone says that somebody was there.
        if stored is None or not isinstance(stored.record, DecisionV1):
            raise _absent(decision_id)
        return Response(stored.bytes, media_type="application/json")

    @get("/decisions/{decision_id:str}/about")
    async def about_decision(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "read")
        decision_id = str(request.path_params["decision_id"])
        if not is_decision_id(decision_id):
            raise _absent(decision_id)
        complete: Complete = await runtime.store.search.complete()
        try:
            rows = await runtime.store.office.about(decision_id, caller, _ABOUT, why_of(request))
        except NotFound:
            raise _absent(decision_id) from None
        told = [summary(row, caller, (decision_id,)) for row in rows]
        return _json({"decision": decision_id, "records": told, "complete_to": complete})

    return [search_decisions, read_decision, about_decision]


def _absent(decision_id: str) -> NotFound:
    return NotFound(
        f"there is no decision {quote(decision_id)} for this key; the `x-gateway-decision` header of an answer names it"
    )


def _own(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Give the fields of the query that are none of the filter."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in _OWN:
            continue
        if name in found:
            raise InvalidRequest(f"`{name}` is given twice; give it once", param=name)
        found[name] = value
    return found


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT
    if text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and 1 <= int(text) <= MOST:
        return int(text)
    raise InvalidRequest(f"`limit`: expected a number from 1 to {MOST}", param="limit")


def _counts(page: Page) -> dict[str, Any]:
    if page.tally is None:
        return {}
    facets = {
        name: [{"value": value, "count": count} for value, count in values]
        for name, values in page.tally.facets.items()
    }
    return {"total": page.tally.total, "total_is_exact": page.tally.exact, **({"facets": facets} if facets else {})}


def _whole(row: Found, caller: Caller) -> dict[str, Any]:
    """Give a record's own bytes; none where it may name what the caller may not see."""
    body = msgspec.Raw(row.stored.bytes) if open_to(row.stored.record, caller) else None
    return {
        "id": row.stored.id,
        "position": row.position,
        "sequence": row.stored.sequence,
        "leaf": row.stored.leaf,
        "record": body,
    }


def _json(body: dict[str, Any]) -> Response[bytes]:
    return Response(msgspec.json.encode(body), media_type="application/json")
