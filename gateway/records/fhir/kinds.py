"""What each kind of record is as an audit event: its codes, and the things it speaks of."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, assert_never

import msgspec
from msgspec import Struct

from gateway.records.events import AccessV1, BreakGlassV1, CallerV1, ChangeV1, ErasureV1, HoldV1, ReauditV1, ReviewV1
from gateway.records.fhir import codes, words
from gateway.records.record import DecisionV1, OpenedV1, Record
from gateway.records.shapes import RefuseV1, WithholdV1

Entity = dict[str, Any]

MINOR = "4"
"""FHIR's outcome of an event that was denied."""

SERIOUS = "8"
"""FHIR's outcome of an event that failed."""


class Event(Struct, frozen=True, kw_only=True):
    """The parts of an audit event that differ by kind. `about` are the entities after the record itself."""

    type: codes.Coding
    subtype: tuple[codes.Coding, ...]
    action: str
    outcome: str = "0"
    description: str
    purposes: tuple[str, ...] = ()
    policy: str | None = None
    about: tuple[Entity, ...] = ()
    department: str | None = None


def _identifier(kind: str, value: str | None) -> dict[str, Any] | None:
    held = words.text(value)
    return None if held is None else {"system": f"{codes.OURS}:{kind}", "value": held}


def what(kind: str, value: str | None, resource: str | None = None) -> dict[str, Any] | None:
    """Make a Reference by identifier; None where there is nothing to refer to."""
    identifier = _identifier(kind, value)
    return None if identifier is None else {"type": resource, "identifier": identifier}


def _entity(
    kind: str, value: str | None, role: codes.Coding, *, resource: str | None = None, type_: codes.Coding | None = None
) -> Entity | None:
    reference = what(kind, value, resource)
    if reference is None:
        return None
    return {"what": reference, "type": type_ or codes.SYSTEM_OBJECT, "role": role}


def _entities(*found: Entity | None) -> tuple[Entity, ...]:
    return tuple(one for one in found if one is not None)


def _query(text: str | None) -> Entity | None:
    if not text:
        return None
    return {
        "type": codes.SYSTEM_OBJECT,
        "role": codes.ROLE_QUERY,
        "query": base64.b64encode(text.encode()).decode(),
    }


def _own(kind: str, code: str) -> codes.Coding:
    return codes.coding(f"{codes.OURS}:{kind}", words.resource_id(code or "unknown"))


def _decision(record: DecisionV1) -> Event:
    final, context = record.final, record.context
    reasons = final.reasons if isinstance(final, RefuseV1 | WithholdV1) else ()
    failed = any(reason.cause is not None for reason in reasons)
    told = (record.outcome, final.rule, *dict.fromkeys(reason.code for reason in reasons))
    patient = None if context is None else context.patient
    study = None if context is None else context.study
    policy = record.policy
    return Event(
        type=codes.QUERY,
        subtype=(_own("outcome", record.outcome), _own("mode", record.mode)),
        action="E",
        outcome=("0" if not reasons else SERIOUS if failed else MINOR),
        description=" ".join(told),
        purposes=() if context is None or context.purpose is None else (context.purpose,),
        policy=words.uri("policy", policy.department, str(policy.revision), policy.digest),
        about=_entities(
            _entity("patient", patient, codes.ROLE_PATIENT, resource="Patient", type_=codes.PERSON),
            _entity("study", study, codes.ROLE_DOMAIN, resource="ImagingStudy"),
            _entity("model", record.model, codes.ROLE_DOMAIN, resource="Device"),
            _entity("policy", f"{policy.department} {policy.revision} {policy.digest}", codes.ROLE_SECURITY),
            None if record.batch is None else _entity("batch", record.batch.batch, codes.ROLE_JOB),
            None if record.streamed is None else _entity("record", record.streamed.opened, codes.ROLE_JOB),
        ),
        department=record.department,
    )


def _opened(record: OpenedV1) -> Event:
    policy = record.policy
    return Event(
        type=codes.QUERY,
        subtype=(_own("stream", "opened"),),
        action="E",
        description=f"opened {record.admission.rule}",
        policy=words.uri("policy", policy.department, str(policy.revision), policy.digest),
        about=_entities(
            _entity("record", record.decision, codes.ROLE_JOB),
            _entity("model", record.model, codes.ROLE_DOMAIN, resource="Device"),
            _entity("policy", f"{policy.department} {policy.revision} {policy.digest}", codes.ROLE_SECURITY),
        ),
        department=record.department,
    )


_LOOKS: Mapping[str, tuple[codes.Coding, str]] = {
    "read": (codes.READ, "R"),
    "reveal": (codes.READ, "R"),
    "reaudit": (codes.READ, "R"),
    "search": (codes.SEARCH, "E"),
    "export": (codes.SEARCH, "R"),
}


def _access(record: AccessV1) -> Event:
    subtype, action = _LOOKS.get(record.action, (None, "E"))
    own = _own("access", record.action)
    return Event(
        type=codes.EXPORT if record.action == "export" else codes.AUDIT_LOG_USED,
        subtype=(own,) if subtype is None else (subtype, own),
        action=action,
        description=record.action,
        purposes=("BTG",) if record.caller.grant is not None else (),
        about=_entities(_query(record.filter), *(_entity("record", one, codes.ROLE_JOB) for one in record.decisions)),
    )


def _review(record: ReviewV1) -> Event:
    signed = record.action in ("verdict", "seconded")
    told = [record.action, record.verdict, None if record.confirms is None else f"confirms={record.confirms}".lower()]
    return Event(
        type=codes.ATTEST if signed else codes.AMEND,
        subtype=(_own("review", record.action),),
        action="C" if signed else "U",
        description=" ".join(filter(None, told)),
        purposes=("HQUALIMP",),
        about=_entities(
            _entity("record", record.decision, codes.ROLE_JOB),
            _entity("record", record.refers, codes.ROLE_JOB),
            _entity("person", record.assignee, codes.ROLE_USER, type_=codes.PERSON),
        ),
        department=record.department,
    )


def _hold(record: HoldV1) -> Event:
    scope = record.scope
    return Event(
        type=codes.UNHOLD if record.action == "released" else codes.HOLD,
        subtype=(_own("hold", record.action),),
        action="C" if record.action == "placed" else "U",
        description=record.action,
        purposes=("HLEGAL",),
        about=_entities(
            _entity("record", record.hold, codes.ROLE_SECURITY),
            None
            if scope is None
            else _entity("patient", scope.patient, codes.ROLE_PATIENT, resource="Patient", type_=codes.PERSON),
            *(() if scope is None else (_entity("record", one, codes.ROLE_JOB) for one in scope.decisions)),
        ),
        department=None if scope is None else scope.department,
    )


def _erasure(record: ErasureV1) -> Event:
    return Event(
        type=codes.DESTROY,
        subtype=(_own("erasure", record.cause),),
        action="D",
        description=record.cause,
        purposes=("RECORDMGT",),
        about=_entities(*(_entity("record", one, codes.ROLE_JOB) for one in record.decisions)),
    )


def _change(record: ChangeV1) -> Event:
    if record.what.startswith("key-"):
        subtype, role = codes.USER_ATTRIBUTES, codes.ROLE_USER
    elif record.what.startswith("policy-"):
        subtype, role = codes.SOFTWARE_CONFIGURATION, codes.ROLE_SECURITY
    else:
        subtype, role = codes.SECURITY_CONFIGURATION, codes.ROLE_SECURITY
    return Event(
        type=codes.SECURITY_ALERT,
        subtype=(subtype, _own("change", record.what)),
        action="U",
        description=record.what,
        purposes=("HSYSADMIN",),
        about=_entities(_entity("subject", record.subject, role)),
    )


def _break_glass(record: BreakGlassV1) -> Event:
    return Event(
        type=codes.SECURITY_ALERT,
        subtype=(codes.EMERGENCY_STARTED,),
        action="E",
        description="break-glass",
        purposes=("BTG",),
        department=record.department,
    )


def _reaudit(record: ReauditV1) -> Event:
    return Event(
        type=codes.QUERY,
        subtype=(_own("reaudit", record.after),),
        action="E",
        description=" ".join(filter(None, (record.before, record.after, record.rule, *record.reasons))),
        purposes=("HQUALIMP",),
        about=_entities(
            _entity("record", record.decision, codes.ROLE_JOB),
            _entity("batch", record.batch, codes.ROLE_JOB),
            _entity("policy", record.policy, codes.ROLE_SECURITY),
        ),
        department=record.department,
    )


def event_of(record: Record) -> Event:
    """Tell what `record` is as an audit event."""
    match record:
        case DecisionV1():
            return _decision(record)
        case OpenedV1():
            return _opened(record)
        case AccessV1():
            return _access(record)
        case ReviewV1():
            return _review(record)
        case HoldV1():
            return _hold(record)
        case ErasureV1():
            return _erasure(record)
        case ChangeV1():
            return _change(record)
        case BreakGlassV1():
            return _break_glass(record)
        case ReauditV1():
            return _reaudit(record)
        case _:
            assert_never(record)


_TOLD = frozenset({"type", "id", "at", "caller", "filter"})
"""Fields that are elements of the audit event, and are not repeated among the details."""


def details_of(record: Record) -> list[tuple[str, str]]:
    """Give every other field of `record`, with its path."""
    plain = msgspec.to_builtins(record)
    return words.flatten({name: value for name, value in plain.items() if name not in _TOLD})


def roles_of(caller: CallerV1) -> list[dict[str, Any]]:
    """Give the caller's roles as CodeableConcepts."""
    return [{"coding": [_own("role", role)]} for role in caller.roles if words.text(role)]
