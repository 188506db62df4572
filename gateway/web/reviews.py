"""`/reviews` and `/decisions/{id}/reviews`: the queue, its figures, and the steps of a review."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from msgspec import Struct

from gateway.errors import InvalidRequest
from gateway.records.events import ReviewV1, Verdict
from gateway.records.reviews import Obstacle, Review, who
from gateway.store.review_queue import parse_review_filter
from gateway.store.review_steps import REVIEW_MEANING, SECOND_MEANING, History, Stepped
from gateway.store.reviews import Reviews
from gateway.web.auth import authenticate
from gateway.web.body import InFlight
from gateway.web.small import read_small, small_bodies

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.records import Caller

_PAGE = 50  # reviews on a page, unless asked otherwise


class _Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="action"):
    """Base of what may be asked."""


class AssignBody(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="assign"):
    """Give a decision to somebody, None: to oneself."""

    assignee: str | None = None
    reason: str | None = None


class ReleaseBody(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="release"):
    """Give a decision back to the queue; to take it from somebody else needs a reason."""

    reason: str | None = None


class VerdictBody(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="verdict"):
    """Sign a verdict."""

    verdict: Verdict
    reason: str
    meaning: str = REVIEW_MEANING


class SecondBody(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="second"):
    """Sign as second reader of the record `review`; `verdict` is one's own where one does not confirm."""

    review: str
    confirms: bool
    reason: str
    meaning: str = SECOND_MEANING
    verdict: Verdict | None = None


Body = AssignBody | ReleaseBody | VerdictBody | SecondBody


async def _do(reviews: Reviews, decision: str, caller: Caller, body: Body) -> Stepped:
    match body:
        case AssignBody():
            return await reviews.assign(decision, caller, body.assignee, reason=body.reason)
        case ReleaseBody():
            return await reviews.release(decision, caller, reason=body.reason)
        case VerdictBody():
            return await reviews.judge(decision, caller, body.verdict, body.reason, body.meaning)
        case SecondBody():
            return await reviews.second(
                decision, body.review, caller, body.confirms, body.reason, body.meaning, verdict=body.verdict
            )


def review_json(review: Review) -> dict[str, Any]:
    """Give a review as it is told on the wire, each signature with its name, time and meaning."""
    subject = review.subject
    return {
        "decision": subject.decision,
        "department": subject.department,
        "at": subject.at,
        "due_by": subject.due_by,
        "outcome": subject.outcome,
        "state": review.state,
        "assignee": review.assignee,
        "verdict": review.verdict,
        "settled_at": review.settled_at,
        "signatures": [
            {
                "review": reading.review,
                "name": reading.name,
                "at": reading.at,
                "meaning": reading.meaning,
                "verdict": reading.verdict,
                "confirms": reading.confirms,
                "reason": reading.reason,
            }
            for reading in review.readings
        ],
    }


def history_json(history: History) -> dict[str, Any]:
    """Give a review with all its records, those without effect with the reason why."""
    steps = [_step(told.step, told.obstacle) for told in history.steps]
    return {"review": review_json(history.review), "steps": steps}


def _step(step: ReviewV1, obstacle: Obstacle | None) -> dict[str, Any]:
    fields = ("id", "at", "action", "assignee", "verdict", "confirms", "reason", "meaning", "refers")
    told = {name: getattr(step, name) for name in fields}
    return {**told, "name": who(step.caller), "no_effect": None if obstacle is None else obstacle.text}


def parse_time(name: str, text: str) -> dt.datetime:
    """Read a time with its zone, or a day, which begins at midnight UTC; InvalidRequest with the field's name."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is not None and found.tzinfo is None and len(text) == len("2026-01-31"):
        found = found.replace(tzinfo=dt.UTC)
    if found is None or found.tzinfo is None or not 1970 <= found.year <= 9000:
        hint = "a day or a time with its zone, such as `2026-01-31` or `2026-01-31T08:00:00Z`"
        raise InvalidRequest(f"`{name}` takes {hint}", param=name)
    return found.astimezone(dt.UTC)


def _json(value: Any, status: int = 200) -> Response[bytes]:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def _pairs(request: HttpRequest[Any, Any, Any], *own: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Part the query into those that filter and the `own` ones, which may stand once."""
    filters: list[tuple[str, str]] = []
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in own:
            filters.append((name, str(value)))
        elif name in found:
            raise InvalidRequest(f"`{name}` stands twice; give it once", param=name)
        else:
            found[name] = str(value)
    return filters, found


def _limit(text: str | None) -> int:
    if text is None:
        return _PAGE
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise InvalidRequest("`limit` takes a whole number", param="limit")
    return int(text)


def review_routes(runtime: Runtime, in_flight: InFlight) -> tuple[HTTPRouteHandler, ...]:
    """Make the routes."""
    bodies = small_bodies(runtime.settings.in_flight)

    @get("/reviews")
    async def queue(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "review")
        pairs, own = _pairs(request, "limit", "cursor")
        page = await runtime.store.reviews.queue(
            caller, parse_review_filter(pairs), limit=_limit(own.get("limit")), cursor=own.get("cursor")
        )
        return _json({"reviews": page.rows, "next": page.next})

    @get("/reviews/figures")
    async def figures(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "figures")
        others, own = _pairs(request, "since", "until")
        if others:
            raise InvalidRequest("figures take `since` and `until` alone")
        since, until = (None if name not in own else parse_time(name, own[name]) for name in ("since", "until"))
        return _json(await runtime.store.reviews.figures(caller, since=since, until=until))

    @get("/decisions/{decision_id:str}/reviews")
    async def history(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "read")
        decision = str(request.path_params["decision_id"])
        return _json(history_json(await runtime.store.reviews.history(decision, caller)))

    @post("/decisions/{decision_id:str}/reviews")
    async def step(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "review")
        body: Body = await read_small(request, bodies, Body)
        # The step is taken to its end even where the caller has gone: its record may be in the log already.
        work = _do(runtime.store.reviews, str(request.path_params["decision_id"]), caller, body)
        done = await in_flight.finish(work)
        return _json({"step": done.step.id, "review": review_json(done.review)}, status=201)

    return queue, figures, history, step
