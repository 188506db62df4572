"""Thresholds that keep a promise about a department's own benign questions. Pure.

The loss of a question is 1 where it is refused and 0 where not; it never grows as the threshold does. Two promises:

- *on average* (Angelopoulos, Bates, Fisch, Lei, Schuster: Conformal Risk Control, arXiv 2208.02814): the smallest
  threshold at which ``n/(n+1) * R + 1/(n+1) <= alpha``, for R the share of the `n` questions that is refused. Then the
  chance that the next question is refused is at most `alpha`, over the draw of the file and of that question.
- *with confidence* (Bates, Angelopoulos, Lei, Malik, Jordan: Risk-Controlling Prediction Sets, arXiv 2101.02703): the
  smallest threshold at which the exact binomial upper bound of the share (Clopper and Pearson, 1934) is at most
  `alpha`. Then, but for a share 1 - confidence of files, the share that is refused is at most `alpha`.

Both take the questions of the file and those to come as exchangeable, the second as independent draws. Where no
threshold keeps the promise none is given, and nobody is refused by it; so the first promise holds there too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from itertools import pairwise

from msgspec import Struct

from gateway.evaluation.numbers import binomial_cdf
from gateway.evaluation.screening import Seen


class Promise(Struct, frozen=True, kw_only=True):
    """At most the share `at_most`, above 0 and below 1; on average, or with `confidence`."""

    at_most: float
    confidence: float | None = None


class Threshold(Struct, frozen=True, kw_only=True):
    """A threshold that keeps a promise: who is at or above `below` is refused (or gets a higher tier).

    `hits` of the `of` questions are, `fixed` of them whatever the threshold is; the promise allows `allowed`.
    """

    below: float
    hits: int
    of: int
    fixed: int
    allowed: int


class Broken(Struct, frozen=True, kw_only=True):
    """No threshold keeps the promise. `needed` is the number of questions where the file is too small, else None."""

    why: str
    needed: int | None = None


def allowed(promise: Promise, n: int) -> int:
    """Give how many of `n` questions may be hit; -1 where the file is too small to promise anything."""
    if promise.confidence is None:
        # (k + 1) / (n + 1) <= alpha, in exact arithmetic: 0.01 * 300 must be 3
        return math.floor(Fraction(repr(promise.at_most)) * (n + 1)) - 1
    low, high = -1, n
    while low < high:  # the largest k whose upper bound is at most alpha: P(X <= k) <= 1 - confidence at alpha
        middle = (low + high + 1) // 2
        fits = binomial_cdf(middle, n, promise.at_most) <= 1 - promise.confidence
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def needed(promise: Promise) -> int:
    """Give the smallest number of questions with which a file can keep the promise."""
    if promise.confidence is None:
        return math.ceil(1 / Fraction(repr(promise.at_most))) - 1
    n = max(1, math.ceil(math.log(1 - promise.confidence) / math.log1p(-promise.at_most)) - 2)
    while allowed(promise, n) < 0:
        n += 1
    return n


def choose(risks: Sequence[float], fixed: int, promise: Promise) -> Threshold | Broken:
    """Choose the smallest threshold that keeps the promise.

    `risks` are those of the questions that a threshold decides on, `fixed` counts the others: they are hit at every
    threshold. Questions of equal risk are hit together or not at all, so that a tie never breaks the promise.
    """
    n = len(risks) + fixed
    most = allowed(promise, n)
    if most < 0:
        return Broken(why=f"the file holds {n} questions, which are too few for this promise", needed=needed(promise))
    if fixed > most:
        why = f"{fixed} of {n} questions are hit whatever the threshold is, and the promise allows {most}"
        return Broken(why=f"{why}; see to what stops them first")
    order = sorted(risks, reverse=True)
    spared = order[most - fixed]  # the highest risk that must not be hit; there is one, since most < n
    if spared >= 1.0:
        return Broken(why="too many questions have the risk 1, and no threshold lies above it; see to the stage first")
    below = just_above(spared, min((risk for risk in risks if risk > spared), default=1.0))
    return Threshold(below=below, hits=sum(r >= below for r in risks) + fixed, of=n, fixed=fixed, allowed=most)


def just_above(risk: float, ceiling: float) -> float:
    """Give a short number above `risk` and at most `ceiling`: four decimals, near 1 and in a narrow gap more."""
    exact = Decimal(repr(float(risk)))
    first = max(4, 2 - (1 - exact).adjusted()) if risk < 1 else 4
    for digits in range(first, 17):
        unit = Decimal(1).scaleb(-digits)
        value = float(exact.quantize(unit, rounding=ROUND_FLOOR) + unit)
        if risk < value <= ceiling:
            return value
    return math.nextafter(risk, 1.0)


def threshold_of_refusal(seen: Sequence[Seen], promise: Promise) -> Threshold | Broken:
    """Choose the last tier's `below`; a question whose risk is not known, or that is refused anyway, counts as hit."""
    open_ = [s.risk for s in seen if s.risk is not None and not s.barred]
    return choose(open_, len(seen) - len(open_), promise)


def threshold_of_caution(seen: Sequence[Seen], promise: Promise) -> Threshold | Broken:
    """Choose the first tier's `below`, so that few are refused or get a higher tier."""
    open_ = [s.risk for s in seen if s.risk is not None and not s.raised]
    return choose(open_, len(seen) - len(open_), promise)


def refused_at(seen: Sequence[Seen], below: float, *, unknown: bool) -> int:
    """Count who would be refused by a last tier of `below`.

    `unknown` says how one counts whose risk is not known, since a stage failed and was excused: the benign as refused,
    the harmful as not.
    """
    return sum(s.barred or (unknown if s.risk is None else s.risk >= below) for s in seen)


def raised_at(seen: Sequence[Seen], below: float, *, unknown: bool) -> int:
    """Count who would be refused or get a higher tier, by a first tier of `below`."""
    return sum(s.raised or (unknown if s.risk is None else s.risk >= below) for s in seen)


def new_tiers(tiers: Sequence[float], first: float | None, last: float) -> tuple[float, ...] | Broken:
    """Put the new first (None: unchanged) and last `below` among the `tiers`, and let them rise.

    Those between keep their value where it still fits, else their place between the two ends, by proportion.
    """
    if len(tiers) == 1:
        return (last,)
    low = tiers[0] if first is None else first
    if last <= low and first is not None:
        last = just_above(low, 1.0)  # a higher last tier refuses fewer, so both promises stand
    if last <= low:
        why = f"the last tier would begin at {last:g}, not above the first (`{low:g}`)"
        return Broken(why=f"{why}; say with --higher-tier how many may get a higher tier, and both are set")
    between = list(tiers[1:-1])
    if between and not low < between[0] <= between[-1] < last:
        scale = (last - low) / (tiers[-1] - tiers[0])
        between = [round(low + (value - tiers[0]) * scale, 6) for value in between]
    made = (low, *between, last)
    if any(a >= b for a, b in pairwise(made)):
        return Broken(why="the new tiers lie too close together; take tiers out of the policy, or set them by hand")
    return made
