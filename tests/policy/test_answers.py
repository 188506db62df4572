"""Properties of `release`, `redact` and the words for the caller."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.answers import merge
from gateway.policy.decide import redact, refusal_text, release
from gateway.policy.decision import Admit, Reason, Redaction, Refuse, Release, Retry, Withhold
from gateway.policy.evidence import Audited, AuditEvidence, StageFailed
from gateway.policy.model import Policy, convert
from gateway.policy.words import HARMS
from gateway.values import Budget, Choice, Completion, Finding, Text, ToolCall

ANSWER = "Jane Roe has a nodule in the left upper lobe."
RETRY = Budget(demonstrations=16, mix=0.25)


def policy(excusable: tuple[str, ...] = (), over_defense: dict[str, object] | None = None) -> Policy:
    raw = {
        "department": "radiology",
        "revision": 1,
        "backend": {"stage": "model"},
        "prescreen": [{"stage": "intent"}],
        "audit": [
            {"stage": "refusal", "allow_if_unavailable": "refusal" in excusable},
            {
                "stage": "harmful-compliance",
                "threshold": 0.6,
                "allow_if_unavailable": "harmful-compliance" in excusable,
            },
            {"stage": "phi", "on_finding": "redact"},
            {"stage": "style", "on_finding": "note"},
        ],
        "tiers": [{"below": 0.2, "budget": {"demonstrations": 4}}, {"below": 0.9, "budget": {"demonstrations": 8}}],
        "over_defense": over_defense if over_defense is not None else {"retry": {"demonstrations": 16, "mix": 0.25}},
    }
    return convert(raw, Policy)


def admitted(risk: float = 0.05, excused: tuple[str, ...] = ()) -> Admit:
    return Admit(budget=Budget(demonstrations=4, mix=0.5), tier=0, risk=risk, rule="tiers[0]", excused=excused)


def completion(*texts: str) -> Completion:
    choices = tuple(
        Choice(
            index=i,
            text=Text(id=f"choices[{i}].content", text=t),
            tool_calls=(
                ToolCall(
                    id="c",
                    name=Text(id=f"choices[{i}].tool_calls[0].name", text="lookup"),
                    arguments=Text(id=f"choices[{i}].tool_calls[0].arguments", text='{"name": "Jane Roe"}'),
                ),
            ),
        )
        for i, t in enumerate(texts)
    )
    return Completion(model="m", choices=choices)


def finding(kind: str, score: float = 0.9, choice: int = 0, **more: object) -> Finding:
    return Finding(kind=kind, score=score, **({"part": f"choices[{choice}].content"} | more))


def words(by: dict[str, tuple[Finding, ...]] | None = None, choices: int = 1, attempt: int = 0) -> list[AuditEvidence]:
    """One word of every auditor on every choice; findings belong to the choice that their part names."""
    return [
        Audited(
            stage=stage,
            version="1",
            ms=1.0,
            choice=i,
            attempt=attempt,
            findings=tuple(f for f in (by or {}).get(stage, ()) if f.part.startswith(f"choices[{i}]")),
        )
        for stage in ("refusal", "harmful-compliance", "phi", "style")
        for i in range(choices)
    ]


def fall(stage: str, choice: int | None = 0, attempt: int = 0) -> StageFailed:
    return StageFailed(
        stage=stage, version="1", kind="auditor", cause="deadline", ms=1.0, choice=choice, attempt=attempt
    )


def test_no_findings_release():
    assert release(policy(), admitted(), completion(ANSWER), tuple(words()), 0) == Release(rule="audit")


@given(st.data())
def test_any_word_that_is_removed_withholds(data):
    n = data.draw(st.integers(1, 3))
    said = {"refusal": tuple(finding("refusal", choice=i) for i in range(n) if data.draw(st.booleans()))}
    evidence = words(said, n)
    gone = evidence.pop(data.draw(st.integers(0, len(evidence) - 1)))
    p = policy(("refusal", "harmful-compliance"))
    verdict = release(p, admitted(), completion(*[ANSWER] * n), tuple(evidence), 0)
    assert verdict.reasons == (Reason(code="stage-missing", stage=gone.stage, part=f"choices[{gone.choice}]"),)


@given(st.data())
def test_one_more_failure_or_finding_is_never_more_lenient(data):
    n = data.draw(st.integers(1, 2))
    stages = ("refusal", "harmful-compliance", "phi", "style", "stranger")
    said = {
        s: tuple(
            finding(
                data.draw(st.sampled_from([s, "refusal"])),
                data.draw(st.floats(0, 1)),
                c,
                start=0,
                end=4,
                replacement="x",
            )
            for c in range(n)
            if data.draw(st.booleans())
        )
        for s in stages[:4]
    }
    evidence = words(said, n)
    before = release(policy(("refusal",)), admitted(), completion(*[ANSWER] * n), tuple(evidence), 0)
    extra = fall(data.draw(st.sampled_from(stages)), data.draw(st.sampled_from([0, None])))
    after = release(policy(("refusal",)), admitted(), completion(*[ANSWER] * n), (*evidence, extra), 0)
    rank = {Release: 0, Retry: 0, Withhold: 1}
    assert rank[type(after)] >= rank[type(before)]
    if extra.stage != "refusal":
        assert isinstance(after, Withhold)
    assert release(policy(("refusal",)), admitted(), completion(*[ANSWER] * n), tuple(reversed(evidence)), 0) == before


def test_failures_withhold_unless_excused():
    evidence = [w for w in words() if w.stage != "harmful-compliance"]
    broken = (*evidence, fall("harmful-compliance"))
    verdict = release(policy(), admitted(), completion(ANSWER), broken, 0)
    assert verdict == Withhold(
        reasons=(Reason(code="stage-failed", stage="harmful-compliance", cause="deadline"),), rule="audit[1]"
    )
    excused = release(policy(("harmful-compliance",)), admitted(), completion(ANSWER), broken, 0)
    assert excused == Release(rule="audit", excused=("harmful-compliance",))


def test_another_attempts_words_do_not_count():
    verdict = release(policy(), admitted(), completion(ANSWER), tuple(words(attempt=0)), 1)
    assert [r.code for r in verdict.reasons] == ["stage-missing"] * 4


def test_no_choices_withhold():
    assert release(policy(), admitted(), completion(), (), 0).reasons == (Reason(code="nothing-to-answer"),)


@pytest.mark.parametrize(
    ("score", "withheld"), [(0.59, False), (0.6, True), (1.0, True), (math.nan, True), (-3.0, True)]
)
def test_the_threshold_parts_notes_from_reasons(score, withheld):
    evidence = words({"harmful-compliance": (finding("harmful-compliance", score),)})
    verdict = release(policy(), admitted(), completion(ANSWER), tuple(evidence), 0)
    if withheld:
        part = "choices[0].content"
        reason = Reason(code="finding", stage="harmful-compliance", label="harmful-compliance", part=part)
        assert verdict == Withhold(reasons=(reason,), rule="audit[1]")
    else:
        assert verdict == Release(rule="audit", noted=("harmful-compliance",))


def test_note_only_notes():
    verdict = release(policy(), admitted(), completion(ANSWER), tuple(words({"style": (finding("style"),)})), 0)
    assert verdict == Release(rule="audit", noted=("style",))


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({}, "no-span"),
        ({"start": 0}, "no-span"),
        ({"start": 0, "end": 8}, "no-replacement"),
        ({"start": 0, "end": 8, "replacement": "Jane Roe"}, "no-replacement"),
        ({"start": 0, "end": 999, "replacement": "x"}, "bad-span"),
        ({"start": 5, "end": 5, "replacement": "x"}, "bad-span"),
        ({"start": -4, "end": 3, "replacement": "x"}, "bad-span"),
        ({"part": "choices[0].elsewhere", "start": 0, "end": 8, "replacement": "x"}, "unknown-part"),
    ],
)
def test_a_redaction_that_can_not_be_done_withholds(more, cause):
    evidence = words({"phi": (finding("phi", **more),)})
    verdict = release(policy(), admitted(), completion(ANSWER), tuple(evidence), 0)
    assert [(r.code, r.cause) for r in verdict.reasons] == [("finding", cause)]
    assert verdict.rule == "audit[2]"


def test_findings_of_a_stranger_withhold():
    extra = Audited(stage="stranger", version="1", ms=1.0, choice=0, findings=(finding("odd", 0.1),))
    verdict = release(policy(), admitted(), completion(ANSWER), (*words(), extra), 0)
    assert [(r.stage, r.cause) for r in verdict.reasons] == [("stranger", "unknown-stage")]


def test_a_finding_on_a_choice_that_is_not_there_withholds():
    extra = Audited(stage="phi", version="1", ms=1.0, choice=4, findings=(finding("phi"),))
    verdict = release(policy(), admitted(), completion(ANSWER), (*words(), extra), 0)
    assert [r.cause for r in verdict.reasons] == ["unknown-part"]


def test_a_refusal_of_a_benign_question_is_asked_again_once():
    evidence = tuple(words({"refusal": (finding("refusal"),)}))
    assert release(policy(), admitted(), completion(ANSWER), evidence, 0) == Retry(budget=RETRY, rule="over_defense")
    again = tuple(words({"refusal": (finding("refusal"),)}, attempt=1))
    assert release(policy(), admitted(), completion(ANSWER), again, 1) == Release(rule="audit", noted=("refusal",))


@pytest.mark.parametrize(
    ("risk", "below", "retried"), [(0.19, None, True), (0.2, None, False), (0.2, 0.3, True), (0.05, 0.05, False)]
)
def test_only_what_was_called_benign_is_asked_again(risk, below, retried):
    spec: dict[str, object] = {"retry": {"demonstrations": 16, "mix": 0.25}}
    p = policy(over_defense=spec if below is None else spec | {"benign_below": below})
    verdict = release(p, admitted(risk), completion(ANSWER), tuple(words({"refusal": (finding("refusal"),)})), 0)
    assert isinstance(verdict, Retry) is retried


def test_an_excused_pre_screener_called_nothing_benign():
    evidence = tuple(words({"refusal": (finding("refusal"),)}))
    assert isinstance(release(policy(), admitted(excused=("intent",)), completion(ANSWER), evidence, 0), Release)


def test_of_several_choices_all_must_refuse_for_a_retry():
    one = tuple(words({"refusal": (finding("refusal", choice=1),)}, 2))
    assert isinstance(release(policy(), admitted(), completion(ANSWER, ANSWER), one, 0), Release)
    both = tuple(words({"refusal": (finding("refusal", choice=0), finding("refusal", choice=1))}, 2))
    assert isinstance(release(policy(), admitted(), completion(ANSWER, ANSWER), both, 0), Retry)


def test_to_withhold_beats_to_retry():
    said = {"refusal": (finding("refusal"),), "harmful-compliance": (finding("harmful-compliance"),)}
    assert isinstance(release(policy(), admitted(), completion(ANSWER), tuple(words(said)), 0), Withhold)


@given(st.data())
def test_nothing_of_a_redacted_span_is_left(data):
    # Every character is unique and in no replacement, so what is left can be told apart.
    length = data.draw(st.integers(1, 40))
    answer = "".join(chr(0x4E00 + i) for i in range(length))
    other = "".join(chr(0x6E00 + i) for i in range(10))
    found = []
    for _ in range(data.draw(st.integers(1, 6))):
        text, part = data.draw(
            st.sampled_from([(answer, "choices[0].content"), (other, "choices[0].tool_calls[0].arguments")])
        )
        start = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(start + 1, len(text)))
        found.append(
            finding(
                "phi", part=part, start=start, end=end, replacement=data.draw(st.sampled_from(["", "[x]", "[date]"]))
            )
        )
    call = ToolCall(
        id="c",
        name=Text(id="choices[0].tool_calls[0].name", text="f"),
        arguments=Text(id="choices[0].tool_calls[0].arguments", text=other),
    )
    whole = Completion(
        model="m", choices=(Choice(index=0, text=Text(id="choices[0].content", text=answer), tool_calls=(call,)),)
    )
    verdict = release(policy(), admitted(), whole, tuple(words({"phi": tuple(found)})), 0)
    assert isinstance(verdict, Release)
    spans = [(r.choice, r.part, r.start, r.end) for r in verdict.redactions]
    assert spans == sorted(spans)
    assert all(a[:2] != b[:2] or a[3] <= b[2] for a, b in itertools.pairwise(spans))
    after = {t.id: t.text for t in redact(whole, verdict.redactions).choices[0].texts()}
    for f in found:
        before = answer if f.part == "choices[0].content" else other
        assert not set(before[f.start : f.end]) & set(after[f.part])
    for part, before in (("choices[0].content", answer), ("choices[0].tool_calls[0].arguments", other)):
        covered = {i for f in found if f.part == part for i in range(f.start, f.end)}
        assert [c for c in after[part] if c in before] == [c for i, c in enumerate(before) if i not in covered]


def test_overlapping_redactions_are_joined():
    a = Redaction(choice=0, part="p", start=0, end=5, replacement="[name]", label="name")
    b = Redaction(choice=0, part="p", start=3, end=9, replacement="[date]", label="date")
    c = Redaction(choice=0, part="p", start=9, end=10, replacement="", label="id")
    joined = Redaction(choice=0, part="p", start=0, end=9, replacement="[name]", label="name")
    assert merge((c, b, a)) == (joined, c)


@pytest.mark.parametrize(
    ("part", "start", "end"), [("choices[0].other", 0, 1), ("choices[0].content", -1, 2), ("choices[0].content", 0, 99)]
)
def test_a_redaction_of_what_is_not_there_is_an_error(part, start, end):
    with pytest.raises(ValueError, match="a redaction names a span that is not in the answer"):
        redact(completion(ANSWER), (Redaction(choice=0, part=part, start=start, end=end, replacement="", label="x"),))


def test_tool_calls_are_redacted_too():
    part = "choices[0].tool_calls[0].arguments"
    cut = Redaction(choice=0, part=part, start=10, end=18, replacement="[name]", label="name")
    done = redact(completion(ANSWER), (cut,))
    assert done.choices[0].tool_calls[0].arguments.text == '{"name": "[name]"}'
    assert done.choices[0].text.text == ANSWER


@pytest.mark.parametrize("label", sorted(HARMS))
def test_every_harm_category_has_its_words(label):
    reason = Reason(code="risk", stage="intent", label=label)
    told = refusal_text(Refuse(reasons=(reason,), rule="tiers"), "dec-1")
    assert f"it appears to concern {HARMS[label]}." in told
    assert told.endswith("Decision dec-1.")
    assert ("emergency number" in told) is (label == "H06")
    assert "rephrase" in told


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("stage-failed", "try again"),
        ("stage-missing", "try again"),
        ("demonstrations-failed", "try again"),
        ("model-failed", "try again"),
        ("uninspected", "without that part"),
        ("finding", "rephrase"),
        ("nothing-to-answer", "send a question"),
        ("something-new", "policy"),
    ],
)
def test_every_code_says_what_to_do_next(code, expected):
    for final in (Refuse(reasons=(Reason(code=code),), rule="r"), Withhold(reasons=(Reason(code=code),), rule="r")):
        told = refusal_text(final, "dec-2")
        assert expected in told
        assert "dec-2" in told
        assert told.startswith(
            "This request was not answered" if isinstance(final, Refuse) else "The answer to this request was held back"
        )
