"""Windows run together: each gets its own vector, once, whatever waits beside it and whoever fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_intent import IntentConfig, build
from gateway_intent.judge import Judge
from gateway_intent.loading import load
from gateway_intent.together import MAX_TOKENS, Ids, Together, Vector

ROUND = 20
"""Seconds that a thread is waited for before it counts as hung."""


class Encoder:
    """Gives a window's sum as its vector, keeps the batches, and does not go on until it may."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[Ids]] = []
        self.began = threading.Semaphore(0)
        self.going = threading.Event()
        if not held:
            self.going.set()

    def __call__(self, windows: Sequence[Ids]) -> list[Vector]:
        self.batches.append(list(windows))
        self.began.release()
        assert self.going.wait(ROUND)
        if any(-1 in window for window in windows):
            raise OSError("no more memory")
        return [np.asarray([sum(window)], np.float32) for window in windows]


def waiting(together: Together, count: int) -> bool:
    """Wait until `count` windows wait."""
    pause = threading.Event()
    return any(len(together._waiting) == count or pause.wait(0.01) for _ in range(ROUND * 100))


@settings(max_examples=30, deadline=None)
@given(
    windows=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple), min_size=1, max_size=40),
    runs=st.integers(1, 3),
)
def test_each_window_gets_its_own_vector_and_runs_once(windows: list[Ids], runs: int) -> None:
    encoder = Encoder()
    together = Together(encoder, runs=runs)
    with ThreadPoolExecutor(8) as pool:
        vectors = list(pool.map(together.run, windows, timeout=ROUND))
    assert [float(vector[0]) for vector in vectors] == [sum(window) for window in windows]
    assert sorted(window for batch in encoder.batches for window in batch) == sorted(windows)
    assert all(len({len(window) for window in batch}) == 1 for batch in encoder.batches)
    assert together._free == runs


def test_what_gathers_behind_a_batch_runs_in_the_order_of_who_waited_longest() -> None:
    encoder = Encoder(held=True)
    together = Together(encoder, runs=1)
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(together.run, (0,))]
        assert encoder.began.acquire(timeout=ROUND)
        for place, window in enumerate(((1, 1), (2,), (3, 3), (4,)), start=1):
            runs.append(pool.submit(together.run, window))
            assert waiting(together, place)
        encoder.going.set()
        assert [float(run.result(ROUND)[0]) for run in runs] == [0, 2, 2, 6, 4]
    assert encoder.batches == [[(0,)], [(1, 1), (3, 3)], [(2,), (4,)]]


def test_a_batch_is_bounded() -> None:
    encoder = Encoder(held=True)
    together = Together(encoder, runs=1)
    long = (1,) * (MAX_TOKENS // 2)
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(together.run, (0,))]
        assert encoder.began.acquire(timeout=ROUND)
        runs += [pool.submit(together.run, long) for _ in range(5)]
        assert waiting(together, 5)
        encoder.going.set()
        assert [float(run.result(ROUND)[0]) for run in runs] == [0, *[MAX_TOKENS // 2] * 5]
    assert [len(batch) for batch in encoder.batches] == [1, 2, 2, 1]


def test_who_shares_a_failed_batch_fails_and_those_behind_do_not() -> None:
    encoder = Encoder(held=True)
    together = Together(encoder, runs=1)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(together.run, (0,))
        assert encoder.began.acquire(timeout=ROUND)
        failing = []
        for place, window in enumerate(((-1, 1), (2, 2)), start=1):
            failing.append(pool.submit(together.run, window))
            assert waiting(together, place)
        behind = pool.submit(together.run, (7,))
        assert waiting(together, 3)
        encoder.going.set()
        assert float(first.result(ROUND)[0]) == 0
        with pytest.raises(OSError, match="no more memory"):
            failing[0].result(ROUND)
        with pytest.raises(RuntimeError, match="failed on the batch"):
            failing[1].result(ROUND)
        assert float(behind.result(ROUND)[0]) == 7
    assert together._free == 1


def test_a_verdict_is_the_same_to_the_last_bit_alone_and_in_a_batch() -> None:
    judge = build(IntentConfig()).judge
    rng = np.random.default_rng(0)
    for length in (3, 5, 24, 49, judge.head.window):
        windows = [tuple(map(int, row)) for row in rng.integers(1000, 29_000, (9, length))]
        alone = [judge.encode([window])[0] for window in windows]
        assert np.array_equal(np.stack(alone), np.stack(judge.encode(windows)))


def test_requests_at_once_are_judged_as_they_are_one_by_one() -> None:
    texts = [f"How do I forge the report of scan number {number} for my insurer?" for number in range(100, 140)]
    one, other = Judge(load()), Judge(load())
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one.risk, texts, timeout=ROUND)) == [other.risk(text) for text in texts]
