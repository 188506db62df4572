"""How much of a model a process takes: shares, places, paces, and the breaker; with a clock that the tests turn."""

import asyncio
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.breaker import MOST, Breaker
from gateway.batch.lanes import Lane, Pace, Place, Places, share_of
from gateway.policy.model import BatchSpec


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(st.integers(1, 64), st.integers(0, 80), st.integers(1, 9))
def test_shares_are_what_live_requests_leave_and_one_place_at_least(limit, live, workers):
    shares = [share_of(limit, live, workers, rank) for rank in range(workers)]
    assert sum(shares) == max(1, limit - live)
    assert max(shares) - min(shares) <= 1


async def test_places_are_given_in_turn_and_no_more_than_there_are():
    places, order = Places(), []
    places.limit = 2

    async def one(number):
        async with Place(places, None):
            order.append(number)
            assert places.taken <= 2
            await asyncio.sleep(0)

    await asyncio.gather(*map(one, range(20)))
    assert order == list(range(20))
    assert places.taken == 0


async def test_a_place_is_not_lost_with_who_waited_for_it():
    places = Places()
    await places.take()
    waiting = [asyncio.ensure_future(places.take()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    places.free()
    waiting[1].cancel()  # it was given the place just now
    await asyncio.wait(waiting, return_when=asyncio.ALL_COMPLETED)
    assert [task.cancelled() for task in waiting] == [True, True, False]
    assert places.taken == 1


async def test_what_a_line_holds_for_its_images_is_given_back_before_the_model_is_asked():
    places, images = Places(), asyncio.Semaphore(1)
    place = Place(places, images)
    await place.look()
    assert images.locked()
    async with place:
        assert not images.locked()
    place.looked()
    assert images._value == 1


@pytest.mark.parametrize("rate", [0.5, 3.0, 700.0])
def test_a_pace_is_kept(rate):
    clock = Clock()
    pace = Pace(clock)
    pace.set(rate)
    begun = 0
    while clock.now < 60:
        wait = pace.wait()
        if wait > 0:
            clock.now += wait
            continue
        pace.take()
        begun += 1
    assert begun == pytest.approx(rate * 60, rel=0.02, abs=1.01)


def breaker():
    clock = Clock()
    return Breaker("m", first=1.0, clock=clock), clock


def test_an_outage_opens_and_is_probed_ever_more_seldom():
    made, clock = breaker()
    runs = {made.failed(probe=False) for _ in range(MOST)}
    assert made.open and len(runs) == 1
    waits = []
    for _ in range(9):
        waits.append(made.wait())
        clock.now += made.wait()
        assert made.wait() == 0 and made.begin()
        assert made.wait() == math.inf, "one probe at a time"
        made.failed(probe=True)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert made.outage(runs.pop())
    clock.now += 60
    assert made.begin()
    made.spared()
    assert made.wait() == 0, "a probe that did not ask tells nothing"
    made.succeeded()
    assert not made.open and made.wait() == 0 and not made.begin()
    assert not made.outage(made.failed(probe=False))


def test_a_success_between_keeps_it_closed():
    made, _ = breaker()
    for number in range(5 * MOST):
        run = made.failed(probe=False)
        if number % (MOST - 1) == MOST - 2:
            made.succeeded()
        assert not made.outage(run)
    assert not made.open


class Waits:
    wanted = True


async def test_a_last_failure_counts_once_others_have_answered_or_nothing_else_can_tell():
    begun = []
    lane = Lane("m", lambda lane, line, probe: begun.append(line))
    lane.set((BatchSpec(concurrency=2),), live=0, workers=1, rank=0)
    lane.add([Waits(), Waits()])
    assert len(begun) == 2

    first = asyncio.ensure_future(lane.verdict(lane.breaker.failed(probe=False)))
    await asyncio.sleep(0.01)
    assert not first.done(), "the other one may tell"
    lane.breaker.succeeded()
    assert await first

    second = asyncio.ensure_future(lane.verdict(lane.breaker.failed(probe=False)))
    await asyncio.sleep(0.01)
    lane.ended()  # the other one ends without a word of the model
    assert await second, "nothing else is under way"

    third = asyncio.ensure_future(lane.verdict(lane.breaker.failed(probe=False)))
    for _ in range(MOST):
        lane.breaker.failed(probe=False)
    assert not await third, "it was the model that was away"


async def test_a_lane_begins_what_its_window_lets_it():
    begun = []
    lane = Lane("m", lambda lane, line, probe: begun.append(line))
    lane.set((BatchSpec(concurrency=4), BatchSpec(concurrency=9)), live=3, workers=1, rank=0)
    assert (lane.share, lane.window) == (1, 10), "the smaller bound counts, less what is live"
    lane.add([Waits() for _ in range(30)])
    assert len(begun) == 10 and lane.enough
    lane.set((BatchSpec(concurrency=4),), live=9, workers=2, rank=1)
    assert (lane.share, lane.window) == (0, 0)
    for _ in begun[:]:
        lane.ended()
    assert len(begun) == 10
    lane.set((BatchSpec(concurrency=4, per_minute=60),), live=0, workers=1, rank=0)
    assert len(begun) == 11, "a line in a second"
    unwanted = list(itertools.islice((line for line in lane._queue), 19))
    for line in unwanted:
        line.wanted = False
    lane.drop()
    assert not lane._queue
