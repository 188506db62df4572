"""Guessing is slowed by address, and locks out nobody else."""

import pytest
from identity.kit import Clock

from gateway.errors import TooMany
from gateway.identity.failures import Failures
from gateway.identity.rates import Rate


def guess(failures, peer, count, start=0):
    """Send different wrong keys until refused; give how many were looked at."""
    for number in range(count):
        try:
            failures.check(peer, f"wrong-{start + number}")
        except TooMany:
            return number
        failures.failed(peer, f"wrong-{start + number}")
    return count


def test_guessing_is_slowed_and_comes_free_again():
    clock = Clock()
    failures = Failures(Rate(30, "minute"), clock=clock)
    assert guess(failures, "192.0.2.1", 100) == 30
    assert guess(failures, "192.0.2.2", 100) == 30, "another address is another matter"
    with pytest.raises(TooMany) as caught:
        failures.check("192.0.2.1", "wrong-x")
    assert caught.value.retry_after == 60
    clock.now += 60
    assert guess(failures, "192.0.2.1", 100, 1000) == 30


def test_one_who_is_set_up_wrongly_locks_out_nobody_but_himself():
    failures = Failures(Rate(30, "minute"), clock=Clock())
    for _ in range(30):
        failures.check("192.0.2.1", "an old key")
        failures.failed("192.0.2.1", "an old key")
    with pytest.raises(TooMany):
        failures.check("192.0.2.1", "an old key")
    failures.check("192.0.2.1", "another key")


def test_a_key_that_was_right_before_is_looked_at_whoever_guesses_beside_it():
    failures = Failures(Rate(30, "minute"), clock=Clock())
    failures.passed("right")
    assert guess(failures, "192.0.2.1", 100) == 30
    failures.check("192.0.2.1", "right")
    with pytest.raises(TooMany):
        failures.check("192.0.2.1", "right but new")
    failures.failed("192.0.2.1", "right")  # it was revoked meanwhile
    with pytest.raises(TooMany):
        failures.check("192.0.2.1", "right")


def test_a_network_of_addresses_is_one_address():
    failures = Failures(Rate(30, "minute"), clock=Clock())
    looked = sum(guess(failures, f"2001:db8::{n:x}", 1, n * 10) for n in range(100))
    assert looked == 30
    assert guess(failures, "2001:db8:0:1::1", 1) == 1
    assert guess(failures, "::ffff:192.0.2.7", 100) == 30
    assert guess(failures, "192.0.2.7", 100, 500) == 0
    assert guess(failures, "unknown", 100) == 30


def test_many_addresses_fill_no_memory():
    failures = Failures(Rate(30, "minute"), clock=Clock())
    for number in range(10_000):
        failures.failed(f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}", "x")
        failures.passed(f"right-{number}")
    assert len(failures._windows) == 4096
    failures = Failures(None)
    assert guess(failures, "192.0.2.1", 100) == 100
