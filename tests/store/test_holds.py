"""Legal holds: who may place and release them, and that they win over every erasure."""

import asyncio
import datetime as dt

import msgspec
import pytest
from store.sealing import CLINICIAN, DAY, ELSEWHERE, OFFICER, OTHER, about, opened, sealed

from gateway.errors import Conflict, InvalidRequest, NotFound, NotPermitted
from gateway.records import Caller, HoldV1
from gateway.records.events import CallerV1

WHY = "the case Doe against Hospital"
ALL = Caller(key="os-account:0", department="*", roles=("officer", "operator"), via="os")


@pytest.fixture
async def store(url, tmp_path):
    async with opened(url, tmp_path) as made:
        yield made


async def test_a_hold_wins_over_retention_and_over_a_request(store):
    logged = await store.decisions.append(sealed(seconds=1.0))
    hold = await store.holds.place(OFFICER, WHY, decisions=[logged.id])
    with pytest.raises(Conflict, match=hold.id) as caught:
        await store.retention.erase([logged.id], OTHER, "the patient asks for it")
    assert caught.value.code == "legal_hold"
    later = dt.datetime.now(dt.UTC) + DAY
    assert (await store.retention.run(later)).held == 1
    assert (await store.vault.reveal(logged.id, OFFICER, "test", WHY, 1)).content.id == logged.id
    assert await store.decisions.recent(9, kind="erasure.v1") == ()
    await store.holds.request_release(hold.id, OFFICER, "the case is closed")
    assert (await store.retention.run(later)).held == 1, "a request alone releases nothing"
    await store.holds.release(hold.id, OTHER, "the case is closed")
    assert (await store.retention.run(later)).erased == 1


async def test_release_needs_two_people(store):
    hold = await store.holds.place(OFFICER, WHY, department="radiology")
    with pytest.raises(Conflict, match="nobody has requested"):
        await store.holds.release(hold.id, OTHER, "it is over")
    asked = await store.holds.request_release(hold.id, OFFICER, "it is over")
    assert asked.state == "release-requested"
    with pytest.raises(Conflict, match="requested already"):
        await store.holds.request_release(hold.id, OTHER, "it is over")
    for same in (OFFICER, msgspec.structs.replace(OFFICER, key="another-key")):
        with pytest.raises(NotPermitted, match="another person"):
            await store.holds.release(hold.id, same, "it is over")
    done = await store.holds.release(hold.id, OTHER, "it is over")
    assert (done.state, done.released.caller.person) == ("released", "grace")
    for step in (store.holds.request_release, store.holds.release):
        with pytest.raises(Conflict, match="released already"):
            await step(hold.id, OTHER, "it is over")
    assert [row.record.action for row in await store.decisions.recent(9, kind="hold.v1")] == [
        "released",
        "requested",
        "placed",
    ]


async def test_a_release_written_past_the_rules_does_not_count(store):
    logged = await store.decisions.append(sealed(seconds=1.0))
    hold = await store.holds.place(OFFICER, WHY, decisions=[logged.id])
    forged = HoldV1(
        id="hold_forged",
        at=dt.datetime.now(dt.UTC),
        caller=CallerV1.of(OFFICER),
        action="released",
        hold=hold.id,
        scope=None,
        reason="by myself",
    )
    await store.decisions.append_event(forged)
    assert (await store.holds.all())[hold.id].open
    assert (await store.retention.run(dt.datetime.now(dt.UTC) + DAY)).erased == 0


@pytest.mark.parametrize("scope", ["decision", "department", "patient", "time", "both", "other"])
async def test_what_a_hold_covers(store, scope):
    patient = store.decisions.pseudonym("patient", "4711")
    logged = await store.decisions.append(about(sealed(seconds=1.0), "4711"))
    at = (await store.decisions.get(logged.id)).record.at
    given = {
        "decision": {"decisions": [logged.id, "dec_other"]},
        "department": {"department": "radiology"},
        "patient": {"patient": patient},
        "time": {"since": at, "until": at + DAY},
        "both": {"patient": patient, "until": at + DAY},
        "other": {"patient": patient, "until": at},
    }[scope]
    await store.holds.place(ALL, WHY, **given)
    done = await store.retention.run(dt.datetime.now(dt.UTC) + DAY)
    assert (done.erased, done.held) == ((1, 0) if scope == "other" else (0, 1))


async def test_a_hold_stays_in_its_department(store):
    here = await store.decisions.append(sealed(seconds=1.0))
    there = await store.decisions.append(about(sealed(seconds=1.0), "4711", department="pathology"))
    hold = await store.holds.place(ELSEWHERE, WHY, decisions=[here.id, there.id])
    assert hold.scope.department == "pathology"
    done = await store.retention.run(dt.datetime.now(dt.UTC) + DAY)
    assert (done.erased, done.held) == (1, 1)
    with pytest.raises(NotPermitted, match="`radiology` alone"):
        await store.holds.place(OFFICER, WHY, department="pathology")
    with pytest.raises(NotFound, match="no hold"):
        await store.holds.request_release(hold.id, OFFICER, "not mine")
    assert await store.holds.list(OFFICER, "test") == ()
    assert [one.id for one in await store.holds.list(ALL, "test")] == [hold.id]
    wide = await store.holds.place(ALL, WHY, since=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    assert [one.id for one in await store.holds.list(OFFICER, "test")] == [wide.id]
    with pytest.raises(NotPermitted, match="every department"):
        await store.holds.request_release(wide.id, OFFICER, "not mine alone")


async def test_what_is_no_hold(store):
    patient = "a" * 64
    naive = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - what is refused
    aware = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    bad = [
        {},
        {"decisions": ["a b"]},
        {"decisions": [f"dec_{i}" for i in range(1001)]},
        {"department": "Radiology!"},
        {"patient": "4711"},
        {"patient": patient, "since": naive},
        {"since": aware, "until": aware},
    ]
    for scope in bad:
        with pytest.raises(InvalidRequest):
            await store.holds.place(ALL, WHY, **scope)
    with pytest.raises(InvalidRequest, match="what is held"):
        await store.holds.place(OFFICER, WHY)
    with pytest.raises(InvalidRequest, match="reason"):
        await store.holds.place(ALL, "no", patient=patient)
    with pytest.raises(NotPermitted):
        await store.holds.place(CLINICIAN, WHY, patient=patient)
    for unknown in ("hold_none", "x" * 500, "`\n"):
        with pytest.raises(NotFound):
            await store.holds.release(unknown, ALL, "it is over")
    assert await store.decisions.count() == 0


async def test_a_look_at_the_holds_is_recorded_first(store):
    hold = await store.holds.place(OFFICER, WHY, department="radiology")
    await store.holds.request_release(hold.id, OFFICER, "it is over")
    await store.holds.release(hold.id, OTHER, "it is over")
    assert await store.holds.list(OFFICER, "test") == ()
    assert [one.state for one in await store.holds.list(OFFICER, "test", released=True)] == ["released"]
    looks = [row.record for row in await store.decisions.recent(9, kind="access.v1")]
    assert [(look.action, look.rows) for look in looks] == [("holds", 1), ("holds", 0)]


async def test_a_hold_placed_meanwhile_wins(url, tmp_path):
    """Two processes: one erases in batches, the other holds; what the hold covers is there whole, or went before it."""
    async with opened(url, tmp_path) as erasing, opened(url, tmp_path) as holding:
        ids = [(await erasing.decisions.append(sealed(f"{i}", seconds=1.0))).id for i in range(40)]
        later = dt.datetime.now(dt.UTC) + DAY

        async def erase_one_by_one():
            done = []
            for id_ in ids:
                try:
                    await erasing.retention.erase([id_], OFFICER, "one by one")
                except Conflict:
                    continue
                done.append(id_)
            return done

        async def hold():
            await asyncio.sleep(0.01)
            return await holding.holds.place(OTHER, WHY, decisions=ids)

        done, placed = await asyncio.gather(erase_one_by_one(), hold())
        rows = await erasing.decisions.recent(200, kind="erasure.v1")
        (step,) = await erasing.decisions.recent(9, kind="hold.v1")
        assert step.id == placed.id
        after = [row for row in rows if row.sequence > step.sequence]
        assert after == [], "nothing it covers was erased once it stood in the log"
        assert {id_ for row in rows for id_ in row.record.decisions} == set(done)
        assert (await erasing.retention.run(later)).held == len(ids) - len(done)
        for id_ in set(ids) - set(done):
            assert (await holding.vault.reveal(id_, OTHER, "test", WHY, 1)).content.id == id_
