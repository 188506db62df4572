"""An AuditEvent of R4 as one of R5: renamed elements, and codes that became concepts.

See https://hl7.org/fhir/R5/auditevent.html and its table of differences from R4.
"""

from __future__ import annotations

from typing import Any

_OUTCOME = "http://terminology.hl7.org/CodeSystem/audit-event-outcome"
_DISPLAY = {"0": "Success", "4": "Minor failure", "8": "Serious failure", "12": "Major failure"}


def _concept(coding: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if coding is None else {"coding": [coding]}


def _agent(agent: dict[str, Any]) -> dict[str, Any]:
    who = dict(agent["who"])
    if "name" in agent:
        who.setdefault("display", agent["name"])
    return {
        "type": agent.get("type"),
        "role": agent.get("role"),
        "who": who,
        "requestor": agent["requestor"],
        "policy": agent.get("policy"),
        "authorization": agent.get("purposeOfUse"),
    }


def _entity(entity: dict[str, Any]) -> dict[str, Any]:
    details = [{"type": {"text": one["type"]}, "valueString": one["valueString"]} for one in entity.get("detail", ())]
    return {
        "what": entity.get("what"),
        "role": _concept(entity.get("role")),
        "query": entity.get("query"),
        "detail": details,
    }


def to_r5(event: dict[str, Any]) -> dict[str, Any]:
    """Give `event`, an AuditEvent of R4 as `audit_event` makes it, as one of R5.

    R5 has no type of an entity, and no name of an agent: the latter becomes the display of its reference.
    """
    subtypes = event.get("subtype", [])
    source = event["source"]
    patients = [one["what"] for one in event.get("entity", ()) if one.get("what", {}).get("type") == "Patient"]
    return {
        "resourceType": "AuditEvent",
        "id": event["id"],
        "meta": event.get("meta"),
        "category": [_concept(event["type"])],
        "code": {"coding": subtypes or [event["type"]]},
        "action": event["action"],
        "recorded": event["recorded"],
        "outcome": {
            "code": {"system": _OUTCOME, "code": event["outcome"], "display": _DISPLAY[event["outcome"]]},
            "detail": [{"text": event["outcomeDesc"]}] if "outcomeDesc" in event else None,
        },
        "authorization": event.get("purposeOfEvent"),
        "patient": patients[0] if len(patients) == 1 else None,
        "agent": [_agent(one) for one in event["agent"]],
        "source": {
            "site": {"display": source["site"]} if "site" in source else None,
            "observer": source["observer"],
            "type": [_concept(one) for one in source.get("type", ())],
        },
        "entity": [_entity(one) for one in event.get("entity", ())],
    }
