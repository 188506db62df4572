"""Demonstrations that do not fit the model's context: what is cut, what is recorded, and what never starts."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli import main
from gateway.pipeline import Built, Pipeline
from gateway.pipeline.room import ANSWER, never_fits
from gateway.plugin import Budget, Demonstration, Prompt, Request
from gateway.policy.decision import Release, Withhold
from gateway.policy.evidence import StageFailed
from gateway.policy.model import LoadedPolicy, Policy, convert
from gateway.records import Caller, Digester, Injected, Outcome, explain, record_of
from gateway.testing import FixedAuditor, FixedInjector, FixedPreScreener, Hangs, Raises, ScriptedBackend, request

CALLER = Caller(key="k", department="radiology", roles=("caller",))
POLICY: dict[str, Any] = {
    "department": "radiology",
    "revision": 1,
    "backend": {"stage": "model", "deadline": "1s"},
    "prescreen": [{"stage": "screen"}],
    "demonstrations": {"stage": "inject"},
    "audit": [{"stage": "audit"}],
    "tiers": [{"below": 0.5, "budget": {"demonstrations": 8, "mix": 0.5}}],
}


def make(
    context: int | None, *, inject: Any = None, model: ScriptedBackend | None = None, **changes: Any
) -> tuple[Pipeline, ScriptedBackend]:
    model = model or ScriptedBackend(context=context)
    stages: dict[Any, Built] = {
        ("prescreener", "screen"): Built(name="screen", version="1", stage=FixedPreScreener()),
        ("injector", "inject"): Built(name="inject", version="1", stage=inject or FixedInjector()),
        ("backend", "model"): Built(name="model", version="1", stage=model),
        ("auditor", "audit"): Built(name="audit", version="1", stage=FixedAuditor()),
    }
    policy = convert(POLICY | changes, Policy)
    return Pipeline(LoadedPolicy(policy=policy, digest="0" * 64, path="radiology.yaml"), stages), model


async def run(pipeline: Pipeline, text: str = "Is there a fracture?") -> Outcome:
    return await pipeline.run(request(text), CALLER, "/v1/chat/completions")


def told(outcome: Outcome) -> str:
    return " ".join(explain(record_of(outcome, Digester(b"s" * 32))).split())


async def test_what_fits_is_left_alone() -> None:
    for context in (None, 100_000):
        pipeline, model = make(context)
        outcome = await run(pipeline)
        assert len(model.prompts[0].demonstrations) == 8
        assert outcome.attempts[0].trimmed is None and "TRIMMED" not in told(outcome)


@settings(max_examples=40, deadline=None)
@given(context=st.integers(1, 700), words=st.integers(1, 60))
def test_what_is_shown_always_fits_and_keeps_its_share(context: int, words: int) -> None:
    import asyncio

    pipeline, model = make(context)
    outcome = asyncio.run(run(pipeline, "word " * words))
    if not model.prompts:
        assert isinstance(outcome.final, Withhold) and outcome.final.reasons[0].cause == "context"
        return
    (prompt,) = model.prompts
    shown = prompt.demonstrations
    left = asyncio.run(model.room(prompt))
    assert left is not None and left >= ANSWER
    assert 1 <= len(shown) <= 8 and sum(d.refuses for d in shown) == len(shown) // 2


async def test_the_cut_is_recorded_and_told() -> None:
    pipeline, model = make(ANSWER + 120)
    outcome = await run(pipeline)
    (attempt,) = outcome.attempts
    assert isinstance(outcome.final, Release) and isinstance(attempt.injected, Injected)
    assert 0 < len(attempt.injected.demonstrations) < 8
    question = 2 * len(["Is", "there", "a", "fracture?"])
    assert attempt.trimmed == Budget(demonstrations=8, mix=0.5, tokens=120 - question)
    assert f"TRIMMED to at most {120 - question} tokens" in told(outcome)
    (kept,) = record_of(outcome, Digester(b"s" * 32)).attempts
    assert (kept.budget.tokens, kept.trimmed and kept.trimmed.tokens) == (None, 120 - question)
    assert len(model.prompts) == 1


async def test_where_nothing_fits_the_model_is_not_asked_undefended() -> None:
    pipeline, model = make(ANSWER + 10)
    outcome = await run(pipeline)
    assert not model.prompts and isinstance(outcome.final, Withhold)
    (attempt,) = outcome.attempts
    assert isinstance(attempt.injected, StageFailed) and attempt.injected.cause == "context"
    assert "holds not one demonstration" in told(outcome)


class Odd(ScriptedBackend):
    """Measures nonsense: raises what is an exception, and gives anything else."""

    def __init__(self, said: Any) -> None:
        super().__init__()
        self.said = said

    async def room(self, prompt: Prompt) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.mark.parametrize("said", [RuntimeError("the patient's name"), "many", -3.5])
async def test_a_measure_that_breaks_does_not_decide(said: Any) -> None:
    pipeline, model = make(None, model=Odd(said))
    outcome = await run(pipeline)
    assert outcome.word == "released" and len(model.prompts[0].demonstrations) == 8


class Greedy(FixedInjector):
    """Spends every budget whole, whatever its caps say."""

    async def inject(self, request: Request, budget: Budget) -> tuple[Demonstration, ...]:
        return await super().inject(request, Budget(demonstrations=budget.demonstrations, mix=budget.mix))


async def test_an_injector_that_disobeys_the_cap_stops_the_request() -> None:
    pipeline, model = make(ANSWER + 60, inject=Greedy())
    outcome = await run(pipeline)
    assert not model.prompts and isinstance(outcome.final, Withhold)


async def test_a_long_question_can_not_have_the_demonstrations_excused() -> None:
    excusing = {"demonstrations": {"stage": "inject", "allow_if_unavailable": True}}
    pipeline, model = make(2 * ANSWER, **excusing)
    outcome = await run(pipeline, "word " * 120)
    assert not model.prompts and isinstance(outcome.final, Withhold)


@pytest.mark.parametrize("how", [Raises(), Hangs()])
async def test_an_injector_that_breaks_does_not_break_the_start(how: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pipeline.room._PATIENCE", 0.05)
    assert await never_fits(convert(POLICY, Policy), how, 300) == ()


async def test_a_budget_that_can_never_fit_is_named() -> None:
    policy = convert(POLICY | {"over_defense": {"retry": {"demonstrations": 64, "mix": 0.25}}}, Policy)
    assert await never_fits(policy, FixedInjector(), None) == ()
    assert await never_fits(policy, FixedInjector(), 100_000) == ()
    (problem,) = await never_fits(policy, FixedInjector(), 1200)
    assert problem.startswith("over_defense.retry.demonstrations: 64 demonstrations take") and "buy " in problem
    assert len(await never_fits(policy, FixedInjector(), 300)) == 2
    capped = convert(
        POLICY | {"tiers": [{"below": 0.5, "budget": {"demonstrations": 8, "mix": 0.5, "tokens": 40}}]}, Policy
    )
    assert await never_fits(capped, FixedInjector(), 512) == ()


@pytest.mark.parametrize(("context", "good"), [(8192, True), (512, False)])
def test_policy_check_refuses_a_policy_whose_model_can_not_hold_its_budget(
    tmp_path: Path, context: int, good: bool
) -> None:
    text = Path("policies/radiology.yaml").read_text("utf-8")
    assert "backend: {stage: transformers, deadline: 60s}" in text
    named = f"backend: {{stage: transformers, deadline: 60s, config: {{context: {context}}}}}"
    changed = text.replace("backend: {stage: transformers, deadline: 60s}", named)
    (tmp_path / "radiology.yaml").write_text(changed, "utf-8")
    result = CliRunner().invoke(main, ["policy", "check", "--policies-dir", str(tmp_path)])
    assert (result.exit_code == 0) == good, result.output
    if not good:
        assert f"the model's context of {context} holds" in result.output.replace("\n", " ")
