"""Records: exact bytes that read back, no content, and words that people can read."""

import json
import math
import typing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import anything
from store.kit import SECRET, outcomes

from gateway.policy.decision import Admit
from gateway.policy.evidence import Inspected, StageFailed
from gateway.records import (
    Context,
    DecisionV1,
    Digester,
    Record,
    canonical,
    explain,
    parse,
    record_of,
)
from gateway.records.record import ContextV1
from gateway.values import Finding, Score, Screening, Text

DIGESTER = Digester(SECRET)
MARKER = "zebra-quartz-7731"


TAGS = {kind.__struct_config__.tag for kind in typing.get_args(Record)}


@settings(max_examples=200, deadline=None)
@given(anything(Record))
def test_every_record_reads_back_exactly(record):
    body = canonical(record)
    again = parse(body)
    assert again == record
    assert canonical(again) == body
    assert json.loads(body)["type"] in TAGS


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text().map(str.encode))
def test_other_bytes_are_refused_with_a_value_error(body):
    with pytest.raises(ValueError, match="bytes"):
        parse(body)


@pytest.fixture(scope="module")
def decision() -> DecisionV1:
    return record_of(outcomes.released(image=b"\x89PNG"), DIGESTER)


def test_only_the_canonical_spelling_is_read(decision):
    body = canonical(decision)
    plain = json.loads(body)
    for other in (
        body + b" ",
        b" " + body,
        json.dumps(plain).encode(),
        json.dumps(dict(reversed(plain.items())), separators=(",", ":")).encode(),
        body.replace(b'"stream":false', b'"stream":false,"stream":false'),
        body.replace(b'"risk":0.031', b'"risk":0.0310'),
        body.replace(b'"stream":false', b'"stream":false,"unknown":1'),
        body.replace(b'"stream":false,', b""),
        body.replace(b'"stream":false', b'"stream":"false"'),
        body.replace(b"decision.v1", b"decision.v9"),
    ):
        assert other != body
        with pytest.raises(ValueError, match="bytes"):
            parse(other)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1", None])
def test_a_number_that_is_none_has_no_bytes(decision, bad):
    with pytest.raises(ValueError, match="read"):
        canonical(msgspec.structs.replace(decision, ms=bad))
    sampling = msgspec.structs.replace(decision.sampling, temperature=math.nan)
    with pytest.raises(ValueError, match="read"):
        canonical(msgspec.structs.replace(decision, sampling=sampling))


_ADDED = {
    ("ScreenedV1", "findings"),
    ("ScreenedV1", "clinical"),
    ("DecisionV1", "defused"),
    ("AttemptV1", "trimmed"),
    ("DecisionV1", "review"),
    *(("CallerV1", name) for name in ("person", "application", "via", "grant")),
    *(("AccessV1", name) for name in ("filter", "rows", "until")),
    *(("DecisionV1", name) for name in ("context", "where", "clock", "mode", "left")),
    *(("ContextV1", name) for name in ContextV1.__struct_fields__),
    *((kind, "config") for kind in ("ScreenedV1", "SkippedV1", "FailedV1", "InjectedV1", "CompletedV1", "AuditedV1")),
    *((kind, "threshold") for kind in ("ScreenedV1", "AuditedV1")),
    *((kind, name) for kind in ("AdmitV1", "RefuseV1") for name in ("bounds", "clinical_at_least")),
    ("RetryV1", "below"),
    ("CompletedV1", "revision"),
    *(("DecisionV1", name) for name in ("retention", "sealed")),
    ("BreakGlassV1", "claimed"),
    ("DecisionV1", "batch"),
    ("DecisionV1", "streamed"),
    ("SamplingV1", "logprobs"),
}
"""Fields that came after their version: left out of the bytes at their default, which may therefore never change."""


def test_no_field_of_a_version_has_a_default():
    """Else old bytes would not encode to themselves once a default changes."""
    seen, waiting = set(), [Record]
    while waiting:
        kind = waiting.pop()
        if typing.get_args(kind):
            waiting += typing.get_args(kind)
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in seen:
            seen.add(kind)
            optional = {(kind.__name__, f.name) for f in msgspec.structs.fields(kind) if not f.required}
            assert optional <= _ADDED, kind
            config = kind.__struct_config__
            assert (config.frozen, config.forbid_unknown_fields, config.omit_defaults) == (True, True, True), kind
            waiting += typing.get_type_hints(kind, include_extras=True).values()
    assert len(seen) > 25


def test_the_first_version_is_frozen():
    """These bytes were written by the first version; they must read, and encode to themselves, for ever."""
    body = (
        b'{"action":"read","at":"2026-01-02T03:04:05.000006Z","caller":{"department":"*","key":"os-account:0",'
        b'"roles":["officer"]},"decisions":["dec_1"],"endpoint":"gateway log explain","id":"acc_1",'
        b'"type":"access.v1","why":null}'
    )
    assert canonical(parse(body)) == body


def test_a_decision_of_the_first_version_is_frozen():
    """The bytes of a decision before context, place, clock and thresholds were kept."""
    body = (Path(__file__).parent / "first_decision.json").read_bytes()
    record = parse(body)
    assert canonical(record) == body
    assert (record.context, record.where, record.clock, record.mode, record.left) == (
        None,
        None,
        None,
        "enforced",
        None,
    )
    assert (record.admission.bounds, record.screening[0].threshold, record.attempts[0].completed.config) == (
        (), None, None,
    )  # fmt: skip
    flat = " ".join(explain(record).split())
    assert "The caller did not say." in flat
    assert "Where, and by which clock" not in flat
    for new in ("thresholds in force", "handed over", "counted from a score", "SHA-256 5"):
        assert new not in flat


def test_no_content_is_in_a_record():
    """Whatever a caller, a model, a plugin or a server says, none of its words are in the bytes."""
    sentence = f"Patient {MARKER} lives in Ghent"
    image = sentence.encode() * 40
    base = outcomes.released(sentence, sentence, image=image, stop=(sentence,))
    heard = base.screening[0]
    spy = Screening(
        risk=1,
        inspected=(f"choices {MARKER}",),
        scores=(Score(label=sentence, value=1),),
        found=(Text(id=f"x {MARKER}", text=sentence),),
        part=sentence,
        view=sentence,
        notes=(sentence,),
    )
    failed = StageFailed(stage="a", version="1", kind="prescreener", cause=f"raised: {sentence}", ms=1.0)
    last = base.attempts[1]
    finding = Finding(kind=sentence, score=1, part=sentence, start=0, end=3, label=sentence, replacement=sentence)
    audited = msgspec.structs.replace(last.audits[0], findings=(finding,))
    completion = msgspec.structs.replace(last.completed.completion, model=sentence, revision=sentence)
    attempt = msgspec.structs.replace(
        last, audits=(audited,), completed=msgspec.structs.replace(last.completed, completion=completion)
    )
    request = msgspec.structs.replace(base.request, model=sentence)
    outcome = msgspec.structs.replace(
        base,
        request=request,
        context=Context(**dict.fromkeys(Context.__struct_fields__, sentence)),
        screening=(msgspec.structs.replace(heard, screening=spy), failed),
        coverage=(Inspected(part=sentence, kind="text"),),
        admission=Admit(budget=outcomes.SMALL, tier=0, risk=1, rule="tiers[0]", waived=(sentence,)),
        attempts=(base.attempts[0], attempt),
    )
    record = record_of(outcome, DIGESTER)
    body = canonical(record)
    for word in (MARKER, "Patient ", "Ghent", sentence[::-1]):
        assert word.encode() not in body
        assert word not in explain(record)
    assert set(record.erased) == {"prompt", "images", "stop", "found", "demonstrations", "answer", "replacements"}
    assert record.sampling.stops == 1
    assert parse(body) == record


@settings(max_examples=120, deadline=None)
@given(anything(Record))
def test_any_record_can_be_told(record):
    assert len(explain(record)) > (200 if isinstance(record, DecisionV1) else 50)
