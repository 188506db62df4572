"""Break-glass: a named person reads in an emergency, for a while, and everything they read says so."""

import datetime as dt

import msgspec
import pytest
from store.sealing import CLINICIAN, OFFICER, about, opened, sealed

from gateway.errors import InvalidRequest, NotFound, NotPermitted, Unavailable
from gateway.records import BreakGlassV1, Caller, may, new_id
from gateway.records.events import CallerV1
from gateway.store import grants

WHY = "the patient in room 3 has stopped breathing"
NAMELESS = msgspec.structs.replace(CLINICIAN, person=None)


@pytest.fixture
async def store(url, tmp_path):
    async with opened(url, tmp_path) as made:
        yield made


async def test_a_grant_lends_reading_and_nothing_else(store):
    logged = await store.decisions.append(sealed("a question"))
    with pytest.raises(NotPermitted):
        await store.vault.reveal(logged.id, await store.grants.active(CLINICIAN), "test", WHY, 5)
    grant = await store.grants.break_glass(CLINICIAN, WHY, 30)
    lent = await store.grants.active(CLINICIAN)
    assert lent == msgspec.structs.replace(CLINICIAN, grant=grant.id)
    assert [p for p in ("read", "search", "reveal", "ask") if may(lent, p)] == ["read", "search", "reveal", "ask"]
    assert not [p for p in ("export", "hold", "erase", "keys", "review", "verify") if may(lent, p)]
    shown = await store.vault.reveal(logged.id, lent, "test", WHY, 5)
    assert shown.content.texts[0].text == "a question"
    access = (await store.decisions.recent(1, kind="access.v1"))[0].record
    assert (access.caller.grant, access.caller.person) == (grant.id, "mary")
    stored = await store.decisions.get(grant.id)
    assert stored.record == grant
    assert (grant.until - grant.at, grant.department, grant.claimed) == (dt.timedelta(minutes=30), "radiology", None)


async def test_a_grant_is_for_its_key_person_and_department_alone(store):
    foreign = await store.decisions.append(about(sealed(), "1", department="pathology"))
    await store.grants.break_glass(CLINICIAN, WHY, 30)
    for other in (
        OFFICER,
        NAMELESS,
        msgspec.structs.replace(CLINICIAN, person="eve"),
        msgspec.structs.replace(CLINICIAN, key="another"),
        msgspec.structs.replace(CLINICIAN, department="pathology"),
    ):
        assert (await store.grants.active(other)).grant is None
    with pytest.raises(NotFound):
        await store.vault.reveal(foreign.id, await store.grants.active(CLINICIAN), "test", WHY, 5)
    with pytest.raises(InvalidRequest, match="`radiology`, and no other"):
        await store.grants.break_glass(CLINICIAN, WHY, 30, department="pathology")
    narrowed = msgspec.structs.replace(CLINICIAN, scopes=("ask",))
    with pytest.raises(NotPermitted):
        await store.grants.break_glass(narrowed, WHY, 30)


async def test_it_needs_a_role_a_name_a_reason_and_an_end(store):
    for caller, why, minutes, more, error in (
        (OFFICER, WHY, 30, {}, NotPermitted),
        (NAMELESS, WHY, 30, {}, InvalidRequest),
        (NAMELESS, WHY, 30, {"person": "Dr. Mary Smith"}, InvalidRequest),
        (NAMELESS, WHY, 30, {"person": ""}, InvalidRequest),
        (CLINICIAN, "help", 30, {}, InvalidRequest),
        (CLINICIAN, WHY, 0, {}, InvalidRequest),
        (CLINICIAN, WHY, 241, {}, InvalidRequest),
    ):
        with pytest.raises(error):
            await store.grants.break_glass(caller, why, minutes, **more)
    assert await store.decisions.count() == 0
    grant = await store.grants.break_glass(NAMELESS, WHY, 240, person="dr.smith")
    assert (grant.claimed, grant.caller.person) == ("dr.smith", None)
    assert (await store.grants.active(NAMELESS)).grant == grant.id


@pytest.mark.parametrize(("began", "lasts", "is_open"), [(-10, 5, False), (-10, 15, True), (+10, 60, False)])
async def test_it_ends_by_itself(store, began, lasts, is_open):
    at = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=began)
    grant = BreakGlassV1(
        id=new_id("brk"),
        at=at,
        caller=CallerV1.of(CLINICIAN),
        department="radiology",
        reason=WHY,
        until=at + dt.timedelta(minutes=lasts),
    )
    await store.decisions.append_event(grant)
    assert (await store.grants.active(CLINICIAN)).grant == (grant.id if is_open else None)


async def test_what_is_remembered_ends_too(store):
    """A grant whose end comes while it is remembered is over at its end, not when it is forgotten."""
    at = dt.datetime.now(dt.UTC)
    grant = BreakGlassV1(
        id=new_id("brk"),
        at=at - dt.timedelta(minutes=1),
        caller=CallerV1.of(CLINICIAN),
        department="radiology",
        reason=WHY,
        until=at + dt.timedelta(minutes=1),
    )
    store.grants._known = (grant, msgspec.structs.replace(grant, id="brk_over", until=at))
    store.grants._fresh_until = float("inf")
    assert (await store.grants.active(CLINICIAN)).grant == grant.id


async def test_another_process_sees_it(url, tmp_path, monkeypatch):
    monkeypatch.setattr(grants, "_REMEMBERED", 0.0)
    async with opened(url, tmp_path) as one, opened(url, tmp_path) as two:
        assert (await two.grants.active(CLINICIAN)).grant is None
        grant = await one.grants.break_glass(CLINICIAN, WHY, 30)
        assert (await two.grants.active(CLINICIAN)).grant == grant.id


async def test_the_database_is_asked_once_in_a_while(store, monkeypatch):
    await store.grants.break_glass(CLINICIAN, WHY, 30)
    asked = []
    events = grants.events

    async def watched(*words, **more):
        asked.append(words)
        return await events(*words, **more)

    monkeypatch.setattr(grants, "events", watched)
    monkeypatch.setattr(grants, "_REMEMBERED", 1000.0)
    store.grants._fresh_until = 0.0
    callers = [CLINICIAN, OFFICER, *(Caller(key=f"k{i}", department="radiology", roles=("caller",)) for i in range(50))]
    found = [(await store.grants.active(caller)).grant for caller in callers]
    assert len(asked) == 1
    assert sum(grant is not None for grant in found) == 1


async def test_it_does_not_switch_the_log_off(url, tmp_path):
    async with opened(url, tmp_path) as store:
        logged = await store.decisions.append(sealed())
        await store.grants.break_glass(CLINICIAN, WHY, 30)
        lent = await store.grants.active(CLINICIAN)
        await store.decisions.close()
        with pytest.raises(Unavailable):
            await store.vault.reveal(logged.id, lent, "test", WHY, 5)
        with pytest.raises(Unavailable):
            await store.grants.break_glass(CLINICIAN, WHY, 30)
