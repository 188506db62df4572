"""The circuit breaker, and the choice among servers: pure, so every order of events can be tried."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway_openai.breaker import FIRST, LONGEST, MOST, Breaker
from gateway_openai.choosing import BASE, LONGEST_WAIT, again, backoff, choose, ill
from gateway_openai.errors import (
    UnsupportedRefused,
    UpstreamBusy,
    UpstreamCut,
    UpstreamNoLogprobs,
    UpstreamNonsense,
    UpstreamRefused,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTooLong,
    UpstreamUnreachable,
)


class Time:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def opened(draw=1.0):
    time = Time()
    breaker = Breaker(clock=time, draw=lambda: draw)
    for _ in range(MOST):
        breaker.failed(probe=breaker.begin())
    return breaker, time


def test_it_opens_after_so_many_faults_in_a_row_and_says_so_once():
    breaker = Breaker(clock=Time(), draw=lambda: 1.0)
    told = [breaker.failed(probe=breaker.begin()) for _ in range(MOST + 3)]
    assert told == [False] * (MOST - 1) + [True] + [False] * 3
    assert breaker.open
    assert not breaker.ready()


def test_a_success_between_faults_keeps_it_closed():
    breaker = Breaker(clock=Time(), draw=lambda: 1.0)
    for _ in range(3):
        for _ in range(MOST - 1):
            breaker.failed(probe=breaker.begin())
        breaker.succeeded()
    assert breaker.ready()


def test_one_probe_at_a_time_after_the_pause_and_a_longer_pause_after_each_that_fails():
    breaker, time = opened()
    pause = FIRST
    while pause < LONGEST:
        time.now += pause * 0.99
        assert not breaker.ready()
        time.now += pause * 0.02
        assert breaker.ready()
        probe = breaker.begin()
        assert probe > 0
        assert not breaker.ready(), "two probes at once"
        breaker.failed(probe=probe)
        pause = min(2 * pause, LONGEST)
    time.now += LONGEST * 1.01
    assert breaker.ready()


def test_a_probe_that_is_heard_closes_it_on_trial_and_a_whole_answer_for_good():
    breaker, time = opened()
    time.now += FIRST * 1.01
    breaker.begin()
    assert breaker.heard() is True
    assert breaker.heard() is False
    assert breaker.ready()
    assert breaker.failed() is True, "on trial one fault is enough"
    time.now += 2 * FIRST * 1.01
    breaker.begin()
    breaker.succeeded()
    assert [breaker.failed(probe=breaker.begin()) for _ in range(MOST)] == [False] * (MOST - 1) + [True]


def test_a_probe_that_is_given_up_leaves_its_place_to_another():
    breaker, time = opened()
    time.now += FIRST * 1.01
    breaker.spared(probe=breaker.begin())
    assert breaker.ready()


def test_pauses_are_spread_by_chance():
    for draw, share in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0)):
        breaker, time = opened(draw)
        time.now += FIRST * share - 0.001
        assert not breaker.ready()
        time.now += 0.002
        assert breaker.ready()


def test_a_rest_that_is_asked_for_is_kept_and_bounded_and_no_fault():
    time = Time()
    breaker = Breaker(clock=time, draw=lambda: 0.5)
    breaker.rest(3.0)
    breaker.rest(1.0)
    assert (breaker.ready(), breaker.open, breaker.resting()) == (False, False, 3.0)
    time.now += 3.0
    assert breaker.ready()
    breaker.rest(1e9)
    assert breaker.resting() == LONGEST


class BreakerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.time = Time()
        self.chance = 0.5
        self.breaker = Breaker(clock=self.time, draw=lambda: self.chance)
        self.running = []
        self.row = 0  # faults since the last success
        self.opened_at = None

    @rule(seconds=st.floats(0, 2 * LONGEST), chance=st.floats(0, 1, exclude_max=True))
    def wait(self, seconds, chance):
        self.time.now += seconds
        self.chance = chance

    @precondition(lambda self: self.breaker.ready())
    @rule()
    def begin(self):
        self.running.append(self.breaker.begin())

    @precondition(lambda self: self.running)
    @rule(data=st.data(), end=st.sampled_from(["failed", "spared", "succeeded", "heard"]))
    def finish(self, data, end):
        probe = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        was = self.breaker.open
        if end == "failed":
            self.breaker.failed(probe=probe)
            self.row += 1
        elif end == "spared":
            self.breaker.spared(probe=probe)
        else:
            getattr(self.breaker, end)()
            assert not self.breaker.open, "a server that answers may be asked"
            self.running = [0] * len(self.running)  # a probe of before is none any more
            if end == "succeeded":
                self.row = 0
        if self.breaker.open and (not was or (end == "failed" and probe)):
            self.opened_at = self.time.now

    @invariant()
    def never_asked_too_soon(self):
        if self.breaker.open and self.breaker.ready():
            assert self.time.now >= self.opened_at + FIRST / 2

    @invariant()
    def one_probe(self):
        assert not (self.breaker.open and any(self.running) and self.breaker.ready()), "two probes at once"

    @invariant()
    def no_fault_leaves_it_closed(self):
        assert self.row or not self.breaker.open

    @invariant()
    def noticed_in_the_end(self):
        if self.breaker.open and not any(self.running):
            now = self.time.now
            self.time.now += LONGEST
            assert self.breaker.ready(), "left alone for ever"
            self.time.now = now


TestBreakerMachine = BreakerMachine.TestCase


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True), st.data())
def test_one_of_those_that_are_fit_is_chosen(weights, draw, data):
    fit = data.draw(st.lists(st.booleans(), min_size=len(weights), max_size=len(weights)))
    place = choose(weights, fit, draw)
    assert (place is None) == (not any(fit))
    assert place is None or fit[place]


def test_each_has_its_weights_share():
    draws = [n / 1000 for n in range(1000)]
    chosen = [choose([1.0, 3.0, 100.0, 1.0], [True, True, False, True], draw) for draw in draws]
    assert [chosen.count(place) for place in range(4)] == [200, 600, 0, 200]


@given(st.integers(0, 50), st.floats(0, 1, exclude_max=True))
def test_waits_grow_and_are_bounded(number, draw):
    wait = backoff(number, draw)
    assert BASE / 2 <= wait <= LONGEST_WAIT
    assert wait <= backoff(number + 2, draw)


@pytest.mark.parametrize(
    ("fault", "who", "sick"),
    [
        (UpstreamUnreachable(), "any", True),
        (UpstreamBusy(), "any", False),
        (UpstreamStatus(502), "any", True),
        (UpstreamStatus(503), "any", True),
        (UpstreamStatus(504), "any", True),
        (UpstreamStatus(500), "another", True),
        (UpstreamStatus(401), "another", False),
        (UpstreamStatus(404), "another", False),
        (UpstreamStatus(307), "another", False),
        (UpstreamTimeout(), "another", True),
        (UpstreamNonsense(), "another", True),
        (UpstreamCut(), "another", True),
        (UpstreamRefused(400), "no", False),
        (UpstreamTooLong(400), "no", False),
        (UpstreamTooLarge(), "no", False),
        (UpstreamNoLogprobs(), "no", False),
        (UnsupportedRefused(), "no", False),
    ],
)
def test_who_is_asked_again_and_what_counts_against_a_server(fault, who, sick):
    assert (again(fault), ill(fault)) == (who, sick)
