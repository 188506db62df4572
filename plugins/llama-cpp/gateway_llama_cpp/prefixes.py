"""Prefixes that come again in other requests (system turns and demonstrations), kept outside the model's memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

BLOCK = 128
"""Tokens of a prompt that are read in one step: others wait so long for their next token.

Fixed, so that a prompt is cut the same way whether its prefix was kept or not, and gets the same answer.
"""

Ids = tuple[int, ...]


def cuts(prompt: int, mark: int) -> list[int]:
    """Say where the reading of a prompt of `prompt` tokens is cut: at each block, and after its stable prefix."""
    return sorted({*range(BLOCK, prompt, BLOCK), *([mark] if 0 < mark < prompt else []), prompt})


class Prefixes:
    """What the model remembers of prefixes, the last used at the end, within `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: dict[Ids, bytes] = {}

    def best(self, ids: Ids, ends: Iterable[int]) -> tuple[bytes, int] | None:
        """Give what was kept, and of how many tokens it can serve, for the prompt that is cut at `ends`.

        At least the last stretch of the prompt is left to read: its logits are needed.
        """
        found, most = None, 0
        for kept in self._kept:
            alike = common(kept, ids)
            end = max((end for end in ends if end <= alike and end < len(ids)), default=0)
            if end > most:
                found, most = kept, end
        if found is None:
            return None
        self._kept[found] = saved = self._kept.pop(found)
        return saved, most

    def has(self, ids: Ids) -> bool:
        """Say whether `ids` is kept."""
        return ids in self._kept

    def add(self, ids: Ids, saved: bytes) -> None:
        """Keep `saved`, letting go of what was used longest ago where there is no room."""
        if len(saved) > self._limit or ids in self._kept:
            return
        self._kept[ids] = saved
        self._bytes += len(saved)
        while self._bytes > self._limit:
            self._bytes -= len(self._kept.pop(next(iter(self._kept))))

    def clear(self) -> None:
        """Let go of all."""
        self._kept, self._bytes = {}, 0


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens with which both begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
