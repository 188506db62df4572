"""What is shown to a model: the budget, the demonstrations it buys, and the prompt."""

from __future__ import annotations

import hashlib
from typing import Literal

from msgspec import Struct

from gateway.values.request import Image, Modality, Part, Request, Text, Turn


class Budget(Struct, frozen=True, kw_only=True):
    """What may be spent on demonstrations before a question.

    `demonstrations` is their number, `mix` the share of them that refuses (0..1), `tokens` and `images` are caps,
    None for no cap.
    """

    demonstrations: int
    mix: float
    tokens: int | None = None
    images: int | None = None


class Demonstration(Struct, frozen=True, kw_only=True):
    """A synthetic question with its answer, put before the user's question. `refuses` says whether the answer refuses.

    `pair` is shared by the harmful and the benign twin.
    """

    id: str
    pair: str
    modality: Modality
    question: str
    answer: str
    refuses: bool
    image: Image | None = None


Form = Literal["turns", "packed"]
"""How demonstrations are shown: as turns of a chat, or packed into the first message of the user."""


class Prompt(Struct, frozen=True, kw_only=True):
    """What a model is given: the request's turns with the demonstrations before them.

    `found` is the text that pre-screeners found inside images, judged like the user's own; a backend whose model sees
    no images tells them with it. `form` says how demonstrations are shown; `role` is a system prompt of the policy's
    that goes with them.
    """

    request: Request
    demonstrations: tuple[Demonstration, ...] = ()
    found: tuple[Text, ...] = ()
    form: Form = "turns"
    role: str | None = None

    def chat(self) -> tuple[Turn, ...]:
        """Give the turns in the order a model reads them: role, leading system turns, demonstrations, the rest.

        The caller's text never stands before or inside a demonstration, so it can not forge or close one. Packed, it
        stands in the same message after them, between two marks that nobody can know before the request is made.
        """
        if not self.demonstrations:
            return self.request.turns
        turns = self.request.turns
        lead = 0
        while lead < len(turns) and turns[lead].role == "system":
            lead += 1
        before = turns[:lead]
        if self.role is not None:
            before = (Turn(role="system", parts=(Text(id="demonstrations.role", text=self.role),)), *before)
        if self.form == "packed":
            return before + self._packed(turns[lead:])
        shown: list[Turn] = []
        for demo in self.demonstrations:
            asked = Text(id=f"demonstrations.{demo.id}.question", text=demo.question)
            shown.append(Turn(role="user", parts=(asked,) if demo.image is None else (demo.image, asked)))
            answer = Text(id=f"demonstrations.{demo.id}.answer", text=demo.answer)
            shown.append(Turn(role="assistant", parts=(answer,)))
        return before + tuple(shown) + turns[lead:]

    def _packed(self, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        """Put the demonstrations into the first of `turns`; a turn of its own where that is not the user's."""
        parts: list[Part] = [Text(id="demonstrations.open", text="Examples of questions and how they are answered.")]
        for number, demo in enumerate(self.demonstrations, 1):
            if demo.image is not None:
                parts.append(demo.image)
            text = f"Example {number}\nQuestion: {demo.question}\nAnswer: {demo.answer}"
            parts.append(Text(id=f"demonstrations.{demo.id}", text=text))
        mark = f"q-{hashlib.sha256(self.request.id.encode()).hexdigest()[:12]}"
        told = f"The examples end here. Answer in the same way what stands between the two marks {mark}.\n{mark}"
        parts.append(Text(id="demonstrations.mark", text=told))
        first, rest = (turns[0].parts, turns[1:]) if turns and turns[0].role == "user" else ((), turns)
        return (Turn(role="user", parts=(*parts, *first, Text(id="demonstrations.close", text=mark))), *rest)
