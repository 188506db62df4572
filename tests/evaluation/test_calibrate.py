"""Calibration keeps its promises: on average, with confidence, with ties, and never by a policy that says more."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evaluation.calibrate import (
    Broken,
    Promise,
    Threshold,
    allowed,
    choose,
    just_above,
    needed,
    new_tiers,
)
from gateway.evaluation.numbers import upper_bound

risk_lists = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.1, 0.5, 0.9, 1.0])), min_size=1, max_size=150)
parts = st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.25, 0.5])
promises = st.builds(Promise, at_most=parts, confidence=st.sampled_from([None, 0.8, 0.95]))


def test_the_numbers_that_a_file_needs() -> None:
    assert needed(Promise(at_most=0.01)) == 99
    assert needed(Promise(at_most=0.08)) == 12
    assert needed(Promise(at_most=0.01, confidence=0.95)) == 299
    assert needed(Promise(at_most=0.05, confidence=0.95)) == 59


@given(promises)
def test_needed_is_the_smallest_number(promise: Promise) -> None:
    n = needed(promise)
    assert allowed(promise, n) == 0 and allowed(promise, n - 1) < 0


def test_allowed_in_exact_arithmetic() -> None:
    # 0.01 * 300 is 3, and (2 + 1) / 300 is allowed
    assert [allowed(Promise(at_most=0.01), n) for n in (98, 99, 198, 199, 299, 300)] == [-1, 0, 0, 1, 2, 2]


@given(promises, st.integers(1, 400))
def test_allowed_with_confidence_is_where_the_bound_ends(promise: Promise, n: int) -> None:
    k = allowed(promise, n)
    if promise.confidence is not None:
        assert k < 0 or upper_bound(k, n, promise.confidence) <= promise.at_most + 1e-9
        assert upper_bound(k + 1, n, promise.confidence) > promise.at_most - 1e-9
        assert k <= allowed(Promise(at_most=promise.at_most), n)  # never laxer than the promise on average


@given(risk_lists, st.integers(0, 3), promises)
def test_a_threshold_keeps_to_what_is_allowed(risks: list[float], fixed: int, promise: Promise) -> None:
    found = choose(risks, fixed, promise)
    n = len(risks) + fixed
    if isinstance(found, Broken):
        most = allowed(promise, n)
        ones = sum(r >= 1.0 for r in risks)
        assert most < fixed or ones + fixed > most
        return
    hits = fixed + sum(r >= found.below for r in risks)
    assert 0 < found.below <= 1 and found.hits == hits <= found.allowed == allowed(promise, n)
    # It is the most cautious one: with the next lower risk it would be too many.
    lower = max((r for r in risks if r < found.below), default=None)
    assert lower is None or fixed + sum(r >= lower for r in risks) > found.allowed


@given(risk_lists, st.integers(0, 3), promises)
def test_more_may_be_refused_the_threshold_never_rises(risks: list[float], fixed: int, promise: Promise) -> None:
    found = [choose(risks, fixed, Promise(at_most=a, confidence=promise.confidence)) for a in (0.05, 0.1, 0.3)]
    values = [math.inf if isinstance(f, Broken) else f.below for f in found]
    assert values == sorted(values, reverse=True)


@given(risk_lists, promises, st.data())
def test_a_riskier_file_never_gives_a_lower_threshold(
    risks: list[float], promise: Promise, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(risks) - 1))
    riskier = [*risks[:place], data.draw(st.floats(risks[place], 1)), *risks[place + 1 :]]
    one, two = choose(risks, 0, promise), choose(riskier, 0, promise)
    if isinstance(one, Threshold) and isinstance(two, Threshold):
        spared = [sorted(r, reverse=True)[one.allowed] for r in (risks, riskier)]
        assert spared[0] <= spared[1] < two.below
    assert not (isinstance(one, Broken) and isinstance(two, Threshold))


@pytest.mark.parametrize("fixed_share", [0.0, 0.01])
@pytest.mark.parametrize("ties", [False, True])
def test_the_promise_on_average_holds(ties: bool, fixed_share: float) -> None:
    """Files of 150 from one source: the chance that the next question is refused, over files, is at most 4 %."""
    rng, alpha, chances = np.random.default_rng(7), 0.04, []
    for _ in range(3000):
        risks = rng.beta(0.5, 4, 150)
        risks = np.round(risks, 1) if ties else risks
        barred = int(rng.binomial(150, fixed_share))
        found = choose(list(risks[barred:]), barred, Promise(at_most=alpha))
        # The true chance, by the source's own law; none is refused by a threshold that was not given.
        chance = 0.0 if isinstance(found, Broken) else _above(found.below, ties)
        chances.append(0.0 if isinstance(found, Broken) else fixed_share + (1 - fixed_share) * chance)
    spread = np.std(chances) / math.sqrt(len(chances))
    assert np.mean(chances) <= alpha + 3 * spread
    if not ties and not fixed_share:
        assert np.mean(chances) >= alpha - 1 / 151 - 3 * spread  # and not needlessly strict


def test_the_promise_with_confidence_holds() -> None:
    rng, alpha, broken = np.random.default_rng(8), 0.05, 0
    for _ in range(2000):
        found = choose(list(rng.beta(0.5, 4, 200)), 0, Promise(at_most=alpha, confidence=0.9))
        broken += isinstance(found, Threshold) and _above(found.below, ties=False) > alpha
    assert broken / 2000 <= 0.1 + 3 * math.sqrt(0.09 / 2000)


_SOURCE = np.sort(np.random.default_rng(9).beta(0.5, 4, 2_000_000))
_ROUNDED = np.round(_SOURCE, 1)


def _above(below: float, ties: bool) -> float:
    values = _ROUNDED if ties else _SOURCE
    return 1 - np.searchsorted(values, below) / len(values)


def test_questions_that_are_hit_anyway_use_up_the_promise() -> None:
    risks = [n / 1000 for n in range(299)]
    assert choose(risks, 0, Promise(at_most=0.01)).hits == 2
    used_up = choose(risks, 2, Promise(at_most=0.01))
    assert used_up.hits == used_up.allowed == 2 and used_up.below == 0.2981
    found = choose(risks, 9, Promise(at_most=0.01))
    assert isinstance(found, Broken) and "9 of 308" in found.why and found.needed is None


def test_a_file_that_is_too_small_tells_what_it_needs() -> None:
    found = choose([0.1] * 40, 0, Promise(at_most=0.01))
    assert isinstance(found, Broken) and found.needed == 99 and "40" in found.why


def test_tied_risks_are_spared_together() -> None:
    found = choose([0.3] * 50 + [0.1] * 50, 0, Promise(at_most=0.2))
    assert found.hits == 0 and found.below > 0.3
    assert isinstance(choose([1.0] * 100, 0, Promise(at_most=0.2)), Broken)


@given(st.floats(0, 1, exclude_max=True), st.data())
def test_just_above_is_above_and_within(risk: float, data: st.DataObject) -> None:
    ceiling = data.draw(st.floats(risk, 1, exclude_min=True))
    value = just_above(risk, ceiling)
    assert risk < value <= ceiling
    assert value - risk <= 1.1e-4  # no further than it must: what lies between would be let through


def test_just_above_is_short_and_near_one_fine() -> None:
    assert just_above(0.31415, 1.0) == 0.3142
    assert just_above(0.0, 1.0) == 0.0001
    assert just_above(0.99995, 1.0) < 0.99996


def test_new_tiers_rise() -> None:
    assert new_tiers([0.9], None, 0.7) == (0.7,)
    assert new_tiers([0.2, 0.9], None, 0.7) == (0.2, 0.7)
    assert isinstance(new_tiers([0.2, 0.9], None, 0.15), Broken)
    assert new_tiers([0.2, 0.9], 0.1, 0.15) == (0.1, 0.15)
    low, high = new_tiers([0.2, 0.9], 0.3, 0.3)
    assert low == 0.3 < high < 0.3002
    assert new_tiers([0.2, 0.5, 0.9], 0.1, 0.8) == (0.1, 0.5, 0.8)
    made = new_tiers([0.2, 0.5, 0.9], 0.1, 0.3)
    assert made[0] < made[1] < made[2]
