"""Properties of `admit`: more risk, less evidence or more failures are never more lenient."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.policy.decide import admit
from gateway.policy.decision import Admit, Reason, Refuse
from gateway.policy.evidence import Inspected, Screened, ScreenEvidence, StageFailed
from gateway.policy.model import Policy, convert
from gateway.values import Score, Screening, Text

STAGES = ("intent", "image-text", "third")
TEXT, IMAGE, FOUND = "messages[0].content[0]", "messages[0].content[1]", "messages[0].content[1]#ocr"


def policy(
    excusable: tuple[str, ...] = (), stages: tuple[str, ...] = ("intent", "image-text"), **more: object
) -> Policy:
    raw: dict[str, object] = {
        "department": "radiology",
        "revision": 1,
        "backend": {"stage": "model"},
        "prescreen": [{"stage": s, "allow_if_unavailable": s in excusable} for s in stages],
        "demonstrations": {"stage": "clinical"},
        "audit": [{"stage": "refusal"}],
        "tiers": [
            {"below": 0.2, "budget": {"demonstrations": 4}},
            {"below": 0.5, "budget": {"demonstrations": 8}},
            {"below": 0.9, "budget": {"demonstrations": 16}},
        ],
    }
    return convert(raw | more, Policy)


def screened(
    stage: str,
    risk: float,
    inspected: tuple[str, ...] = (TEXT, IMAGE),
    round_: str = "request",
    found: tuple[str, ...] = (),
    scores: tuple[Score, ...] = (),
) -> Screened:
    texts = tuple(Text(id=i, text="seen") for i in found)
    screening = Screening(risk=risk, inspected=inspected, found=texts, scores=scores, part=TEXT)
    return Screened(stage=stage, version="1", ms=1.0, screening=screening, round=round_)


def failed(stage: str, round_: str = "request", cause: str = "deadline") -> StageFailed:
    return StageFailed(stage=stage, version="1", kind="prescreener", cause=cause, ms=1.0, round=round_)


def coverage_of(evidence: tuple[ScreenEvidence, ...], parts: dict[str, str]) -> tuple[Inspected, ...]:
    return tuple(
        Inspected(
            part=part,
            kind=kind,
            by=tuple(w.stage for w in evidence if isinstance(w, Screened) and part in w.screening.inspected),
        )
        for part, kind in parts.items()
    )


def decide(p: Policy, evidence: tuple[ScreenEvidence, ...], image: bool = True) -> Admit | Refuse:
    parts = {TEXT: "text"} | ({IMAGE: "image"} if image else {})
    found = {t.id for w in evidence if isinstance(w, Screened) for t in w.screening.found}
    return admit(p, evidence, coverage_of(evidence, parts | dict.fromkeys(sorted(found), "text")))


def codes(decision: Admit | Refuse) -> list[str]:
    assert isinstance(decision, Refuse)
    return [reason.code for reason in decision.reasons]


def strictness(decision: Admit | Refuse) -> int:
    return decision.tier if isinstance(decision, Admit) else 1000


shares = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
parts = st.lists(st.sampled_from([TEXT, IMAGE, FOUND]), unique=True).map(tuple)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Policy, tuple[ScreenEvidence, ...], tuple[Inspected, ...]]:
    """A policy, one word of each required stage and round, and a coverage that may claim more than the words do."""
    stages = STAGES[: draw(st.integers(1, 3))]
    excusable = tuple(s for s in stages if draw(st.booleans()))
    p = policy(excusable, stages, uninspected=draw(st.sampled_from(["refuse", "allow_uninspected"])))
    finder = draw(st.sampled_from([None, *stages]))
    evidence: list[ScreenEvidence] = []
    for stage in stages:
        if stage == finder:
            evidence.append(screened(stage, draw(shares), draw(parts), found=(FOUND,)))
        elif draw(st.integers(0, 3)):
            evidence.append(screened(stage, draw(shares), draw(parts)))
        else:
            evidence.append(failed(stage))
        if finder is not None and stage != finder:
            word = (
                screened(stage, draw(shares), (FOUND,), "found") if draw(st.integers(0, 3)) else failed(stage, "found")
            )
            evidence.append(word)
    claimed = [
        Inspected(part=part, kind=kind, by=tuple(draw(st.lists(st.sampled_from(stages), unique=True))))
        for part, kind in ((TEXT, "text"), (IMAGE, "image"), (FOUND, "text"))
        if draw(st.booleans())
    ]
    real = coverage_of(tuple(evidence), {TEXT: "text", IMAGE: "image"} | ({FOUND: "text"} if finder else {}))
    return p, tuple(evidence), real if draw(st.booleans()) else tuple(claimed)


@given(situations(), st.data())
def test_more_risk_is_never_more_lenient(situation, data):
    p, evidence, coverage = situation
    place = data.draw(st.integers(0, len(evidence) - 1))
    word = evidence[place]
    assume(isinstance(word, Screened))
    worse = data.draw(st.one_of(st.floats(word.screening.risk, 1), st.sampled_from([math.nan, math.inf, -1.0, 7.0])))
    raised = msgspec.structs.replace(word, screening=msgspec.structs.replace(word.screening, risk=worse))
    after = admit(p, (*evidence[:place], raised, *evidence[place + 1 :]), coverage)
    assert strictness(after) >= strictness(admit(p, evidence, coverage))


@given(situations())
def test_every_required_word_that_is_removed_refuses(situation):
    p, evidence, coverage = situation
    for place, word in enumerate(evidence):
        after = admit(p, evidence[:place] + evidence[place + 1 :], coverage)
        assert isinstance(after, Refuse)
        found = isinstance(word, Screened) and word.screening.found
        if not found:
            assert Reason(code="stage-missing", stage=word.stage) in after.reasons


@given(situations(), st.sampled_from([*STAGES, "stranger"]), st.sampled_from(["request", "found"]))
def test_one_more_failure_is_never_more_lenient(situation, stage, round_):
    p, evidence, coverage = situation
    before = admit(p, evidence, coverage)
    after = admit(p, (*evidence, failed(stage, round_)), coverage)
    assert strictness(after) >= strictness(before)


@given(situations(), st.data())
def test_a_success_that_becomes_an_unexcused_failure_refuses(situation, data):
    p, evidence, coverage = situation
    place = data.draw(st.integers(0, len(evidence) - 1))
    word = evidence[place]
    assume(not next(s for s in p.prescreen if s.stage == word.stage).allow_if_unavailable)
    after = admit(p, (*evidence[:place], failed(word.stage, word.round), *evidence[place + 1 :]), coverage)
    assert Reason(code="stage-failed", stage=word.stage, cause="deadline") in after.reasons


@given(situations(), st.data())
def test_less_coverage_is_never_more_lenient_where_nothing_is_excused(situation, data):
    p, evidence, coverage = situation
    p = msgspec.structs.replace(
        p, prescreen=tuple(msgspec.structs.replace(s, allow_if_unavailable=False) for s in p.prescreen)
    )
    assume(coverage)
    place = data.draw(st.integers(0, len(coverage) - 1))
    blind = msgspec.structs.replace(coverage[place], by=())
    after = admit(p, evidence, (*coverage[:place], blind, *coverage[place + 1 :]))
    assert strictness(after) >= strictness(admit(p, evidence, coverage))


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_of_evidence_does_not_count(situation, random):
    p, evidence, coverage = situation
    shuffled = list(evidence)
    random.shuffle(shuffled)
    assert admit(p, tuple(shuffled), coverage) == admit(p, evidence, coverage)


@given(situations())
def test_an_admission_says_what_it_let_pass(situation):
    p, evidence, coverage = situation
    decision = admit(p, evidence, coverage)
    assume(isinstance(decision, Admit))
    assert set(decision.excused) == {w.stage for w in evidence if isinstance(w, StageFailed)}
    assert decision.budget == p.tiers[decision.tier].budget.budget()
    assert all(w.screening.risk < p.tiers[decision.tier].below for w in evidence if isinstance(w, Screened))


@pytest.mark.parametrize(
    ("risk", "tier"), [(0.0, 0), (0.1999, 0), (0.2, 1), (0.4999, 1), (0.5, 2), (0.8999, 2), (0.9, None), (1.0, None)]
)
def test_the_first_tier_whose_below_exceeds_the_risk_counts(risk, tier):
    decision = decide(policy(), (screened("intent", risk), screened("image-text", 0.0)))
    if tier is None:
        assert isinstance(decision, Refuse)
        assert (decision.rule, decision.risk) == ("tiers", risk)
    else:
        assert isinstance(decision, Admit)
        assert (decision.tier, decision.rule, decision.risk) == (tier, f"tiers[{tier}]", risk)


@pytest.mark.parametrize("risk", [math.nan, math.inf, -math.inf, -0.1, 1.1, None, "0.1", True])
def test_a_broken_risk_is_the_worst(risk):
    decision = decide(policy(), (screened("intent", risk), screened("image-text", 0.0)))
    assert codes(decision) == ["risk"]
    assert decision.risk == 1.0


def test_a_risk_reason_names_the_best_label_the_stage_and_the_part():
    scores = (Score(label="H07", value=0.3), Score(label="H01", value=0.97), Score(label="H02", value=0.97))
    decision = decide(policy(), (screened("intent", 0.97, scores=scores), screened("image-text", 0.0)))
    assert decision.reasons == (Reason(code="risk", stage="intent", label="H01", part=TEXT),)


def test_text_found_in_an_image_counts_as_if_typed():
    first = (screened("intent", 0.0), screened("image-text", 0.0, found=(FOUND,)))
    assert codes(decide(policy(), first)) == ["stage-missing", "uninspected"]
    assert codes(decide(policy(), (*first, screened("intent", 0.95, (FOUND,), "found")))) == ["risk"]
    assert codes(decide(policy(), (*first, failed("intent", "found")))) == ["stage-failed", "uninspected"]
    assert isinstance(decide(policy(), (*first, screened("intent", 0.0, (FOUND,), "found"))), Admit)


def test_found_text_that_coverage_forgot_refuses():
    words = (screened("intent", 0.0), screened("image-text", 0.0, found=(FOUND,)), screened("intent", 0.0, (), "found"))
    assert codes(admit(policy(), words, coverage_of(words, {TEXT: "text", IMAGE: "image"}))) == ["uninspected"]


def test_coverage_that_claims_more_than_the_words_refuses():
    words = (screened("intent", 0.0, (TEXT,)), screened("image-text", 0.0, ()))
    claimed = (
        Inspected(part=TEXT, kind="text", by=("intent",)),
        Inspected(part=IMAGE, kind="image", by=("image-text",)),
    )
    decision = admit(policy(), words, claimed)
    assert decision.reasons == (Reason(code="uninspected", part=IMAGE),)
    assert decision.rule == "uninspected"


def test_a_stranger_inspects_nothing():
    words = (screened("intent", 0.0, (TEXT,)), screened("image-text", 0.0, ()), screened("stranger", 0.0, (IMAGE,)))
    assert codes(decide(policy(), words)) == ["uninspected"]


def test_no_part_at_all_refuses():
    assert codes(admit(policy(), (screened("intent", 0.0), screened("image-text", 0.0)), ())) == ["nothing-to-answer"]


def test_no_evidence_at_all_gives_every_reason():
    decision = decide(policy(), ())
    assert codes(decision) == ["stage-missing", "stage-missing", "uninspected", "uninspected"]
    assert decision.risk is None
    assert decision.rule == "prescreen[1]"  # `image-text` sorts first by name


def test_all_reasons_come_worst_first():
    words = (screened("intent", 0.92, ()), screened("third", 0.99, ()), failed("image-text"))
    decision = decide(policy(stages=STAGES), words)
    assert [(r.code, r.stage) for r in decision.reasons] == [
        ("risk", "third"),
        ("risk", "intent"),
        ("stage-failed", "image-text"),
        ("uninspected", None),
        ("uninspected", None),
    ]
    assert decision.rule == "tiers"


def test_an_excused_failure_counts_the_most_cautious_tier():
    decision = decide(policy(("intent",)), (failed("intent"), screened("image-text", 0.0)))
    assert isinstance(decision, Admit)
    assert (decision.tier, decision.risk, decision.excused, decision.waived) == (2, 0.0, ("intent",), ())


def test_nothing_but_excused_failures_is_an_unknown_risk():
    decision = decide(policy(("intent", "image-text")), (failed("intent"), failed("image-text")))
    assert isinstance(decision, Admit)
    assert (decision.tier, decision.risk) == (2, 1.0)
    assert decision.excused == ("intent", "image-text")
    assert decision.waived == (TEXT, IMAGE)


def test_an_excuse_waives_only_the_kind_that_no_working_stage_looked_at():
    p = policy(("image-text",))
    decision = decide(p, (screened("intent", 0.0, (TEXT,)), failed("image-text")))
    assert isinstance(decision, Admit)
    assert decision.waived == (IMAGE,)
    evidence = (screened("intent", 0.0, (TEXT,)), failed("image-text"))
    two = coverage_of(evidence, {TEXT: "text", "messages[1].content": "text", IMAGE: "image"})
    assert admit(p, evidence, two).reasons == (Reason(code="uninspected", part="messages[1].content"),)


def test_a_failure_beside_a_word_of_the_same_stage_waives_nothing():
    p = policy(("image-text",))
    words = (screened("intent", 0.0, (TEXT,)), screened("image-text", 0.0, ()))
    assert codes(decide(p, words)) == ["uninspected"]
    assert codes(decide(p, (*words, failed("image-text")))) == ["uninspected"]


def test_allow_uninspected_is_told():
    p = policy(uninspected="allow_uninspected")
    decision = decide(p, (screened("intent", 0.0, (TEXT,)), screened("image-text", 0.0, ())))
    assert isinstance(decision, Admit)
    assert decision.waived == (IMAGE,)
