"""Demonstrations that do not fit the model's context: trimmed by one rule, and never dropped in silence.

The rule: the budget's cap on tokens falls until question, demonstrations and `ANSWER` tokens for an answer fit the
context, and the injector spends the smaller budget. By its contract images go first, then demonstrations, and the share
of refusing ones stays. Where not one demonstration fits, the model is not asked.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from msgspec.structs import replace

from gateway.pipeline.call import Fault, call_stage
from gateway.policy.model import Policy
from gateway.policy.validate import demonstrations_problem
from gateway.records import Injected
from gateway.values import Budget, Demonstration, Prompt, Request, Text, Turn

ANSWER = 256
"""Tokens that are kept free for an answer, where the request does not ask for fewer."""

CONTEXT = "context"
"""The cause that is recorded where no demonstration fits."""

_ROUNDS = 6
_PATIENCE = 30.0  # seconds for an injector that is asked before the first request
_CHARACTERS = 5  # of English prose in one token at the most, so that only what can never fit is refused at the start
_MARKS = 8
_IMAGE = 256

_F = TypeVar("_F")
Inject = Callable[[Budget], Awaitable[_F]]
Left = Callable[[tuple[Demonstration, ...]], Awaitable[int | None]]
"""Gives the tokens that a prompt with these demonstrations leaves, None where nobody knows."""


def bounded(tells: int | None, most: int | None) -> tuple[int | None, int]:
    """Give how many tokens a model may be given at once, None where nobody knows, and how many fewer than it reads.

    `tells` is what its stage tells, `most` the `context` that the policy gives it.
    """
    if tells is None or most is None:
        return tells if most is None else most, 0
    return min(tells, most), max(0, tells - most)


def reserved(prompt: Prompt) -> int:
    """Give the tokens that have to stay free for the answer."""
    return min(prompt.request.sampling.max_tokens or ANSWER, ANSWER)


async def fitted(
    injected: Injected, budget: Budget, *, free: int, left: Left, inject: Inject[Any]
) -> tuple[Any, Budget | None]:
    """Give what fits, and the budget as it was cut; None for the budget where nothing had to be.

    `free` are the tokens that must be left. What `inject` gives where it fails is handed on. Where nothing fits, what
    was injected comes back without demonstrations.
    """
    over = await left(injected.demonstrations)
    if over is None or over >= free:
        return injected, None
    bare = await left(())
    cap = 0 if bare is None else bare - free
    if budget.tokens is not None:
        cap = min(cap, budget.tokens)
    for _ in range(_ROUNDS):
        if cap <= 0:
            break
        cut = replace(budget, tokens=cap)
        again = await inject(cut)
        if not isinstance(again, Injected):
            return again, cut
        if not again.demonstrations:
            break
        over = await left(again.demonstrations)
        if over is None or over >= free:
            return again, cut
        cap -= max(free - over, 1 + cap // 8)
    return replace(injected, demonstrations=()), replace(budget, tokens=0)


def least_tokens(demonstrations: tuple[Demonstration, ...], role: str | None = None) -> int:
    """Give a lower bound of the tokens that demonstrations and the role prompt take."""
    texts = [demo.question + demo.answer for demo in demonstrations] + ([role] if role else [])
    pictures = sum(demo.image is not None for demo in demonstrations)
    characters = sum(map(len, texts))
    return math.floor(characters / _CHARACTERS) + _MARKS * len(demonstrations) + _IMAGE * pictures


async def never_fits(policy: Policy, injector: Any, context: int | None) -> tuple[str, ...]:
    """Name the budgets that can not be spent even before an empty question: each with its place and what to do.

    `injector` is the policy's built stage, `context` what its model reads at once, in tokens.
    """
    if context is None or injector is None or policy.demonstrations is None:
        return ()
    budgets = [(f"tiers[{place}].budget", tier.budget.budget()) for place, tier in enumerate(policy.tiers)]
    if policy.over_defense is not None:
        budgets.append(("over_defense.retry", policy.over_defense.retry.budget()))
    blank = Request(id="", department=policy.department, model="", turns=(_BLANK,))
    problems = []
    for path, budget in budgets:
        if not budget.demonstrations:
            continue
        given = await _asked(injector, blank, budget)
        if isinstance(given, Fault):
            continue  # each request will refuse and tell why; what it can not show can not be too long
        shown = cast("tuple[Demonstration, ...]", given)
        needed = least_tokens(shown, policy.demonstrations.role)
        room = context - ANSWER
        if needed > room:
            fit = max(0, len(shown) * room // needed)
            problems.append(
                f"{path}.demonstrations: {len(shown)} demonstrations take {needed} tokens at least, and the model's "
                f"context of {context} holds {max(room, 0)} beside an answer; buy {fit} at most, or cap `tokens`"
            )
    return tuple(problems)


async def _asked(injector: Any, blank: Request, budget: Budget) -> object:
    given, _ = await call_stage(
        lambda: injector.inject(blank, budget),
        deadline=_PATIENCE,
        check=lambda value: demonstrations_problem(value, budget),
    )
    return given


_BLANK = Turn(role="user", parts=(Text(id="messages[0].content", text="?"),))
