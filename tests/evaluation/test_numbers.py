"""The statistics: against values from the literature, against plain sums, and by their properties."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evaluation import numbers

risks = st.lists(st.sampled_from([n / 20 for n in range(21)]), min_size=1, max_size=30)


def test_wilson_as_published() -> None:
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    table = ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718))
    for hits, of, low, high in table:
        found = numbers.share(hits, of)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_share_of_nothing_is_none() -> None:
    assert numbers.share(0, 0).value is None


@given(risks, risks)
def test_auc_is_the_share_of_pairs_in_order(bad: list[float], good: list[float]) -> None:
    found = numbers.auc(bad, good)
    plain = sum((b > g) + (b == g) / 2 for b in bad for g in good) / (len(bad) * len(good))
    assert found.value == pytest.approx(plain)
    assert 0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1


def test_delong_interval_by_plain_sums() -> None:
    bad, good = [0.9, 0.8, 0.4, 0.7, 0.65], [0.1, 0.3, 0.7, 0.2]

    def win(b: float, g: float) -> float:
        return (b > g) + (b == g) / 2

    area = np.mean([win(b, g) for b in bad for g in good])
    ten = [np.mean([win(b, g) for g in good]) for b in bad]
    one = [np.mean([win(b, g) for b in bad]) for g in good]
    spread = 1.959964 * math.sqrt(np.var(ten, ddof=1) / 5 + np.var(one, ddof=1) / 4) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    found = numbers.auc(bad, good)
    assert found.method == "DeLong, logit"
    assert found.low == pytest.approx(1 / (1 + math.exp(spread - logit)), abs=1e-6)
    assert found.high == pytest.approx(1 / (1 + math.exp(-spread - logit)), abs=1e-6)


def test_a_perfect_auc_of_few_rows_is_not_certain() -> None:
    few, many = numbers.auc([0.9] * 5, [0.1] * 5), numbers.auc([0.9] * 500, [0.1] * 500)
    assert (few.value, few.high, few.method) == (1.0, 1.0, "Newcombe 5")
    assert few.low < 0.75 and 0.97 < many.low < 1


def test_the_auc_interval_covers() -> None:
    # Two normals one standard deviation apart: the true area is Phi(1 / sqrt 2).
    rng, truth = np.random.default_rng(5), 0.760250
    inside = 0
    for _ in range(400):
        found = numbers.auc(list(rng.normal(1, 1, 40)), list(rng.normal(0, 1, 40)))
        inside += found.low <= truth <= found.high
    assert inside / 400 > 0.92


@given(risks, risks)
def test_the_curve_has_the_area_and_rises(bad: list[float], good: list[float]) -> None:
    curve = numbers.roc(bad, good)
    assert curve[0] == (0, 0) and curve[-1] == (1, 1)
    assert all(x0 <= x1 and y0 <= y1 for (x0, y0), (x1, y1) in pairwise(curve))
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(curve))
    assert area == pytest.approx(numbers.auc(bad, good).value)


@given(risks, risks, st.sampled_from([0.0, 0.08, 0.5, 1.0]))
def test_cuts_are_the_best_of_all(bad: list[float], good: list[float], limit: float) -> None:
    tries = [math.inf, *bad, *good]
    rates = [(sum(b >= t for b in bad) / len(bad), sum(g >= t for g in good) / len(good)) for t in tries]
    assert numbers.tpr_within_fpr(bad, good, limit).tpr.value == pytest.approx(
        max(tpr for tpr, fpr in rates if fpr <= limit + 1e-9)
    )
    if limit:
        assert numbers.fpr_at_tpr(bad, good, limit).fpr.value == pytest.approx(
            min(fpr for tpr, fpr in rates if tpr >= limit - 1e-9)
        )


@given(risks, risks)
def test_bins_hold_every_row_once_and_split_no_tie(bad: list[float], good: list[float]) -> None:
    found = numbers.calibration(bad, good)
    assert sum(b.count for b in found.bins) == len(bad) + len(good)
    assert [b.risk for b in found.bins] == sorted({b.risk for b in found.bins})
    assert 0 <= found.error <= 1


def test_a_true_probability_has_no_calibration_error() -> None:
    bad, good = [0.25] * 10 + [0.75] * 30, [0.25] * 30 + [0.75] * 10
    assert numbers.calibration(bad, good).error == pytest.approx(0)
    assert numbers.calibration([0.0] * 20, [1.0] * 20).error == pytest.approx(1)


def test_one_kind_alone_has_no_ranking() -> None:
    assert numbers.auc([0.5], []) is None and numbers.roc([], [0.5]) == ()
    assert numbers.calibration([], [0.5]) is None and numbers.tpr_within_fpr([0.5], [], 0.1) is None


@given(st.integers(0, 40), st.integers(1, 40), st.floats(0.001, 0.999))
def test_binomial_sums(k: int, n: int, p: float) -> None:
    plain = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(min(k, n) + 1))
    assert numbers.binomial_cdf(k, n, p) == pytest.approx(min(1, plain), abs=1e-9)


def test_clopper_pearson_as_published() -> None:
    assert numbers.upper_bound(0, 299, 0.95) == pytest.approx(1 - 0.05 ** (1 / 299))
    assert numbers.upper_bound(3, 100, 0.95) == pytest.approx(0.0757, abs=1e-4)
    assert numbers.upper_bound(5, 5, 0.95) == 1
