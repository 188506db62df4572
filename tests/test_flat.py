"""Records as table rows, as DICOM audit messages, and without names: the pure parts of an export."""

import base64
import csv
import datetime as dt
import io
import json
from xml.etree import ElementTree as Xml

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from store.kit import SECRET, outcomes
from test_fhir import LENT, OFFICER, PLACE, SAMPLES

from gateway.records import AccessV1, ChangeV1, Digester, canonical, parse, record_of
from gateway.records.dicom_audit import audit_message
from gateway.records.fhir import audit_event
from gateway.records.flat import COLUMNS, csv_cell, flat
from gateway.records.pseudonyms import WITHHELD, Pseudonyms
from gateway.records.record import ContextV1

PSEUDONYMS = Pseudonyms(Digester(SECRET))
TYPES = {"text": str, "int": int, "float": float, "bool": bool, "time": dt.datetime}


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_row_has_every_column_with_its_type(record):
    row = flat(record, position=4, sequence=9, leaf="ab" * 32)
    assert tuple(row) == tuple(COLUMNS)
    for name, value in row.items():
        assert value is None or type(value) is TYPES[COLUMNS[name]], name
    assert (row["position"], row["sequence"], row["id"]) == (4, 9, record.id)
    assert row["kind"] == json.loads(canonical(record))["type"]


def test_a_refusal_tells_its_rule_and_what_failed():
    row = flat(SAMPLES[1], position=0, sequence=1, leaf="")
    assert row["outcome"] == "refused"
    assert row["rule"] == SAMPLES[1].final.rule
    assert row["reasons"].split() == list(dict.fromkeys(one.code for one in SAMPLES[1].final.reasons))
    assert row["failed_stages"] == "image-text:raised:ValueError"
    assert (row["policy"], row["revision"]) == ("radiology", 3)


def test_a_line_of_a_batch_and_a_re_audit_have_their_places():
    line = next(record for record in SAMPLES if getattr(record, "batch", None) and record.id.startswith("dec_"))
    row = flat(line, position=0, sequence=1, leaf="")
    assert (row["batch"], row["line"], row["outcome"]) == ("batch_1", 7, "refused")
    again = next(record for record in SAMPLES if record.id == "rea_refused")
    row = flat(again, position=0, sequence=1, leaf="")
    wanted = {"batch": "batch_1", "line": 3, "subjects": "dec_1", "before": "released", "after": "refused"}
    assert {name: row[name] for name in wanted} == wanted
    assert (row["rule"], row["reasons"], row["policy_digest"]) == ("tiers", "risk:self-harm", "ab" * 32)


def test_a_stream_and_its_decision_have_their_places():
    opened, decision = (flat(record, position=0, sequence=1, leaf="") for record in SAMPLES[-2:])
    wanted = {
        "kind": "opened.v1", "action": "opened", "department": "radiology", "outcome": None, "stream": True,
        "streamed": "windowed", "stream_ended": None, "policy": "radiology", "revision": 3, "tier": 0, "risk": 0.4,
        "admission_rule": "tiers[0]", "rule": None, "subjects": "dec_streamed", "model": "auto", "left": None,
    }  # fmt: skip
    assert {name: opened[name] for name in wanted} == wanted
    wanted = {"outcome": "withheld", "streamed": "windowed", "stream_ended": "finding", "left": 9}
    assert {name: decision[name] for name in wanted} == wanted
    other = flat(SAMPLES[0], position=0, sequence=1, leaf="")
    assert (other["streamed"], other["stream_ended"]) == (None, None)


_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20) | st.sampled_from(_STARTS).flatmap(lambda first: st.text(max_size=8).map(first.__add__)))
@example("")
@example(" =1")
@example("'")
@example("\ufeff=1")
def test_no_cell_begins_a_formula_and_the_text_comes_back(text):
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell(text), "end"])
    [[cell, end]] = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert end == "end"
    assert not cell.lstrip(" \u00a0\ufeff\u200b").startswith(_STARTS)
    assert cell.removeprefix("'") == text.replace("\x00", "\ufffd")


def test_other_cells_are_plain():
    at = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    cells = [csv_cell(one) for one in (None, True, False, -1, 0.5, at)]
    assert cells == ["", "true", "false", -1, 0.5, "2026-01-02T01:04:05Z"]


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_dicom_message_has_what_ps3_15_demands(record):
    event = audit_event(record, PLACE)
    text = audit_message(event)
    assert "\n" not in text
    root = Xml.fromstring(text)
    assert root.tag == "AuditMessage"
    order = [child.tag for child in root]
    ranked = [
        "EventIdentification",
        "ActiveParticipant",
        "AuditSourceIdentification",
        "ParticipantObjectIdentification",
    ]
    assert order == sorted(order, key=ranked.index)
    assert set(order) == set(ranked)
    about = root.find("EventIdentification")
    assert about.get("EventActionCode") in "CRUDE"
    assert about.get("EventOutcomeIndicator") in ("0", "4", "8", "12")
    assert dt.datetime.fromisoformat(about.get("EventDateTime")) == record.at
    coded = [one for one in root.iter() if "codeSystemName" in one.attrib]
    assert all(one.get("csd-code") and one.get("originalText") for one in coded)
    assert all(one.get("UserID") for one in root.iter("ActiveParticipant"))
    assert [one.get("UserIsRequestor") for one in root.iter("ActiveParticipant")].count("true") == 1
    for one in root.iter("ParticipantObjectIdentification"):
        assert one.get("ParticipantObjectID")
        assert one.find("ParticipantObjectIDTypeCode").get("csd-code")
        assert (one.find("ParticipantObjectName") is None) != (one.find("ParticipantObjectQuery") is None)
    details = {
        one.get("type"): base64.b64decode(one.get("value")).decode() for one in root.iter("ParticipantObjectDetail")
    }
    assert details["log.leaf"] == PLACE.leaf


def test_markup_in_a_name_stays_a_name():
    evil = '"><script>&\n</AuditMessage>'
    record = msgspec.structs.replace(SAMPLES[2], caller=msgspec.structs.replace(OFFICER, person=evil))
    root = Xml.fromstring(audit_message(audit_event(record)))
    assert root.find("ActiveParticipant").get("UserID") == evil
    assert root.find(".//script") is None


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_pseudonymous_record_is_a_record_without_names(record):
    made = PSEUDONYMS.apply(record)
    body = canonical(made)
    assert parse(body) == made
    for word in (b"Ada", b'Bo"', b"oidc:7", b"k9", b"case 12", b"dosage", b"court", b"article 17", b"console"):
        assert word not in body
    assert (made.id, made.at) == (record.id, record.at)
    assert made.caller.department == record.caller.department
    assert made.caller.grant == record.caller.grant


def test_a_pseudonym_is_the_same_for_the_same_person_and_needs_the_secret():
    one, other = Pseudonyms(Digester(SECRET)), Pseudonyms(Digester(b"x" * 32))
    assert one.of("Dr. Ada") == PSEUDONYMS.of("Dr. Ada")
    assert one.of("Dr. Ada") != one.of("Dr. Bo")
    assert one.of("Dr. Ada") != other.of("Dr. Ada")


def test_names_in_a_context_a_filter_and_a_change_go_too():
    said = ContextV1(on_behalf_of="Dr. Cy", claimed_person="Eve", claimed_application="shadow-it", purpose="TREAT")
    decision = record_of(outcomes.refused(), Digester(SECRET))
    body = canonical(PSEUDONYMS.apply(msgspec.structs.replace(decision, context=said)))
    assert not any(word in body for word in (b"Cy", b"Eve", b"shadow-it"))
    assert b"TREAT" in body
    base = {"id": "x_1", "at": decision.at, "caller": LENT}
    look = AccessV1(
        **base, endpoint="e", action="search", decisions=(), why=None, filter="outcome=refused&person=Dr.+Ada&key=k9"
    )
    made = PSEUDONYMS.apply(look)
    assert made.filter == f"outcome=refused&person={PSEUDONYMS.of('Dr. Ada')}&key={PSEUDONYMS.of('k9')}"
    assert made.why is None
    change = ChangeV1(**base, what="key-created", subject="k9", before=None, after="person:Ada", reason="new")
    made = PSEUDONYMS.apply(change)
    assert (made.subject, made.after, made.reason) == (PSEUDONYMS.of("k9"), WITHHELD, WITHHELD)
    policy = ChangeV1(**base, what="policy-loaded", subject="radiology", before="a", after="b", reason=None)
    made = PSEUDONYMS.apply(policy)
    assert (made.subject, made.before, made.after) == ("radiology", "a", "b")
