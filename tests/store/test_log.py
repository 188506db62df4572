"""The decision log on real databases: what is appended is there, exactly, and stays."""

import asyncio
import datetime as dt
import hashlib

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from store.kit import SECRET, outcomes

from gateway.errors import LogDamaged, Unavailable
from gateway.records import AccessV1, Caller, DecisionV1, Digester, canonical, record_of
from gateway.store import Logged, Store
from gateway.store.engine import writer
from gateway.store.tables import decision_log


async def test_append_gives_back_the_exact_record(store):
    outcome = outcomes.released(image=b"\x89PNG" * 100)
    logged = await store.decisions.append(outcome)
    assert (logged.id, logged.outcome) == (outcome.request.id, outcome)
    stored = await store.decisions.get(logged.id)
    due = record_of(outcome, Digester(SECRET))
    assert stored.record == due
    assert stored.bytes == canonical(due)
    assert stored.sequence == logged.sequence == 1
    assert stored.leaf == logged.leaf == hashlib.sha256(b"\x00" + stored.bytes).hexdigest()
    assert len(stored.bytes) > 200
    assert await store.decisions.get("dec_unknown") is None


async def test_a_large_image_is_digested_like_a_small_one(store):
    big = bytes(200_000)
    logged = await store.decisions.append(outcomes.released(image=big))
    stored = await store.decisions.get(logged.id)
    assert stored.record.images[0].digest == Digester(SECRET).digest("image", big)


async def test_two_hundred_at_once(store):
    async def one(numbers):
        return [await store.decisions.append(outcomes.refused()) for _ in numbers]

    done = await asyncio.gather(*(one(range(i, 200, 32)) for i in range(32)))
    logged = [one for some in done for one in some]
    assert len({one.id for one in logged}) == 200
    assert sorted(one.sequence for one in logged) == list(range(1, 201))
    for one in logged[::20]:
        assert (await store.decisions.get(one.id)).sequence == one.sequence
    seen = []
    report = await store.decisions.check(seen.append)
    assert (report.records, report.problem, report.gaps, sum(seen)) == (200, None, 0, 200)
    assert await store.decisions.count() == 200


async def test_recent_and_access(store):
    ids = [(await store.decisions.append(outcomes.refused())).id for _ in range(5)]
    officer = Caller(key="os-account:0", department="*", roles=("officer",))
    now = dt.datetime.now(dt.timezone(dt.timedelta(hours=2)))
    access = AccessV1.of(caller=officer, endpoint="/decisions", decisions=(ids[0],), at=now, why="a complaint")
    await store.decisions.append_event(access)
    assert [row.id for row in await store.decisions.recent(3)] == ids[:-4:-1]
    assert [row.id for row in await store.decisions.recent(9, "radiology")] == ids[::-1]
    assert await store.decisions.recent(9, "pathology") == ()
    (seen,) = await store.decisions.recent(9, kind="access.v1")
    assert seen.record == access
    assert seen.record.at.utcoffset() == dt.timedelta(0)
    assert (await store.decisions.check()).records == 6


_CHANGES = (
    "UPDATE decision_log SET department = 'x'",
    "UPDATE decision_log SET body = body WHERE sequence = 1",
    "UPDATE decision_log SET outcome = 'released' WHERE sequence = 999",
    "DELETE FROM decision_log",
    "DELETE FROM decision_log WHERE sequence = 2",
)


async def test_the_database_refuses_to_change_a_record(store):
    for _ in range(2):
        await store.decisions.append(outcomes.refused())
    before = [row.bytes for row in await store.decisions.recent(9)]
    postgres = store._engine.dialect.name == "postgresql"
    changes = list(_CHANGES)
    if postgres:
        again = "INSERT INTO decision_log (id, kind, department, at, leaf, body) SELECT id, kind, 'x', at, leaf, body"
        changes += [
            "TRUNCATE decision_log",
            f"{again} FROM decision_log ON CONFLICT (id) DO UPDATE SET department = 'x'",
            "SET session_replication_role = replica; DELETE FROM decision_log",
        ]
    else:
        changes.remove("UPDATE decision_log SET outcome = 'released' WHERE sequence = 999")  # meets no row
        changes += [
            "INSERT OR REPLACE INTO decision_log SELECT 1, 'new', kind, 'x', outcome, at, leaf, body FROM decision_log",
            "INSERT OR REPLACE INTO decision_log SELECT 9, id, kind, 'x', outcome, at, leaf, body FROM decision_log",
            "INSERT INTO decision_log SELECT 1, 'new', kind, 'x', outcome, at, leaf, body FROM decision_log"
            " WHERE true ON CONFLICT (sequence) DO UPDATE SET department = 'x'",
        ]
    for change in changes:
        with pytest.raises(DBAPIError) as caught:  # noqa: PT012 - a transaction needs its block
            async with writer(store._engine).begin() as connection:
                for statement in change.split("; "):
                    await connection.execute(sa.text(statement))
        assert "append-only" in str(caught.value.orig), change
    assert [row.bytes for row in await store.decisions.recent(9)] == before
    await store.decisions.append(outcomes.refused())


async def _without_triggers(store, *statements):
    """Change the log behind its back, as the owner of the database can."""
    if store._engine.dialect.name == "postgresql":
        off = ("ALTER TABLE decision_log DISABLE TRIGGER USER",)
    else:
        off = tuple(f"DROP TRIGGER decision_log_no_{what}" for what in ("update", "delete", "replace"))
    async with writer(store._engine).begin() as connection:
        for statement in (*off, *statements):
            await connection.execute(sa.text(statement))


async def _flip(store, sequence):
    async with store._engine.connect() as connection:
        body = await connection.scalar(sa.select(decision_log.c.body).where(decision_log.c.sequence == sequence))
    changed = bytearray(body)
    changed[100] ^= 1
    await _without_triggers(store)
    async with writer(store._engine).begin() as connection:
        where = decision_log.update().where(decision_log.c.sequence == sequence)
        await connection.execute(where.values(body=bytes(changed)))


async def test_one_flipped_bit_is_found(store):
    logged = [await store.decisions.append(outcomes.released()) for _ in range(5)]
    await _flip(store, 3)
    report = await store.decisions.check()
    assert (report.ok, report.sequence, report.records) == (False, 3, 2)
    assert logged[2].id in report.problem
    assert "leaf hash" in report.problem
    with pytest.raises(LogDamaged, match="record 3"):
        await store.decisions.get(logged[2].id)
    assert (await store.decisions.get(logged[1].id)).sequence == 2


async def test_bytes_that_became_text_are_damage(sqlite_url):
    """SQLite keeps in a column whatever it is given."""
    store = await Store.open(sqlite_url, secret=SECRET)
    try:
        logged = await store.decisions.append(outcomes.refused())
        await _without_triggers(store)
        async with writer(store._engine).begin() as connection:
            await connection.execute(sa.text("UPDATE decision_log SET body = CAST(body AS TEXT)"))
        with pytest.raises(LogDamaged, match="its bytes are text"):
            await store.decisions.get(logged.id)
        assert "record 1" in (await store.decisions.check()).problem
    finally:
        await store.close()


@pytest.mark.parametrize("column", ["department", "outcome", "kind", "at"])
async def test_a_column_that_lies_is_found(store, column):
    for _ in range(3):
        await store.decisions.append(outcomes.refused())
    value = "'2001-01-01T00:00:00.000000Z'" if column == "at" else "'released'"
    await _without_triggers(store, f"UPDATE decision_log SET {column} = {value} WHERE sequence = 2")
    report = await store.decisions.check()
    assert report.sequence == 2
    assert f"`{column}`" in report.problem


async def test_missing_records_are_found(store):
    for _ in range(6):
        await store.decisions.append(outcomes.refused())
    await _without_triggers(store, "DELETE FROM decision_log WHERE sequence = 2")
    report = await store.decisions.check()
    if store._engine.dialect.name == "postgresql":  # a transaction that was rolled back leaves a gap there too
        assert (report.problem, report.gaps, report.records) == (None, 1, 5)
        return
    assert report.sequence == 2
    assert "missing" in report.problem


async def test_a_cut_tail_is_found_on_sqlite(sqlite_url):
    store = await Store.open(sqlite_url, secret=SECRET)
    for _ in range(4):
        await store.decisions.append(outcomes.refused())
    await _without_triggers(store, "DELETE FROM decision_log WHERE sequence >= 3")
    report = await store.decisions.check()
    assert report.sequence == 3
    assert "2 records are missing at the end" in report.problem
    await store.close()


async def test_the_same_record_twice_is_one_record(store):
    outcome = outcomes.refused()
    first = await store.decisions.append(outcome)
    again = await store.decisions.append(outcome)
    assert (first.sequence, again.sequence) == (1, 1)
    assert await store.decisions.count() == 1


async def test_one_bad_record_spoils_no_other(store):
    taken = await store.decisions.append(outcomes.refused())
    other = outcomes.released(id=taken.id)
    all_ = [outcomes.refused() for _ in range(10)]
    all_.insert(4, other)
    results = await asyncio.gather(*(store.decisions.append(o) for o in all_), return_exceptions=True)
    assert isinstance(results[4], Unavailable)
    assert "nothing was answered" in results[4].message
    good = [r for r in results if isinstance(r, Logged)]
    assert len(good) == 10
    assert await store.decisions.count() == 11
    assert (await store.decisions.get(taken.id)).record.outcome == "refused"


async def test_a_cancelled_caller_breaks_nobody(store):
    all_ = [outcomes.refused() for _ in range(30)]
    tasks = [asyncio.ensure_future(store.decisions.append(o)) for o in all_]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(r, Logged) for r in results[1::3] + results[2::3])
    await store.close()
    again = await Store.open(store_url(store), secret=SECRET)
    assert await again.decisions.count() == 30  # what was decided is recorded, whoever has gone
    await again.close()


def store_url(store):
    return store._engine.url.render_as_string(hide_password=False)


async def test_close_writes_what_waits_and_then_takes_no_more(store):
    tasks = [asyncio.ensure_future(store.decisions.append(outcomes.refused())) for _ in range(40)]
    await asyncio.sleep(0)
    await store.close()
    assert all(isinstance(r, Logged) for r in await asyncio.gather(*tasks))
    with pytest.raises(Unavailable, match="stopping"):
        await store.decisions.append(outcomes.refused())


async def test_a_record_that_can_not_be_made_answers_nothing(store):
    outcome = msgspec.structs.replace(outcomes.refused(), ms=float("nan"))
    with pytest.raises(Unavailable, match="nothing was answered"):
        await store.decisions.append(outcome)
    assert await store.decisions.count() == 0


async def test_only_append_makes_a_logged():
    with pytest.raises(TypeError):
        Logged(object(), id="a", sequence=1, leaf="", outcome=outcomes.refused())


async def test_a_logged_does_not_change(store):
    logged = await store.decisions.append(outcomes.refused())
    with pytest.raises(AttributeError):
        logged.outcome = outcomes.released()
    assert isinstance((await store.decisions.get(logged.id)).record, DecisionV1)
