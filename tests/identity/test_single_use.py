"""Tokens that are taken once: in one process, and in several that share a Redis."""

import asyncio
import uuid

import jwt
import pytest
from identity.kit import AWAY, OTHER, claims, redis_url, sign

from gateway.errors import NotAuthenticated, Unavailable
from gateway.identity import replay
from gateway.identity.replay import MemorySeen, RedisSeen
from gateway.records import Caller


async def test_a_single_use_token_is_taken_once(tokens):
    checks, token = tokens(single_use=True), sign(claims())
    assert (await checks.authenticate(token)).person == "ada"
    with pytest.raises(NotAuthenticated, match="used before"):
        await checks.authenticate(token)
    with pytest.raises(NotAuthenticated, match="used before"):
        await checks.authenticate(sign(claims(jti=jwt.decode(token, options={"verify_signature": False})["jti"])))
    with pytest.raises(NotAuthenticated):
        await checks.authenticate(sign(claims(jti=None)))
    assert (await checks.authenticate(sign(claims()))).person == "ada"


async def test_of_many_uses_at_once_one_counts(tokens):
    checks, token = tokens(single_use=True), sign(claims())
    results = await asyncio.gather(*(checks.authenticate(token) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, Caller) for result in results) == 1
    assert sum(isinstance(result, NotAuthenticated) for result in results) == 19


async def test_a_forged_token_uses_up_nothing(tokens):
    """Nobody may spend another's token without having it: an id is taken only after the signature was checked."""
    checks, payload = tokens(single_use=True), claims()
    with pytest.raises(NotAuthenticated):
        await checks.authenticate(sign(payload, OTHER))
    assert (await checks.authenticate(sign(payload))).person == "ada"


async def test_what_was_seen_is_kept_until_it_ends(clock):
    seen = MemorySeen(clock=clock, most=2)
    assert await seen.first("i", "a", issued=1000, until=1010) is True
    assert await seen.first("i", "a", issued=1000, until=1010) is False
    assert await seen.first("j", "a", issued=1000, until=1010) is True
    with pytest.raises(Unavailable, match="more single-use tokens"):
        await seen.first("i", "b", issued=1000, until=1010)
    clock.now += 11
    assert await seen.first("i", "b", issued=1000, until=1020) is True


async def test_a_process_takes_no_token_of_before_its_time(clock):
    seen = MemorySeen(clock=clock)
    assert await seen.first("i", "a", issued=999, until=2000) is False
    assert await seen.first("i", "a", issued=1000, until=2000) is True


@pytest.mark.service
async def test_processes_that_share_a_redis_take_a_token_once():
    one, two = RedisSeen(redis_url()), RedisSeen(redis_url())
    jti, now = uuid.uuid4().hex, 4_000_000_000.0
    try:
        results = await asyncio.gather(*(seen.first("hospital", jti, issued=0, until=now) for seen in (one, two) * 10))
        assert sum(results) == 1
        name = f"medvlm-gateway:jti:{replay._name('hospital', jti)}"
        assert await one._client.ttl(name) > 0
        await one._client.delete(name)
    finally:
        await one.close()
        await two.close()


async def test_without_its_redis_no_single_use_token_is_taken():
    seen = RedisSeen(AWAY)
    with pytest.raises(Unavailable, match="single-use"):
        await seen.first("hospital", "x", issued=0, until=4_000_000_000.0)
    await seen.close()
