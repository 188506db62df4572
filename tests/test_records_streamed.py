"""Answers that left as they grew, in the records: what is digested, sealed, told, reviewed and judged again."""

import datetime as dt

import msgspec
import pytest
from msgspec.structs import replace
from store.kit import SECRET, outcomes

from gateway.policy.decision import Reason, Withhold
from gateway.policy.evidence import Audited, StageFailed
from gateway.policy.model import AuditSpec, ReviewsSpec
from gateway.policy.replay import replay
from gateway.policy.words import refusal_text
from gateway.records import Digester, Streamed, canonical, explain, opened_of, parse, record_of
from gateway.records.content import answer_bytes
from gateway.records.rebuild import completion_of
from gateway.records.restore import codes, restored
from gateway.records.review_plan import due, subject_of
from gateway.records.sealing import content_of
from gateway.values import Choice, Completion, Finding, Text, TokenLogprob

DIGESTER = Digester(SECRET)
AT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
WHOLE = "The scan shows no fracture. Call Mary."
PART = "The scan shows"
PLACE = "choices[0].content"
WINDOWED = Streamed(mode="windowed", hold_back=64, opened="opn_1", first_ms=812.25)
GONE = Reason(code="caller-gone", stage="transformers", cause="caller-gone")
BROKEN = Reason(code="model-failed", stage="transformers", cause="raised:Cut")
FOUND = Reason(code="finding", stage="phi", label="phi", part=PLACE, cause="late")


def answer(text, **more):
    return Completion(model="m", choices=(Choice(index=0, text=Text(id=PLACE, text=text), **more),))


def stopped(reason, ended, *, left=PART, whole=None):
    """Give an outcome of a stream that ended early; `whole` is what the model had written, None where it failed."""
    base = outcomes.withheld("q", "a")
    verdict = Withhold(reasons=(reason,), rule="backend" if whole is None else "audit[1]")
    completed = StageFailed(stage="transformers", version="1", kind="backend", cause=reason.cause, ms=9.0)
    audits = ()
    if whole is not None:
        completed = replace(base.attempts[0].completed, completion=whole)
        finding = Finding(kind="phi", score=0.9, part=PLACE, start=10, end=20, replacement="##")
        audits = tuple(
            Audited(stage=stage, version="1", ms=1.0, choice=0, findings=found, attempt=0)
            for stage, found in (("refusal", ()), ("phi", (finding,)))
        )
    attempt = replace(base.attempts[0], completed=completed, audits=audits, verdict=verdict)
    streamed = replace(WINDOWED, ended=ended) if left else Streamed(mode="held")
    return replace(
        base, attempts=(attempt,), final=verdict, answer=answer(left) if left else None, streamed=streamed
    )  # fmt: skip


def recorded(outcome):
    return parse(canonical(record_of(outcome, DIGESTER)))


def told(outcome):
    return " ".join(explain(recorded(outcome)).split())


# what is kept


@pytest.mark.parametrize(
    ("outcome", "replaced"),
    [
        (stopped(GONE, "caller-gone"), False),
        (stopped(FOUND, "finding", whole=answer(WHOLE)), False),
        (stopped(FOUND, "finding", left="The scan ##", whole=answer(WHOLE)), True),
    ],
)
def test_the_part_that_left_is_digested_sealed_and_counted(outcome, replaced):
    record, content = recorded(outcome), content_of(outcome)
    (left,) = outcome.answer.choices
    assert record.outcome == "withheld"
    assert record.answer == DIGESTER.digest("answer", answer_bytes(outcome.answer))
    assert record.left == len(left.text.text)
    assert [text.text for text in content.answer] == [left.text.text]
    assert ("answer" in record.erased, "replacements" in record.erased) == (True, replaced)
    assert (record.streamed.first_ms, record.streamed.opened) == (812.25, "opn_1")
    assert left.text.text.encode() not in canonical(record)


def test_where_nothing_left_nothing_is_digested():
    record = recorded(stopped(GONE, "caller-gone", left=""))
    assert (record.answer, record.left, record.streamed.mode) == (None, 0, "held")
    assert "answer" not in record.erased


def test_a_stream_is_opened_only_for_what_was_admitted():
    opened = opened_of(outcomes.withheld("zebra", "a"), DIGESTER, id="opn_1", at=AT, hold_back=64)
    again = recorded(outcomes.withheld("zebra", "a", id=opened.decision))
    for name in ("department", "caller", "endpoint", "model", "policy", "prompt", "admission"):
        assert getattr(opened, name) == getattr(again, name)
    assert parse(canonical(opened)) == opened
    assert b"zebra" not in canonical(opened)
    with pytest.raises(TypeError, match="admitted"):
        opened_of(outcomes.refused(), DIGESTER, id="opn_1", at=AT, hold_back=64)


def test_the_tokens_beside_an_answer_come_back_as_their_text():
    places = tuple(
        TokenLogprob(token=token, logprob=-0.5, top=((token, -0.5), ("Jo\nhn", -2.0))) for token in (PART, " no")
    )
    whole = answer(PART + " no", logprobs=places)
    base = outcomes.released()
    last = replace(base.attempts[1], completed=replace(base.attempts[1].completed, completion=whole))
    sampling = replace(base.request.sampling, logprobs=2)
    asked = replace(base.request, sampling=sampling)
    outcome = replace(base, request=asked, attempts=(base.attempts[0], last), answer=whole)
    record = recorded(outcome)
    again = completion_of(content_of(outcome), record, 1)
    assert DIGESTER.digest("answer", answer_bytes(again)) == record.attempts[1].completed.answer
    assert again.choices[0].texts() == whole.choices[0].texts()
    assert again.choices[0].tool_calls == ()
    assert (record.sampling.logprobs, record.left) == (2, len(PART + " no"))


# what is told


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("auditor:phi", "because the check `phi` judges nothing but whole answers."),
        ("backend:batch", "because the model stage `batch` gives nothing but whole answers."),
        ("logprobs", "because the caller asked for the probabilities of tokens (`logprobs`)"),
        ("retry", "because the model refused at first and was asked once more (`over_defense`)."),
        ("weather", "because the reason is recorded as `weather`."),
    ],
)
def test_an_answer_that_was_held_all_the_same_says_why(why, words):
    flat = told(replace(outcomes.released(), streamed=Streamed(mode="held", why=why)))
    assert (
        "How the answer was streamed It was HELD until the whole answer was judged, although the policy lets answers "
        "leave as they grow"
    ) in flat
    assert words in flat


def test_an_answer_that_was_short_is_told_as_such():
    flat = told(replace(outcomes.released(), streamed=Streamed(mode="held")))
    assert "this one had ended, or was stopped, before anything of it could leave." in flat
    assert "How the answer was streamed" not in told(outcomes.released())


def test_a_stream_that_went_well_is_told():
    flat = told(replace(outcomes.released(), streamed=WINDOWED))
    for said in (
        "text leaves once it was audited, the last 64 characters held back.",
        "The record opn_1 was made before the first of it could leave, 812 ms after the request came.",
        "It was whole when it ended.",
        "RELEASED: an answer of the model left the gateway",
    ):
        assert said in flat


@pytest.mark.parametrize(
    ("outcome", "how", "why"),
    [
        (
            stopped(FOUND, "finding", whole=answer(WHOLE)),
            "It ENDED EARLY: a check found something after 14 characters had left, and the stream was closed with the "
            "policy's closing line.",
            "withheld by rule `audit[1]`, because `phi` found phi in choices[0].content.",
        ),
        (
            stopped(BROKEN, "model-failed"),
            "It ENDED EARLY: the model failed after 14 characters had left.",
            "withheld by rule `backend`, because the model stage `transformers` failed",
        ),
        (
            stopped(GONE, "caller-gone"),
            "It ENDED EARLY: the caller had gone after 14 characters had left, and the model was stopped.",
            "withheld by rule `backend`, because the caller had gone before the answer was ready.",
        ),
    ],
)
def test_of_a_stream_that_ended_early_it_is_told_what_left(outcome, how, why):
    flat = told(outcome)
    for said in (
        "WITHHELD IN PART: the model was asked, and its answer was stopped after 14 characters had left",
        how,
        "A part of the model's answer: 14 characters, which the checks had let pass.",
        why,
    ):
        assert said in flat
    assert "did not leave" not in flat
    assert "No answer" not in flat


def test_a_caller_who_left_at_once_is_told():
    flat = told(stopped(GONE, "caller-gone", left=""))
    for said in (
        "WITHHELD: the model was asked, and its answer did not leave the gateway",
        "FAILED: it was stopped, because the caller had gone (after 9.0 ms)",
        "No answer: it was withheld by rule `backend`, because the caller had gone before the answer was ready.",
    ):
        assert said in flat
    late = replace(stopped(GONE, "caller-gone"), answer=None)
    assert "It was stopped before any of it had left." in told(late)


def test_what_a_caller_hears_who_had_gone():
    text = refusal_text(Withhold(reasons=(GONE,), rule="backend"), "dec_1")
    assert text == (
        "The answer to this request was held back: the caller had gone before the answer was ready. "
        "Please send it again, and wait for the answer. Decision dec_1."
    )


@pytest.mark.parametrize(
    ("closed", "words"),
    [
        (None, "where there is none, the process ended meanwhile, and how much of it left is not known."),
        (True, "How it ended stands in the record of the decision, dec_7."),
        (False, "It was NEVER CLOSED: the process ended meanwhile, unless the answer is being written just now."),
    ],
)
def test_a_stream_that_was_opened_is_told(closed, words):
    opened = opened_of(outcomes.withheld("q", "a", id="dec_7"), DIGESTER, id="opn_1", at=AT, hold_back=64)
    flat = " ".join(explain(opened, closed=closed).split())
    for said in (
        "On 02 January 2026 at 03:04:05 UTC a stream was opened, in which the first of the answer to the decision",
        "dec_7 was about to leave,",
        "audited, with 64 characters held back.",
        "had asked the model `auto` through /v1/chat/completions; by rule `tiers[0]` of the policy of radiology",
        words,
        "This is the record opn_1.",
    ):
        assert said in flat


# what is reviewed


def _with_plan(outcome, **shares):
    policy = replace(outcome.policy.policy, reviews=ReviewsSpec(**shares))
    return replace(outcome, policy=replace(outcome.policy, policy=policy))


def test_a_caller_who_went_is_drawn_as_an_answer_and_what_was_found_late_as_a_no():
    shares = {"withheld": 1.0, "released": 0.0}
    for left in ("", PART):
        assert due(_with_plan(stopped(GONE, "caller-gone", left=left), **shares), DIGESTER) is None
        assert due(_with_plan(stopped(GONE, "caller-gone", left=left), withheld=0.0, released=1.0), DIGESTER) == (
            "released"
        )
    for outcome in (stopped(FOUND, "finding", whole=answer(WHOLE)), stopped(BROKEN, "model-failed")):
        assert due(_with_plan(outcome, **shares), DIGESTER) == "withheld"
    both = stopped(GONE, "caller-gone")
    both = replace(both, final=Withhold(reasons=(FOUND, GONE), rule="audit[1]"))
    assert due(_with_plan(both, **shares), DIGESTER) == "withheld"
    opened = opened_of(both, DIGESTER, id="opn_1", at=AT, hold_back=64)
    assert subject_of(opened) is None


# what is judged again


def _policy(**changes):
    return msgspec.structs.replace(outcomes.POLICY.policy, **changes)


def _after(outcome, policy):
    judged = replay(policy, restored(recorded(outcome)))
    return judged.after, judged.rule, codes(judged.reasons)


def test_who_has_gone_has_gone_under_any_policy():
    for left in ("", PART):
        assert _after(stopped(GONE, "caller-gone", left=left), _policy()) == (
            "withheld", "backend", ("caller-gone:transformers",),
        )  # fmt: skip
    assert _after(stopped(BROKEN, "model-failed"), _policy())[2] == ("model-failed:transformers",)


def _audits(how):
    return (AuditSpec(stage="refusal"), AuditSpec(stage="phi", on_finding=how))


def test_a_late_finding_is_late_again_in_a_stream_and_is_replaced_in_what_is_held():
    outcome = stopped(FOUND, "finding", whole=answer(WHOLE))
    late = ("withheld", "audit[1]", ("finding:phi",))
    assert _after(outcome, _policy(stream="windowed")) == late
    assert _after(outcome, _policy(stream="held"))[:2] == ("released", "audit")
    for stream in ("windowed", "held"):
        assert _after(outcome, _policy(stream=stream, audit=_audits("withhold"))) == late
        assert _after(outcome, _policy(stream=stream, audit=_audits("note")))[0] == "released"


def test_how_an_answer_would_have_gone_on_that_was_stopped_nobody_knows():
    cut = answer(WHOLE[:30], finish_reason="content_filter")
    for left in ("", PART):
        outcome = stopped(replace(FOUND, cause=None), "finding", left=left, whole=cut)
        assert _after(outcome, _policy(audit=_audits("withhold")))[0] == "withheld"
        assert _after(outcome, _policy(audit=_audits("note"))) == ("unknown", "audit", ("answer-cut",))
    held = replace(outcome, streamed=Streamed(mode="held", why="auditor:phi"))
    assert _after(held, _policy(audit=_audits("note")))[0] == "released"
