"""Lists on the command line: numbers, shares or words with commas between them."""

from __future__ import annotations

from typing import Any

import click

MOST = 64  # demonstrations: what a policy's budget takes


class _List(click.ParamType[tuple[Any, ...]]):
    """A list with commas between its items; an item may stand once."""

    hint = "write items with commas between them"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Read the list; fails with what is wrong in it."""
        if isinstance(value, tuple):
            return value
        made: list[Any] = []
        for word in (word.strip() for word in str(value).split(",")):
            item = self.item(word) if word else None
            if item is None:
                self.fail(f"`{word}` in `{value}`: {self.hint}" if word else f"`{value}`: {self.hint}", param, ctx)
            if item not in made:
                made.append(item)
        return tuple(made)

    def item(self, word: str) -> Any:
        """Read one item; None where it is none."""
        raise NotImplementedError


class Counts(_List):
    """Whole numbers from 0 to 64."""

    name = "counts"
    hint = f"write whole numbers from 0 to {MOST}, as `0,4,8`"

    def item(self, word: str) -> int | None:
        """Read a number."""
        return int(word) if word.isascii() and word.isdigit() and int(word) <= MOST else None


class Shares(_List):
    """Numbers from 0 to 1."""

    name = "shares"
    hint = "write shares from 0 to 1 and no percentages, as `0,0.5,1`"

    def item(self, word: str) -> float | None:
        """Read a share."""
        try:
            value = float(word)
        except ValueError:
            return None
        return value if 0 <= value <= 1 else None


class Words(_List):
    """Names: letters, digits, hyphens and underscores."""

    name = "words"
    hint = "write names, as `one,another`"

    def item(self, word: str) -> str | None:
        """Take a name."""
        return word if word.replace("-", "").replace("_", "").isalnum() else None


class Part(click.FloatRange):
    """A share above 0 and below 1."""

    def __init__(self) -> None:
        super().__init__(0, 1, min_open=True, max_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number; a percentage is told how to write it."""
        if isinstance(value, str) and value.strip().endswith("%"):
            self.fail("write a share and no percentage: `0.01` for 1 %", param, ctx)
        number: float = super().convert(value, param, ctx)
        return number
