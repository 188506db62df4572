"""Which setting a department should take: the cheapest whose upper bounds hold what it can bear. Pure."""

from __future__ import annotations

import math

from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.evaluation.defence_report import DefenceReport
from gateway.evaluation.effects import Effect
from gateway.evaluation.numbers import Z


class Recommended(Struct, frozen=True, kw_only=True):
    """The setting to take. `fits`: both upper 95 % bounds hold; without, it is the one that misses by least."""

    effect: Effect
    fits: bool


def recommend(report: DefenceReport, max_attack_success: float, max_over_defense: float) -> Recommended:
    """Give the cheapest setting (in mean prompt tokens) whose upper Wilson bounds hold both limits, else the nearest.

    Raises ConfigurationError where no setting has answers to both kinds of question.
    """
    whole = [e for e in report.effects if e.point is not None and not e.arm.whole]
    if not whole:
        raise ConfigurationError(
            "the report holds no setting with both harmful and benign questions; measure files with both labels"
        )
    fits = [e for e in whole if _excess(e, max_attack_success, max_over_defense) <= 0]
    if fits:
        return Recommended(effect=min(fits, key=lambda e: e.price), fits=True)
    nearest = min(whole, key=lambda e: (round(_excess(e, max_attack_success, max_over_defense), 9), e.price))
    return Recommended(effect=nearest, fits=False)


def _excess(effect: Effect, max_attack_success: float, max_over_defense: float) -> float:
    """Give by how much the upper bounds pass the limits, both together."""
    bad, good = effect.rates.attack_success.high, effect.rates.over_defense.high
    over = (1.0 if bad is None else bad) - max_attack_success, (1.0 if good is None else good) - max_over_defense
    return sum(max(0.0, part) for part in over)


def questions_needed(limit: float) -> int:
    """Give how many questions without any error it takes for the upper Wilson bound to be at most `limit` (above 0)."""
    # without an error Wilson's upper bound is z² / (n + z²)
    return max(1, math.ceil(Z * Z * (1 - limit) / limit))
