"""Sessions of the console: when they are there, when they are over, and what the database knows of them."""

import datetime as dt

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from gateway.records import Caller
from gateway.store.sessions import IDLE, LONGEST
from gateway.store.tables import console_sessions

HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)
TOKEN = "head.claims.signature"
PERSON = Caller(key="oidc:clinic:weiss", department="radiology", roles=("officer",), person="weiss", via="oidc")


@pytest.fixture
def sessions(store):
    found = store.sessions
    found.real = found.now()
    found.now = lambda: found.real
    return found


async def key_of(store, **options):
    key, text = await store.keys.create("radiology", ("officer",), **options)
    return key, text, await store.keys.authenticate(text)


async def rows(store):
    async with store.sessions._engine.connect() as connection:
        return (await connection.execute(sa.select(console_sessions))).all()


async def test_a_session_is_found_by_its_cookie_alone(store, sessions):
    _, text, caller = await key_of(store, person="dr.weiss")
    cookie, made = await sessions.open(caller, text)
    found = await sessions.find(cookie)
    assert found == made
    assert found.caller == replace(caller, via="session")
    assert found.fits(made.csrf) and not found.fits("") and not found.fits("\ud800" + made.csrf[1:])
    other, another = await sessions.open(caller, text)
    assert other != cookie and another.csrf != made.csrf
    for wrong in ("", cookie[:-1], cookie + "A", "A" * 43, cookie.swapcase(), "ü" * 43, "' OR 1=1 --"):
        assert await sessions.find(wrong) is None
    kept = await rows(store)
    assert len(kept) == 2
    for row in kept:
        assert cookie.encode() not in bytes(row.id) + bytes(row.caller)
        assert text.encode() not in bytes(row.caller)


async def test_it_ends_when_it_is_idle_or_old(sessions, store):
    _, text, caller = await key_of(store)
    idle, _ = await sessions.open(caller, text)
    busy, _ = await sessions.open(caller, text)
    start = sessions.real
    sessions.real = start + IDLE - MINUTE
    assert (await sessions.find(busy)).caller.key == caller.key
    sessions.real = start + IDLE
    assert await sessions.find(idle) is None
    while sessions.real < start + LONGEST - MINUTE:
        found = await sessions.find(busy)
        assert found is not None and found.idle_at <= start + LONGEST == found.ends_at
        sessions.real += IDLE - 2 * MINUTE
    sessions.real = start + LONGEST
    assert await sessions.find(busy) is None


async def test_signing_in_sweeps_what_is_over(sessions, store):
    _, text, caller = await key_of(store)
    await sessions.open(caller, text)
    sessions.real += HOUR
    await sessions.open(caller, text)
    assert len(await rows(store)) == 1


async def test_it_ends_with_its_key(sessions, store):
    key, text, caller = await key_of(store)
    cookie, _ = await sessions.open(caller, text)
    assert (await sessions.find(cookie)).caller.key == key.id
    await store.keys.revoke(key.id)
    assert await sessions.find(cookie) is None
    assert await rows(store) == []

    _, text, caller = await key_of(store, lasts=dt.timedelta(minutes=10))
    cookie, _ = await sessions.open(caller, text)
    sessions.real += dt.timedelta(minutes=11)
    assert await sessions.find(cookie) is None


async def test_it_ends_with_the_secret_that_began_it(sessions, store):
    key, text, caller = await key_of(store)
    cookie, _ = await sessions.open(caller, text)
    _, newer = await store.keys.rotate(key.id, HOUR)
    assert (await sessions.find(cookie)).caller.key == key.id, "the older secret works side by side for an hour"
    fresh, _ = await sessions.open(await store.keys.authenticate(newer), newer)
    await store.keys.rotate(key.id, dt.timedelta(0))
    assert await sessions.find(cookie) is None
    assert await sessions.find(fresh) is None

    key, text, caller = await key_of(store)
    cookie, _ = await sessions.open(caller, text)
    await store.keys.rotate(key.id, 10 * MINUTE)
    sessions.real += 11 * MINUTE
    assert await sessions.find(cookie) is None


async def test_a_token_ends_its_session_with_itself(sessions):
    cookie, made = await sessions.open(PERSON, TOKEN, sessions.real + 10 * MINUTE)
    assert made.ends_at == sessions.real + 10 * MINUTE == made.idle_at
    assert (await sessions.find(cookie)).caller == replace(PERSON, via="session")
    sessions.real += 10 * MINUTE
    assert await sessions.find(cookie) is None
    cookie, made = await sessions.open(PERSON, TOKEN, sessions.real + 100 * HOUR)
    assert made.ends_at == sessions.real + LONGEST


async def test_what_break_glass_lent_is_not_kept(sessions):
    cookie, _ = await sessions.open(replace(PERSON, grant="btg_1"), TOKEN)
    assert (await sessions.find(cookie)).caller.grant is None


async def test_it_is_closed(sessions, store):
    _, text, caller = await key_of(store)
    cookie, _ = await sessions.open(caller, text)
    await sessions.close(cookie)
    assert await sessions.find(cookie) is None
    await sessions.close(cookie)
    await sessions.close("nothing")


async def test_a_session_of_another_version_is_none(sessions, store):
    cookie, _ = await sessions.open(PERSON, TOKEN)
    async with store.sessions._engine.begin() as connection:
        await connection.execute(console_sessions.update().values(caller=b'{"caller": {"key": 7}}'))
    assert await sessions.find(cookie) is None
