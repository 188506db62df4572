"""Which demonstrations a budget buys, and in which order. Pure.

The rules, in the order in which they are applied:

1. **Share.** Of `n` demonstrations, ``floor(mix * n + 0.5)`` refuse (a half rounds up, to the safer side). Strictly
   between mix 0 and 1, at least one of each kind is chosen as soon as `n` is 2.
2. **Supply.** None is shown twice: a kind gives at most one per pair. Where the library lacks some, `n` shrinks until
   it has them, so that the share holds.
3. **Twins.** Where both kinds are wanted, the twins of one pair stand next to each other: the refusing one first under
   ``answering-last``, the answering one first under ``refusing-last``.
4. **Order.** Pairs are used in their order of preference. What one kind has more of is spread evenly between the twins:
   under ``answering-last`` refusing ones before a pair of twins and answering ones after it, so that the last one
   answers wherever one answers at all; under ``refusing-last`` the other way round.
5. **Reading.** What stands last counts most. Pairs in a fixed order close with the `CLOSING` preferred most, in their
   order, and what a larger budget adds stands before them; a budget of fewer pairs takes the first ones
   (`closing_last`). Pairs that were chosen for the question stand so that the nearest one is last, after those that
   every request has in common, so that a server's prefix cache hits on these (`nearest_last`).
6. **Images.** From the end on, demonstrations lose their image (not their text) until the cap on images holds.
7. **Tokens.** Where the estimate exceeds the cap on tokens, images go first, from the end on; then `n` shrinks by one
   and the rules apply again, so that the share holds at every size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from msgspec.structs import replace

from gateway.plugin import Budget, Demonstration
from gateway_clinical.library import Pair

CLOSING = 4
"""How many pairs the library's order closes with."""

TURN_TOKENS = 4
"""What the marks around one turn cost, in tokens; a demonstration has two turns."""

IMAGE_TOKENS = 256
"""What an image is taken to cost, in tokens: the size of most vision encoders' output after pooling."""

End = Literal["answering-last", "refusing-last"]
"""Which kind stands last, next to the question."""

Reading = Callable[[Sequence[Pair]], Sequence[Pair]]
"""Puts the pairs that are used, given in order of preference, into the order in which they are read."""


def estimate(demonstration: Demonstration) -> int:
    """Estimate the tokens of a demonstration: a quarter of its characters, rounded up, and the marks of two turns.

    English prose takes four to five characters a token in today's vocabularies, so this errs on the high side.
    """
    text = math.ceil((len(demonstration.question) + len(demonstration.answer)) / 4)
    return text + 2 * TURN_TOKENS + (IMAGE_TOKENS if demonstration.image is not None else 0)


def shares(count: int, mix: float) -> tuple[int, int]:
    """Give how many refuse and how many answer, of `count` with share `mix` (rule 1)."""
    refusing = math.floor(mix * count + 0.5)
    if 0.0 < mix < 1.0 and count >= 2:
        refusing = min(max(refusing, 1), count - 1)
    return refusing, count - refusing


def most(budget: Budget, supply: int) -> int:
    """Give how many demonstrations `budget` buys at most out of `supply` pairs (rule 2)."""
    count = min(budget.demonstrations, 2 * supply)
    while max(shares(count, budget.mix)) > supply:
        count -= 1
    return count


def needed(budget: Budget, supply: int) -> int:
    """Give how many pairs `budget` can use at most, out of `supply`."""
    return max(shares(most(budget, supply), budget.mix))


def layout(refusing: int, answering: int, end: End = "answering-last") -> tuple[tuple[int, bool], ...]:
    """Give the places in reading order, each as (index of the pair, whether it refuses) (rules 3 and 4)."""
    if end == "refusing-last":
        return tuple((index, not refuses) for index, refuses in layout(answering, refusing))
    twins, singles = min(refusing, answering), abs(refusing - answering)
    if twins == 0:
        return tuple((index, refusing > 0) for index in range(singles))
    places: list[tuple[int, bool]] = []
    pair = 0
    for group in range(twins):
        extra = singles * (group + 1) // twins - singles * group // twins
        if refusing > answering:
            places += [(pair + i, True) for i in range(extra)]
            pair += extra
        places += [(pair, True), (pair, False)]
        pair += 1
        if answering > refusing:
            places += [(pair + i, False) for i in range(extra)]
            pair += extra
    return tuple(places)


def closing_last(used: Sequence[Pair]) -> Sequence[Pair]:
    """Put the `CLOSING` pairs that are preferred most last, in their order (rule 5)."""
    return [*used[CLOSING:], *used[:CLOSING]]


def nearest_last(fixed: int) -> Reading:
    """Give the reading that keeps the first `fixed` pairs first and turns the others round (rule 5)."""
    return partial(_nearest_last, fixed)


def _nearest_last(fixed: int, used: Sequence[Pair]) -> Sequence[Pair]:
    return [*used[:fixed], *reversed(used[fixed:])]


def select(
    pairs: Sequence[Pair], budget: Budget, *, end: End = "answering-last", reading: Reading = closing_last
) -> tuple[Demonstration, ...]:
    """Give what `budget` buys from `pairs`, which are in order of preference."""
    for count in range(most(budget, len(pairs)), 0, -1):
        places = layout(*shares(count, budget.mix), end)
        read = reading(pairs[: 1 + max(index for index, _ in places)])
        chosen = [read[index].harmful if refuses else read[index].benign for index, refuses in places]
        chosen = _without_images(chosen, budget)
        if budget.tokens is None or sum(map(estimate, chosen)) <= budget.tokens:
            return tuple(chosen)
    return ()


def _without_images(chosen: list[Demonstration], budget: Budget) -> list[Demonstration]:
    pictured = [index for index, demo in enumerate(chosen) if demo.image is not None]
    left = len(pictured) if budget.images is None else budget.images
    spent = sum(map(estimate, chosen))
    for position in range(len(pictured) - 1, -1, -1):
        over = budget.tokens is not None and spent > budget.tokens
        if position < left and not over:
            break
        chosen[pictured[position]] = replace(chosen[pictured[position]], image=None)
        spent -= IMAGE_TOKENS
    return chosen
