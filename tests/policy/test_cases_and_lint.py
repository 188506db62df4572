"""Tables of cases, and the weaknesses that lint tells."""

# ruff: noqa: E501 - a table reads best with one row a line
from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.policy.cases import check_cases, load_cases, run_cases
from gateway.policy.lint import lint
from gateway.policy.model import LoadedPolicy, Policy, convert

RAW = {
    "department": "radiology",
    "revision": 1,
    "backend": {"stage": "model", "deadline": "10s"},
    "prescreen": [{"stage": "intent"}, {"stage": "image-text"}],
    "demonstrations": {"stage": "clinical"},
    "audit": [{"stage": "refusal"}, {"stage": "phi", "on_finding": "redact"}],
    "tiers": [{"below": 0.2, "budget": {"demonstrations": 4}}, {"below": 0.9, "budget": {"demonstrations": 8}}],
    "over_defense": {"retry": {"demonstrations": 16, "mix": 0.25}},
}


def policy(**more: object) -> Policy:
    return convert(RAW | more, Policy)


def results(tmp_path: Path, text: str, p: Policy | None = None) -> list[str | None]:
    file = tmp_path / "radiology.yaml"
    file.write_text(text)
    chosen = p or policy()
    return [result.problem for result in run_cases(chosen, load_cases(file, chosen))]


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("screen: {intent: 0.3}, expect: {admit: {tier: 1}}", None),
        ("screen: {intent: 0.3}, expect: {admit: {tier: 0}}", "expected tier 0, got 1; the decision was: admit by tiers[1] at risk 0.3"),
        ("screen: {intent: 0.95}, expect: {admit: {}}", "expected `admit`; the decision was: refuse by tiers: risk intent"),
        ("screen: {intent: 0.95}, expect: {refuse: [risk]}", None),
        ("screen: {intent: 0.95}, expect: {refuse: [stage-failed]}", "expected the reason stage-failed; the decision was: refuse by tiers: risk intent"),
        ("screen: {intent: 0.95}, uninspected: [image], expect: {refuse: [risk]}", "there is a reason more: uninspected image; the decision was: refuse by tiers: risk intent, uninspected image"),
        ("screen: {intent: missing}, expect: {refuse: [stage-missing]}", None),
        ("screen: {image-text: {inspected: []}, intent: {inspected: [text]}}, expect: {refuse: [uninspected]}", None),
        ("parts: {report: text}, screen: {intent: {inspected: [report]}}, expect: {admit: {waived: []}}", None),
        ("found: {intent: 0.95}, expect: {refuse: [{code: risk, stage: intent}]}", None),
        ("found: {intent: {failed: deadline}}, expect: {refuse: [stage-failed, uninspected]}", None),
        ("audit: {phi: [{score: 0.9, span: [0, 5], replacement: x}]}, expect: {release: {redacted: 1}}", None),
        ("audit: {phi: [{score: 0.9, span: [0, 5], replacement: x}]}, expect: {release: {redacted: 2}}", "expected redacted 2, got 1; the decision was: release with 1 redactions, noted []"),
        ("audit: {phi: [{score: 0.4}]}, expect: {release: {noted: [phi]}}", None),
        ("audit: {phi: {failed: deadline}}, expect: {withhold: [{code: stage-failed, cause: deadline}]}", None),
        ("audit: {refusal: [{score: 0.9}]}, expect: {retry: {demonstrations: 16, mix: 0.25}}", None),
        ("audit: {refusal: [{score: 0.9}]}, expect: {release: {}}", "expected `release`; the decision was: retry with 16 demonstrations"),
        ("audit: {refusal: [{score: 0.9}]}, attempt: 1, expect: {release: {}}", None),
        ("screen: {intent: 0.95}, expect: {release: {}}", "expected `release`; the decision was: refuse by tiers: risk intent"),
    ],
)  # fmt: skip
def test_a_case_is_compared_with_the_decision(tmp_path, case, problem):
    assert results(tmp_path, f"- {{name: c, {case}}}\n") == [problem]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("screen: {intnt: 0.3}, expect: {admit: {}}", "1: [0]: `intnt` is no pre-screener of this policy; did you mean `intent`?"),
        ("audit: {ph: []}, expect: {release: {}}", "1: [0]: `ph` is no auditor of this policy; did you mean `phi`?"),
        ("uninspected: [imag], expect: {admit: {}}", "1: [0]: `imag` is no part of this request; did you mean `image`?"),
        ("expect: {}", "1: [0]: `expect` takes exactly one of `admit`, `refuse`, `release`, `withhold`, `retry`"),
        ("expect: {admit: {}, refuse: [risk]}", "1: [0]: `expect` takes exactly one of `admit`, `refuse`, `release`, `withhold`, `retry`"),
        ("audit: {}, expect: {admit: {}}", "1: [0]: `audit` is about an answer, and `admit` is decided before there is one; remove one"),
        ("found: {intent: 0, image-text: 0}, expect: {admit: {}}", "1: [0]: `found` leaves no working pre-screener that found the text; do not name it there"),
        ("audit: {phi: [{score: 0.9, choice: 1}]}, expect: {withhold: [finding]}", "1: [0]: a finding names a choice that the answer does not have; set `choices`"),
        ("screen: {intent: 1.5}, expect: {admit: {}}", "1: [0].screen.intent: expected a number in 0..1 or `missing` or a mapping, got `1.5`"),
        ("screen: {intent: {rsk: 1}}, expect: {admit: {}}", "1: [0].screen.intent.rsk: unknown key; did you mean `risk`?"),
        ("expcet: {admit: {}}", "1: [0].expcet: unknown key; did you mean `expect`?"),
    ],
)  # fmt: skip
def test_a_bad_case_is_told_with_its_line(tmp_path, case, expected):
    with pytest.raises(ConfigurationError) as caught:
        results(tmp_path, f"- {{name: c, {case}}}\n")
    assert f"{tmp_path}/radiology.yaml:{expected}" in caught.value.problems


def test_every_bad_case_of_every_file_is_told(tmp_path):
    (tmp_path / "cases").mkdir()
    loaded = {d: LoadedPolicy(policy=policy(department=d), digest="0", path=d) for d in ("a", "b", "c")}
    (tmp_path / "cases" / "a.yaml").write_text("- {name: x, expect: {}}\n\n- {name: x, expect: {admit: {}}}\n")
    (tmp_path / "cases" / "b.yaml").write_text("nonsense\n")
    (tmp_path / "cases" / "d.yaml").write_text("[]\n")
    with pytest.raises(ConfigurationError) as caught:
        check_cases(tmp_path, loaded)
    assert [p.removeprefix(f"{tmp_path}/cases/").split(";")[0] for p in caught.value.problems] == [
        "a.yaml:1: [0]: `expect` takes exactly one of `admit`, `refuse`, `release`, `withhold`, `retry`",
        "a.yaml:3: [1].name: `x` stands twice",
        "b.yaml:1: expected a list, got `nonsense`",
        "d.yaml: belongs to no policy",
    ]


@pytest.mark.parametrize("text", [None, "[]\n"])
def test_a_policy_without_cases_fails(tmp_path, text):
    (tmp_path / "cases").mkdir()
    if text is not None:
        (tmp_path / "cases" / "radiology.yaml").write_text(text)
    loaded = {"radiology": LoadedPolicy(policy=policy(), digest="0", path="radiology.yaml")}
    (result,) = check_cases(tmp_path, loaded)
    assert result.problem == "there are no cases; write `cases/radiology.yaml`"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, []),
        ({"prescreen": [{"stage": "intent", "allow_if_unavailable": True}]}, ["prescreen[0].allow_if_unavailable: requests pass unchecked by `intent` when it fails"]),
        ({"demonstrations": {"stage": "clinical", "allow_if_unavailable": True}}, ["demonstrations.allow_if_unavailable: the model is asked without demonstrations when the stage fails"]),
        ({"uninspected": "allow_uninspected"}, ["uninspected: parts that no stage looked at reach the model"]),
        ({"audit": [{"stage": "refusal", "on_finding": "note"}, {"stage": "harmful-compliance", "on_finding": "note"}]}, ["audit[1].on_finding: what `harmful-compliance` finds is only noted: the answer leaves"]),
        ({"audit": [{"stage": "refusal"}, {"stage": "phi", "threshold": 0.95}]}, ["audit[1].threshold: what `phi` finds below 0.95 is only noted"]),
        ({"audit": [{"stage": "refusal", "allow_if_unavailable": True}]}, ["audit[0].allow_if_unavailable: answers leave unchecked by `refusal` when it fails"]),
        ({"audit": [{"stage": "phi"}]}, ["over_defense: no auditor `refusal` stands in `audit`: unless another finds refusals, nothing is retried"]),
        ({"over_defense": None}, ["over_defense: a benign question that the model refuses is not asked again"]),
        ({"over_defense": {"retry": {"demonstrations": 4, "mix": 0.5}}}, ["over_defense.retry: neither more demonstrations nor more answering ones than at first: nothing is gained"]),
        ({"over_defense": {"retry": {"demonstrations": 16}, "benign_below": 0.5}}, ["over_defense.benign_below: questions above the first tier are asked again with the retry's budget"]),
        ({"tiers": [{"below": 1.0, "budget": {"demonstrations": 4, "mix": 1.0}}]}, ["tiers[0].budget.mix: every demonstration refuses: the model will refuse benign questions too", "tiers[0].below: no risk under 1.0 is refused: leave room above the last tier"]),
        ({"tiers": [{"below": 0.2, "budget": {"demonstrations": 4, "mix": 0.0}}, {"below": 0.5, "budget": {"demonstrations": 0}}]}, ["tiers[0].budget.mix: no demonstration refuses: the model is shown only how to answer", "tiers[1].budget.demonstrations: the model is asked without demonstrations at this risk", "tiers[1].budget.demonstrations: a higher risk buys fewer demonstrations than a lower one"]),
        ({"demonstrations": None}, ["demonstrations: the model is asked without demonstrations: the defence is off"]),
        ({"deadline": "16s"}, ["deadline: the stages may take 17s, and 16s are there: late stages are cut short, and refuse"]),
    ],
)  # fmt: skip
def test_lint_tells_each_weakness(more, expected):
    assert [str(weakness) for weakness in lint(policy(**more))] == expected
