"""A stage that asks a model gets the one that was built: shared where it is the same, told by place where it fails."""

from typing import Any

from msgspec import Struct

from gateway.bootstrap import config_digest
from gateway.bootstrap.building import Builder
from gateway.plugin import ModelRef, NoConfig, Stage
from gateway.policy.model import Duration, LoadedPolicy, Policy, convert
from gateway.registry import HOOKS, Offer, Registry
from gateway.testing import FixedAuditor, FixedPreScreener, ScriptedBackend


class Size(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size: int = 1


class Asking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: ModelRef
    note: str = ""


class Asks(FixedPreScreener):
    def __init__(self, config: Asking, model: Any) -> None:
        super().__init__(0.0)
        self.config, self.model = config, model


class Model(ScriptedBackend):
    made = 0

    def __init__(self, config: Size) -> None:
        if config.size == 13:
            raise ValueError("13 is too large; give 12")
        super().__init__({})
        self.size = config.size
        Model.made += 1


def builder() -> Builder:
    offers: dict[str, dict[str, Any]] = {kind: {} for kind in HOOKS.values()}
    for kind, stage in (
        ("prescreener", Stage("asks", Asking, Asks, asks="model")),
        ("prescreener", Stage("asks-too", Asking, Asks, asks="model")),
        ("backend", Stage("small", Size, Model)),
        ("backend", Stage("other", NoConfig, lambda _: ScriptedBackend({}))),
        ("auditor", Stage("audits", NoConfig, lambda _: FixedAuditor())),
    ):
        offers[kind][stage.name] = Offer(kind=kind, name=stage.name, distribution="test", version="1", stage=stage)  # type: ignore[arg-type]  # one of HOOKS
    return Builder(Registry(offers=offers))  # type: ignore[arg-type]  # by the kinds' names


def loaded(*refs: dict[str, Any], backend: dict[str, Any] | None = None) -> LoadedPolicy:
    """Make a policy whose pre-screeners ask the models `refs`."""
    names = ("asks", "asks-too")
    policy = {
        "department": "radiology",
        "revision": 1,
        "backend": backend or {"stage": "small"},
        "prescreen": [{"stage": name, "config": {"model": ref}} for name, ref in zip(names, refs, strict=False)],
        "audit": [{"stage": "audits"}],
        "tiers": [{"below": 0.9, "budget": {"demonstrations": 0}}],
    }
    return LoadedPolicy(policy=convert(policy, Policy), digest="0" * 64, path="radiology.yaml")


async def test_the_same_model_is_one_object_for_the_policy_and_for_all_that_ask_it() -> None:
    building, before = builder(), Model.made
    stages = await building.stages(loaded({"stage": "small"}, {"stage": "small", "config": {"size": 2}}))
    again = await building.stages(loaded({"stage": "small"}))
    assert building.problems == []
    model = stages["backend", "small"].stage
    assert stages["prescreener", "asks"].stage.model is model
    assert stages["prescreener", "asks-too"].stage.model.size == 2
    assert again["prescreener", "asks"] is stages["prescreener", "asks"]
    assert Model.made - before == 2
    assert sum(built.stage is model for built in building.made()) == 1  # and so it is closed once


async def test_a_model_that_no_policy_names_as_backend_is_built_and_closed_too() -> None:
    building = builder()
    stages = await building.stages(loaded({"stage": "small"}, backend={"stage": "other"}))
    asked = stages["prescreener", "asks"].stage.model
    assert isinstance(asked, Model)
    assert any(built.stage is asked for built in building.made())


async def test_a_model_that_nobody_offers_is_told_with_its_place_and_what_there_is() -> None:
    building = builder()
    stages = await building.stages(loaded({"stage": "smal"}))
    assert ("prescreener", "asks") not in stages
    (problem,) = building.problems
    assert problem.startswith("radiology.yaml: prescreen[0].config.model.stage: ")
    assert "`smal`" in problem
    assert "known: `other`, `small`" in problem


async def test_a_model_that_can_not_be_built_is_told_once_with_its_place() -> None:
    building = builder()
    stages = await building.stages(loaded({"stage": "small", "config": {"size": 13}}, {"stage": "small"}))
    (problem,) = building.problems
    assert problem.startswith(
        "radiology.yaml: prescreen[0].config.model: stage `small` can not be built: 13 is too large"
    )
    assert ("prescreener", "asks") not in stages
    assert stages["prescreener", "asks-too"].stage.model is stages["backend", "small"].stage


async def test_a_models_configuration_of_wrong_form_is_told_with_its_place() -> None:
    building = builder()
    await building.stages(loaded({"stage": "small", "config": {"sice": 1}}))
    (problem,) = building.problems
    assert problem.startswith("radiology.yaml: prescreen[0].config.model: ")
    assert "sice" in problem


class Timed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A configuration with every kind of value that a policy can give."""

    wait: Duration = Duration(seconds=2.0)
    words: dict[str, Any] = {}
    size: int = 1


def test_the_digest_of_a_configuration_is_of_what_is_in_effect() -> None:
    spelt = convert({"size": 1, "wait": "2000ms", "words": {"b": 1, "a": [True]}}, Timed)
    other = convert({"words": {"a": [True], "b": 1}, "wait": "2s"}, Timed)
    assert config_digest(spelt) == config_digest(other), "neither spelling, nor order, nor a default that was left out"
    changes: tuple[dict[str, Any], ...] = (
        {"size": 2},
        {"wait": "3s"},
        {"words": {"a": [False], "b": 1}},
        {"words": {}},
    )
    base = {"wait": "2s", "words": {"a": [True], "b": 1}}
    digests = {config_digest(convert(base | change, Timed)) for change in changes}
    assert len(digests | {config_digest(spelt)}) == 5
    assert all(len(digest) == 64 for digest in digests)


async def test_stages_carry_the_digest_of_their_configuration() -> None:
    made = await builder().stages(loaded({"stage": "small"}, {"stage": "small", "config": {"size": 2}}))
    screens = [made["prescreener", name].config for name in ("asks", "asks-too")]
    assert None not in screens
    assert screens[0] != screens[1], "what is asked of which model is part of the configuration"
    assert made["backend", "small"].config == config_digest(Size())
