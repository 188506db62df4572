"""Limits over HTTP: who asks too often is told when to come again, and guessing is slowed."""

import asyncio

import pytest
from identity.kit import AWAY, not_at_a_turn
from litestar.testing import AsyncTestClient

from gateway.identity.limiter import Limiter
from gateway.identity.rates import Rate, parse_rates
from gateway.records import Caller
from gateway.web.app import create_app

PATH = "/v1/chat/completions"
BODY = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def limited(runtime):
    """Make a client of a gateway with limits; more keys by name."""

    async def moderate(requests, caller, endpoint, **context):
        return tuple(await asyncio.gather(*(runtime.answer(one, caller, endpoint, **context) for one in requests)))

    runtime.moderate = moderate
    known = runtime.authenticate

    def make(limits, **keys):
        async def authenticate(token):
            return keys.get(token) or await known(token)

        runtime.limits, runtime.authenticate = limits, authenticate
        client = AsyncTestClient(create_app(runtime), raise_server_exceptions=False)
        client.headers["authorization"] = "Bearer key-caller"
        return client

    return make


def limits(**rates):
    return Limiter(**{name: parse_rates(text) for name, text in rates.items()})


async def test_over_the_limit_is_told_when_to_come_again(limited, runtime):
    await not_at_a_turn()
    async with limited(limits(key="3/minute;100/day")) as client:
        for left in ("2", "1", "0"):
            answer = await client.post(PATH, json=BODY)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "3"
            assert answer.headers["x-ratelimit-remaining-requests"] == left
            assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
        answer = await client.post(PATH, json=BODY)
        assert answer.status_code == 429
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(answer.headers["retry-after"]) <= 120
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert len(runtime.asked) == 3, "what is over the limit asks no model"
        other = await client.get("/decisions/x", headers={"authorization": "Bearer key-officer"})
        assert other.status_code == 404


async def test_without_limits_no_headers(limited):
    async with limited(Limiter()) as client:
        answer = await client.post(PATH, json=BODY)
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_a_list_of_inputs_counts_each(limited, runtime):
    await not_at_a_turn()
    async with limited(limits(key="10/minute")) as client:
        answer = await client.post("/v1/moderations", json={"input": ["a", "b", "c", "d"]})
        assert answer.status_code == 200 and len(answer.json()["results"]) == 4
        assert answer.headers["x-ratelimit-remaining-requests"] == "6"
        assert (await client.post("/v1/moderations", json={"input": "a"})).status_code == 200
        refused = await client.post("/v1/moderations", json={"input": ["a"] * 6})
        assert refused.status_code == 429
        assert len(runtime.asked) == 5
        over = await client.post("/v1/moderations", json={"input": ["a"] * 50})
        assert over.status_code == 429


async def test_a_department_is_bounded_whoever_asks(limited):
    await not_at_a_turn()
    keys = {f"key-{n}": Caller(key=f"n{n}", department="radiology", roles=("caller",)) for n in range(4)}
    async with limited(limits(department="3/minute"), **keys) as client:
        for n in range(3):
            assert (await client.post(PATH, json=BODY, headers={"authorization": f"Bearer key-{n}"})).status_code == 200
        answer = await client.post(PATH, json=BODY, headers={"authorization": "Bearer key-3"})
        assert answer.status_code == 429
        assert "this department" in answer.json()["error"]["message"]
        reading = await client.get("/decisions/x", headers={"authorization": "Bearer key-officer"})
        assert reading.status_code == 404, "an officer still reads"


async def test_a_key_with_limits_of_its_own(limited):
    await not_at_a_turn()
    slow = Caller(key="slow", department="radiology", roles=("caller",), per_minute=1)
    async with limited(Limiter(), **{"key-slow": slow}) as client:
        client.headers["authorization"] = "Bearer key-slow"
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 429


async def test_who_may_not_is_not_counted(limited):
    await not_at_a_turn()
    async with limited(limits(key="2/minute")) as client:
        for _ in range(5):
            assert (await client.get("/decisions/x")).status_code == 403
        assert (await client.post(PATH, json=BODY)).headers["x-ratelimit-remaining-requests"] == "1"


async def test_where_limits_can_not_be_counted_nothing_is_answered(limited, runtime):
    async with limited(Limiter(key=parse_rates("9/minute"), url=AWAY)) as client:
        answer = await client.post(PATH, json=BODY)
        assert answer.status_code == 503
        assert "can not be counted" in answer.json()["error"]["message"]
        assert runtime.asked == []


async def test_guessing_is_slowed_and_right_keys_go_on(limited, runtime):
    limiter = Limiter(failures=Rate(5, "minute"))
    async with limited(limiter) as client:
        assert (await client.post(PATH, json=BODY)).status_code == 200
        wrong = [
            (await client.post(PATH, json=BODY, headers={"authorization": f"Bearer wrong-{n}"})).status_code
            for n in range(8)
        ]
        assert wrong == [401] * 5 + [429] * 3
        late = await client.post(PATH, json=BODY, headers={"authorization": "Bearer wrong-9"})
        assert 1 <= int(late.headers["retry-after"]) <= 60
        assert (await client.post(PATH, json=BODY)).status_code == 200, "a key that was right before"
        new = await client.get("/v1/models", headers={"authorization": "Bearer key-admin"})
        assert new.status_code == 429, "a new key waits, or else a guess that is right would get through"


async def test_a_request_without_a_key_is_no_guess(limited):
    async with limited(Limiter(failures=Rate(2, "minute"))) as client:
        del client.headers["authorization"]
        for _ in range(10):
            assert (await client.get("/v1/models")).status_code == 401


def test_the_settings_of_limits():
    from gateway.errors import ConfigurationError
    from gateway.settings import read_settings

    read = read_settings(
        {
            "GATEWAY_LIMIT_KEY": "600/minute;20000/day",
            "GATEWAY_LIMIT_DEPARTMENT": "6000/minute",
            "GATEWAY_LIMIT_FAILURES": "off",
            "GATEWAY_LIMITS_URL": "redis://redis/1",
            "GATEWAY_LIMITS_ALLOW_IF_UNAVAILABLE": "true",
        }
    )
    assert read.limit_key == (Rate(600, "minute"), Rate(20000, "day"))
    assert read.limit_department == (Rate(6000, "minute"),)
    assert (read.limit_failures, read.limits_url) == (None, "redis://redis:6379/1")
    assert read.limits_allow_if_unavailable is True
    plain = read_settings({})
    assert (plain.limit_key, plain.limit_failures) == ((), Rate(30, "minute"))
    assert (plain.limits_url, plain.limits_allow_if_unavailable, plain.identity) == (None, False, None)
    with pytest.raises(ConfigurationError) as caught:
        read_settings(
            {
                "GATEWAY_LIMIT_KEY": "many",
                "GATEWAY_LIMIT_FAILURES": "1/minute;2/hour",
                "GATEWAY_LIMITS_URL": "http://user:hunter2@h",
                "GATEWAY_LIMITS_ALLOW_IF_UNAVAILABLE": "perhaps",
            }
        )
    assert len(caught.value.problems) == 4
    assert "hunter2" not in str(caught.value)
