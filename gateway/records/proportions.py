"""Shares of counts with their uncertainty, and how two judges agree. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

from msgspec import Struct

Z = NormalDist().inv_cdf(0.975)
"""Standard deviations of a normal distribution on each side that hold 95 %."""


class Share(Struct, frozen=True, kw_only=True):
    """A share `hits` / `of` with its 95 % interval; `value`, `low` and `high` are None where there was nothing."""

    hits: int
    of: int
    value: float | None
    low: float | None
    high: float | None


def share(hits: int, of: int) -> Share:
    """Give a share with Wilson's score interval (1927), 95 %, which holds for small numbers and near 0 and 1."""
    if of == 0:
        return Share(hits=0, of=0, value=None, low=None, high=None)
    value, low, high = wilson(hits, of)
    return Share(hits=hits, of=of, value=value, low=low, high=high)


def wilson(hits: int, of: int) -> tuple[float, float, float]:
    """Give the share `hits` / `of`, and the ends of Wilson's interval; `of` is above zero."""
    p, z2 = hits / of, Z * Z
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    spread = Z / (1 + z2 / of) * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    # At the ends the interval touches them; rounding must not push it past.
    low, high = (0.0 if hits == 0 else middle - spread), (1.0 if hits == of else middle + spread)
    return p, max(0.0, low), min(1.0, high)


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Give Cohen's kappa (1960) of two judges' words on the same things; None where chance alone would agree always."""
    n = len(pairs)
    if n == 0:
        return None
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    # Whole numbers until the last step: two judges of one word each must come to chance 1 exactly.
    chance = sum(count * second[word] for word, count in first.items())
    agreed = sum(one == other for one, other in pairs)
    return None if chance == n * n else (agreed * n - chance) / (n * n - chance)
