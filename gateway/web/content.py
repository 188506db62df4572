"""Sealed content and what guards it: reveal, legal holds, erasure, break-glass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from msgspec import Meta, Struct

from gateway.errors import InvalidRequest
from gateway.records.events import CallerV1, HoldScopeV1, HoldV1
from gateway.records.holds import Hold
from gateway.records.sealing import plainly
from gateway.store.vault import Revealed
from gateway.web.auth import authenticate
from gateway.web.body import InFlight
from gateway.web.reviews import parse_time
from gateway.web.small import read_small, small_bodies

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_Ids = Annotated[tuple[str, ...], Meta(max_length=1000)]


class _Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what may be asked."""


class RevealBody(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why content is looked at, and for how many minutes it may be looked at again."""

    reason: str
    minutes: int


class HoldBody(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is held, and why: what meets all that is given. `patient` is a pseudonym, or `patient_number` is given."""

    reason: str
    decisions: _Ids = ()
    department: str | None = None
    patient: str | None = None
    patient_number: str | None = None
    since: str | None = None
    until: str | None = None


class ReasonBody(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a step is taken."""

    reason: str


class ErasureBody(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose content is erased, and why."""

    decisions: _Ids
    reason: str


class GlassBody(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the glass is broken, for how many minutes, and by whom where the key names nobody."""

    reason: str
    minutes: int
    department: str | None = None
    person: str | None = None


def revealed_json(revealed: Revealed) -> dict[str, Any]:
    """Give revealed content as it is told on the wire."""
    return {**plainly(revealed.content), "until": revealed.until, "access": revealed.access}


def hold_json(hold: Hold) -> dict[str, Any]:
    """Give a hold with its steps as it is told on the wire."""
    return {
        "id": hold.id,
        "state": hold.state,
        "scope": _scope(hold.scope),
        "placed": _step(hold.placed),
        "requested": [_step(request) for request in hold.requests],
        "released": None if hold.released is None else _step(hold.released),
    }


def _scope(scope: HoldScopeV1) -> dict[str, Any]:
    return {name: getattr(scope, name) for name in HoldScopeV1.__struct_fields__}


def _step(step: HoldV1) -> dict[str, Any]:
    return {"id": step.id, "at": step.at, "by": _who(step.caller), "reason": step.reason}


def _who(caller: CallerV1) -> str:
    return caller.person or caller.key


def _json(value: Any, status: int = 200) -> Response[bytes]:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def content_routes(runtime: Runtime, in_flight: InFlight) -> tuple[HTTPRouteHandler, ...]:
    """Make the routes. What changes something goes on to its end even where the caller has gone."""
    bodies = small_bodies(runtime.settings.in_flight)

    @post("/decisions/{decision_id:str}/reveal", status_code=200)
    async def reveal(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "reveal")
        body: RevealBody = await read_small(request, bodies, RevealBody)
        decision = str(request.path_params["decision_id"])
        revealed = await runtime.store.vault.reveal(
            decision, caller, "/decisions/{id}/reveal", body.reason, body.minutes
        )
        return _json(revealed_json(revealed))

    @get("/decisions/{decision_id:str}/content")
    async def content(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "reveal")
        decision = str(request.path_params["decision_id"])
        return _json(revealed_json(await runtime.store.vault.content(decision, caller, "/decisions/{id}/content")))

    @get("/holds")
    async def list_holds(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "hold")
        found = request.query_params.getall("released", ["false"])
        if len(found) != 1 or found[0] not in ("true", "false") or set(request.query_params) - {"released"}:
            raise InvalidRequest("`/holds` takes `released=true` or `released=false`, once", param="released")
        holds = await runtime.store.holds.list(caller, "/holds", released=found[0] == "true")
        return _json({"holds": [hold_json(hold) for hold in holds]})

    @post("/holds", status_code=201)
    async def place_hold(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "hold")
        body: HoldBody = await read_small(request, bodies, HoldBody)
        patient = body.patient
        if body.patient_number is not None:
            if patient is not None:
                raise InvalidRequest("give `patient` or `patient_number`, not both", param="patient")
            patient = runtime.store.decisions.pseudonym("patient", body.patient_number)
        hold = await in_flight.finish(
            runtime.store.holds.place(
                caller,
                body.reason,
                decisions=body.decisions,
                department=body.department,
                patient=patient,
                since=None if body.since is None else parse_time("since", body.since),
                until=None if body.until is None else parse_time("until", body.until),
            )
        )
        return _json(hold_json(hold), 201)

    @post("/holds/{hold_id:str}/request-release", status_code=200)
    async def request_release(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "hold")
        body: ReasonBody = await read_small(request, bodies, ReasonBody)
        work = runtime.store.holds.request_release(str(request.path_params["hold_id"]), caller, body.reason)
        return _json(hold_json(await in_flight.finish(work)))

    @post("/holds/{hold_id:str}/release", status_code=200)
    async def release(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "hold")
        body: ReasonBody = await read_small(request, bodies, ReasonBody)
        work = runtime.store.holds.release(str(request.path_params["hold_id"]), caller, body.reason)
        return _json(hold_json(await in_flight.finish(work)))

    @post("/erasures", status_code=200)
    async def erase(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "erase")
        body: ErasureBody = await read_small(request, bodies, ErasureBody)
        erased = await in_flight.finish(runtime.store.retention.erase(body.decisions, caller, body.reason))
        return _json({"erasure": erased.erasure, "decisions": erased.decisions, "already": erased.already})

    @post("/break-glass", status_code=201)
    async def break_glass(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller = await authenticate(request, runtime, "break-glass")
        body: GlassBody = await read_small(request, bodies, GlassBody)
        grant = await in_flight.finish(
            runtime.store.grants.break_glass(
                caller, body.reason, body.minutes, department=body.department, person=body.person
            )
        )
        told = {"grant": grant.id, "department": grant.department, "until": grant.until}
        return _json(told | {"person": grant.caller.person, "claimed": grant.claimed}, 201)

    return reveal, content, list_holds, place_hold, request_release, release, erase, break_glass
