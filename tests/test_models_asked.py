"""Several models in one pipeline: which is asked, what it is shown, what the record says, and how they are built."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct
from test_room import CALLER, POLICY, run

from gateway.bootstrap import unfitting
from gateway.bootstrap.building import Builder
from gateway.pipeline import Built, Pipeline
from gateway.pipeline.room import bounded
from gateway.plugin import NoConfig, Stage
from gateway.policy.evidence import StageFailed
from gateway.policy.model import LoadedPolicy, Policy, convert
from gateway.records import Digester, Outcome, record_of
from gateway.registry import HOOKS, Offer, Registry
from gateway.testing import FixedAuditor, FixedInjector, FixedPreScreener, Hangs, ScriptedBackend, request

SMALL = {"stage": "model", "deadline": "30s", "form": "packed", "cap": {"demonstrations": 2, "tokens": 500}}
BIG = {"stage": "other"}


def stage(kind: str, name: str, made: Any, **more: Any) -> tuple[tuple[Any, str], Built]:
    return (kind, name), Built(name=name, version="1", stage=made, config=f"config-of-{name}", **more)


def make(
    default: Built | Any, models: dict[str, Any], built: dict[str, Built], **changes: Any
) -> tuple[Pipeline, LoadedPolicy]:
    """Make a pipeline whose default is stage `model`; `models` are the policy's further ones, `built` their stages."""
    given = default if isinstance(default, Built) else stage("backend", "model", default)[1]
    stages = dict(
        (
            stage("prescreener", "screen", FixedPreScreener()),
            stage("injector", "inject", FixedInjector()),
            stage("auditor", "audit", FixedAuditor()),
        )
    )
    stages["backend", "model"] = given
    policy = convert(POLICY | {"models": models} | changes, Policy)
    loaded = LoadedPolicy(policy=policy, digest="0" * 64, path="radiology.yaml")
    return Pipeline(loaded, stages, None, built), loaded


def three(**default: Any) -> tuple[Pipeline, LoadedPolicy, dict[str, ScriptedBackend]]:
    asked = {name: ScriptedBackend(otherwise=f"I am {name}.", model=f"org/{name}") for name in ("own", "small", "big")}
    built = {
        "small": Built(name="model", version="2", stage=asked["small"], config="config-of-small"),
        "big": Built(name="other", version="3", stage=asked["big"], config="config-of-big"),
    }
    backend = {"stage": "model", "deadline": "1s"} | default
    pipeline, loaded = make(asked["own"], {"small": SMALL, "big": BIG}, built, backend=backend)
    return pipeline, loaded, asked


async def ask(pipeline: Pipeline, model: str) -> Outcome:
    return await pipeline.run(request("Is there a fracture?", model=model), CALLER, "/v1/chat/completions")


def test_the_defaults_names_come_first_and_none_stands_twice() -> None:
    pipeline, _, _ = three()
    assert pipeline.models() == ("org/own", "small", "big")

    class Two(ScriptedBackend):
        def models(self) -> tuple[str, ...]:
            return ("one", "two", "one")

    pipeline, _ = make(Two(), {"two": SMALL, "three": BIG}, {name: stage("", name, 0)[1] for name in ("two", "three")})
    assert pipeline.models() == ("one", "two", "three")


@pytest.mark.parametrize(
    ("model", "answered", "shown", "form"),
    [("org/own", "own", 8, "turns"), ("small", "small", 2, "packed"), ("big", "big", 8, "turns"),
     ("stranger", "own", 8, "turns")],
)  # fmt: skip
async def test_the_model_that_is_named_is_asked_as_the_policy_has_it(model, answered, shown, form) -> None:
    pipeline, _, asked = three()
    outcome = await ask(pipeline, model)
    assert outcome.word == "released"
    assert outcome.answer is not None and outcome.answer.choices[0].text.text == f"I am {answered}."
    assert [name for name, backend in asked.items() if backend.prompts] == [answered]
    (prompt,) = asked[answered].prompts
    assert (len(prompt.demonstrations), prompt.form) == (shown, form)
    assert outcome.attempts[0].budget.tokens == (500 if model == "small" else None)


async def test_the_default_is_capped_and_formed_too() -> None:
    pipeline, _, asked = three(form="packed", cap={"demonstrations": 4})
    assert (await ask(pipeline, "org/own")).attempts[0].budget.demonstrations == 4
    assert asked["own"].prompts[0].form == "packed"
    assert (await ask(pipeline, "big")).attempts[0].budget.demonstrations == 8, "a cap is the model's own"
    assert asked["big"].prompts[0].form == "turns"
    screened = await pipeline.moderate(request(), CALLER, "/v1/moderations")
    assert screened.admitted is not None and screened.admitted.budget.demonstrations == 4


@pytest.mark.parametrize(
    ("model", "stage_", "config"),
    [("org/own", "model", "config-of-model"), ("small", "model", "config-of-small"), ("big", "other", "config-of-big")],
)
async def test_the_record_says_which_model_was_asked_and_how_it_was_configured(model, stage_, config) -> None:
    pipeline, loaded, _ = three()
    record = record_of(await ask(pipeline, model), Digester(b"s" * 32))
    assert record.model == model
    assert record.policy.digest == loaded.digest
    completed = record.attempts[0].completed
    assert completed is not None and (completed.stage, completed.config) == (stage_, config)
    injected = record.attempts[0].injected
    assert injected is not None and injected.config == "config-of-inject", "the rest is the department's"


async def test_patience_holds_for_every_model() -> None:
    pipeline, loaded, _ = three()
    patient = pipeline.patient(10)
    for name, seconds in (("org/own", 10.0), ("small", 300.0), ("big", 600.0)):
        its = patient.of_model(name)
        assert its.policy.backend.deadline.seconds == seconds
        assert its.policy.prescreen[0].deadline.seconds == 20
        assert its.loaded is loaded
        assert pipeline.of_model(name).policy.backend.deadline.seconds * 10 == seconds
    record = record_of(await ask(patient, "small"), Digester(b"s" * 32))
    assert record.policy.digest == loaded.digest and record.outcome == "released"


async def test_a_gate_stands_before_every_model() -> None:
    class Gate:
        entered = 0

        async def __aenter__(self) -> None:
            self.entered += 1

        async def __aexit__(self, *_: object) -> None:
            return None

    pipeline, _, _ = three()
    gate = Gate()
    patient = pipeline.patient(2, gate)
    for count, name in enumerate(("org/own", "small", "big"), 1):
        await ask(patient, name)
        assert gate.entered == count


async def test_the_deadline_of_a_model_is_its_own() -> None:
    slow = Built(name="other", version="1", stage=Hangs())
    pipeline, _ = make(ScriptedBackend(), {"slow": {"stage": "other", "deadline": "20ms"}}, {"slow": slow})
    outcome = await ask(pipeline, "slow")
    failed = outcome.attempts[0].completed
    assert outcome.word == "withheld"
    assert isinstance(failed, StageFailed) and (failed.stage, failed.cause) == ("other", "deadline")
    assert (await run(pipeline)).word == "released"


@pytest.mark.parametrize("most", [600, 700, 900])
async def test_a_context_is_as_if_the_model_read_no_more(most) -> None:
    """The stage reads 2000 tokens at once; the policy gives it fewer, and as much is cut as where it read so few."""
    model, reads = ScriptedBackend(context=2000), ScriptedBackend(context=most)
    other = Built(name="other", version="1", stage=model, context=2000)
    small = Built(name="other", version="1", stage=reads, context=most)
    models = {"less": {"stage": "other", "context": most}, "all": {"stage": "other"}, "few": {"stage": "other"}}
    pipeline, _ = make(ScriptedBackend(), models, {"less": other, "all": other, "few": small})
    less, few, whole = [await ask(pipeline, name) for name in ("less", "few", "all")]
    assert whole.attempts[0].trimmed is None
    assert less.attempts[0].trimmed == few.attempts[0].trimmed
    assert model.prompts[0].demonstrations == reads.prompts[0].demonstrations
    assert pipeline.of_model("less").context == most and pipeline.of_model("all").context == 2000


@pytest.mark.parametrize(
    ("tells", "most", "told"),
    [(None, None, (None, 0)), (2000, None, (2000, 0)), (2000, 600, (600, 1400)), (2000, 9000, (2000, 0)),
     (None, 600, (600, 0))],
)  # fmt: skip
def test_the_smaller_context_counts(tells, most, told) -> None:
    assert bounded(tells, most) == told


class Size(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size: int = 1
    context: int | None = None


def build(config: Size) -> ScriptedBackend:
    if config.size == 13:
        raise ValueError("13 is too large; give 12")
    return ScriptedBackend(model=f"org/size-{config.size}", context=config.context)


def offers() -> Registry:
    made: dict[str, dict[str, Any]] = {kind: {} for kind in HOOKS.values()}
    for kind, offer in (
        ("prescreener", Stage("screen", NoConfig, lambda _: FixedPreScreener())),
        ("injector", Stage("inject", NoConfig, lambda _: FixedInjector())),
        ("backend", Stage("model", Size, build, context=lambda config: config.context)),
        ("backend", Stage("other", NoConfig, lambda _: ScriptedBackend())),
        ("auditor", Stage("audit", NoConfig, lambda _: FixedAuditor())),
    ):
        made[kind][offer.name] = Offer(kind=kind, name=offer.name, distribution="test", version="1", stage=offer)  # type: ignore[arg-type]  # one of HOOKS
    return Registry(offers=made)  # type: ignore[arg-type]  # by the kinds' names


def policy(models: dict[str, Any], **changes: Any) -> LoadedPolicy:
    made = convert(POLICY | {"models": models} | changes, Policy)
    return LoadedPolicy(policy=made, digest="0" * 64, path="radiology.yaml")


def sized(size: int, **more: Any) -> dict[str, Any]:
    config = {key: more.pop(key) for key in tuple(more) if key == "reads"}
    return {"stage": "model", "config": {"size": size} | ({"context": config["reads"]} if config else {})} | more


async def test_each_model_is_built_once_whoever_names_it() -> None:
    builder = Builder(offers())
    names = {"one-more": sized(1), "two": sized(2, reads=4096), "twice": sized(2, reads=4096, cap={"images": 0})}
    first = policy(names, backend=sized(1))
    stages = await builder.stages(first)
    models = await builder.models(first, stages)
    assert builder.problems == []
    assert models["one-more"].stage is stages["backend", "model"].stage
    assert models["two"].stage is models["twice"].stage is not models["one-more"].stage
    assert models["two"].config != models["one-more"].config and models["two"].context == 4096
    second = policy({"there": sized(2, reads=4096)})
    assert (await builder.models(second, await builder.stages(second)))["there"].stage is models["two"].stage
    pipeline = Pipeline(first, stages, None, models)
    assert pipeline.of_model("two").backend is models["two"].stage
    assert pipeline.of_model("org/size-1").backend is stages["backend", "model"].stage


async def test_a_name_that_the_default_has_already_and_a_model_that_can_not_be_built_are_told() -> None:
    builder = Builder(offers())
    loaded = policy({"org/size-1": sized(2), "broken": sized(13)})
    models = await builder.models(loaded, await builder.stages(loaded))
    assert "broken" not in models
    taken, broken = builder.problems
    assert taken == (
        "radiology.yaml: models.org/size-1: the model of `backend` has this name already; give another, or remove it"
    )
    assert broken.startswith("radiology.yaml: models.broken: stage `model` can not be built: 13 is too large; give 12")


async def test_budgets_that_can_never_fit_are_told_for_each_model() -> None:
    registry = offers()
    injector = {("injector", "inject"): Built(name="inject", version="1", stage=FixedInjector())}

    async def told(**models: Any) -> list[str]:
        tiers = [{"below": 0.5, "budget": {"demonstrations": 16}}]
        loaded = policy(models, backend=sized(1, reads=9000), tiers=tiers)
        return await unfitting(loaded, injector, registry)

    assert await told(fits=sized(2, reads=9000), unknown=sized(2)) == []
    (problem,) = await told(fits=sized(2, reads=9000), narrow=sized(2, reads=300))
    assert problem.startswith("radiology.yaml: models.narrow: tiers[0].budget.demonstrations: 16 demonstrations take")
    assert await told(narrow=sized(2, reads=600, cap={"demonstrations": 1})) == [], "its cap lets it fit"
    (problem,) = await told(less=sized(2, reads=9000, context=512))
    assert problem.startswith("radiology.yaml: models.less: tiers[0]") and "context of 512" in problem


async def test_a_context_that_nobody_could_keep_to_stops_the_start() -> None:
    hint = "does not tell how many tokens it reads; say it in the stage's `config`, or leave `context` out"
    found = await unfitting(
        policy(
            {"two": sized(2, context=512), "three": {"stage": "other", "context": 512}},
            backend={"stage": "model", "context": 4096},
        ),
        {},
        offers(),
    )
    assert found == [
        f"radiology.yaml: backend.context: the stage `model` {hint}",
        f"radiology.yaml: models.two.context: the stage `model` {hint}",
        f"radiology.yaml: models.three.context: the stage `other` {hint}",
    ]
