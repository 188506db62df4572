"""Rates, limits and quotas: in memory, in a real Redis, and where Redis is away."""

import asyncio
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity.kit import AWAY, not_at_a_turn, redis_url
from msgspec.structs import replace

from gateway.errors import TooMany, Unavailable
from gateway.identity.limiter import Limiter
from gateway.identity.rates import Rate, parse_rates, replaced
from gateway.identity.rates import redis_url as checked_url
from gateway.records import Caller


def caller(name=None, **fields):
    """Somebody new: tests share one Redis."""
    made = {"key": name or uuid.uuid4().hex, "department": f"d-{uuid.uuid4().hex}", "roles": ("caller",)}
    return Caller(**made | fields)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.service)])
async def limiter(request):
    """Makes limiters that count in memory, or together in Redis."""
    url = redis_url() if request.param == "redis" else None
    await not_at_a_turn()
    made = []

    def make(**rates):
        made.append(Limiter(**{name: parse_rates(text) for name, text in rates.items()}, url=url))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def refused(limiter, who, cost=1, *, asks=True):
    with pytest.raises(TooMany) as caught:
        await limiter.spend(who, cost, asks=asks)
    assert caught.value.retry_after >= 1
    return caught.value


async def test_a_key_gets_what_it_may_and_no_more(limiter):
    limits, who, other = limiter(key="5/minute"), caller(), caller()
    assert [(await limits.spend(who, asks=True)).remaining for _ in range(5)] == [4, 3, 2, 1, 0]
    told = await refused(limits, who)
    assert "5 requests a minute" in str(told)
    assert 1 <= told.retry_after <= 120
    assert (await limits.spend(other, asks=True)).remaining == 4


async def test_without_limits_nothing_is_counted(limiter):
    limits = limiter()
    assert await limits.spend(caller(), 10**6, asks=True) is None


async def test_what_one_limit_refuses_eats_up_no_other(limiter):
    limits, who = limiter(key="2/minute;3/day"), caller()
    for _ in range(2):
        await limits.spend(who, asks=True)
    for _ in range(10):
        await refused(limits, who)
    left = await limits.spend(replace(who, per_minute=50), asks=True)
    assert (left.limit, left.remaining) == (3, 0), "ten refusals cost nothing of the day"


async def test_a_keys_own_rates_stand_in_place_of_the_gateways(limiter):
    limits = limiter(key="2/minute;100/day")
    wide, narrow, daily = caller(per_minute=4), caller(per_minute=1), caller(per_day=1)
    for _ in range(4):
        await limits.spend(wide, asks=True)
    await refused(limits, wide)
    await limits.spend(narrow, asks=True)
    await refused(limits, narrow)
    await limits.spend(daily, asks=True)
    assert "1 request a day" in str(await refused(limits, daily))
    alone, other = limiter(), caller(per_minute=1)
    await alone.spend(other, asks=False)
    await refused(alone, other, asks=False)


async def test_a_department_is_bounded_as_a_whole_and_only_where_it_asks(limiter):
    limits, department = limiter(department="3/minute"), f"d-{uuid.uuid4().hex}"
    keys = [caller(department=department) for _ in range(4)]
    for who in keys[:3]:
        await limits.spend(who, asks=True)
    assert "this department" in str(await refused(limits, keys[3]))
    assert await limits.spend(keys[3], asks=False) is None
    await limits.spend(caller(), asks=True)


async def test_a_call_of_several_requests_counts_as_several(limiter):
    limits, who = limiter(key="10/minute"), caller()
    assert (await limits.spend(who, 7, asks=True)).remaining == 3
    await refused(limits, who, 4)
    assert (await limits.spend(who, 3, asks=True)).remaining == 0
    told = await refused(limits, caller(), 11)
    assert "send fewer" in str(told)
    assert await limits.spend(who, 0, asks=True) is None


async def test_who_comes_at_once_gets_no_more(limiter):
    limits, who = limiter(key="20/minute"), caller()
    results = await asyncio.gather(*(limits.spend(who, asks=True) for _ in range(60)), return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 20
    assert all(isinstance(result, TooMany) for result in results if isinstance(result, BaseException))


@pytest.mark.service
async def test_processes_that_share_a_redis_share_the_limit():
    one, two = (Limiter(key=parse_rates("4/minute"), url=redis_url()) for _ in range(2))
    who = caller(f"oidc:hospital:{uuid.uuid4().hex}")
    try:
        for limits in (one, two, one, two):
            await limits.spend(who, asks=True)
        await refused(one, who)
        await refused(two, who)
        assert await one.healthy() is True
        names = [name.decode() async for name in one._redis.bridge.storage.scan_iter("medvlm-gateway:*")]
        assert names
        assert not any(who.key in name for name in names), "who it is stands in no other database"
    finally:
        await one.close()
        await two.close()


async def test_without_its_redis_nothing_passes(caplog):
    limits = Limiter(key=parse_rates("4/minute"), url=AWAY)
    for _ in range(3):
        with pytest.raises(Unavailable, match="can not be counted"):
            await limits.spend(caller(), asks=True)
    assert await limits.healthy() is False
    assert AWAY not in caplog.text
    await limits.close()


async def test_with_the_weakness_asked_for_each_process_counts_by_itself():
    limits, who = Limiter(key=parse_rates("4/minute"), url=AWAY, allow_if_unavailable=True), caller()
    for _ in range(4):
        await limits.spend(who, asks=True)
    await refused(limits, who)
    assert await limits.healthy() is None
    await limits.close()


async def test_a_redis_that_hangs_is_not_waited_for():
    async def hang(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    limits = Limiter(key=parse_rates("4/minute"), url=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    with pytest.raises(Unavailable):
        await asyncio.wait_for(limits.spend(caller(), asks=True), 10)
    with pytest.raises(Unavailable):  # and those who come next do not wait at all
        await asyncio.wait_for(limits.spend(caller(), asks=True), 0.5)
    await limits.close()
    server.close()


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("", ()),
        ("600/minute", (Rate(600, "minute"),)),
        ("20000/day; 600 / minute", (Rate(600, "minute"), Rate(20000, "day"))),
        ("1/second,2/hour", (Rate(1, "second"), Rate(2, "hour"))),
    ],
)
def test_rates_are_read(text, rates):
    assert parse_rates(text) == rates


@pytest.mark.parametrize("text", ["600", "0/minute", "-1/minute", "1/week", "1/minute;2/minute", "x/minute", "1.5/day"])
def test_what_is_no_rate_is_told(text):
    with pytest.raises(ValueError, match=r"rate|two rates"):
        parse_rates(text)


_rates = st.dictionaries(st.sampled_from(["second", "minute", "hour", "day"]), st.integers(1, 10**8))


@given(_rates)
def test_rates_are_read_as_they_are_written(amounts):
    rates = tuple(Rate(amount, unit) for unit, amount in amounts.items())
    read = parse_rates(";".join(map(str, rates)))
    assert set(read) == set(rates)
    assert list(read) == sorted(read, key=lambda rate: rate.seconds)


@given(_rates, st.none() | st.integers(1, 9), st.none() | st.integers(1, 9))
def test_a_keys_rates_replace_those_of_the_same_unit(amounts, per_minute, per_day):
    found = {r.unit: r.amount for r in replaced((Rate(a, u) for u, a in amounts.items()), per_minute, per_day)}
    due = amounts | {u: a for u, a in (("minute", per_minute), ("day", per_day)) if a is not None}
    assert found == due


@pytest.mark.parametrize(
    ("url", "due"),
    [
        ("redis://h", "redis://h:6379"),
        ("redis://:pw@h/1", "redis://:pw@h:6379/1"),
        ("rediss://h:7/0", "rediss://h:7/0"),
        ("redis://[::1]/0", "redis://[::1]:6379/0"),
        ("http://h", None),
        ("redis://", None),
        ("redis://user:hunter2@h:port", None),
    ],
)
def test_urls_of_redis(url, due):
    if due is not None:
        assert checked_url(url) == due
        return
    with pytest.raises(ValueError, match="expected") as caught:
        checked_url(url)
    assert "hunter2" not in str(caught.value)
