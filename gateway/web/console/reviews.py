"""The queue of reviews, and the steps of one: take, give back, judge, read a second time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import Conflict, InvalidRequest, NotPermitted
from gateway.records import may
from gateway.records.events import Verdict
from gateway.store.review_queue import ReviewFilter, parse_review_filter
from gateway.web.console.decision import find, one_line, show
from gateway.web.console.guard import sent_form, signed_in
from gateway.web.console.templating import page, see_other

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

PATH = "/console/reviews"
PAGE = 50
"""Reviews on one page."""

VIEWS: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        "waiting": ("All that wait", ()),
        "free": ("Nobody has it", (("state", "open"),)),
        "mine": ("Mine", (("assignee", "me"),)),
        "second": ("For a second reader", (("state", "second"),)),
        "disputed": ("Disputed or escalated", (("state", "disputed"), ("state", "escalated"))),
        "overdue": ("Overdue", (("overdue", "true"),)),
        "settled": ("Settled", (("state", "settled"),)),
    }
)
"""What the queue is looked at by: its name, and the filter."""


def _filter(view: str) -> ReviewFilter:
    if view not in VIEWS:
        raise InvalidRequest("there is no such view of the queue; open one by its link")
    return parse_review_filter(VIEWS[view][1])


def reviews_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""

    @get("/reviews")
    async def queue(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session = await signed_in(request, runtime, "review")
        view = request.query_params.get("view") or "waiting"
        cursor = request.query_params.get("cursor")
        found = await runtime.store.reviews.queue(
            session.caller, _filter(view), endpoint=PATH, limit=PAGE, cursor=cursor
        )
        more = None if found.next is None else f"{PATH}?{urlencode({'view': view, 'cursor': found.next})}"
        figures = await runtime.store.reviews.figures(session.caller) if may(session.caller, "figures") else None
        return page("reviews", session, rows=found.rows, next=more, view=view, views=VIEWS, figures=figures)

    async def step(request: HttpRequest[Any, Any, Any], work: str) -> Response[Any]:
        session, form = await sent_form(request, runtime, "review")
        id_, caller, reviews = str(request.path_params["id"]), session.caller, runtime.store.reviews
        reason = one_line(form.get("reason"))
        verdict = cast("Verdict", form.get("verdict"))  # a word that is none is refused with those that are
        try:
            if work == "take":
                await reviews.assign(id_, caller)
            elif work == "release":
                await reviews.release(id_, caller, reason=reason or None)
            elif work == "verdict":
                await reviews.judge(id_, caller, _known(verdict), reason)
            else:
                confirms = _yes_or_no(form.get("confirms"))
                instead = _known(verdict) if verdict and not confirms else None
                await reviews.second(id_, form.get("review"), caller, confirms, reason, verdict=instead)
        except (Conflict, InvalidRequest, NotPermitted) as exc:
            stored = await find(runtime, session, id_)
            return await show(runtime, session, stored, exc.status, problem=exc.message)
        return see_other(f"/console/decisions/{id_}#review")

    @post("/reviews/{id:str}/take", status_code=200)
    async def take(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        return await step(request, "take")

    @post("/reviews/{id:str}/release", status_code=200)
    async def release(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        return await step(request, "release")

    @post("/reviews/{id:str}/verdict", status_code=200)
    async def judge(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        return await step(request, "verdict")

    @post("/reviews/{id:str}/second", status_code=200)
    async def second(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        return await step(request, "second")

    return [queue, take, release, judge, second]


def _known(word: str) -> Verdict:
    if word in ("agree", "false_positive", "false_negative", "escalate"):
        return cast("Verdict", word)
    raise InvalidRequest("no verdict was chosen; choose one, and send the form again")


def _yes_or_no(word: str) -> bool:
    if word in ("yes", "no"):
        return word == "yes"
    raise InvalidRequest("say whether you confirm the verdict, and send the form again")
