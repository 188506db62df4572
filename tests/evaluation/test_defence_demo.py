"""The demo's second half measures the five settings with the stages that are installed."""

from typing import Any

import pytest

from gateway.cli.demo import _effect
from gateway.errors import Unavailable
from gateway.registry import Offer, Registry
from gateway.testing import FixedAuditor, FixedInjector, Raises, ScriptedBackend, offer


def registry(backend: Any) -> Registry:
    stages: dict[Any, dict[str, Any]] = {
        "prescreener": {},
        "injector": {"clinical": FixedInjector()},
        "backend": {"transformers": backend},
        "auditor": {
            "refusal": FixedAuditor("refusal", word="can not"),
            "harmful-compliance": FixedAuditor(None),
        },
    }
    return Registry(
        offers={
            kind: {
                name: Offer(kind=kind, name=name, distribution="test", version="1", stage=offer(name, stage))
                for name, stage in named.items()
            }
            for kind, named in stages.items()
        }
    )


async def test_five_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend({"insurer": "I can not help."}, otherwise="Sure.")
    monkeypatch.setattr("gateway.registry.load_registry", lambda: registry(backend))
    effects = await _effect(lambda _: None)
    assert [e.arm.budget.demonstrations for e in effects] == [0, 4, 4, 8, 8]
    for item in effects:
        rates = item.rates
        assert 0 < rates.attack_success.hits < rates.attack_success.of and rates.over_defense.hits == 0
    assert len(backend.prompts) == sum(e.judged for e in effects)


async def test_no_number_is_made_of_missing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.registry.load_registry", lambda: registry(Raises()))
    with pytest.raises(Unavailable, match="transformers: raised:RuntimeError"):
        await _effect(lambda _: None)
