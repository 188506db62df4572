"""Several models of one policy: what holds for each, what is no good, what is weak, and how cases name them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy.test_decide import coverage_of, screened

from gateway.errors import ConfigurationError
from gateway.policy.cases import load_cases, run_cases
from gateway.policy.decide import admit
from gateway.policy.decision import Admit
from gateway.policy.evidence import Audited
from gateway.policy.lint import lint
from gateway.policy.load import load_policies, schema
from gateway.policy.model import Policy, convert
from gateway.policy.models import for_model, spec_of
from gateway.policy.replay import Asking, Outline, Past, replay
from gateway.registry import load_registry
from gateway.stages import NoConfig
from gateway.values import Budget


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str


OFFERS: dict[Any, Any] = {
    "prescreener": {"intent": NoConfig, "image-text": NoConfig},
    "injector": {"clinical": NoConfig},
    "backend": {"openai": Server, "local": NoConfig},
    "auditor": {"refusal": NoConfig},
}
GOOD = """\
department: radiology
revision: 1
backend: {stage: local}
models:
  medgemma:27b: {stage: openai, deadline: 90s, form: packed, config: {model: google/medgemma-27b-it}}
  org/small: {stage: openai, cap: {demonstrations: 4, images: 1}, context: 4096, config: {model: small}}
prescreen: [{stage: intent}, {stage: image-text}]
demonstrations: {stage: clinical}
audit: [{stage: refusal}]
tiers:
  - {below: 0.2, budget: {demonstrations: 4, mix: 0.5}}
  - {below: 0.9, budget: {demonstrations: 16, mix: 0.25, images: 3}}
over_defense: {retry: {demonstrations: 32, mix: 0.25, tokens: 900}}
"""

counts = st.none() | st.integers(0, 64)
tokens = st.none() | st.integers(1, 5000)
budgets = st.builds(
    lambda n, mix, t, i: {"demonstrations": n, "mix": mix, "tokens": t, "images": i},
    st.integers(0, 64), st.floats(0, 1), tokens, counts,
)  # fmt: skip
caps = st.builds(lambda n, t, i: {"demonstrations": n, "tokens": t, "images": i}, counts, tokens, counts)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A policy with two models beside its default, caps and budgets as they come."""
    specs = [
        {"stage": "model", "cap": draw(caps), "form": draw(st.sampled_from([None, "turns", "packed"]))} for _ in "abc"
    ]
    belows = sorted(draw(st.lists(st.floats(0.05, 1), min_size=1, max_size=4, unique=True)))
    raw: dict[str, Any] = {
        "department": "radiology",
        "revision": 1,
        "backend": specs[0],
        "models": {"big": specs[1], "small": specs[2]},
        "prescreen": [{"stage": "intent"}],
        "demonstrations": {"stage": "clinical", "form": draw(st.sampled_from(["turns", "packed"]))},
        "audit": [{"stage": "refusal"}],
        "tiers": [{"below": below, "budget": draw(budgets)} for below in belows],
        "over_defense": draw(st.none() | st.builds(lambda b: {"retry": b}, budgets)),
    }
    return convert(raw, Policy)


names = st.sampled_from([None, "big", "small", "stranger"])


def at_most(number: int | None, most: int | None) -> bool:
    return most is None or (number is not None and number <= most)


@given(policies(), names)
def test_no_model_is_ever_shown_more_than_the_tier_buys_or_its_cap_allows(policy, name):
    its, spec = for_model(policy, name), spec_of(policy, name)
    pairs = [(was.budget, now.budget) for was, now in zip(policy.tiers, its.tiers, strict=True)]
    if policy.over_defense is not None:
        pairs.append((policy.over_defense.retry, its.over_defense.retry))
    for was, now in pairs:
        for field in ("demonstrations", "tokens", "images"):
            bounds = [n for n in (getattr(was, field), getattr(spec.cap, field)) if n is not None]
            assert getattr(now, field) == (min(bounds) if bounds else None)
        assert now.mix == was.mix
        assert at_most(now.tokens, was.tokens) and at_most(now.images, was.images)


@given(policies(), names)
def test_nothing_else_differs_and_once_is_enough(policy, name):
    its, spec = for_model(policy, name), spec_of(policy, name)
    assert its.backend == spec and its.models == {}
    assert its.demonstrations.form == (spec.form or policy.demonstrations.form)
    assert for_model(its) == for_model(its, name) == its
    kept = {field: getattr(policy, field) for field in ("backend", "models", "tiers", "over_defense", "demonstrations")}
    assert msgspec.structs.replace(its, **kept) == policy
    assert [tier.below for tier in its.tiers] == [tier.below for tier in policy.tiers]


@given(policies(), names, st.floats(0, 1), st.floats(0, 1))
def test_more_risk_is_never_more_lenient_for_any_model(policy, name, one, other):
    its = for_model(policy, name)
    decisions = []
    for risk in sorted((one, other)):
        words = (screened("intent", risk),)
        decisions.append(admit(its, words, coverage_of(words, dict.fromkeys(words[0].screening.inspected, "text"))))
    tiers = [d.tier if isinstance(d, Admit) else len(its.tiers) for d in decisions]
    assert tiers == sorted(tiers)


@given(policies(), names, st.floats(0, 1))
def test_which_model_is_asked_changes_no_refusal(policy, name, risk):
    words = (screened("intent", risk),)
    coverage = coverage_of(words, dict.fromkeys(words[0].screening.inspected, "text"))
    before, after = admit(policy, words, coverage), admit(for_model(policy, name), words, coverage)
    if isinstance(before, Admit):
        assert isinstance(after, Admit)
        assert msgspec.structs.replace(after, budget=before.budget) == before
    else:
        assert after == before


def problems(tmp_path, old: str, new: str) -> list[str]:
    assert GOOD.count(old) == 1
    (tmp_path / "radiology.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        load_policies(tmp_path, OFFERS)
    return [line.removeprefix(f"{tmp_path}/") for line in caught.value.problems]


def good(tmp_path, text: str = GOOD) -> Policy:
    (tmp_path / "radiology.yaml").write_text(text)
    return load_policies(tmp_path, OFFERS)["radiology"].policy


def test_models_load_by_the_names_that_requests_give_and_may_share_a_stage(tmp_path):
    models = good(tmp_path).models
    assert list(models) == ["medgemma:27b", "org/small"]
    assert models["medgemma:27b"].deadline.seconds == 90
    assert models["org/small"].cap.demonstrations == 4 and models["org/small"].context == 4096


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "  org/small: {stage: openai",
            "  org/small: {stage: opnai",
            "radiology.yaml:6: models.org/small.stage: no installed plugin offers the backend `opnai`; did you mean "
            "`openai`? installed: `local`, `openai`",
        ),
        (
            "config: {model: small}",
            "config: {modl: small}",
            "radiology.yaml:6: models.org/small.config.modl: unknown key; did you mean `model`?",
        ),
        (
            "  org/small:",
            "  auto:",
            "radiology.yaml:6: models.auto: `auto` asks for the default model; give it another name, or write it as "
            "`backend`",
        ),
        (
            "cap: {demonstrations: 4,",
            "cap: {demonstrations: 65,",
            "radiology.yaml:6: models.org/small.cap.demonstrations: expected a whole number in 0..64, got `65`",
        ),
        (
            "context: 4096",
            "context: 4k",
            "radiology.yaml:6: models.org/small.context: expected a whole number, at least 512, got `4k`",
        ),
    ],
)
def test_what_is_wrong_with_a_model_is_told_with_its_line(tmp_path, old, new, told):
    assert told in problems(tmp_path, old, new)


def test_a_name_that_no_request_can_give_is_refused(tmp_path):
    (line,) = problems(tmp_path, "  org/small:", '  "a small one":')
    assert line.startswith("radiology.yaml:6: models.a small one: expected text like `^[A-Za-z0-9]")
    assert line.endswith('got `"a small one"`')


def test_the_schema_knows_models_by_name():
    models = schema()["$defs"]["Policy"]["properties"]["models"]
    assert models["additionalProperties"] == {"$ref": "#/$defs/BackendSpec"}
    assert models["propertyNames"]["pattern"].startswith("^[A-Za-z0-9]")


def weak(policy: Policy, **models: Any) -> list[str]:
    changed = {name.replace("_", "-"): convert(spec, type(policy.backend)) for name, spec in models.items()}
    before = {str(one) for one in lint(policy)}
    return [str(one) for one in lint(msgspec.structs.replace(policy, models=changed)) if str(one) not in before]


def test_what_a_cap_takes_away_is_a_weakness(tmp_path):
    policy = good(tmp_path)
    assert weak(policy, capped={"stage": "local", "cap": {"demonstrations": 5, "tokens": 100}}) == []
    assert weak(policy, bare={"stage": "local", "cap": {"demonstrations": 0}}) == [
        "models.bare.cap.demonstrations: this model is asked without demonstrations: its defence is off"
    ]
    even = msgspec.structs.replace(policy, tiers=policy.tiers[1:])  # the first tier has the mix of the retry
    assert weak(even, small={"stage": "local", "cap": {"demonstrations": 16}}) == [
        "models.small.cap.demonstrations: asking again shows no more than at first: nothing is gained"
    ]
    assert weak(policy, slow={"stage": "local", "deadline": "3m"}) == [
        "models.slow.deadline: the stages may take 187s, and 120s are there: late stages are cut short, and refuse"
    ]


def test_the_default_has_a_cap_too(tmp_path):
    policy = good(
        tmp_path, GOOD.replace("backend: {stage: local}", "backend: {stage: local, cap: {demonstrations: 0}}")
    )
    assert "backend.cap.demonstrations: this model is asked without demonstrations: its defence is off" in map(
        str, lint(policy)
    )
    assert [tier.budget.demonstrations for tier in for_model(policy).tiers] == [0, 0]


CASES = """\
- {name: the default, screen: {intent: 0.5}, expect: {admit: {demonstrations: 16}}}
- {name: the small one, model: org/small, screen: {intent: 0.5}, expect: {admit: {demonstrations: 4, mix: 0.25}}}
- {name: the small one again, model: org/small, audit: {refusal: [{score: 0.9}]}, expect: {retry: {demonstrations: 4}}}
"""


def test_a_case_may_say_which_model_is_asked(tmp_path):
    policy = good(tmp_path)
    (tmp_path / "cases.yaml").write_text(CASES)
    results = run_cases(policy, load_cases(tmp_path / "cases.yaml", policy))
    assert [result.case for result in results if result.problem is None] == [
        "the default", "the small one", "the small one again"
    ]  # fmt: skip
    (tmp_path / "cases.yaml").write_text(CASES.replace("demonstrations: 4, mix", "demonstrations: 16, mix"))
    wrong = [r.problem for r in run_cases(policy, load_cases(tmp_path / "cases.yaml", policy)) if r.problem]
    assert wrong == ["expected demonstrations 16, got 4; the decision was: admit by tiers[1] at risk 0.5"]


def test_a_case_about_a_model_that_is_not_there_is_told(tmp_path):
    policy = good(tmp_path)
    (tmp_path / "cases.yaml").write_text(CASES.replace("model: org/small, screen", "model: org/smal, screen"))
    with pytest.raises(ConfigurationError) as caught:
        load_cases(tmp_path / "cases.yaml", policy)
    (line,) = caught.value.problems
    told = "`org/smal` is none of this policy's `models`; leave `model` out for the default; did you mean `org/small`?"
    assert line.endswith(f"cases.yaml:2: [1]: {told}")


def test_the_documented_models_load(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    (block,) = re.findall(r"^```yaml models\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    kept = [line for line in GOOD.splitlines() if not re.match(r"backend:|models:|  [mo][er][dg]", line)]
    (tmp_path / "radiology.yaml").write_text("\n".join(kept) + "\n" + block)
    (loaded,) = load_policies(tmp_path, load_registry().configs()).values()
    policy = loaded.policy
    assert list(policy.models) == ["medgemma:27b", "small"]
    small, big = for_model(policy, "small"), for_model(policy, "medgemma:27b")
    assert [tier.budget.demonstrations for tier in small.tiers] == [4, 4]
    assert (big.demonstrations.form, small.demonstrations.form) == ("packed", "turns")
    assert big.backend.context == 16384 and lint(policy) == lint(msgspec.structs.replace(policy, models={}))


def past(model: str | None, *, budget: int, backend: str = "openai", other: frozenset[Any] = frozenset()) -> Past:
    words = (screened("intent", 0.5), screened("image-text", 0.0))
    asking = Asking(
        budget=Budget(demonstrations=budget, mix=0.25, images=1),
        injector="clinical",
        backend=backend,
        failed=(),
        answer=Outline(lengths=(40,)),
        audits=(Audited(stage="refusal", version="1", ms=1.0, choice=0, findings=()),),
    )
    coverage = coverage_of(words, {words[0].screening.inspected[0]: "text"})
    return Past(screening=words, coverage=coverage, askings=(asking,), screen_only=False, model=model, other=other)


def test_a_decision_is_judged_again_as_it_holds_for_the_model_that_was_asked(tmp_path):
    policy = good(tmp_path)
    judged = replay(policy, past("org/small", budget=4))
    assert (judged.after, judged.caveats) == ("released", ())
    judged = replay(policy, past("org/small", budget=16))
    assert (judged.after, judged.caveats) == ("released", ("budget",)), "its cap is four"


def test_a_model_that_the_candidate_does_not_have_is_judged_as_its_default(tmp_path):
    judged = replay(good(tmp_path), past("gone", budget=16))
    assert judged.after == "released" and "model" in judged.caveats
    # of the same stage: its configuration tells
    other = frozenset({("backend", "local")})
    judged = replay(good(tmp_path), past("gone", budget=16, backend="local", other=other))
    assert judged.after == "released" and "model" in judged.caveats
