"""The four kinds of stage, and `Stage`, the offer that a plugin makes.

A stage is a plain object with one async method. It gets frozen values and gives frozen values; it decides nothing.
What it raises, returns late, or returns wrongly, the pipeline turns into evidence that refuses. Work that blocks or
burns CPU leaves the event loop by `in_thread`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from msgspec import Struct

from gateway.values import (
    Budget,
    Completion,
    Demonstration,
    Ended,
    Finding,
    Piece,
    Prompt,
    Request,
    Screening,
    Window,
)

Kind = Literal["prescreener", "injector", "backend", "auditor"]
"""The four kinds of stage."""


@runtime_checkable
class PreScreener(Protocol):
    """Judges a request before any model sees it."""

    async def screen(self, request: Request) -> Screening:
        """Judge `request`; name in `Screening.inspected` the ids of the parts that were really looked at."""
        ...


@runtime_checkable
class Injector(Protocol):
    """Chooses demonstrations."""

    async def inject(self, request: Request, budget: Budget) -> tuple[Demonstration, ...]:
        """Give at most `budget.demonstrations` demonstrations, in the order the model shall read them."""
        ...


@runtime_checkable
class IllustratingInjector(Injector, Protocol):
    """Chooses demonstrations, and can show those it once chose to a person. Optional: without it only ids are shown."""

    async def illustrate(self, ids: tuple[str, ...]) -> tuple[Demonstration, ...]:
        """Give the demonstrations with these ids, in their order, with every picture there is.

        An id that is not known any more is left out.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """A model."""

    def models(self) -> tuple[str, ...]:
        """Name the models that this backend serves; the first is the default."""
        ...

    async def complete(self, prompt: Prompt) -> Completion:
        """Answer `prompt` with `prompt.request.sampling.n` choices."""
        ...


@runtime_checkable
class StreamingBackend(Backend, Protocol):
    """A model that can also answer piece by piece. Optional: a policy that streams `held` needs only `complete`."""

    def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | Ended, None]:
        """Give the answer as it grows, all `prompt.request.sampling.n` choices interleaved, and `Ended` at last.

        Closing the generator (`aclose`) stops the writing. Without `Ended` the answer counts as cut off.
        """
        ...


@runtime_checkable
class ScoringBackend(Backend, Protocol):
    """A model that also tells how likely given answers are, without writing one. Optional."""

    async def score(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[float, ...]:
        """Give, for each of `answers`, the natural logarithm of the probability that the answer begins with it.

        -inf stands for an answer that the model gave no probability.
        """
        ...


@runtime_checkable
class MeasuringBackend(Backend, Protocol):
    """A model that knows how much of a prompt it can read. Optional: without it no demonstrations are trimmed."""

    async def room(self, prompt: Prompt) -> int | None:
        """Give how many tokens of the context `prompt` leaves for an answer, below 0 where it is too long.

        It is asked on every request, so a quick lower bound will do while that is plenty. None stands for a context
        that is not known.
        """
        ...


@runtime_checkable
class Auditor(Protocol):
    """Judges an answer before it leaves. It is called once for each choice."""

    async def audit(self, prompt: Prompt, completion: Completion) -> tuple[Finding, ...]:
        """Give the findings in `completion`, which holds one choice; an empty tuple where there are none."""
        ...


class NoConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration of a stage that has none."""


class ModelRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that a stage asks: the name of an installed model stage, and its configuration.

    The same stage with the same configuration is one object, shared with the policies that name it as `backend`.
    """

    stage: str
    config: dict[str, Any] = {}


@runtime_checkable
class WindowedAuditor(Auditor, Protocol):
    """An auditor that can judge an answer while it grows. Optional: for others the whole answer is held.

    `audit` is then given a stretch of the text of a choice again and again, and at the end the whole answer, tool calls
    included. What it finds in no stretch, and then in the whole, ends a stream of which a part has left.
    """

    def window(self) -> Window:
        """Tell how much of the answer has to be seen at once."""
        ...


ConfigT = TypeVar("ConfigT", bound=Struct)


class Stage(Generic[ConfigT]):
    """The offer of one stage: a name for policies, the type of its configuration, and how to build it.

    `config` is a frozen msgspec struct with `forbid_unknown_fields=True`; `build` gets an instance of it and gives
    the stage object. `build` runs at start-up, in a thread, once per distinct configuration, so it may load models;
    what it imports is imported only when a policy names the stage. It raises `ValueError` with a hint where the
    configuration can not work. An object with an ``async def aclose()`` is closed when the gateway stops.

    `asks` names a field of `config` that holds a `ModelRef`: `build` then gets the model (a `Backend`) that the gateway
    built for it as second argument.

    `context` tells, of a model, how many tokens it reads at once with a given `config`, without loading it; None where
    that can not be said. A policy whose budgets can never fit is refused by it.
    """

    __slots__ = ("asks", "build", "config", "context", "name")

    def __init__(
        self,
        name: str,
        config: type[ConfigT],
        build: Callable[..., Any],
        *,
        asks: str | None = None,
        context: Callable[[Any], int | None] | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.build = build
        self.asks = asks
        self.context = context

    def __repr__(self) -> str:
        return f"Stage({self.name!r}, {self.config.__name__})"


_T = TypeVar("_T")
_pool: ThreadPoolExecutor | None = None


def _threads() -> ThreadPoolExecutor:
    global _pool  # made at first use, so that importing this module starts nothing
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=max(4, 2 * (os.cpu_count() or 1)), thread_name_prefix="stage")
    return _pool


async def in_thread(function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
    """Run a blocking `function` in the stages' thread pool and await its result."""
    context = contextvars.copy_context()
    call = functools.partial(context.run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads(), call)
