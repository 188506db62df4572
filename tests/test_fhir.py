"""Records as FHIR AuditEvents, validated by HL7's own definitions; and the validator itself, on broken resources."""

import copy
import datetime as dt
import json
import types
import typing
from pathlib import Path

import msgspec
import pytest
from fhir.validate import ADVICE, INVARIANTS, Validator
from hypothesis import given, settings
from hypothesis import strategies as st
from store.kit import SECRET, outcomes

from gateway.records import (
    AccessV1,
    BatchLine,
    BreakGlassV1,
    CallerV1,
    ChangeV1,
    Digester,
    ErasureV1,
    HoldScopeV1,
    HoldV1,
    ReauditV1,
    Record,
    ReviewV1,
    Streamed,
    opened_of,
    record_of,
)
from gateway.records.context import PURPOSES
from gateway.records.fhir import Place, audit_event, bundle
from gateway.records.record import ContextV1

VALIDATORS = {release: Validator(release) for release in ("R4", "R5")}
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
PLACE = Place(position=7, leaf="ab" * 32)
OFFICER = CallerV1(
    key="oidc:7", department="radiology", roles=("officer",), person="Dr. Ada", application="console", via="oidc"
)
LENT = CallerV1(key="k9", department="radiology", roles=("caller",), grant="bgl_1")


def _samples():
    base = {"at": AT, "caller": OFFICER}
    yield record_of(outcomes.released(image=b"\x89PNG"), Digester(SECRET))
    yield record_of(outcomes.refused(), Digester(SECRET))
    line = BatchLine(batch="batch_1", line=7, tries=2, patience=10.0)
    yield record_of(msgspec.structs.replace(outcomes.refused(), batch=line), Digester(SECRET))
    for action in ("read", "search", "reveal", "export", "verify"):
        look = {"endpoint": "/decisions", "action": action, "decisions": ("dec_1", "dec_2"), "why": "case 12"}
        yield AccessV1(id=f"acc_{action}", **base | look, filter="outcome=refused&since=2026-01-01", rows=2, until=AT)
    yield AccessV1(id="acc_l", at=AT, caller=LENT, endpoint="x", action="reveal", decisions=(), why=None)
    for action, verdict, confirms in (
        ("assigned", None, None),
        ("released", None, None),
        ("verdict", "false_positive", None),
        ("seconded", None, False),
    ):
        yield ReviewV1(
            id=f"rev_{action}",
            **base,
            decision="dec_1",
            department="radiology",
            action=action,
            assignee="Dr. Bo",
            verdict=verdict,
            confirms=confirms,
            reason="it was a question about dosage",
            meaning="reviewed",
            refers="rev_0",
        )
    scope = HoldScopeV1(decisions=("dec_1",), department="radiology", patient="p" * 32, since=AT, until=None)
    for action in ("placed", "requested", "released"):
        given = scope if action == "placed" else None
        yield HoldV1(id=f"hld_{action}", **base, action=action, hold="hld_placed", scope=given, reason="court")
    yield ErasureV1(id="ers_1", **base, cause="request", decisions=("dec_1",), reason="article 17")
    for what in ("key-created", "policy-loaded", "log-key", "something new"):
        yield ChangeV1(id=f"chg_{what}", **base, what=what, subject="k1", before=None, after="active", reason=None)
    yield BreakGlassV1(id="bgl_1", **base, department="radiology", reason="emergency", until=AT)
    for after, rule, reasons in (("refused", "tiers", ("risk:self-harm",)), ("unknown", None, ())):
        yield ReauditV1(
            id=f"rea_{after}",
            **base,
            batch="batch_1",
            line=3,
            decision="dec_1",
            department="radiology",
            policy="ab" * 32,
            source="evidence",
            before="released",
            after=after,
            rule=rule,
            reasons=reasons,
        )
    base = outcomes.withheld("a question", "an answer", id="dec_streamed")
    late = Streamed(mode="windowed", hold_back=64, opened="opn_1", first_ms=812.5, ended="finding")
    answer = base.attempts[0].completed.completion
    yield opened_of(base, Digester(SECRET), id="opn_1", at=AT, hold_back=64)
    yield record_of(msgspec.structs.replace(base, answer=answer, streamed=late), Digester(SECRET))


SAMPLES = tuple(_samples())


def _of(kind):
    """Give a strategy for a type of the records."""
    origin, words = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        meta = next(one for one in words if isinstance(one, msgspec.Meta))
        return st.floats(0, 1) if meta.ge is not None else _of(words[0])
    if origin is typing.Literal:
        return st.sampled_from(words)
    if origin is tuple:
        return st.lists(_of(words[0]), max_size=2).map(tuple)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(_of, words))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = typing.get_type_hints(kind, include_extras=True)
        return st.builds(kind, **{name: _of(field) for name, field in fields.items() if not name.startswith("__")})
    return {
        str: st.text(max_size=8) | st.sampled_from(["=1+1", " ", "\x00", "\x85", "urn:x y", "é" * 70]),
        int: st.integers(-(2**40), 2**40),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        type(None): st.none(),
        dt.datetime: st.datetimes(timezones=st.just(dt.UTC)),
    }[kind]


def test_there_is_a_sample_of_every_kind():
    assert {type(record) for record in SAMPLES} == set(typing.get_args(Record))


@pytest.mark.parametrize("release", ["R4", "R5"])
@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_every_kind_validates(record, release):
    for place in (None, PLACE):
        event = audit_event(record, place, release=release, pseudonymous=place is not None)
        assert VALIDATORS[release].problems(event) == []
        assert json.loads(json.dumps(event)) == event


@pytest.mark.parametrize("release", ["R4", "R5"])
def test_a_bundle_validates(release):
    events = [audit_event(record, PLACE, release=release) for record in SAMPLES]
    made = bundle([*events, events[0]])
    assert VALIDATORS[release].problems(made) == []
    assert len(made["entry"]) == len(events)


@settings(max_examples=120, deadline=None)
@given(st.one_of(*map(_of, typing.get_args(Record))), st.sampled_from(["R4", "R5"]))
def test_whatever_a_record_holds_its_event_validates(record, release):
    assert VALIDATORS[release].problems(audit_event(record, PLACE, release=release)) == []


def _details(event):
    return {one["type"]: one["valueString"] for one in event["entity"][0]["detail"]}


def test_a_decision_tells_who_what_why_and_where_it_lies():
    record = SAMPLES[0]
    said = ContextV1(purpose="ETREAT", patient="f" * 32, study="e" * 32, on_behalf_of="Dr. Cy", task="report")
    event = audit_event(msgspec.structs.replace(record, context=said, caller=OFFICER), PLACE)
    assert VALIDATORS["R4"].problems(event) == []
    who = {agent["type"]["coding"][0]["code"]: agent for agent in event["agent"]}
    assert who["IRCP"]["who"]["identifier"]["value"] == "Dr. Ada"
    assert who["IRCP"]["requestor"] is True
    assert who["110153"]["who"]["identifier"]["value"] == "oidc:7"
    assert who["110153"]["requestor"] is False
    assert who["DELEGATOR"]["who"]["identifier"]["value"] == "Dr. Cy"
    assert who["110152"]["policy"] == ["urn:medvlm-gateway:policy:radiology:3:" + "5f" * 32]
    code = event["purposeOfEvent"][0]["coding"][0]
    assert code == {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
        "code": "ETREAT",
        "display": PURPOSES["ETREAT"],
    }
    about = {one["role"]["code"]: one for one in event["entity"][1:]}
    assert about["1"]["what"] == {
        "type": "Patient",
        "identifier": {"system": "urn:medvlm-gateway:patient", "value": "f" * 32},
    }
    assert event["entity"][0]["what"]["identifier"]["value"] == record.id
    details = _details(event)
    assert details["log.position"] == "7"
    assert details["log.leaf"] == PLACE.leaf
    assert details["admission.tier"] == str(record.admission.tier)
    assert details["screening[0].risk"] == repr(record.screening[0].risk)
    assert details["context.task"] == "report"


def test_a_refusal_is_told_as_denied_and_in_codes():
    event = audit_event(SAMPLES[1])
    reasons = SAMPLES[1].final.reasons
    assert event["outcome"] == ("8" if any(one.cause for one in reasons) else "4")
    assert event["outcomeDesc"].split()[0] == "refused"
    assert {one.code for one in reasons} <= set(event["outcomeDesc"].split())
    assert audit_event(SAMPLES[0])["outcome"] == "0"


def test_a_stream_and_its_decision_name_each_other():
    opened, decision = SAMPLES[-2:]
    event, later = audit_event(opened, PLACE), audit_event(decision, PLACE)
    assert event["subtype"][0]["code"] == "opened"
    assert (event["outcome"], event["outcomeDesc"]) == ("0", "opened tiers[0]")
    spoken = [one["what"]["identifier"]["value"] for one in event["entity"][1:]]
    assert spoken == ["dec_streamed", "auto", f"radiology 3 {'5f' * 32}"]
    assert {agent["type"]["coding"][0]["code"]: agent for agent in event["agent"]}["110152"]["policy"] == [
        f"urn:medvlm-gateway:policy:radiology:3:{'5f' * 32}"
    ]
    assert _details(event)["hold_back"] == "64"
    assert "opn_1" in [one["what"]["identifier"]["value"] for one in later["entity"][1:]]
    details = _details(later)
    assert (details["streamed.ended"], details["streamed.first_ms"], details["left"]) == ("finding", "812.5", "9")


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_no_value_of_a_record_is_lost(record):
    """Every string and number of the record stands somewhere in the event."""
    told = json.dumps(audit_event(record, PLACE), ensure_ascii=False)

    def walk(value):
        if isinstance(value, dict):
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from walk(inner)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            yield str(value)

    plain = msgspec.to_builtins(record)
    for name in ("type", "at", "filter"):
        plain.pop(name, None)
    if record.caller.person is not None:
        plain["caller"].pop("roles")
    missing = [one for one in walk(plain) if one not in told]
    assert missing == []


# The validator, on resources that are broken in one way each.


def _set(path, value):
    def change(event):
        at = event
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return change


def _drop(*path):
    def change(event):
        at = event
        for step in path[:-1]:
            at = at[step]
        del at[path[-1]]

    return change


BROKEN = {
    "unknown element": (_set(["colour"], "red"), "AuditEvent.colour: unknown element"),
    "unknown nested": (_set(["agent", 0, "colour"], "red"), "agent[0].colour: unknown element"),
    "no type": (_drop("type"), "AuditEvent.type: missing"),
    "no recorded": (_drop("recorded"), "AuditEvent.recorded: missing"),
    "no agent": (_drop("agent"), "AuditEvent.agent: missing"),
    "no requestor": (_drop("agent", 0, "requestor"), "agent[0].requestor: missing"),
    "no observer": (_drop("source", "observer"), "source.observer: missing"),
    "no value": (_drop("entity", 0, "detail", 0, "valueString"), "value[x]: missing"),
    "two values": (_set(["entity", 0, "detail", 0, "valueBase64Binary"], "QQ=="), "more than one of its types"),
    "wrong type of value": (_set(["entity", 0, "detail", 0, "valueInteger"], 1), "valueInteger: unknown element"),
    "empty list": (_set(["subtype"], []), "AuditEvent.subtype: empty list"),
    "empty object": (_set(["period"], {}), "AuditEvent.period: empty object"),
    "empty string": (_set(["outcomeDesc"], ""), "AuditEvent.outcomeDesc: empty string"),
    "blank string": (_set(["outcomeDesc"], "  "), "AuditEvent.outcomeDesc: empty string"),
    "null": (_set(["outcomeDesc"], None), "AuditEvent.outcomeDesc: null"),
    "control character": (_set(["outcomeDesc"], "a\x01b"), "control characters"),
    "one for many": (_set(["agent"], {"requestor": True}), "one value, where a list is expected"),
    "many for one": (_set(["action"], ["E"]), "a list, where one value is expected"),
    "code not in the set": (_set(["action"], "X"), "`X` is not in http://hl7.org/fhir/ValueSet/audit-event-action"),
    "outcome not in the set": (_set(["outcome"], "5"), "ValueSet/audit-event-outcome"),
    "network type": (_set(["agent", 0, "network"], {"address": "h", "type": "9"}), "ValueSet/network-type"),
    "unknown DICOM code": (_set(["type", "code"], "999999"), "ValueSet/audit-event-type"),
    "unknown object role": (_set(["entity", 0, "role", "code"], "99"), "ValueSet/object-role"),
    "unknown purpose": (
        _set(
            ["purposeOfEvent"],
            [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "FUN"}]}],
        ),
        "ValueSet/v3-PurposeOfUse",
    ),
    "not a boolean": (_set(["agent", 0, "requestor"], "true"), "requestor: not a boolean"),
    "number for string": (_set(["outcomeDesc"], 5), "outcomeDesc: not a string"),
    "not an instant": (_set(["recorded"], "2026-01-02"), "recorded: does not match"),
    "no zone": (_set(["recorded"], "2026-01-02T03:04:05"), "recorded: does not match"),
    "no such day": (_set(["recorded"], "2026-02-31T03:04:05Z"), "recorded: no such time"),
    "bad id": (_set(["id"], "dec_1"), "AuditEvent.id: does not match"),
    "bad uri": (_set(["agent", -1, "policy"], ["a b"]), "does not match the regular expression of uri"),
    "bad base64": (_set(["entity", 0, "query"], "A"), "query: does not match"),
    "sev-1": (_set(["entity", 0], {"name": "a", "query": "QUJD"}), "entity[0]: sev-1 does not hold"),
    "only an id": (_set(["period"], {"id": "x"}), "AuditEvent.period: ele-1 does not hold"),
    "period": (_set(["period"], {"start": "2026-02-01", "end": "2026-01-01"}), "per-1 does not hold"),
    "extension without value": (_set(["extension"], [{"url": "http://a.b"}]), "ext-1 does not hold"),
    "dangling reference": (_set(["source", "observer"], {"reference": "#nothing"}), "ref-1 does not hold"),
    "wrong target": (_set(["agent", 0, "who"], {"type": "Observation", "display": "x"}), "refers to Observation"),
    "no such resource": (_set(["entity", 0, "what"], {"reference": "Nonsense/1"}), "`Nonsense` is no type of resource"),
    "beside no primitive": (_set(["_agent"], {"id": "1"}), "no primitive"),
    "beside holds more": (_set(["_action"], {"value": "E"}), "`_` holds more"),
    "other resource": (_set(["resourceType"], "Patient"), "`Patient` is no resource"),
    "contained of another kind": (_set(["contained"], [{"resourceType": "Patient"}]), "`Patient` is no resource"),
}


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault.replace(" ", "-"))
def test_the_validator_finds(fault):
    change, expected = BROKEN[fault]
    event = copy.deepcopy(audit_event(SAMPLES[0], PLACE))
    change(event)
    problems = VALIDATORS["R4"].problems(event)
    assert any(expected in problem for problem in problems), problems


def test_the_validator_takes_what_fhir_allows():
    event = audit_event(SAMPLES[0], PLACE)
    event["period"] = {"start": "2026-01-01", "_end": {"extension": [{"url": "http://a.b", "valueCode": "unknown"}]}}
    event["agent"][0]["network"] = {"address": "10.0.0.1", "type": "2"}
    event["agent"][0]["type"] = {"text": "somebody"}
    event["contained"] = [{"resourceType": "AuditEvent"} | {k: v for k, v in event.items() if k in _NEEDED}]
    event["source"]["observer"] = {"reference": "Device/1"}
    event["entity"][0]["query"] = "QUJD"
    assert VALIDATORS["R4"].problems(event) == []


_NEEDED = ("type", "recorded", "agent", "source")


def test_r5_has_rules_of_its_own():
    event = audit_event(SAMPLES[0], PLACE, release="R5")
    find = VALIDATORS["R5"].problems
    assert find(event) == []
    assert any("code: missing" in one for one in find({k: v for k, v in event.items() if k != "code"}))
    assert any("ref-2" in one for one in find(event | {"source": {"observer": {"type": "Device"}}}))
    assert any("is not here" in one for one in find(event | {"severity": "error"}))
    assert any("type: unknown element" in one for one in find(audit_event(SAMPLES[0])))


def test_a_bundle_has_rules_of_its_own():
    find = VALIDATORS["R4"].problems
    made = bundle([audit_event(record) for record in SAMPLES[:2]])
    twice = made | {"entry": [made["entry"][0], made["entry"][0]]}
    assert any("bdl-7" in one for one in find(twice))
    assert any("bdl-1" in one for one in find(made | {"total": 2}))
    assert any("bundle-type" in one for one in find(made | {"type": "heap"}))
    assert any("bdl-5" in one for one in find(made | {"entry": [{"fullUrl": "urn:a"}]}))


@pytest.mark.parametrize(("release", "version"), [("R4", "4.0.1"), ("R5", "5.0.0")])
def test_the_definitions_are_hl7s_and_whole(release, version):
    body = json.loads((Path(__file__).parent / "fhir" / f"{release.lower()}.json").read_text())
    assert body["version"] == version
    assert "CC0" in body["licence"]
    assert {one["version"] for one in body["structures"].values()} == {version}
    own = [one for one in body["structures"]["AuditEvent"]["elements"] if one["path"].count(".") < 2]
    required = {one["path"] for one in own if one["min"]}
    code = "AuditEvent.type" if release == "R4" else "AuditEvent.code"
    assert required == {code, "AuditEvent.recorded", "AuditEvent.agent", "AuditEvent.source"}
    keys = {
        key
        for one in body["structures"].values()
        for element in one["elements"]
        for key in element.get("invariants", ())
    }
    unevaluated = {key for key in keys if key not in INVARIANTS and not key.startswith("bdl-")}
    assert unevaluated == set(ADVICE) | UNUSED[release]


UNUSED = {"R4": {"txt-1", "txt-2"}, "R5": {"txt-1", "txt-2", "rat-1", "rng-2"}}
"""Invariants of narratives, ratios and ranges, which no event here has; one that had would be a problem."""
