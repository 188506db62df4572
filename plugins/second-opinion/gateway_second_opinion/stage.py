"""The stage: what the user wrote, quoted to a model, and the probability of its verdict."""

from __future__ import annotations

import asyncio
import inspect
import math
from typing import Any

from msgspec import Struct

from gateway.plugin import Prompt, Request, Sampling, ScoringBackend, Screening, Text, Turn
from gateway_second_opinion import Config
from gateway_second_opinion.frame import INSTRUCTION, VERDICTS, quoted
from gateway_second_opinion.shown import demonstrations

FREE = ("N/A", "[MASK]", "")
"""Requests without content (Zhao et al. 2021, arXiv 2102.09690): what the model says of them is its own leaning."""
FLOOR = math.log(1e-6)
"""Log-probabilities below this count as this: a server that lists 20 tokens tells no more."""


class NoVerdict(Exception):
    """The model gives neither verdict a probability worth the name: it may not have understood what it is asked."""


class Piece(Struct, frozen=True, kw_only=True):
    """A text as it is shown to the model, and the parts it is made of."""

    parts: tuple[str, ...]
    shown: str
    view: str


class SecondOpinion:
    """Asks `model` for the verdict on a request."""

    def __init__(self, config: Config, model: Any) -> None:
        if not inspect.iscoroutinefunction(getattr(model, "score", None)):
            raise ValueError(
                f"the model stage `{config.model.stage}` can not score answers (it has no async method `score`); name"
                " one that can, such as `transformers` or `openai`"
            )
        self._config = config
        self._model: ScoringBackend = model
        self._shown = demonstrations(config.demonstrations)
        self._leaning: float | None = None if config.calibrate else 0.0
        self._finding: asyncio.Task[float] | None = None

    async def screen(self, request: Request) -> Screening:
        """Judge what the user wrote, as one text, and each text found in an image by itself; the worst counts.

        Raises:
            NoVerdict: the model gives neither verdict.
        """
        pieces, notes = self._pieces(request)
        if not pieces:
            return Screening(risk=0.0, inspected=(), notes=notes)
        leaning, *odds = await asyncio.gather(self.leaning(), *(self.odds(piece.shown) for piece in pieces))
        risks = [self.risk(value - leaning) for value in odds]
        risk, worst = max(zip(risks, pieces, strict=True), key=lambda pair: pair[0])
        inspected = tuple(part for piece in pieces for part in piece.parts)
        return Screening(risk=risk, inspected=inspected, part=worst.parts[-1], view=worst.view, notes=notes)

    async def odds(self, shown: str) -> float:
        """Give the log-odds of harm, as the model sees the quotation `shown`.

        Raises:
            NoVerdict: the model gives neither verdict.
        """
        told = await self._model.score(self._prompt(shown), VERDICTS)
        harmful, benign = (min(value, 0.0) for value in told)
        if not math.exp(harmful) + math.exp(benign) >= self._config.least:  # which is also so for a NaN
            raise NoVerdict("the model gives neither verdict")
        return max(harmful, FLOOR) - max(benign, FLOOR)

    async def leaning(self) -> float:
        """Give the log-odds of harm of a request without content: found at the first use, then kept."""
        if self._leaning is not None:
            return self._leaning
        loop = asyncio.get_running_loop()
        if self._finding is None or self._finding.done() or self._finding.get_loop() is not loop:
            self._finding = loop.create_task(self._find())
            self._finding.add_done_callback(_heard)
        # a request whose deadline passes meanwhile leaves the work to those that come after it
        return await asyncio.shield(self._finding)

    def risk(self, odds: float) -> float:
        """Turn log-odds into the risk, a probability in 0..1."""
        value = max(-500.0, min(500.0, self._config.slope * odds + self._config.offset))
        return 1.0 / (1.0 + math.exp(-value))

    async def aclose(self) -> None:
        """Give up what is still being found. The model belongs to the gateway, which closes it."""
        if self._finding is not None and self._finding.get_loop() is asyncio.get_running_loop():
            self._finding.cancel()

    async def _find(self) -> float:
        odds = [await self.odds(quoted((text,))) for text in FREE]
        self._leaning = sum(odds) / len(odds)
        return self._leaning

    def _prompt(self, shown: str) -> Prompt:
        turns = (
            Turn(role="system", parts=(Text(id="second-opinion.instruction", text=INSTRUCTION),)),
            Turn(role="user", parts=(Text(id="second-opinion.request", text=shown),)),
        )
        request = Request(
            id="second-opinion", department="second-opinion", model=self._model.models()[0], turns=turns,
            sampling=Sampling(max_tokens=1, temperature=0.0),
        )  # fmt: skip
        return Prompt(request=request, demonstrations=self._shown)

    def _pieces(self, request: Request) -> tuple[list[Piece], tuple[str, ...]]:
        """Give what is to be shown, and why something is not, as notes."""
        texts = [part for turn in request.turns if turn.role == "user" for part in turn.parts if isinstance(part, Text)]
        typed = [part for part in texts if "#" not in part.id]
        found = [part for part in texts if "#" in part.id and part.text.strip()]
        notes: set[str] = set()
        groups: list[tuple[list[Text], str]] = []
        if any(part.text.strip() for part in typed):
            groups.append((typed, "raw" if len(typed) == 1 else "conversation"))
        groups += [([part], "raw") for part in found[: self._config.max_texts]]
        if len(found) > self._config.max_texts:
            notes.add("too-many")
        if not groups:
            notes.add("no-text")
        pieces: list[Piece] = []
        for parts, view in groups:
            most = self._config.max_chars
            shown = quoted([part.text for part in parts]) if sum(len(part.text) for part in parts) <= most else None
            if shown is None or len(shown) > most:
                notes.add("too-long")  # a text cut short could be made to hide what was cut off
                continue
            pieces.append(Piece(parts=tuple(part.id for part in parts), shown=shown, view=view))
        return pieces, tuple(sorted(notes))


def _heard(task: asyncio.Task[float]) -> None:
    """Look at how it ended, so that nothing is logged of a failure that every waiting request has raised already."""
    if not task.cancelled():
        task.exception()
