"""The contract checks of answers that grow catch what they are there to catch."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from gateway.plugin import Completion, Ended, Finding, Piece, Prompt, Window
from gateway.testing import MARKER, ScriptedBackend, check_stage, found_late, offer, prompt

# a label and an identifier may stand 30 characters apart: 3 + 30 + 8 of them decide
_NUMBER = re.compile(r"MRN.{0,30}?(\d{8})", re.DOTALL)


class Numbers:
    """Finds numbers by their label; `hold` and `overlap` are what it declares."""

    def __init__(self, hold: Any = 41, overlap: Any = 0) -> None:
        self.hold, self.overlap = hold, overlap
        self.shown: list[str] = []

    def window(self) -> Window:
        return Window(characters=self.hold, overlap=self.overlap)

    async def audit(self, _: Prompt, answer: Completion) -> tuple[Finding, ...]:
        text = answer.choices[0].text
        self.shown.append(text.text)
        return tuple(
            Finding(kind="phi", score=0.9, part=text.id, start=m.start(1), end=m.end(1), replacement="[MRN]")
            for m in _NUMBER.finditer(text.text)
        )


class Short(Numbers):
    """Declares the identifier alone, and not its label."""

    def __init__(self) -> None:
        super().__init__(hold=2)


async def fails(stage: Any, kind: Any, match: str) -> None:
    with pytest.raises(AssertionError, match=match):
        await check_stage(offer("bad", stage), kind)


async def test_an_auditor_with_an_honest_window_passes() -> None:
    auditor = Numbers()
    await check_stage(offer("good", auditor), "auditor")
    stretches = [text for text in auditor.shown if len(text) <= 2 * 41 + 7]
    assert any("MRN 00123456" in text and "Jane Roe" in text for text in stretches)
    assert any("MRN 00123456" in text and "Jane Roe" not in text for text in stretches)


async def test_an_auditor_that_declares_too_little_fails() -> None:
    await fails(Short(), "auditor", r"`window`: `\w+` in steps of \d+: .*declare more")


@pytest.mark.parametrize(
    ("hold", "overlap", "match"),
    [
        (0, 0, "1 to 16384 characters"),
        (16_385, 16_385, "1 to 16384 characters"),
        (10, 16_385, "1 to 16384 characters"),
        (100, 99, "`overlap` is less than `characters`"),
        (100, -1, "`overlap` is less than `characters`"),
        (10.0, 0, "whole numbers"),
        (True, 0, "whole numbers"),
        (10, "20", "whole numbers"),
    ],
)
async def test_a_window_that_can_not_be_kept_to_fails(hold: Any, overlap: Any, match: str) -> None:
    await fails(Numbers(hold, overlap), "auditor", match)


async def test_a_window_that_is_none_fails() -> None:
    auditor = Numbers()
    auditor.window = lambda: 41  # type: ignore[method-assign, assignment, return-value] # what a plugin's author may do
    await fails(auditor, "auditor", "give a `Window`")


@pytest.mark.parametrize("step", [1, 5, 40, 1000])
async def test_what_is_found_in_time_is_not_late(step: int) -> None:
    text = "a" * 300 + " MRN: " + "." * 25 + "12345678 and more " + "b" * 300
    assert await found_late(Numbers(), prompt(), text, range(1, len(text), step)) is None


async def test_what_is_found_too_late_is_told_without_its_words() -> None:
    text = "a" * 300 + " MRN: " + "." * 25 + "12345678 and more " + "b" * 300
    told = await found_late(Short(), prompt(), text, range(1, len(text), 1))
    assert "declare more `characters`" in told
    assert "12345678" not in told


class Streams(ScriptedBackend):
    """Streams what it is given in place of its answer."""

    def __init__(self, *items: Any) -> None:
        super().__init__()
        self.items = items

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | Ended, None]:
        for item in self.items:
            yield item


class Prints(ScriptedBackend):
    """Prints the question while it streams."""

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | Ended, None]:
        print(MARKER)
        async for item in super().stream(prompt):
            yield item


class Stubborn(ScriptedBackend):
    """Goes on when its stream is closed."""

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | Ended, None]:
        try:
            yield Piece(text="a")
        finally:
            yield Piece(text="b")
        async for item in super().stream(prompt):
            yield item


END = Ended(model="test-model")


@pytest.mark.parametrize(
    ("stage", "match"),
    [
        (Streams(), "the last item must be an `Ended`"),
        (Streams(Piece(text="There is no fracture.")), "the last item must be an `Ended`"),
        (Streams("There is no fracture.", END), "a piece is no good: nonsense:type"),
        (Streams(Piece(text="a"), END, END), "a piece is no good: nonsense:type"),
        (Streams(Piece(choice=1, text="a"), END), "a piece is no good: nonsense:choice"),
        (Streams(Piece(text="\ud800"), END), "a piece is no good: nonsense:text"),
        (Streams(Piece(text="a", finish_reason="stop"), Piece(text="b"), END), "nonsense:after-end"),
        (Streams(Piece(text="a"), Ended(model="")), "adds up to is no good: nonsense:model"),
        (Streams(Piece(text="There is"), END), "another answer than `complete` gives"),
        (Prints(), "text of a request was written to"),
    ],
)
async def test_a_broken_stream_fails(stage: Any, match: str) -> None:
    await fails(stage, "backend", f"`stream`: .*{match}")


async def test_a_stream_that_goes_on_when_it_is_closed_fails() -> None:
    await fails(Stubborn(), "backend", "`stream`: it goes on when it is closed")


async def test_a_good_stream_passes() -> None:
    await check_stage(offer("good", ScriptedBackend()), "backend")
