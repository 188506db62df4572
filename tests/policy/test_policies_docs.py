"""The snippets in docs/policies.md are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import inspect

from gateway.errors import ConfigurationError
from gateway.policy.case import Case
from gateway.policy.cases import load_cases, run_cases
from gateway.policy.load import load_policies
from gateway.policy.model import Policy
from gateway.stages import NoConfig

TEXT = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
OFFERS = {
    "prescreener": {"intent": NoConfig, "image-text": NoConfig},
    "injector": {"clinical": NoConfig},
    "backend": {"transformers": NoConfig},
    "auditor": dict.fromkeys(("refusal", "harmful-compliance", "phi", "demonstration-leak"), NoConfig),
}


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    return found


def test_the_policy_loads_and_the_cases_hold(tmp_path):
    (tmp_path / "radiology.yaml").write_text(block("yaml policy"))
    policy = load_policies(tmp_path, OFFERS)["radiology"].policy
    (tmp_path / "cases.yaml").write_text(block("yaml cases"))
    results = run_cases(policy, load_cases(tmp_path / "cases.yaml", policy))
    assert len(results) == 9
    assert [r for r in results if r.problem] == []


def test_the_mistakes_are_told_as_shown(tmp_path):
    (tmp_path / "radiology.yaml").write_text(block("yaml mistakes"))
    with pytest.raises(ConfigurationError) as caught:
        load_policies(tmp_path, OFFERS)
    assert [p.replace(str(tmp_path), "policies") for p in caught.value.problems] == block("text").splitlines()


@pytest.mark.parametrize("kind", [Policy, Case])
def test_every_key_stands_in_the_tables(kind):
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        assert re.search(rf"^\| .*`{field.name}(?:\.\w+)?`", TEXT, flags=re.MULTILINE), field.name
