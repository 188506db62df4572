"""Records as HL7 FHIR `AuditEvent`, in the shape of IHE's Basic Audit Log Patterns (BALP). Pure.

R4 (4.0.1) is what audit repositories take today; R5 (5.0.0) is made from it. Every field of a record stands in the
event: what FHIR has an element for, there; the rest as details of the first entity, which is the record itself.
See https://hl7.org/fhir/R4/auditevent.html and https://profiles.ihe.net/ITI/BALP/.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from gateway.records.context import PURPOSES
from gateway.records.events import CallerV1
from gateway.records.fhir import codes, kinds, words
from gateway.records.fhir.r5 import to_r5
from gateway.records.record import DecisionV1, Record

__all__ = ["RELEASES", "Place", "Release", "audit_event", "bundle"]

Release = Literal["R4", "R5"]

RELEASES: tuple[Release, ...] = ("R4", "R5")


class Place(Struct, frozen=True, kw_only=True):
    """Where a record lies: its position in the hash tree (from 0) and its leaf hash in hex."""

    position: int
    leaf: str


def _instant(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _purpose(code: str) -> dict[str, Any] | None:
    if code in PURPOSES:
        return {"coding": [codes.coding(codes.ACT_REASON, code, PURPOSES[code])]}
    return {"text": words.text(code)} if words.text(code) else None


def _concept(coding: codes.Coding) -> dict[str, Any]:
    return {"coding": [coding]}


def _agents(record: Record, caller: CallerV1, event: kinds.Event, purposes: list[Any]) -> list[dict[str, Any]]:
    """Give who took part: the person where known, the client that sent the request, for whom, and the gateway."""
    context = record.context if isinstance(record, DecisionV1) else None
    person = words.text(caller.person)
    found: list[dict[str, Any]] = []
    if person is not None:
        found.append(
            {
                "type": _concept(codes.RECIPIENT),
                "role": kinds.roles_of(caller),
                "who": kinds.what("person", person),
                "requestor": True,
                "purposeOfUse": purposes,
            }
        )
    found.append(
        {
            "type": _concept(codes.SOURCE_ROLE),
            "role": kinds.roles_of(caller),
            "who": kinds.what("key", caller.key) or {"display": "unknown"},
            "altId": words.text(caller.via),
            "name": words.text(caller.application),
            "requestor": person is None,
            "purposeOfUse": purposes,
        }
    )
    if context is not None and words.text(context.on_behalf_of):
        found.append(
            {
                "type": _concept(codes.DELEGATOR),
                "who": kinds.what("person", context.on_behalf_of),
                "requestor": False,
            }
        )
    found.append(
        {
            "type": _concept(codes.DESTINATION_ROLE),
            "who": _observer(record),
            "requestor": False,
            "policy": None if event.policy is None else [event.policy],
        }
    )
    return found


def _observer(record: Record) -> dict[str, Any]:
    """Name the gateway: the instance that decided, where the record says it."""
    where = record.where if isinstance(record, DecisionV1) else None
    instance = None if where is None else kinds.what("instance", where.instance, "Device")
    return (instance or {"type": "Device"}) | {"display": "Med-VLM Safety Gateway"}


def _details(record: Record, caller: CallerV1, place: Place | None) -> list[dict[str, str]]:
    """Give what has no element of its own."""
    details = kinds.details_of(record)
    more = [("caller.department", caller.department), ("caller.via", caller.via), ("caller.grant", caller.grant)]
    if place is not None:
        more += [("log.position", str(place.position)), ("log.leaf", place.leaf)]
    details += [(name, told) for name, value in more if (told := words.text(value)) is not None]
    return [{"type": name, "valueString": value} for name, value in details]


def audit_event(
    record: Record, place: Place | None = None, *, release: Release = "R4", pseudonymous: bool = False
) -> dict[str, Any]:
    """Give `record` as an AuditEvent, ready to be written as JSON.

    `place` adds position and leaf hash to the details. `pseudonymous` labels the event so; it changes nothing else.
    """
    event = kinds.event_of(record)
    caller = record.caller
    purposes = [_purpose(code) for code in event.purposes]
    itself = {
        "what": kinds.what("record", record.id) or {"display": "record"},
        "type": codes.SYSTEM_OBJECT,
        "role": codes.ROLE_JOB if isinstance(record, DecisionV1) else codes.ROLE_SECURITY,
    }
    made = {
        "resourceType": "AuditEvent",
        "id": words.resource_id(record.id),
        "meta": {"security": [codes.PSEUDONYMISED]} if pseudonymous else None,
        "type": event.type,
        "subtype": list(event.subtype),
        "action": event.action,
        "recorded": _instant(record.at),
        "outcome": event.outcome,
        "outcomeDesc": words.text(event.description),
        "purposeOfEvent": purposes,
        "agent": _agents(record, caller, event, purposes),
        "source": {
            "site": words.text(event.department or caller.department),
            "observer": _observer(record),
            "type": [codes.APPLICATION_SERVER],
        },
        "entity": [itself, *event.about],
    }
    kept: dict[str, Any] = words.lean(made)
    kept["entity"][0]["detail"] = _details(record, caller, place)
    return kept if release == "R4" else words.lean(to_r5(kept))


def bundle(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give `events` as one Bundle, of type ``collection``. Two events of one id stand once."""
    own = {event["id"]: event for event in events}
    entries = [{"fullUrl": words.uri("record", name), "resource": event} for name, event in own.items()]
    made: dict[str, Any] = words.lean({"resourceType": "Bundle", "type": "collection", "entry": entries})
    return made
