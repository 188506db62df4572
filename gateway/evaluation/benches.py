"""What a measurement of demonstrations asks: a policy's model or a server's, injectors by strategy, and judges."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from gateway.errors import ConfigurationError
from gateway.evaluation.answers import key_of
from gateway.evaluation.arms import TURNS, WHOLE, Arm, choices, forms, make_arms
from gateway.evaluation.asking import Setup
from gateway.evaluation.stages import Workbench
from gateway.evaluation.stages import whole as whole_policy
from gateway.images import Limits
from gateway.pipeline import Built, Pipeline
from gateway.policy.model import BackendSpec, Duration, LoadedPolicy, convert
from gateway.registry import Registry

SERVER = "openai"
"""The stage that asks an OpenAI-compatible server."""

KEY = "OPENAI_API_KEY"
"""The environment variable that may hold the server's key."""


def with_server(
    loaded: LoadedPolicy, registry: Registry, url: str, model: str, *, deadline: float, jobs: int
) -> LoadedPolicy:
    """Give the policy with the model of a server in place of its own; `deadline` is in seconds, for one answer.

    Raises ConfigurationError where the address is none, or no plugin asks servers.
    """
    offer = registry.offers["backend"].get(SERVER)
    if offer is None:
        raise ConfigurationError(f"--url: no installed plugin offers the model stage `{SERVER}`; install it")
    config = {"base_url": url, "model": model, "headers_timeout": deadline, "body_timeout": deadline,
              "max_connections": max(jobs, 1)}  # fmt: skip
    if os.environ.get(KEY):
        config["api_key_env"] = KEY
    try:
        convert(config, offer.stage.config)
    except msgspec.ValidationError as exc:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"--url: `{url}` is no address; write it as `http://host:port/v1`") from None
        raise ConfigurationError(f"--url, --model: {exc}") from None
    spec = BackendSpec(stage=SERVER, deadline=Duration(seconds=deadline), config=config)
    return replace(loaded, policy=replace(loaded.policy, backend=spec))


def arms_of(
    loaded: LoadedPolicy,
    registry: Registry,
    *,
    budgets: Sequence[int],
    mixes: Sequence[float],
    strategies: Sequence[str] = (),
    forms_: Sequence[str] = (),
    whole: bool = False,
) -> tuple[Arm, ...]:
    """Make the settings to compare. Without `strategies` or `forms_` the policy's own is taken.

    Raises ConfigurationError where the policy's injector knows no such strategy, or demonstrations no such form.
    """
    spec = loaded.policy.demonstrations
    if spec is None and any(budgets):
        raise ConfigurationError(
            f"{loaded.path}: names no `demonstrations`, so there are none to show; name a stage there, or ask with "
            "--budgets 0"
        )
    known = choices(registry.offers["injector"][spec.stage].stage.config, "strategy") if spec is not None else None
    problems: list[str] = []
    for name in strategies:
        if spec is not None and known is None:
            problems.append(f"--strategies: the injector `{spec.stage}` has no strategies; leave --strategies out")
        elif spec is not None and known and name not in known:
            problems.append(f"--strategies: `{spec.stage}` has no strategy `{name}`; known: {_list(known)}")
    problems += [
        f"--forms: demonstrations have no form `{name}`; known: {_list(forms())}"
        for name in forms_
        if name not in forms()
    ]
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))
    own = TURNS if spec is None else loaded.policy.backend.form or spec.form
    made = make_arms(budgets, mixes, tuple(strategies) or (None,), tuple(forms_) or (own,))
    return (*made, WHOLE) if whole else made


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


async def build_setup(
    loaded: LoadedPolicy,
    bench: Workbench,
    arms: Sequence[Arm],
    *,
    max_tokens: int,
    deadline: float,
    limits: Limits,
    model_from: str | None = None,
) -> Setup:
    """Build what the arms need; `model_from` says who named the model, where it was not the policy.

    Raises ConfigurationError with every stage that can not be built.
    """
    policy = loaded.policy
    where = model_from or f"{loaded.path}: backend"
    backend = await bench.stage("backend", policy.backend.stage, policy.backend.config, where)
    bench.check()
    pipeline = None
    if any(arm.whole for arm in arms):
        stages = await whole_policy(loaded, bench)
        bench.check()
        pipeline = Pipeline(loaded, stages)
    injectors: dict[str | None, Built] = {}
    spec = policy.demonstrations
    for strategy in dict.fromkeys(arm.strategy for arm in arms if arm.budget.demonstrations):
        assert spec is not None  # noqa: S101 - without an injector there is no arm with demonstrations
        config = spec.config if strategy is None else {**spec.config, "strategy": strategy}
        made = await bench.stage("injector", spec.stage, config, f"{loaded.path}: demonstrations")
        if made is not None:
            injectors[strategy] = made
    refusal = await bench.stage("auditor", "refusal", {}, "judging")
    compliance = await bench.stage("auditor", "harmful-compliance", {}, "judging")
    bench.check()
    assert backend is not None  # noqa: S101 - the check raises where one is missing
    assert refusal is not None  # noqa: S101 - as above
    assert compliance is not None  # noqa: S101 - as above
    return Setup(
        backend=backend,
        injectors=injectors,
        refusal=refusal,
        compliance=compliance,
        max_tokens=max_tokens,
        deadline=deadline,
        limits=limits,
        settings="" if spec is None else key_of(spec.stage, spec.config, getattr(spec, "role", None)),
        role=getattr(spec, "role", None),
        pipeline=pipeline,
    )
