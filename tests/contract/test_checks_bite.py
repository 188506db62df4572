"""The contract checks catch what they are there to catch: each broken stage fails, with a message that says why."""

import asyncio
import logging
import random
import sys
import time
import warnings
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from gateway.plugin import Budget, Completion, Demonstration, Finding, Prompt, Request, Screening, Stage
from gateway.testing import (
    FixedAuditor,
    FixedInjector,
    FixedPreScreener,
    Hangs,
    Raises,
    ReturnsNonsense,
    ReturnsNothing,
    ScriptedBackend,
    check_stage,
    completion,
    demonstration,
    offer,
)
from gateway.testing.fakes import NONSENSE

GOOD = {
    "prescreener": FixedPreScreener(0.25, images=True, reads="SE: 3", scores={"fraud": 0.5}),
    "injector": FixedInjector(),
    "backend": ScriptedBackend({"wrist": "It is intact."}),
    "auditor": FixedAuditor("phi", word="fracture", label="name", replacement="[removed]"),
}
KINDS = tuple(GOOD)


@pytest.mark.parametrize("kind", KINDS)
async def test_good_stage_passes(kind: Any) -> None:
    await check_stage(offer("good", GOOD[kind]), kind)


async def fails(stage: Any, kind: Any, match: str, **kwargs: Any) -> None:
    with pytest.raises(AssertionError, match=match):
        await check_stage(offer("bad", stage), kind, **kwargs)


@pytest.mark.parametrize("kind", KINDS)
async def test_raises(kind: Any) -> None:
    await fails(Raises(), kind, "raised RuntimeError")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stubborn", [False, True])
async def test_hangs(kind: Any, stubborn: bool) -> None:
    await fails(Hangs(stubborn=stubborn), kind, "no answer within", deadline=0.05)


@pytest.mark.parametrize("kind", KINDS)
async def test_returns_nothing(kind: Any) -> None:
    await fails(ReturnsNothing(), kind, "no good: nothing")


@pytest.mark.parametrize(("kind", "which"), [(kind, n) for kind in KINDS for n in range(len(tuple(NONSENSE[kind])))])
async def test_returns_nonsense(kind: Any, which: int) -> None:
    await fails(ReturnsNonsense(which), kind, "no good: nonsense")


@pytest.mark.parametrize("kind", KINDS)
async def test_not_a_stage_at_all(kind: Any) -> None:
    await fails(object(), kind, "`build` gave no")


class Good(FixedPreScreener):
    """Broken in one way by each subclass below."""


class NotAsync(Good):
    def screen(self, request: Request) -> Any:
        return Screening(risk=0.0, inspected=())


class Blocks(Good):
    async def screen(self, request: Request) -> Screening:
        time.sleep(0.3)  # noqa: ASYNC251 - this is the fault
        return await super().screen(request)


class BlocksOnlyWhenNew(Good):
    """Keeps what it has seen, and holds the loop for what it has not."""

    seen: set[str]

    async def screen(self, request: Request) -> Screening:
        key = "".join(text.text for text in request.texts()) + "".join(i.digest for i in request.images())
        self.__dict__.setdefault("seen", set())
        if key not in self.seen:
            self.seen.add(key)
            time.sleep(0.3)  # noqa: ASYNC251 - this is the fault
        return await super().screen(request)


class Dice(Good):
    async def screen(self, request: Request) -> Screening:
        return Screening(risk=random.random(), inspected=())


class Shared(Good):
    """Keeps the request it works on in itself, so two at once are mixed up."""

    async def screen(self, request: Request) -> Screening:
        self.at = len("".join(text.text for text in request.texts()))
        await asyncio.sleep(0.001)
        return Screening(risk=min(1.0, self.at / 100_000), inspected=())


class Changes(Good):
    async def screen(self, request: Request) -> Screening:
        msgspec.structs.force_setattr(request.turns[0], "role", "system")
        return await super().screen(request)


class HearsNoCancel(Good):
    async def screen(self, request: Request) -> Screening:
        for _ in range(40):
            try:
                await asyncio.sleep(0.01 if "finding" not in "".join(t.text for t in request.texts()) else 0.1)
            except asyncio.CancelledError:
                continue
            if "finding" not in "".join(t.text for t in request.texts()):
                break
        return await super().screen(request)


class BreaksOnCancel(Good):
    async def screen(self, request: Request) -> Screening:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            raise RuntimeError("broken") from None
        return await super().screen(request)


class DiesOfCancel(Good):
    """Works no more once a call was given up."""

    dead = False

    async def screen(self, request: Request) -> Screening:
        if self.dead:
            raise ConnectionError
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.dead = True
            raise
        return await super().screen(request)


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (NotAsync, "not async"),
        (Blocks, "event loop was held"),
        (BlocksOnlyWhenNew, "event loop was held"),
        (Dice, "asked twice"),
        (Shared, "alone and among others"),
        (Changes, "changed the values"),
        (HearsNoCancel, "it went on"),
        (BreaksOnCancel, "given up, it raised RuntimeError"),
        (DiesOfCancel, "raised ConnectionError"),
    ],
)
async def test_bad_manners(broken: type[Good], match: str) -> None:
    await fails(broken(), "prescreener", match, deadline=3.0)


def _log(text: str) -> None:
    logging.getLogger("some.plugin").debug("judging %s", text)


def _log_apart(text: str) -> None:
    logger = logging.getLogger("some.library")
    logger.propagate = False
    logger.warning(text)


def _log_failure(text: str) -> None:
    try:
        int(text)  # its message quotes the text
    except ValueError:
        logging.getLogger("some.plugin").exception("failed")


@pytest.mark.parametrize(
    ("leak", "match"),
    [
        (_log, "written to a log"),
        (_log_apart, "written to a log"),
        (_log_failure, "written to a log"),
        (print, "written to standard output"),
        (lambda text: print(text, file=sys.stderr), "written to standard output"),
        (lambda text: warnings.warn(text, stacklevel=1), "written to a warning"),
        (lambda text: __import__("os").write(2, text.encode(errors="replace")), "written to standard output"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_leaks(kind: Any, leak: Any, match: str) -> None:
    class Leaks:
        def models(self) -> tuple[str, ...]:
            return ("test-model",)

        async def screen(self, request: Request) -> Screening:
            leak(" ".join(t.text for t in request.texts()))
            return Screening(risk=0.0, inspected=())

        async def inject(self, request: Request, budget: Budget) -> tuple[Demonstration, ...]:
            await self.screen(request)
            return await GOOD["injector"].inject(request, budget)

        async def complete(self, prompt: Prompt) -> Completion:
            await self.screen(prompt.request)
            return completion(*["no"] * prompt.request.sampling.n)

        async def audit(self, prompt: Prompt, completion: Completion) -> tuple[Finding, ...]:
            leak(completion.choices[0].text.text)
            return ()

    logging.getLogger("some.library").propagate = False
    await fails(Leaks(), kind, match)


class Injects:
    """Chooses by a rule that breaks the budget."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule

    async def inject(self, request: Request, budget: Budget) -> Any:
        return tuple(self.rule(budget))


def mixed(budget: Budget, count: int) -> list[Demonstration]:
    refusing = int(budget.mix * count)
    return [demonstration(n, refuses=True) for n in range(refusing)] + [
        demonstration(n) for n in range(count - refusing)
    ]


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        (lambda b: mixed(b, b.demonstrations + 1), "nonsense:count"),
        (lambda b: [], "none came"),
        (lambda b: [demonstration(n) for n in range(b.demonstrations)], "nonsense:mix"),
        (lambda b: mixed(b, b.demonstrations)[::-1], "the last demonstration refuses"),
        (lambda b: mixed(b, b.demonstrations), "nonsense:tokens"),
        (lambda b: [demonstration(1)] * b.demonstrations, "nonsense:id"),
    ],
)
async def test_broken_budgets(rule: Any, match: str) -> None:
    await fails(Injects(rule), "injector", match)


class Loose(Struct, frozen=True, kw_only=True):
    words: tuple[str, ...] = ()


class Thawed(Struct, kw_only=True, forbid_unknown_fields=True):
    words: tuple[str, ...] = ()


class Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    words: tuple[str, ...]


@pytest.mark.parametrize(
    ("config", "given", "match"),
    [
        (Loose, {}, "forbid_unknown_fields"),
        (Thawed, {}, "frozen"),
        (Strict, {}, "does not take this configuration"),
        (Strict, {"words": "abc"}, "does not take this configuration"),
        (dict, {}, "msgspec Struct"),
    ],
)
async def test_configurations(config: Any, given: dict[str, Any], match: str) -> None:
    with pytest.raises(AssertionError, match=match):
        await check_stage(Stage("bad", config, lambda _c: GOOD["prescreener"]), "prescreener", given)


async def test_names() -> None:
    with pytest.raises(AssertionError, match="stage name"):
        await check_stage(offer("Bad Name", GOOD["prescreener"]), "prescreener")


async def test_a_stage_is_closed_even_when_it_fails() -> None:
    class Closing(ReturnsNothing):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    stage = Closing()
    await fails(stage, "prescreener", "nothing")
    assert stage.closed
