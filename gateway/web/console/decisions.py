"""The decisions: found by filters, counted by facets, and one page after another."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from msgspec import Struct

from gateway.errors import InvalidRequest
from gateway.records import DecisionV1
from gateway.records.shapes import AdmitV1, RefuseV1, WithholdV1
from gateway.store.filters import parse_filter
from gateway.web.console.finding import (
    BOUNDS,
    FACETS,
    LABELS,
    OUTCOMES,
    PATH,
    TEXTS,
    address,
    chips,
    chosen,
    presets,
    with_value,
)
from gateway.web.console.guard import query_of, sent_form, signed_in
from gateway.web.console.templating import page, see_other
from gateway.wire.ids import is_decision_id

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.store.log import Stored

PAGE = 50
"""Decisions on one page."""

_FACET_VALUES = 8
"""Values of one field that are listed beside the decisions; the form takes any other."""


class Row(Struct, frozen=True, kw_only=True):
    """A decision in the list."""

    id: str
    at: dt.datetime
    outcome: str
    department: str
    who: str
    application: str | None
    behalf: str | None
    model: str
    rule: str
    reasons: tuple[str, ...]
    risk: float | None
    revision: int
    policy: str
    shadow: bool


def row_of(stored: Stored) -> Row | None:
    """Make the row of a decision; None for a record of another kind."""
    record = stored.record
    if not isinstance(record, DecisionV1):
        return None
    final = record.final
    reasons = final.reasons if isinstance(final, RefuseV1 | WithholdV1) else ()
    admission = record.admission
    context = record.context
    return Row(
        id=record.id,
        at=record.at,
        outcome=record.outcome,
        department=record.department,
        who=record.caller.person or f"key {record.caller.key}",
        application=record.caller.application,
        behalf=None if context is None else context.on_behalf_of,
        model=record.model,
        rule=final.rule,
        reasons=tuple(
            dict.fromkeys(f"{reason.code}{f': {reason.label}' if reason.label else ''}" for reason in reasons)
        ),
        risk=admission.risk if isinstance(admission, AdmitV1 | RefuseV1) else None,
        revision=record.policy.revision,
        policy=record.policy.department,
        shadow=record.mode == "shadow",
    )


class Facet(Struct, frozen=True, kw_only=True):
    """A field with its commonest values: value, count, and the address that filters by it."""

    label: str
    values: tuple[tuple[str, int, str], ...]


def decisions_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""

    @get("/decisions")
    async def decisions(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session = await signed_in(request, runtime, "search")
        sent = query_of(request)
        pairs = chosen(sent)
        wanted_id = next((value for name, value in pairs if name == "id"), None)
        if wanted_id is not None:
            return see_other(f"{PATH}/{wanted_id}") if is_decision_id(wanted_id) else _unknown_id(session, pairs)
        if len(pairs) < sum(1 for name, _ in sent if name != "cursor"):  # a shorter address is one to be passed on
            return see_other(address(pairs))
        shown: dict[str, Any] = {"rows": (), "next": None, "facets": (), "total": None, "exact": True, "problem": None}
        status = 200
        try:
            filter_ = parse_filter((("kind", "decision.v1"), *pairs))
            cursor = request.query_params.get("cursor")
            office = runtime.store.office
            found = await office.search(
                filter_, session.caller, PATH, limit=PAGE, cursor=cursor, counted=True, facets=FACETS
            )
            rows = tuple(row for one in found.rows if (row := row_of(one.stored)) is not None)
            older = None if found.next is None else address((*pairs, ("cursor", found.next)))
            shown |= {"rows": rows, "next": older, "first": cursor is None}
            if found.tally is not None:
                shown |= {
                    "total": found.tally.total,
                    "exact": found.tally.exact,
                    "facets": _facets(found.tally.facets, pairs),
                }
        except InvalidRequest as exc:
            shown["problem"], status = exc.message, 400
        return page("decisions", session, status, **_form(pairs), **{"first": True, **shown})

    @post("/decisions/patient", status_code=200)
    async def by_patient(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        _, form = await sent_form(request, runtime, "search")
        number = form.get("number")
        if not number:
            raise InvalidRequest("no patient number was given; go back and fill it in")
        name: Literal["study", "patient"] = "study" if form.get("of") == "study" else "patient"
        kept = [pair for pair in form.pairs if pair[0] in LABELS and pair[0] != name and pair[1]]
        return see_other(address((*kept, (name, runtime.store.decisions.pseudonym(name, number)))))

    return [decisions, by_patient]


def _form(pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return {
        "fields": dict(pairs),
        "pairs": pairs,
        "query": urlencode(pairs),
        "newest": address(pairs),
        "chips": chips(pairs),
        "presets": presets(pairs, dt.datetime.now(dt.UTC)),
        "texts": TEXTS,
        "bounds": BOUNDS,
        "outcomes": OUTCOMES,
    }


def _unknown_id(session: Any, pairs: tuple[tuple[str, str], ...]) -> Response[Any]:
    problem = "this is no id of a decision: it has the form `dec_` and 26 letters and digits"
    shown = {"rows": (), "next": None, "facets": (), "total": None, "exact": True, "first": True, "problem": problem}
    return page("decisions", session, 400, **_form(tuple(pair for pair in pairs if pair[0] != "id")), **shown)


def _facets(counted: Any, pairs: tuple[tuple[str, str], ...]) -> tuple[Facet, ...]:
    facets = []
    for name in FACETS:
        values = counted.get(name, ())[:_FACET_VALUES]
        if values and not (len(values) == 1 and values[0][0] is None):
            rows = tuple(
                ("not given" if value is None else str(value), count, with_value(pairs, name, str(value or "-")))
                for value, count in values
            )
            facets.append(Facet(label=LABELS[name], values=rows))
    return tuple(facets)
