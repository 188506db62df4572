"""One decision: told in words, with its stages, parts, demonstrations, proof, reviews, and who has looked at it."""

from __future__ import annotations

import datetime as dt
import logging
import re
from typing import TYPE_CHECKING, Any

from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from msgspec import Struct

from gateway.errors import InvalidRequest, NotFound, Unavailable
from gateway.records import AccessV1, Caller, DecisionV1, ErasureV1, HoldV1, Record, ReviewV1, may
from gateway.records.review_plan import subject_of
from gateway.records.reviews import possible, tell, who
from gateway.store.vault import LONGEST_MINUTES
from gateway.web.console.guard import sent_form, signed_in
from gateway.web.console.pictures import injectors, shown
from gateway.web.console.proving import check_record
from gateway.web.console.telling import sections, stage_rows
from gateway.web.console.templating import page

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.store.log import Stored
    from gateway.store.sessions import Session

PATH = "/console/decisions/{id}"
MINUTES = (5, 10, 15, 30, 60)
"""Time boxes of a reveal that are offered, in minutes."""

_READ = {"about": "read"}  # a page shows a record and what speaks of it: to its reader that is one look
_ID = re.compile(r"[a-z][a-z-]{1,11}_[0-9a-z]{8,48}", re.ASCII)
_log = logging.getLogger("gateway.web")


class Look(Struct, frozen=True, kw_only=True):
    """One look at a decision, or several of the same kind by the same person in a row. `at` is the last one's time."""

    id: str
    at: dt.datetime
    who: str
    roles: tuple[str, ...]
    via: str
    action: str
    why: str | None
    until: dt.datetime | None
    times: int


def looks(about: tuple[Record, ...]) -> tuple[Look, ...]:
    """List who has looked at a decision, the latest first; looks that repeat each other are told as one."""
    found: list[Look] = []
    for record in about:
        if not isinstance(record, AccessV1):
            continue
        caller = record.caller
        look = Look(
            id=record.id, at=record.at, who=caller.person or f"key {caller.key}", roles=caller.roles, via=caller.via,
            action=_READ.get(record.action, record.action), why=record.why, until=record.until, times=1,
        )  # fmt: skip
        last = found[-1] if found else None
        if last is not None and last.why is None and look.why is None and look.until is None:
            same = (last.who, last.action, last.via) == (look.who, look.action, look.via)
            if same and last.until is None:
                found[-1] = Look(**{**_fields(last), "at": look.at, "id": look.id, "times": last.times + 1})
                continue
        found.append(look)
    return tuple(reversed(found))


def _fields(look: Look) -> dict[str, Any]:
    return {name: getattr(look, name) for name in look.__struct_fields__}


def open_until(about: tuple[Record, ...], caller: Caller, now: dt.datetime) -> dt.datetime | None:
    """Tell until when `caller` may look at the content again; None where they opened no time box, or it is over."""
    ends = [
        record.until
        for record in about
        if isinstance(record, AccessV1) and record.action == "reveal" and record.until is not None
        and (record.caller.key, record.caller.person) == (caller.key, caller.person)
    ]  # fmt: skip
    last = max(ends, default=None)
    return last if last is not None and last > now else None


async def fresh(runtime: Runtime) -> bool:
    """Put the newest records in their order, so that a page shows them; False where that can not be done now."""
    try:
        await runtime.store.sequencer.catch_up()
    except Unavailable:
        return False
    return True


async def find(runtime: Runtime, session: Session, id_: str, endpoint: str = PATH) -> Stored:
    """Read a record, which is itself recorded; of a decision without one, that its stream was opened.

    Another department's is told as none at all.

    Raises NotFound and Unavailable.
    """
    known = _ID.fullmatch(id_) is not None
    stored = await runtime.store.office.read(id_, session.caller, endpoint, opened=True) if known else None
    if stored is None:
        raise NotFound("there is no such record for you; look for it among the decisions")
    return stored


async def show(runtime: Runtime, session: Session, stored: Stored, status: int = 200, **extra: Any) -> Response[Any]:
    """Show a record's page; `extra` goes to the template besides."""
    record = stored.record
    ordered = await fresh(runtime)
    found = await runtime.store.office.about(stored.id, session.caller, PATH)
    about = tuple(one.stored.record for one in found or ())
    proof = await runtime.store.tree.prove(stored.id)
    subject = subject_of(record)
    context: dict[str, Any] = {
        "stored": stored,
        "record": record,
        "sections": sections(record, closed=await runtime.store.office.closed(record)),
        "proof": proof,
        "ordered": ordered,
        "checked": None,
        "problem": None,
        "looks": looks(about),
        "others": tuple(one for one in about if isinstance(one, HoldV1 | ErasureV1)),
        "erasures": tuple(one for one in about if isinstance(one, ErasureV1)),
    }
    if not isinstance(record, DecisionV1) or subject is None:
        return page("record", session, status, **{**context, **extra})
    review, told = tell(subject, (one for one in about if isinstance(one, ReviewV1)))
    context |= {
        "stages": stage_rows(record),
        "shown": [one for attempt in record.attempts if (one := await shown(attempt, runtime, _log)) is not None],
        "review": review,
        "told": told,
        "me": (session.caller.person, session.caller.key),
        "possible": possible(subject.outcome),
        "judged": any(reading.by.key == session.caller.key for reading in review.readings),
        "who": who,
        "open_until": open_until(about, session.caller, dt.datetime.now(dt.UTC)),
        "minutes": [number for number in MINUTES if number <= LONGEST_MINUTES],
        "may_reveal": may(session.caller, "reveal"),
        "may_review": may(session.caller, "review"),
    }
    return page("decision", session, status, **{**context, **extra})


def decision_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""

    @get("/decisions/{id:str}")
    async def decision(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session = await signed_in(request, runtime, "read")
        stored = await find(runtime, session, str(request.path_params["id"]))
        return await show(runtime, session, stored)

    @post("/decisions/{id:str}/verify", status_code=200)
    async def verify(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session, _ = await sent_form(request, runtime, "verify")
        stored = await find(runtime, session, str(request.path_params["id"]), PATH + "/verify")
        await fresh(runtime)
        proof = await runtime.store.tree.prove(stored.id)
        if proof is None:
            raise Unavailable("the record has no place in the tree yet; try again in a moment")
        access = AccessV1.of(
            caller=session.caller, endpoint=PATH + "/verify", decisions=(stored.id,),
            at=dt.datetime.now(dt.UTC), action="verify", rows=1,
        )  # fmt: skip
        await runtime.store.decisions.append_event(access)
        return await show(runtime, session, stored, checked=check_record(stored, proof))

    @post("/decisions/{id:str}/reveal", status_code=200)
    async def reveal(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session, form = await sent_form(request, runtime, "reveal")
        id_, minutes = str(request.path_params["id"]), form.get("minutes")
        try:
            number = int(minutes) if minutes.isascii() and minutes.isdigit() and len(minutes) < 4 else 0
            reason = one_line(form.get("reason"))
            revealed = await runtime.store.vault.reveal(id_, session.caller, PATH + "/reveal", reason, number)
        except InvalidRequest as exc:
            stored = await find(runtime, session, id_)
            return await show(runtime, session, stored, 400, problem=exc.message)
        return _content(session, revealed)

    @get("/decisions/{id:str}/content")
    async def content(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session = await signed_in(request, runtime, "reveal")
        id_ = str(request.path_params["id"])
        return _content(session, await runtime.store.vault.content(id_, session.caller, PATH + "/content"))

    @get("/pictures/{stage:str}/{demonstration:str}")
    async def picture(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        await signed_in(request, runtime, "read")
        wanted = str(request.path_params["demonstration"])
        for injector in injectors(runtime, str(request.path_params["stage"])):
            for demo in await injector.illustrate((wanted,)):
                if demo.image is not None:
                    return Response(demo.image.data, media_type=demo.image.media_type)
        raise NotFound("there is no such picture")

    return [decision, verify, reveal, content, picture]


def one_line(text: str) -> str:
    """Give what was typed in a box as one line: reasons stand in one."""
    return " ".join(text.split())


def _content(session: Session, revealed: Any) -> Response[Any]:
    seconds = max(1, int((revealed.until - dt.datetime.now(dt.UTC)).total_seconds()))
    return page("content", session, revealed=revealed, content=revealed.content, seconds=seconds)
