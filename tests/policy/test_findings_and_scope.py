"""Findings of pre-screeners, the scope of a policy, and second opinions: what `admit` makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.policy.case import Case
from gateway.policy.cases import run_cases
from gateway.policy.decide import admit, refusal_text
from gateway.policy.decision import Admit, Refuse
from gateway.policy.evidence import Inspected, Screened, ScreenEvidence, Skipped, StageFailed
from gateway.policy.lint import lint
from gateway.policy.load import load_policies
from gateway.policy.model import Policy, convert
from gateway.stages import NoConfig
from gateway.values import Finding, Screening

PART = "messages[0].content"
SEEN = (Inspected(part=PART, kind="text", by=("intent",)),)
shares = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))


def policy(prescreen: list[dict[str, object]] | None = None, **more: object) -> Policy:
    raw: dict[str, object] = {
        "department": "radiology",
        "revision": 1,
        "backend": {"stage": "model"},
        "prescreen": prescreen or [{"stage": "intent"}],
        "audit": [{"stage": "refusal"}],
        "tiers": [{"below": 0.2, "budget": {"demonstrations": 0}}, {"below": 0.9, "budget": {"demonstrations": 0}}],
    }
    return convert(raw | more, Policy)


def word(stage: str = "intent", risk: float = 0.0, clinical: float | None = None, **findings: float) -> Screened:
    said = tuple(Finding(kind=kind, score=score, part=PART) for kind, score in findings.items())
    screening = Screening(risk=risk, inspected=(PART,), findings=said, clinical=clinical)
    return Screened(stage=stage, version="1", ms=1.0, screening=screening)


def failed(stage: str) -> StageFailed:
    return StageFailed(stage=stage, version="1", kind="prescreener", cause="deadline", ms=1.0)


def decided(p: Policy, *evidence: ScreenEvidence) -> Admit | Refuse:
    return admit(p, evidence, SEEN)


def codes(decision: Admit | Refuse) -> list[str]:
    assert isinstance(decision, Refuse)
    return [reason.code for reason in decision.reasons]


def strictness(decision: Admit | Refuse) -> int:
    return decision.tier if isinstance(decision, Admit) else 1000


def test_a_finding_calls_for_the_last_tier_unless_the_policy_says_otherwise():
    said = word(mismatch=0.8)
    plain = decided(policy(), said)
    assert isinstance(plain, Admit) and plain.tier == 1 and plain.rule == "prescreen[0].on_finding"
    noted = decided(policy([{"stage": "intent", "on_finding": "note"}]), said)
    assert isinstance(noted, Admit) and noted.tier == 0 and noted.rule == "tiers[0]"
    below = decided(policy([{"stage": "intent", "threshold": 0.81}]), said)
    assert isinstance(below, Admit) and below.tier == 0
    refused = decided(policy([{"stage": "intent", "on_finding": "refuse"}]), said)
    assert codes(refused) == ["finding"] and refused.rule == "prescreen[0]"
    assert refused.reasons[0].label == "mismatch" and refused.reasons[0].part == PART
    assert "another kind than the request says" in refusal_text(refused, "dec_1")


@given(st.sampled_from(["refuse", "last_tier", "note"]), shares, shares, shares, shares)
def test_a_surer_finding_is_never_more_lenient(action, threshold, risk, one, other):
    p = policy([{"stage": "intent", "on_finding": action, "threshold": threshold}])
    low, high = sorted((one, other))
    assert strictness(decided(p, word(risk=risk, noise=low))) <= strictness(decided(p, word(risk=risk, noise=high)))


def test_what_is_not_clinical_is_refused_where_the_policy_says_so():
    p = policy(scope="clinical")
    outside = decided(p, word(clinical=0.1))
    assert codes(outside) == ["out-of-scope"] and outside.rule == "scope"
    assert "clinical work only" in refusal_text(outside, "dec_1")
    assert isinstance(decided(p, word(clinical=0.9)), Admit)
    assert isinstance(decided(policy(), word(clinical=0.0)), Admit)


def test_a_scope_that_nobody_judged_refuses():
    assert codes(decided(policy(scope="clinical"), word())) == ["scope-unknown"]
    two = [{"stage": "intent", "allow_if_unavailable": True}, {"stage": "other"}]
    excused = decided(policy(two, scope="clinical"), failed("intent"), word("other"))
    assert isinstance(excused, Admit)
    mixed = decided(policy(two, scope="clinical"), word("intent", clinical=0.9), word("other", clinical=0.1))
    assert codes(mixed) == ["out-of-scope"]


@given(shares, shares, shares, shares)
def test_less_clinical_is_never_more_lenient(threshold, risk, one, other):
    p = policy(scope="clinical", clinical_at_least=threshold)
    low, high = sorted((one, other))
    assert strictness(decided(p, word(risk=risk, clinical=high))) <= strictness(
        decided(p, word(risk=risk, clinical=low))
    )


SECOND = [{"stage": "intent"}, {"stage": "second", "between": [0.2, 0.9]}]


@given(shares, shares)
def test_a_second_opinion_may_be_skipped_only_outside_its_band(risk, other):
    p = policy(SECOND)
    skipped = decided(p, word(risk=risk), Skipped(stage="second", version="1"))
    if 0.2 <= risk < 0.9:
        assert codes(skipped) == ["stage-missing"]
    else:
        assert strictness(skipped) == strictness(decided(p, word(risk=risk), word("second", risk=0.0)))
    asked = decided(p, word(risk=risk), word("second", risk=other))
    assert strictness(asked) == strictness(decided(policy(), word(risk=max(risk, other))))


def test_a_second_opinion_is_owed_where_the_first_failed():
    first = [{"stage": "intent", "allow_if_unavailable": True}, {"stage": "second", "between": [0.2, 0.9]}]
    decision = decided(policy(first), failed("intent"), Skipped(stage="second", version="1"))
    assert "stage-missing" in codes(decision)


def test_cases_can_say_findings_scope_and_second_opinions():
    p = policy(
        [{"stage": "intent", "on_finding": "refuse"}, {"stage": "second", "between": [0.2, 0.9]}], scope="clinical"
    )
    cases = convert(
        [
            {
                "name": "noise",
                "screen": {"intent": {"findings": {"adversarial-noise": 0.9}}},
                "expect": {"refuse": ["finding"]},
            },
            {"name": "chat", "screen": {"intent": {"clinical": 0.1}}, "expect": {"refuse": ["out-of-scope"]}},
            {"name": "skipped", "screen": {"intent": 0.1}, "expect": {"admit": {"tier": 0}}},
            {"name": "middle", "screen": {"intent": 0.5, "second": 0.95}, "expect": {"refuse": ["risk"]}},
            {"name": "silent", "screen": {"intent": 0.5, "second": "missing"}, "expect": {"refuse": ["stage-missing"]}},
        ],
        tuple[Case, ...],
    )
    assert [result.problem for result in run_cases(p, cases)] == [None] * 5


@pytest.mark.parametrize(
    ("prescreen", "told"),
    [
        ("[{stage: intent}, {stage: other, between: [0.9, 0.2]}]", "prescreen[1].between: `0.9` is not below `0.2`"),
        ("[{stage: intent, between: [0.2, 0.9]}]", "every pre-screener is a second opinion"),
    ],
)
def test_empty_bands_stop_the_start(tmp_path: Path, prescreen: str, told: str):
    text = (
        f"department: d\nrevision: 1\nbackend: {{stage: m}}\nprescreen: {prescreen}\naudit: [{{stage: refusal}}]\n"
        "tiers: [{below: 0.9, budget: {demonstrations: 0}}]\n"
    )
    (tmp_path / "d.yaml").write_text(text)
    offers = {
        "prescreener": {"intent": NoConfig, "other": NoConfig},
        "backend": {"m": NoConfig},
        "auditor": {"refusal": NoConfig},
        "injector": {},
    }
    with pytest.raises(ConfigurationError) as caught:
        load_policies(tmp_path, offers)
    assert told in str(caught.value)


def test_lint_tells_of_a_threshold_that_lets_findings_pass():
    told = [str(weakness) for weakness in lint(policy([{"stage": "intent", "threshold": 0.95}]))]
    assert "prescreen[0].threshold: what `intent` finds below 0.95 is only noted" in told
