"""An AuditEvent as a DICOM audit message (PS3.15, A.5), as IHE's ATNA profile sends it by syslog. Pure.

FHIR R4's AuditEvent was made from this message, so each element has its place.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree as Xml

_NAMES = {"http://dicom.nema.org/resources/ontology/DCM": "DCM"}
_ID_TYPE = {"csd-code": "RecordID", "codeSystemName": "urn:medvlm-gateway", "originalText": "id of a record"}


def _coded(parent: Xml.Element, name: str, coding: Mapping[str, Any]) -> None:
    system = str(coding["system"])
    shown = {"csd-code": str(coding["code"]), "codeSystemName": _NAMES.get(system, system)}
    Xml.SubElement(parent, name, shown | {"originalText": str(coding.get("display", coding["code"]))})


def _concepts(parent: Xml.Element, name: str, concepts: Iterable[Mapping[str, Any]]) -> None:
    for concept in concepts:
        for coding in concept.get("coding", ()):
            _coded(parent, name, coding)


def _named(reference: Mapping[str, Any]) -> str:
    identifier = reference.get("identifier", {})
    return str(identifier.get("value") or reference.get("display") or "unknown")


def audit_message(event: Mapping[str, Any]) -> str:
    """Give `event`, an AuditEvent of R4 as `audit_event` makes it, as an AuditMessage: XML on one line."""
    root = Xml.Element("AuditMessage")
    head = {"EventActionCode": event["action"], "EventDateTime": event["recorded"]}
    about = Xml.SubElement(root, "EventIdentification", head | {"EventOutcomeIndicator": event["outcome"]})
    _coded(about, "EventID", event["type"])
    for subtype in event.get("subtype", ()):
        _coded(about, "EventTypeCode", subtype)
    if "outcomeDesc" in event:
        Xml.SubElement(about, "EventOutcomeDescription").text = event["outcomeDesc"]
    _concepts(about, "PurposeOfUse", event.get("purposeOfEvent", ()))
    for agent in event["agent"]:
        who = {"UserID": _named(agent["who"]), "UserIsRequestor": "true" if agent["requestor"] else "false"}
        if "name" in agent:
            who["UserName"] = agent["name"]
        part = Xml.SubElement(root, "ActiveParticipant", who)
        _concepts(part, "RoleIDCode", [agent.get("type", {}), *agent.get("role", ())])
    source = event["source"]
    where = {"AuditSourceID": _named(source["observer"])}
    if "site" in source:
        where["AuditEnterpriseSiteID"] = source["site"]
    place = Xml.SubElement(root, "AuditSourceIdentification", where)
    for kind in source.get("type", ()):
        Xml.SubElement(place, "AuditSourceTypeCode", {"csd-code": kind["code"]})
    for entity in event["entity"]:
        _object(root, entity)
    return Xml.tostring(root, encoding="unicode").replace("\n", "&#10;").replace("\r", "&#13;")


def _object(root: Xml.Element, entity: Mapping[str, Any]) -> None:
    named = _named(entity["what"]) if "what" in entity else "query"
    what = {"ParticipantObjectID": named}
    for name, key in (("ParticipantObjectTypeCode", "type"), ("ParticipantObjectTypeCodeRole", "role")):
        if key in entity:
            what[name] = entity[key]["code"]
    part = Xml.SubElement(root, "ParticipantObjectIdentification", what)
    system = entity.get("what", {}).get("identifier", {}).get("system")
    shown = _ID_TYPE if system is None else _ID_TYPE | {"csd-code": str(system).rsplit(":", 1)[-1]}
    Xml.SubElement(part, "ParticipantObjectIDTypeCode", shown)
    if "query" in entity:
        Xml.SubElement(part, "ParticipantObjectQuery").text = entity["query"]
    else:
        Xml.SubElement(part, "ParticipantObjectName").text = named
    for one in entity.get("detail", ()):
        value = base64.b64encode(one["valueString"].encode()).decode()
        Xml.SubElement(part, "ParticipantObjectDetail", {"type": one["type"], "value": value})
