"""The statistics of a screening, each with its source. Pure; risks are numbers in 0..1, higher for harmful rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gateway.records.proportions import Share as Share
from gateway.records.proportions import Z as Z
from gateway.records.proportions import share as share
from gateway.records.proportions import wilson

Floats = npt.NDArray[np.float64]


class Ranked(Struct, frozen=True, kw_only=True):
    """An area under the ROC curve with its 95 % interval and the method of the interval."""

    value: float
    low: float
    high: float
    method: str


class Cut(Struct, frozen=True, kw_only=True):
    """What a threshold on the risk alone would do, where it is chosen by looking at the same file.

    Who is at or above `threshold` counts as flagged; None flags nobody.
    """

    threshold: float | None
    tpr: Share
    fpr: Share


class Bin(Struct, frozen=True, kw_only=True):
    """One bin of a reliability plot: how many rows, their mean risk, and the share that is harmful."""

    count: int
    risk: float
    harmful: float


class Calibration(Struct, frozen=True, kw_only=True):
    """The expected calibration error, 0..1, and the bins it was made of."""

    error: float
    bins: tuple[Bin, ...]


class Mean(Struct, frozen=True, kw_only=True):
    """A mean of `of` values with its 95 % interval, None where there were too few for one."""

    of: int
    value: float
    low: float | None
    high: float | None


class Difference(Struct, frozen=True, kw_only=True):
    """The share of one setting less that of another on the same `of` questions, with its 95 % interval.

    `p` is McNemar's exact two-sided probability (1947): the interval alone is too sure where questions are very few.
    """

    of: int
    value: float
    low: float
    high: float
    p: float

    @property
    def lower(self) -> bool:
        """Tell whether it is surely below 0: the interval leaves 0 out, and `p` is under 0.05."""
        return self.high < 0 and self.p < 0.05

    @property
    def higher(self) -> bool:
        """Tell whether it is surely above 0, likewise."""
        return self.low > 0 and self.p < 0.05


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> Difference | None:
    """Give the share of `first` less that of `second`, both on the same questions in the same order.

    The interval is Newcombe's for paired shares (1998, method 10): Wilson's of each share, joined with the correlation
    between the two, which is corrected for continuity. None where there is nothing.
    """
    n = len(first)
    if n == 0:
        return None
    a = sum(x and y for x, y in zip(first, second, strict=True))
    b, c = sum(first) - a, sum(second) - a
    d = n - a - b - c
    (p1, low1, high1), (p2, low2, high2) = wilson(a + b, n), wilson(a + c, n)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    cross = a * d - b * c
    phi = 0.0 if margins == 0 else (max(cross - n / 2, 0.0) if cross > 0 else cross) / math.sqrt(margins)
    value, down1, up1, down2, up2 = p1 - p2, p1 - low1, high1 - p1, p2 - low2, high2 - p2
    down = math.sqrt(max(0.0, down1**2 - 2 * phi * down1 * up2 + up2**2))
    up = math.sqrt(max(0.0, up1**2 - 2 * phi * up1 * down2 + down2**2))
    p = min(1.0, 2 * binomial_cdf(min(b, c), b + c, 0.5)) if b + c else 1.0
    return Difference(of=n, value=value, low=max(-1.0, value - down), high=min(1.0, value + up), p=p)


def mean(values: Sequence[float], draws: int = 2000) -> Mean | None:
    """Give a mean with the bootstrap's percentile interval (Efron, 1979), 95 %; the same values give the same.

    None where there is no value; no interval for one value alone.
    """
    if not values:
        return None
    all_ = np.asarray(values, dtype=np.float64)
    if len(all_) == 1:
        return Mean(of=1, value=float(all_[0]), low=None, high=None)
    draw = np.random.default_rng(0)
    means = [float(all_[draw.integers(0, len(all_), len(all_))].mean()) for _ in range(draws)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Mean(of=len(all_), value=float(all_.mean()), low=float(low), high=float(high))


def _wins(values: Floats, others: Floats) -> Floats:
    """For each value, the share of `others` that it exceeds; a tie counts half."""
    order = np.sort(others)
    below, upto = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return np.asarray((below + upto) / (2 * len(order)), dtype=np.float64)


def auc(harmful: Sequence[float], benign: Sequence[float]) -> Ranked | None:
    """Give the chance that a harmful question has more risk than a benign one (Mann and Whitney, 1947).

    The interval is DeLong's (1988) on the logit scale. It takes rows as independent, which is on the safe side for
    twins. Where all pairs are in order or none, DeLong's variance is 0: there Newcombe's (2006, method 5). None where a
    kind is missing.
    """
    if not harmful or not benign:
        return None
    bad, good = np.asarray(harmful, dtype=np.float64), np.asarray(benign, dtype=np.float64)
    wins, losses = _wins(bad, good), _wins(good, bad)
    value = float(wins.mean())
    if 0 < value < 1 and len(bad) > 1 and len(good) > 1:
        variance = float(wins.var(ddof=1) / len(bad) + losses.var(ddof=1) / len(good))
        if variance > 0:
            logit, spread = math.log(value / (1 - value)), Z * math.sqrt(variance) / (value * (1 - value))
            return Ranked(value=value, low=_expit(logit - spread), high=_expit(logit + spread), method="DeLong, logit")
    low, high = _newcombe(value, len(bad), len(good))
    return Ranked(value=value, low=low, high=high, method="Newcombe 5")


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _newcombe(value: float, m: int, n: int) -> tuple[float, float]:
    """Solve |value - t| = z * se(t) for t on both sides of `value`, by halving."""
    extra = (m + n) / 2 - 1

    def outside(t: float) -> bool:
        spread = t * (1 - t) * (1 + extra * (1 - t) / (2 - t) + extra * t / (1 + t)) / (m * n)
        return abs(value - t) > Z * math.sqrt(spread)

    ends = []
    for edge in (0.0, 1.0):
        far, near = edge, value
        for _ in range(60):
            middle = (far + near) / 2
            far, near = (middle, near) if outside(middle) else (far, middle)
        ends.append(edge if value == edge else near)
    return ends[0], ends[1]


def roc(harmful: Sequence[float], benign: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Give the corners (FPR, TPR) of the ROC curve, from (0, 0) to (1, 1); empty where a kind is missing."""
    if not harmful or not benign:
        return ()
    points = [(0.0, 0.0)]
    for _, tpr, fpr in _cuts(harmful, benign):
        point = (fpr / len(benign), tpr / len(harmful))
        if len(points) > 1 and (
            points[-2][0] == points[-1][0] == point[0] or points[-2][1] == points[-1][1] == point[1]
        ):
            points[-1] = point  # on one line with the two before
        else:
            points.append(point)
    return tuple(points)


def _cuts(harmful: Sequence[float], benign: Sequence[float]) -> list[tuple[float, int, int]]:
    """For each threshold, from the highest down, how many harmful and benign are at or above it."""
    bad, good = np.sort(np.asarray(harmful)), np.sort(np.asarray(benign))
    marks = np.unique(np.concatenate([bad, good]))[::-1]
    caught, flagged = len(bad) - np.searchsorted(bad, marks), len(good) - np.searchsorted(good, marks)
    return [(float(t), int(c), int(f)) for t, c, f in zip(marks, caught, flagged, strict=True)]


def tpr_within_fpr(harmful: Sequence[float], benign: Sequence[float], most: float) -> Cut | None:
    """Give the threshold that catches most while it flags at most the share `most` of the benign."""
    if not harmful or not benign:
        return None
    fit = [cut for cut in _cuts(harmful, benign) if cut[2] <= most * len(benign) + 1e-9]
    return _cut(max(fit, key=lambda cut: (cut[1], -cut[2]), default=None), harmful, benign)


def fpr_at_tpr(harmful: Sequence[float], benign: Sequence[float], least: float) -> Cut | None:
    """Give the highest threshold that catches at least the share `least` of the harmful."""
    if not harmful or not benign:
        return None
    fit = (cut for cut in _cuts(harmful, benign) if cut[1] >= least * len(harmful) - 1e-9)
    return _cut(next(fit, None), harmful, benign)


def _cut(cut: tuple[float, int, int] | None, harmful: Sequence[float], benign: Sequence[float]) -> Cut:
    threshold, caught, flagged = (None, 0, 0) if cut is None else cut
    return Cut(threshold=threshold, tpr=share(caught, len(harmful)), fpr=share(flagged, len(benign)))


def calibration(harmful: Sequence[float], benign: Sequence[float], bins: int = 10) -> Calibration | None:
    """Give the expected calibration error over `bins` bins of equal count.

    Rows are sorted by risk and cut into bins as even as ties allow (equal risks stay together). The error is the mean,
    weighted by count, of the distance between a bin's mean risk and its share of harmful rows. It depends on how many
    harmful rows the file holds. None where a kind is missing.
    """
    if not harmful or not benign:
        return None
    risks = np.concatenate([np.asarray(harmful, dtype=np.float64), np.asarray(benign, dtype=np.float64)])
    labels = np.concatenate([np.ones(len(harmful)), np.zeros(len(benign))])
    order = np.argsort(risks, kind="stable")
    risks, labels = risks[order], labels[order]
    total, edges = len(risks), [0]
    for number in range(1, bins + 1):
        edge = int(np.searchsorted(risks, risks[round(number * total / bins) - 1], "right")) if total >= bins else total
        if edge > edges[-1]:
            edges.append(edge)
    made = tuple(
        Bin(count=end - start, risk=float(risks[start:end].mean()), harmful=float(labels[start:end].mean()))
        for start, end in pairwise(edges)
    )
    error = sum(b.count * abs(b.risk - b.harmful) for b in made) / total
    return Calibration(error=error, bins=made)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Give P(X <= k) for X binomial (n, p), by summing in logarithms."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    i = np.arange(k + 1)
    logs = np.array([math.lgamma(n + 1) - math.lgamma(j + 1) - math.lgamma(n - j + 1) for j in range(k + 1)])
    logs = logs + i * math.log(p) + (n - i) * math.log1p(-p)
    return min(1.0, float(np.exp(logs - logs.max()).sum() * math.exp(logs.max())))


def upper_bound(k: int, n: int, confidence: float) -> float:
    """Give the exact one-sided upper bound of a share after `k` of `n` (Clopper and Pearson, 1934)."""
    if k >= n:
        return 1.0
    low, high = k / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_cdf(k, n, middle) > 1 - confidence else (low, middle)
    return high
