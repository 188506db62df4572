"""Which demonstrations a budget buys, and in which order. Pure.

The rules, in the order in which they are applied:

1. **Share.** Of `n` demonstrations, ``floor(mix * n + 0.5)`` refuse (a half rounds up, to the safer side). Strictly
   between mix 0 and 1, at least one of each kind is chosen as soon as `n` is 2.
2. **Supply.** None is shown twice: a kind gives at most one per pair, and what the library lacks is left out.
3. **Twins.** Where both kinds are wanted, the twins of one pair stand next to each other, the refusing one first.
4. **Order.** Pairs are used in the order given. What one kind has more of is spread evenly between the twins: refusing
   ones before a pair of twins, answering ones after it. So the last one answers wherever one answers at all.
5. **Closing.** What stands last counts most. So the `CLOSING` pairs that are preferred most stand last, in their order,
   and what a larger budget adds stands before them. A budget of fewer pairs takes the first ones.
6. **Images.** From the end on, demonstrations lose their image (not their text) until the cap on images holds.
7. **Tokens.** Where the estimate exceeds the cap on tokens, images go first, from the end on; then `n` shrinks by one
   and the rules apply again, so that the share holds at every size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from gateway.plugin import Budget, Demonstration
from gateway_clinical.library import Pair

CLOSING = 4
"""How many pairs the library's order closes with."""

TURN_TOKENS = 4
"""What the marks around one turn cost, in tokens; a demonstration has two turns."""

IMAGE_TOKENS = 256
"""What an image is taken to cost, in tokens: the size of most vision encoders' output after pooling."""


def estimate(demonstration: Demonstration) -> int:
    """Estimate the tokens of a demonstration: a quarter of its characters, rounded up, and the marks of two turns.

    English prose takes four to five characters a token in today's vocabularies, so this errs on the high side.
    """
    text = math.ceil((len(demonstration.question) + len(demonstration.answer)) / 4)
    return text + 2 * TURN_TOKENS + (IMAGE_TOKENS if demonstration.image is not None else 0)


def shares(count: int, mix: float, supply: int) -> tuple[int, int]:
    """Give how many refuse and how many answer, of `count` with share `mix`, out of `supply` pairs (rules 1 and 2)."""
    refusing = math.floor(mix * count + 0.5)
    if 0.0 < mix < 1.0 and count >= 2:
        refusing = min(max(refusing, 1), count - 1)
    return min(refusing, supply), min(count - refusing, supply)


def layout(refusing: int, answering: int) -> tuple[tuple[int, bool], ...]:
    """Give the places in reading order, each as (index of the pair, whether it refuses) (rules 3 and 4)."""
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


def select(pairs: Sequence[Pair], budget: Budget) -> tuple[Demonstration, ...]:
    """Give what `budget` buys from `pairs`, which are in order of preference."""
    for count in range(budget.demonstrations, 0, -1):
        places = layout(*shares(count, budget.mix, len(pairs)))
        read = _reading_order(pairs, 1 + max((index for index, _ in places), default=-1))
        chosen = [read[index].harmful if refuses else read[index].benign for index, refuses in places]
        chosen = _without_images(chosen, budget)
        if budget.tokens is None or sum(map(estimate, chosen)) <= budget.tokens:
            return tuple(chosen)
    return ()


def _reading_order(pairs: Sequence[Pair], used: int) -> list[Pair]:
    closing = min(used, CLOSING)
    return [*pairs[closing:used], *pairs[:closing]]


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
