"""Contract checks: what every stage of a kind must keep to, tried on a built stage over the corpus.

A stage gives well-formed values for every request, the same for the same, alone and eight at once; it changes nothing,
does not hold the event loop, can be cancelled and works on, and writes no text of a request anywhere.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, structs

from gateway.policy.validate import completion_problem, demonstrations_problem, findings_problem, screening_problem
from gateway.stages import Auditor, Backend, Injector, Kind, PreScreener, Stage, StreamingBackend, WindowedAuditor
from gateway.testing.builders import completion, demonstration, image, request
from gateway.testing.corpus import ANSWERS, MARKER, UNANSWERABLE, corpus
from gateway.testing.fakes import ScriptedBackend
from gateway.testing.growing import stream_problem, window_problem
from gateway.testing.watch import Heartbeat, watch
from gateway.values import Budget, Completion, Demonstration, Prompt, Request, Sampling, Text, ToolCall

_HELD = 0.25  # seconds for which a stage may hold the event loop at most
_TRIES = 3  # a busy machine may hold the loop by itself once; a stage that blocks does so each time
_AT_ONCE = 8
_CANCELS = (0.0, 0.002, 0.02, 0.1)  # seconds after which a call is given up

Call = Callable[..., Awaitable[Any]]


def _require(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


class _Case(Struct, frozen=True, kw_only=True):
    """One question to a stage: `values` are its arguments; `problem` judges its answer; it may raise if `may_raise`."""

    name: str
    values: tuple[Any, ...]
    problem: Callable[[Any], str | None]
    may_raise: bool = False


async def _answer(call: Call, case: _Case, deadline: float) -> Any:
    """Ask once. Gives None where the stage raised and may."""
    before = copy.deepcopy(case.values)
    try:
        awaitable = call(*case.values)
        _require(inspect.isawaitable(awaitable), f"`{case.name}`: the method is not async, make it `async def`")
        task = asyncio.ensure_future(awaitable)
        done, _ = await asyncio.wait({task}, timeout=deadline)
        task.cancel()  # which a task that is done does not hear
        _require(done, f"`{case.name}`: no answer within {deadline:g} s")
        value = task.result()
    except AssertionError:
        raise
    except Exception as exc:
        if case.may_raise:
            return None
        raise AssertionError(f"`{case.name}`: raised {type(exc).__name__}, give a verdict instead") from exc
    _require(case.values == before, f"`{case.name}`: the stage changed the values it was given")
    problem = case.problem(value)
    _require(problem is None, f"`{case.name}`: what came back is no good: {problem}")
    return value


async def _unheld(call: Call, case: _Case, fresh: Callable[[int], _Case], deadline: float) -> Any:
    """Ask, and see that the event loop went on turning."""
    least = float("inf")
    for number in range(_TRIES):
        async with Heartbeat() as heart:
            value = await _answer(call, case, deadline)
            if number:  # what was asked before may come from a cache
                await _answer(call, fresh(1000 + number), deadline)
        least = min(least, heart.longest)
        if least <= _HELD:
            return value
    raise AssertionError(f"`{case.name}`: the event loop was held for {least * 1000:.0f} ms, use `in_thread`")


async def _cancel(call: Call, case: _Case, pause: float, deadline: float) -> None:
    task = asyncio.ensure_future(call(*case.values))
    await asyncio.sleep(pause)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=min(5.0, deadline))
    _require(done, f"`{case.name}`: given up after {pause * 1000:.0f} ms, it went on; let CancelledError pass")
    if not task.cancelled() and (exc := task.exception()) is not None and not case.may_raise:
        raise AssertionError(f"`{case.name}`: given up, it raised {type(exc).__name__}") from exc


async def _contract(
    call: Call, cases: list[_Case], fresh: Callable[[int], _Case], *, deadline: float, deterministic: bool
) -> None:
    """Run what every kind has in common. `fresh` gives, by number, a question that was not asked before."""

    def same(case: _Case, one: Any, other: Any, when: str) -> None:
        _require(not deterministic or one == other, f"`{case.name}`: {when}, it gave two answers")

    with watch() as written:
        alone = [await _unheld(call, case, fresh, deadline) for case in cases]
        for case, value in zip(cases, alone, strict=True):
            same(case, value, await _answer(call, case, deadline), "asked twice")
        for number, pause in enumerate(_CANCELS):
            await _cancel(call, fresh(number), pause, deadline)
        new = [fresh(100 + number) for number in range(_AT_ONCE)]
        together = await asyncio.gather(*(_answer(call, case, _AT_ONCE * deadline) for case in new))
        for case, value in zip(new, together, strict=True):
            same(case, value, await _answer(call, case, deadline), "alone and among others")
        for start in range(0, len(cases), _AT_ONCE):
            group = cases[start : start + _AT_ONCE]
            values = await asyncio.gather(*(_answer(call, case, _AT_ONCE * deadline) for case in group))
            for case, value, before in zip(group, values, alone[start : start + _AT_ONCE], strict=True):
                same(case, value, before, "alone and among others")
    where = written.leaks(MARKER)
    _require(where is None, f"text of a request was written to {where}")


async def check_prescreener(stage: PreScreener, *, deadline: float = 60.0, deterministic: bool = True) -> None:
    """Check a built pre-screener. One answer may take `deadline` seconds."""

    def case(name: str, asked: Request) -> _Case:
        parts, images = frozenset(p.id for p in asked.parts()), frozenset(i.id for i in asked.images())
        return _Case(name=name, values=(asked,), problem=lambda value: screening_problem(value, parts, images))

    def fresh(number: int) -> _Case:
        shown = image(300 + number, 200, f"view {number} {MARKER}")
        return case("cancelled", request(f"Is finding {number} new? {MARKER}", images=[shown]))

    cases = [case(name, asked) for name, asked in corpus().items()]
    await _contract(stage.screen, cases, fresh, deadline=deadline, deterministic=deterministic)


def _budgets() -> list[Budget]:
    plain = [Budget(demonstrations=n, mix=mix) for n in (0, 1, 2, 3, 4, 8, 16, 64) for mix in (0, 0.25, 0.5, 0.75, 1)]
    capped = [
        Budget(demonstrations=8, mix=mix, tokens=tokens, images=images)
        for mix in (0.0, 0.5, 1.0)
        for tokens in (None, 1, 100, 1000)
        for images in (None, 0, 1)
    ]
    return plain + capped


def _injected_problem(value: Any, budget: Budget) -> str | None:
    problem = demonstrations_problem(value, budget)
    if problem is not None:
        return problem
    if not value:
        return "none came, although they are paid for" if budget.demonstrations and budget.tokens is None else None
    if value[-1].refuses and not all(demo.refuses for demo in value):
        return "the last demonstration refuses although others answer: end on one that answers"
    return None


async def check_injector(stage: Injector, *, deadline: float = 60.0, deterministic: bool = True) -> None:
    """Check a built injector, under many budgets: count, mix, caps on tokens and images, and the order."""

    def case(name: str, asked: Request, budget: Budget) -> _Case:
        label = f"{name}, {budget.demonstrations} at mix {budget.mix:g}, tokens {budget.tokens}, images {budget.images}"
        return _Case(name=label, values=(asked, budget), problem=lambda value: _injected_problem(value, budget))

    def fresh(number: int) -> _Case:
        return case("cancelled", request(f"Is finding {number} new? {MARKER}"), Budget(demonstrations=5, mix=0.4))

    requests = corpus()
    cases = [case(name, asked, Budget(demonstrations=4, mix=0.5)) for name, asked in requests.items()]
    cases += [case("plain", requests["plain"], budget) for budget in _budgets()]
    await _contract(stage.inject, cases, fresh, deadline=deadline, deterministic=deterministic)


async def check_backend(stage: Backend, *, deadline: float = 120.0, deterministic: bool = True) -> None:
    """Check a built model stage, with four tokens an answer, at temperature 0.

    Set `deterministic` to False where the model behind it does not give the same answer twice.
    """
    names = stage.models()
    good = type(names) is tuple and names and all(type(name) is str and name for name in names)
    _require(good, "`models()` must give a tuple of names, the default first")
    short = Sampling(max_tokens=4, temperature=0.0, seed=1)

    def case(name: str, asked: Request, demonstrations: tuple[Demonstration, ...] = (), n: int = 1) -> _Case:
        asked = structs.replace(asked, model=names[0], sampling=structs.replace(short, n=n))
        return _Case(
            name=name,
            values=(Prompt(request=asked, demonstrations=demonstrations),),
            problem=lambda value: completion_problem(value, n),
            may_raise=name in UNANSWERABLE,
        )

    def fresh(number: int) -> _Case:
        return case("cancelled", request(f"Is finding {number} new? {MARKER}"))

    requests = corpus()
    shown = (demonstration(0, refuses=True), demonstration(1, image=image(32, 32, id="demonstrations.test-1")))
    cases = [case(name, asked) for name, asked in requests.items()]
    cases += [case("demonstrations", requests["plain"], shown), case("three choices", requests["plain"], n=3)]
    await _contract(stage.complete, cases, fresh, deadline=deadline, deterministic=deterministic)
    if isinstance(stage, StreamingBackend):
        for one in (cases[0], case("plain", requests["plain"], n=2)):
            problem = await asyncio.wait_for(stream_problem(stage, one.values[0], same=deterministic), deadline)
            _require(problem is None, f"`stream`: {problem}")


async def check_auditor(stage: Auditor, *, deadline: float = 60.0, deterministic: bool = True) -> None:
    """Check a built auditor over pairs of requests and answers; one with a `window` also over answers that grow."""

    def case(name: str, asked: Prompt, said: Completion) -> _Case:
        texts = {text.id: text.text for choice in said.choices for text in choice.texts()}
        return _Case(name=name, values=(asked, said), problem=lambda value: findings_problem(value, texts))

    def fresh(number: int) -> _Case:
        asked = Prompt(request=request(f"Is finding {number} new? {MARKER}"))
        return case("cancelled", asked, completion(f"Finding {number} is new. {MARKER}"))

    requests = corpus()
    plain = Prompt(request=requests["plain"])
    shown = Prompt(request=requests["plain"], demonstrations=(demonstration(0, refuses=True), demonstration(1)))
    call = ToolCall(
        id="call_1",
        name=Text(id="choices[0].tool_calls[0].name", text="order_scan"),
        arguments=Text(id="choices[0].tool_calls[0].arguments", text=f'{{"patient": "{MARKER}"}}'),
    )
    said = completion("")
    calling = structs.replace(
        said, choices=(structs.replace(said.choices[0], tool_calls=(call,), finish_reason="tool_calls"),)
    )
    cases = [case(f"answer: {name}", plain, completion(answer)) for name, answer in ANSWERS.items()]
    cases += [case(name, Prompt(request=asked), completion(ANSWERS["plain"])) for name, asked in requests.items()]
    cases += [case("demonstrations", shown, completion(shown.demonstrations[1].answer)), case("tool", plain, calling)]
    # The pipeline audits each choice of an n > 1 answer by itself, under the choice's own ids.
    third = completion("", "", ANSWERS["identifiers"]).choices[2]
    cases.append(case("third choice", plain, Completion(model="test-model", choices=(third,))))
    await _contract(stage.audit, cases, fresh, deadline=deadline, deterministic=deterministic)
    if isinstance(stage, WindowedAuditor):
        problem = await window_problem(stage)
        _require(problem is None, f"`window`: {problem}")


_CHECKS: Mapping[Kind, tuple[type, Callable[..., Awaitable[None]]]] = {
    "prescreener": (PreScreener, check_prescreener),
    "injector": (Injector, check_injector),
    "backend": (Backend, check_backend),
    "auditor": (Auditor, check_auditor),
}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_CLOSING = 30.0  # seconds
_UNKNOWN = "no_stage_has_this_option"


def _check_config(stage: Stage[Any], config: Mapping[str, Any]) -> Any:
    kind = stage.config
    _require(isinstance(kind, type) and issubclass(kind, Struct), "`config` must be a msgspec Struct type")
    _require(kind.__struct_config__.frozen, f"`{kind.__name__}` must be frozen, write `frozen=True`")
    try:
        built = msgspec.convert(dict(config), kind, strict=True)
    except msgspec.ValidationError as exc:
        raise AssertionError(f"`{kind.__name__}` does not take this configuration: {exc}") from exc
    try:
        msgspec.convert({**config, _UNKNOWN: 1}, kind, strict=True)
    except msgspec.ValidationError:
        return built
    raise AssertionError(f"`{kind.__name__}` takes options that it does not know, write `forbid_unknown_fields=True`")


async def check_stage(
    stage: Stage[Any],
    kind: Kind,
    config: Mapping[str, Any] | None = None,
    *,
    deadline: float | None = None,
    deterministic: bool = True,
) -> None:
    """Check the offer, build it from `config` as a policy file gives it, run the check of its kind, and close it.

    A stage that asks a model gets a `ScriptedBackend`.
    """
    _require(isinstance(stage, Stage), "a plugin offers `Stage` objects")
    _require(_NAME.fullmatch(stage.name), f"stage name `{stage.name}` must be lowercase letters, digits and hyphens")
    asked = () if stage.asks is None else (ScriptedBackend(),)
    built = await asyncio.to_thread(stage.build, _check_config(stage, config or {}), *asked)
    protocol, check = _CHECKS[kind]
    _require(isinstance(built, protocol), f"`build` gave no {protocol.__name__}: {type(built).__name__}")
    limit = {} if deadline is None else {"deadline": deadline}
    try:
        await check(built, deterministic=deterministic, **limit)
    finally:
        if hasattr(built, "aclose"):
            await asyncio.wait_for(built.aclose(), _CLOSING)
