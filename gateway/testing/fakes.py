"""Small stages that do what they are told, and broken ones that fail in each way a stage can fail."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

from gateway.stages import NoConfig, Stage
from gateway.testing.builders import completion, demonstration
from gateway.values import (
    Budget,
    Completion,
    Demonstration,
    Ended,
    Finding,
    Piece,
    Prompt,
    Request,
    Score,
    Screening,
    Text,
)


def offer(name: str, stage: Any) -> Stage[NoConfig]:
    """Wrap an object as the offer of a stage without configuration."""
    return Stage(name, NoConfig, lambda _config: stage)


class FixedPreScreener:
    """Gives the same risk to everything, and looks at all texts; at images too where `images` is set.

    `reads`, if given, is what it finds in every image.
    """

    def __init__(
        self, risk: float = 0.0, *, images: bool = False, reads: str | None = None, scores: Mapping[str, float] = {}
    ) -> None:
        self.risk = risk
        self.images = images or reads is not None
        self.reads = reads
        self.scores = tuple(Score(label=label, value=value) for label, value in scores.items())

    async def screen(self, request: Request) -> Screening:
        """Give the fixed risk."""
        parts = request.parts() if self.images else request.texts()
        found = () if self.reads is None else tuple(Text(id=f"{i.id}#fake", text=self.reads) for i in request.images())
        return Screening(risk=self.risk, inspected=tuple(p.id for p in parts), scores=self.scores, found=found)


class FixedInjector:
    """Gives test demonstrations as the budget wants them: the share `mix` refuses, and the last one answers."""

    async def inject(self, request: Request, budget: Budget) -> tuple[Demonstration, ...]:  # noqa: ARG002 - the protocol
        """Give demonstrations; fewer where the cap on tokens, taken as two for a word, leaves no room."""
        count, chosen = budget.demonstrations, list[Demonstration]()
        while True:
            refusing = math.floor(budget.mix * count + 1e-9)
            chosen = [demonstration(n, refuses=True) for n in range(refusing)]
            chosen += [demonstration(n) for n in range(count - refusing)]
            words = sum(len(d.question.split()) + len(d.answer.split()) for d in chosen)
            if budget.tokens is None or 2 * words <= budget.tokens:
                return tuple(chosen)
            count -= 1


class ScriptedBackend:
    """Answers from a script: by the first of its keys that the last turn's text holds, else with `otherwise`.

    `prompts` keeps what it was asked. `context` is how much it reads at once, two tokens for a word; None for no bound.
    """

    def __init__(
        self,
        answers: Mapping[str, str] = {},
        *,
        otherwise: str = "There is no fracture.",
        model: str = "test-model",
        context: int | None = None,
        pause: float = 0.0,
    ) -> None:
        self.context = context
        self.pause = pause
        self.answers = dict(answers)
        self.otherwise = otherwise
        self.model = model
        self.prompts: list[Prompt] = []

    def models(self) -> tuple[str, ...]:
        """Name the one model."""
        return (self.model,)

    async def complete(self, prompt: Prompt) -> Completion:
        """Answer by the script, as often as the request wants choices."""
        self.prompts.append(prompt)
        asked = " ".join(p.text for p in prompt.request.turns[-1].parts if isinstance(p, Text))
        answer = next((answer for key, answer in self.answers.items() if key in asked), self.otherwise)
        return completion(*[answer] * prompt.request.sampling.n, model=self.model)

    async def room(self, prompt: Prompt) -> int | None:
        """Give what is left of `context`."""
        if self.context is None:
            return None
        texts = [part.text for turn in prompt.chat() for part in turn.parts if isinstance(part, Text)]
        return self.context - 2 * sum(len(text.split()) for text in texts)

    async def score(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[float, ...]:
        """Find every answer equally likely."""
        self.prompts.append(prompt)
        return (-math.log(len(answers)),) * len(answers)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | Ended, None]:
        """Give the answer word by word, its choices in turn; `pause` seconds lie before each word."""
        answered = await self.complete(prompt)
        for place, word in enumerate(answered.choices[0].text.text.split(" ")):
            await asyncio.sleep(self.pause)
            for choice in answered.choices:
                yield Piece(choice=choice.index, text=f" {word}" if place else word)
        for choice in answered.choices:
            yield Piece(choice=choice.index, finish_reason=choice.finish_reason)
        yield Ended(model=answered.model, usage=answered.usage)


class FixedAuditor:
    """Finds `kind` in every text of an answer; without `kind` it finds nothing.

    With `word`, only where that word stands, and it marks the word's first span.
    """

    def __init__(
        self,
        kind: str | None = None,
        *,
        score: float = 1.0,
        label: str | None = None,
        word: str | None = None,
        replacement: str | None = None,
    ) -> None:
        self.kind, self.score, self.label, self.word, self.replacement = kind, score, label, word, replacement

    async def audit(self, prompt: Prompt, completion: Completion) -> tuple[Finding, ...]:  # noqa: ARG002 - the protocol
        """Give the fixed finding for each text."""
        if self.kind is None:
            return ()
        findings = []
        for text in (text for choice in completion.choices for text in choice.texts()):
            start = text.text.find(self.word) if self.word else None
            if start is None or start >= 0:
                findings.append(
                    Finding(
                        kind=self.kind,
                        score=self.score,
                        part=text.id,
                        start=start,
                        end=None if start is None or self.word is None else start + len(self.word),
                        label=self.label,
                        replacement=self.replacement,
                    )
                )
        return tuple(findings)


def _said(value: Request | Prompt) -> str:
    request = value.request if isinstance(value, Prompt) else value
    return " ".join(text.text for text in request.texts())


class _EveryKind:
    """A stage of all four kinds that does one thing whatever it is asked."""

    async def _act(self, kind: str, given: Request | Prompt) -> Any:
        raise NotImplementedError

    async def screen(self, request: Request) -> Any:
        """Act as a pre-screener."""
        return await self._act("prescreener", request)

    async def inject(self, request: Request, budget: Budget) -> Any:  # noqa: ARG002 - the protocol
        """Act as an injector."""
        return await self._act("injector", request)

    def models(self) -> tuple[str, ...]:
        """Name a model, so that a policy can be built on it."""
        return ("test-model",)

    async def complete(self, prompt: Prompt) -> Any:
        """Act as a backend."""
        return await self._act("backend", prompt)

    async def audit(self, prompt: Prompt, completion: Completion) -> Any:  # noqa: ARG002 - the protocol
        """Act as an auditor."""
        return await self._act("auditor", prompt)


class Raises(_EveryKind):
    """Raises `error` with the caller's text in its message, as careless code does."""

    def __init__(self, error: type[BaseException] = RuntimeError) -> None:
        self.error = error

    async def _act(self, kind: str, given: Request | Prompt) -> Any:
        raise self.error(f"{kind} can not handle: {_said(given)}")


class Hangs(_EveryKind):
    """Never answers; with `stubborn` it ignores the first cancellation too."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.stubborn = stubborn

    async def _act(self, kind: str, given: Request | Prompt) -> Any:  # noqa: ARG002 - it never looks
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not self.stubborn:
                raise
            await asyncio.Event().wait()


class ReturnsNothing(_EveryKind):
    """Gives None."""

    async def _act(self, kind: str, given: Request | Prompt) -> Any:  # noqa: ARG002 - it never looks
        return None


NONSENSE: Mapping[str, Iterable[Any]] = {
    "prescreener": (
        Screening(risk=math.nan, inspected=()),
        Screening(risk=1.5, inspected=()),
        Screening(risk=True, inspected=()),
        Screening(risk=0.0, inspected=("messages[99].content",)),
        Screening(risk=0.0, inspected=(), notes=("a whole sentence of a patient",)),
        Screening(risk=0.0, inspected=(), found=(Text(id="elsewhere#ocr", text="text"),)),
        {"risk": 0.0},
    ),
    "injector": ((demonstration(), demonstration()), [demonstration()], ("text",), "text"),
    "backend": (completion("one", "two", "three"), Completion(model="test-model", choices=()), "There is no fracture."),
    "auditor": (
        (Finding(kind="phi", score=1.0, part="choices[0].content", start=0, end=10**9),),
        (Finding(kind="phi", score=math.inf, part="choices[0].content"),),
        (Finding(kind="phi", score=1.0, part="choices[7].content"),),
        [],
        "phi",
    ),
}
"""For each kind, values of a wrong type, out of range, or that speak of what is not there."""


class ReturnsNonsense(_EveryKind):
    """Gives a value that no stage of its kind may give: number `which` of `NONSENSE`, or `value`."""

    def __init__(self, which: int = 0, *, value: Any = None) -> None:
        self.which = which
        self.value = value

    async def _act(self, kind: str, given: Request | Prompt) -> Any:  # noqa: ARG002 - it never looks
        return tuple(NONSENSE[kind])[self.which] if self.value is None else self.value
