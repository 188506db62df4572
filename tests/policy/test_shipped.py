"""The four policies that are shipped, their cases, and the JSON Schema beside them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml

from gateway.policy.cases import check_cases, load_cases, run_cases
from gateway.policy.lint import lint
from gateway.policy.load import load_policies, schema
from gateway.policy.model import LoadedPolicy
from gateway.stages import NoConfig

POLICIES = Path(__file__).parents[2] / "policies"
DEPARTMENTS = ("dermatology", "emergency", "pathology", "radiology")
AUDITORS = ("refusal", "harmful-compliance", "phi", "demonstration-leak")
OFFERS = {
    "prescreener": {"intent": NoConfig, "image-text": NoConfig},
    "injector": {"clinical": NoConfig},
    "backend": {"transformers": NoConfig},
    "auditor": dict.fromkeys(AUDITORS, NoConfig),
}


@pytest.fixture(scope="module")
def loaded() -> dict[str, LoadedPolicy]:
    return load_policies(POLICIES, OFFERS)


def test_the_four_departments_are_there(loaded):
    assert tuple(sorted(loaded)) == DEPARTMENTS


@pytest.mark.parametrize("department", DEPARTMENTS)
def test_nothing_is_excused_and_every_check_stands(loaded, department):
    policy = loaded[department].policy
    assert {s.stage for s in policy.prescreen} == {"intent", "image-text"}
    assert tuple(s.stage for s in policy.audit) == AUDITORS
    assert policy.uninspected == "refuse"
    assert lint(policy) == ()


def test_every_case_comes_out_as_expected(loaded):
    results = check_cases(POLICIES, loaded)
    assert [r for r in results if r.problem is not None] == []
    assert min(sum(r.department == d for r in results) for d in DEPARTMENTS) >= 25


@pytest.mark.parametrize("department", DEPARTMENTS)
def test_the_cases_notice_every_change_of_a_tier_and_of_an_audit(loaded, department):
    policy = loaded[department].policy
    cases = load_cases(POLICIES / "cases" / f"{department}.yaml", policy)
    replace = msgspec.structs.replace
    variants = []
    for place, tier in enumerate(policy.tiers):
        for below in (tier.below - 0.002, tier.below + 0.002):
            tiers = list(policy.tiers)
            tiers[place] = replace(tier, below=below)
            variants.append(replace(policy, tiers=tuple(tiers)))
        tiers = list(policy.tiers)
        tiers[place] = replace(tier, budget=replace(tier.budget, demonstrations=tier.budget.demonstrations + 1))
        variants.append(replace(policy, tiers=tuple(tiers)))
    for place, spec in enumerate(policy.audit):
        if spec.stage == "refusal":
            continue
        audit = list(policy.audit)
        audit[place] = replace(spec, on_finding="note")
        variants.append(replace(policy, audit=tuple(audit)))
    variants.append(replace(policy, over_defense=None))
    variants.append(replace(policy, uninspected="allow_uninspected"))
    for place, screen in enumerate(policy.prescreen):
        prescreen = list(policy.prescreen)
        prescreen[place] = replace(screen, allow_if_unavailable=True)
        variants.append(replace(policy, prescreen=tuple(prescreen)))
    for variant in variants:
        assert any(r.problem for r in run_cases(variant, cases)), variant


def test_the_committed_schema_is_the_generated_one():
    assert json.loads((POLICIES / "schema.json").read_text()) == schema(), (
        "run `gateway policy schema > policies/schema.json`"
    )


def test_the_schema_takes_the_policies_and_refuses_mistakes():
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    for department in DEPARTMENTS:
        file = POLICIES / f"{department}.yaml"
        assert file.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
        raw = yaml.safe_load(file.read_text())
        assert list(validator.iter_errors(raw)) == []
        for wrong in (
            {"tiers": []},
            {"revison": 1},
            {"deadline": 5},
            {"stream": "fast"},
            {"audit": [{"stage": "A B"}]},
        ):
            assert not validator.is_valid(raw | wrong)
        assert not validator.is_valid({k: v for k, v in raw.items() if k != "prescreen"})


def test_every_option_of_the_model_is_in_the_schema():
    written = json.dumps(schema())
    for name in ("allow_if_unavailable", "uninspected", "benign_below", "threshold", "on_finding", "refuse_as", "keep"):
        assert f'"{name}"' in written
