"""Records: exact bytes that read back, no content, and words that people can read."""

import datetime as dt
import json
import math
import types
import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store.kit import SECRET, outcomes

from gateway.policy.decision import Admit
from gateway.policy.evidence import Inspected, Screened, StageFailed
from gateway.records import (
    AccessV1,
    Caller,
    Completed,
    DecisionV1,
    Digester,
    Record,
    canonical,
    explain,
    parse,
    record_of,
)
from gateway.records.shapes import FailedV1, InjectedV1, RetryV1, Share
from gateway.values import Completion, Finding, Score, Screening, Text

DIGESTER = Digester(SECRET)
MARKER = "zebra-quartz-7731"


def _of(kind) -> st.SearchStrategy:
    """Give a strategy for a type of the records."""
    if kind == Share:
        return st.floats(0, 1, allow_subnormal=False).map(abs)
    origin, words = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _of(words[0])
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
        str: st.text(max_size=12),
        int: st.integers(-(2**70), 2**70),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        type(None): st.none(),
        dt.datetime: st.datetimes(timezones=st.just(dt.UTC)),
    }[kind]


@settings(max_examples=150, deadline=None)
@given(st.one_of(_of(DecisionV1), _of(AccessV1)))
def test_every_record_reads_back_exactly(record):
    body = canonical(record)
    again = parse(body)
    assert again == record
    assert canonical(again) == body
    assert json.loads(body)["type"] in ("decision.v1", "access.v1")


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
    *(("CallerV1", name) for name in ("person", "application", "via", "grant")),
    *(("AccessV1", name) for name in ("filter", "rows", "until")),
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
    completion = msgspec.structs.replace(last.completed.completion, model=sentence)
    attempt = msgspec.structs.replace(
        last, audits=(audited,), completed=msgspec.structs.replace(last.completed, completion=completion)
    )
    request = msgspec.structs.replace(base.request, model=sentence)
    outcome = msgspec.structs.replace(
        base,
        request=request,
        screening=(msgspec.structs.replace(heard, screening=spy), failed),
        coverage=(Inspected(part=sentence, kind="text"),),
        admission=Admit(budget=outcomes.SMALL, tier=0, risk=1, rule="tiers[0]", waived=(sentence,)),
        attempts=(base.attempts[0], attempt),
    )
    record = record_of(outcome, DIGESTER)
    body = canonical(record)
    for word in (MARKER, "Patient", "Ghent", sentence[::-1]):
        assert word.encode() not in body
        assert word not in explain(record)
    assert set(record.erased) == {"prompt", "images", "stop", "found", "demonstrations", "answer", "replacements"}
    assert record.sampling.stops == 1
    assert parse(body) == record


def test_what_a_decision_needs_is_kept(decision):
    outcome = outcomes.released(image=b"\x89PNG")
    record = record_of(outcome, DIGESTER)
    assert record.caller.key == outcome.caller.key
    assert record.at == outcome.started
    assert (record.policy.revision, record.policy.digest) == (3, outcome.policy.digest)
    assert [word.stage for word in record.screening] == ["intent", "image-text", "intent"]
    assert record.screening[2].round == "found"
    assert record.screening[0].risk == 0.031
    assert record.screening[1].found == ("messages[0].content[1]#ocr",)
    assert [row.part for row in record.coverage] == [part.id for part in outcome.request.parts()]
    first, second = record.attempts
    assert isinstance(first.verdict, RetryV1)
    assert isinstance(second.injected, InjectedV1)
    assert second.injected.demonstrations == ("ct-00", "ct-01", "ct-02", "ct-03")
    assert second.injected.refusing == 2
    assert second.completed.blind is True
    assert second.completed.choices[0].characters == len("Mary has no displaced fracture.")
    (finding,) = second.audits[1].findings
    assert (finding.kind, finding.start, finding.end, finding.label) == ("phi", 0, 4, "name")
    assert record.final.redactions[0].label == "name"
    assert record.outcome == "released"


def test_digests_tell_same_from_other_and_need_the_secret():
    def digests(prompt, answer="yes", image=b"i", key=SECRET):
        record = record_of(outcomes.released(prompt, answer, image=image), Digester(key))
        return record.prompt, record.answer, record.images[0].digest

    same = digests("why?")
    assert digests("why?") == same
    assert digests("why!")[0] != same[0]
    assert digests("why?", answer="no")[1] != same[1]
    assert digests("why?", image=b"j")[2] != same[2]
    assert not set(digests("why?", key=bytes(32))) & set(same)
    assert DIGESTER.digest("prompt", b"x") != DIGESTER.digest("answer", b"x")
    assert "…" in repr(DIGESTER)
    with pytest.raises(ValueError, match="32 bytes"):
        Digester(bytes(31))


def test_the_digest_of_demonstrations_is_over_all_of_them():
    def digest(*demos):
        base = outcomes.released()
        first = base.attempts[0]
        shown = msgspec.structs.replace(first.injected, demonstrations=demos)
        attempt = msgspec.structs.replace(first, injected=shown)
        outcome = msgspec.structs.replace(base, attempts=(attempt, base.attempts[1]))
        return record_of(outcome, DIGESTER).attempts[0].injected.digest

    one, two = outcomes.demonstrations(2)
    assert digest(one, two) == digest(*outcomes.demonstrations(2))
    others = {
        digest(two, one),
        digest(one),
        digest(one, msgspec.structs.replace(two, answer="another")),
        digest(one, msgspec.structs.replace(two, refuses=not two.refuses)),
    }
    assert len(others) == 4
    assert digest(one, two) not in others


def test_a_refusal_is_told_in_plain_words():
    record = record_of(outcomes.refused(), DIGESTER)
    told = explain(record)
    assert len(told) > 200
    assert max(map(len, told.splitlines())) <= 110
    flat = " ".join(told.split())
    for said in (
        "REFUSED: the model was not asked",
        "The key 0123456789ab of the department radiology (roles: caller)",
        "The policy of radiology, revision 3",
        "risk 0.97 of 1 (very high)",
        "insurance fraud 0.97",
        "once it was read as base64",
        "image-text 0.1.0 FAILED: it broke with an error of the type ValueError",
        "`intent` saw too high a risk of insurance fraud in messages[0].content[0]",
        "Rule `tiers`",
        "The model never saw the request",
        "the words of the request",
    ):
        assert said in flat


def test_a_release_after_a_retry_is_told_in_plain_words():
    flat = " ".join(explain(record_of(outcomes.released(image=b"\x89PNG"), DIGESTER)).split())
    for said in (
        "RELEASED",
        "one CT image (DICOM, 512 by 512 pixels",
        "It found 1 piece of text inside images",
        "judged the text found in images",
        "Nothing: each of the 3 parts",
        "up to 2 demonstrations, a share of 0.5 of them refusing",
        "over-defense",
        "The model, asked once more",
        "put 4 demonstrations before the question",
        "asked the model `SmolLM2-135M-Instruct`",
        "has NOT seen the images",
        "phi (name), score 0.8, in choices[0].content, characters 0 to 4",
        "after 1 redaction: name",
    ):
        assert said in flat


def test_a_withheld_answer_and_weaknesses_are_told():
    base = outcomes.withheld("a question", "an answer")
    words = " ".join(explain(record_of(base, DIGESTER)).split())
    assert "WITHHELD" in words
    assert "`harmful-compliance` found harmful compliance in choices[0].content" in words
    admission = Admit(
        budget=outcomes.SMALL, tier=0, risk=0.1, rule="tiers[0]", excused=("image-text",), waived=("tools",)
    )
    late = StageFailed(stage="clinical", version="1", kind="injector", cause="deadline", ms=300.0)
    attempt = msgspec.structs.replace(base.attempts[0], injected=late, completed=None)
    weak = msgspec.structs.replace(
        base, admission=admission, attempts=(attempt,), coverage=(Inspected(part="tools", kind="text"),)
    )
    words = " ".join(explain(record_of(weak, DIGESTER)).split())
    for said in (
        "1 part of 1: tools (text). The policy let them pass uninspected",
        "excused failed checks by name (`allow_if_unavailable`): image-text",
        "clinical 1 FAILED: it did not answer within its deadline (after 300 ms)",
        "The model was not asked.",
    ):
        assert said in words


@settings(max_examples=80, deadline=None)
@given(st.one_of(_of(DecisionV1), _of(AccessV1)))
def test_any_record_can_be_told(record):
    assert len(explain(record)) > 200 or isinstance(record, AccessV1)


def test_an_access_is_told():
    caller = Caller(key="0123456789ab", department="radiology", roles=("officer",))
    at = dt.datetime(2026, 3, 1, 13, 0, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    access = AccessV1.of(caller=caller, endpoint="/decisions", decisions=("dec_1", "dec_2"), at=at, why="a complaint")
    told = " ".join(explain(access).split())
    assert "On 01 March 2026 at 12:00:00 UTC the key 0123456789ab" in told
    assert "saw dec_1 and dec_2. The reason given: a complaint." in told
    assert parse(canonical(access)) == access


def test_failures_keep_their_kind_and_cause():
    failed = StageFailed(
        stage="phi", version="2", kind="auditor", cause="nonsense:span", ms=1.23456, choice=1, attempt=1
    )
    base = outcomes.released()
    attempt = msgspec.structs.replace(base.attempts[1], audits=(failed,))
    record = record_of(msgspec.structs.replace(base, attempts=(base.attempts[0], attempt)), DIGESTER)
    assert record.attempts[1].audits == (
        FailedV1(stage="phi", version="2", kind="auditor", cause="nonsense:span", ms=1.235, round="request", choice=1),
    )
    assert isinstance(base.attempts[1].completed, Completed)
    assert isinstance(base.answer, Completion)
    assert isinstance(base.screening[0], Screened)
