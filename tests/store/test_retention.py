"""Erasure: the key and the bytes are gone, the record stays, and nothing that was to be kept went with them."""

import asyncio
import datetime as dt
import os
import signal
import sqlite3

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from store.kit import SECRET, outcomes, start_child
from store.sealing import CLINICIAN, DAY, ELSEWHERE, OFFICER, OTHER, about, cells, files, opened, raw, sealed

from gateway.batch import jobs
from gateway.batch.worker import create_worker
from gateway.errors import InvalidRequest, NotFound, NotPermitted
from gateway.records import ErasureV1, new_id
from gateway.records.events import CallerV1
from gateway.settings import read_settings
from gateway.store import retention
from gateway.store.tables import store_facts, vault
from gateway.store.vault import vault_problem

WHY = "the patient asks for it"


@pytest.fixture
async def store(url, tmp_path):
    async with opened(url, tmp_path) as made:
        yield made


async def _rows(url):
    async with raw(url) as connection:
        return {row.id: row for row in (await connection.execute(sa.select(vault))).all()}


async def test_an_erasure_shreds_key_and_bytes_and_leaves_the_record(store, url):
    logged = await store.decisions.append(sealed("a question", image=os.urandom(9000)))
    kept = await store.decisions.append(sealed("another"))
    before = await _rows(url)
    stored = await store.decisions.get(logged.id)
    done = await store.retention.erase([logged.id, logged.id], OFFICER, WHY)
    assert (done.decisions, done.already) == ((logged.id,), ())
    erasure = (await store.decisions.get(done.erasure)).record
    assert (erasure.cause, erasure.decisions, erasure.reason) == ("request", (logged.id,), WHY)
    assert erasure.caller.person == "ada"
    row = (await _rows(url))[logged.id]
    assert (row.wrapped, row.sealed, row.kek, row.erasure) == (None, None, "", done.erasure)
    assert vault_problem(stored.record, row) is None
    assert (await store.decisions.get(logged.id)).bytes == stored.bytes
    with pytest.raises(NotPermitted):
        await store.vault.content(logged.id, OFFICER, "test")
    with pytest.raises(NotFound, match=done.erasure) as caught:
        await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)
    assert caught.value.code == "content_erased"
    with pytest.raises(NotFound, match=done.erasure):
        await store.vault.content(logged.id, OFFICER, "test")
    again = await store.retention.erase([logged.id], OTHER, WHY)
    assert again == retention.Erased(decisions=(), already=(logged.id,), erasure=None)
    assert len(await store.decisions.recent(9, kind="erasure.v1")) == 1
    assert (await store.vault.reveal(kept.id, OFFICER, "test", WHY, 5)).content.texts[0].text == "another"
    key = bytes(before[logged.id].wrapped)
    assert not any(key in value for values in (await cells(url)).values() for value in values)
    assert (await store.decisions.check()).ok


async def test_content_that_another_record_is_said_to_erase_is_found(store, url):
    """Whoever shreds a key behind the gateway's back may not point at the erasure of something else."""
    one, two = [await store.decisions.append(sealed(word)) for word in ("one", "two")]
    done = await store.retention.erase([one.id], OFFICER, WHY)
    assert (await store.decisions.check()).ok
    for claimed in (done.erasure, one.id):
        async with raw(url) as connection:
            gone = vault.update().where(vault.c.id == two.id).values(wrapped=None, sealed=None, kek="", erasure=claimed)
            await connection.execute(gone)
            await connection.commit()
        problem = (await store.decisions.check()).problem
        assert two.id in problem and "marked as erased, and no record or key says so" in problem


async def test_nothing_of_an_erased_key_is_left_in_the_files(sqlite_url, tmp_path):
    async with opened(sqlite_url, tmp_path) as store:
        logged = await store.decisions.append(sealed("a question", image=os.urandom(20_000)))
        row = (await _rows(sqlite_url))[logged.id]
        key, middle = bytes(row.wrapped), bytes(row.sealed)[12_000:12_064]
        assert any(key in data for data in files(sqlite_url))
        assert any(middle in data for data in files(sqlite_url))
        await store.retention.erase([logged.id], OFFICER, WHY)
        assert not any(key in data for data in files(sqlite_url))
        assert not any(middle in data for data in files(sqlite_url))


async def test_who_may_erase_what(store):
    logged = await store.decisions.append(sealed())
    bare = await store.decisions.append(outcomes.refused())
    foreign = await store.decisions.append(about(sealed(), "1", department="pathology"))
    with pytest.raises(NotPermitted):
        await store.retention.erase([logged.id], CLINICIAN, WHY)
    for ids, why, error in (
        ([], WHY, InvalidRequest),
        ([f"dec_{i}" for i in range(201)], WHY, InvalidRequest),
        ([logged.id], "no", InvalidRequest),
        ([logged.id, bare.id], WHY, NotFound),
        ([logged.id, foreign.id], WHY, NotFound),
        ([logged.id, "dec_\x00"], WHY, NotFound),
    ):
        with pytest.raises(error):
            await store.retention.erase(ids, OFFICER, why)
    assert (await store.vault.reveal(logged.id, OFFICER, "test", WHY, 1)).content.id == logged.id
    assert (await store.retention.erase([foreign.id], ELSEWHERE, WHY)).decisions == (foreign.id,)


async def test_retention_erases_what_is_due_and_nothing_else(store, monkeypatch):
    monkeypatch.setattr(retention, "_BATCH", 3)
    began = dt.datetime.now(dt.UTC)
    short = [(await store.decisions.append(sealed(f"{i}", seconds=60.0))).id for i in range(8)]
    long_ = [(await store.decisions.append(sealed(f"{i}", seconds=86400.0))).id for i in range(2)]
    endless = (await store.decisions.append(sealed("endless", seconds=None))).id
    held = [short[1], short[4]]
    await store.holds.place(OFFICER, "a lawsuit", decisions=held)
    assert await store.retention.due(began) == 0
    assert (await store.retention.run(began)).erased == 0
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=2)
    assert await store.retention.due(later) == 8
    seen = []
    done = await store.retention.run(later, progress=seen.append)
    assert (done.erased, done.held, done.finished, sum(seen)) == (6, 2, 0, 8)
    records = [row.record for row in await store.decisions.recent(9, kind="erasure.v1")]
    assert sorted(id_ for record in records for id_ in record.decisions) == sorted(set(short) - set(held))
    assert {(record.cause, record.reason, record.caller.key) for record in records} == {("retention", None, "gateway")}
    assert await store.retention.run(later) == retention.Run(erased=0, held=2, finished=0)
    for id_ in (*held, *long_, endless):
        assert (await store.vault.reveal(id_, OFFICER, "test", WHY, 1)).content.id == id_
    assert (await store.retention.run(later + 400 * DAY)).erased == 2


async def test_a_batch_is_bounded_by_its_bytes(store, monkeypatch):
    monkeypatch.setattr(retention, "_BATCH_BYTES", 50_000)
    for _ in range(5):
        await store.decisions.append(sealed(image=os.urandom(30_000), seconds=1.0))
    seen = []
    assert (await store.retention.run(dt.datetime.now(dt.UTC) + DAY, progress=seen.append)).erased == 5
    assert seen == [1, 1, 1, 1, 1]


async def test_two_runs_at_once_erase_each_content_once(url, tmp_path):
    async with opened(url, tmp_path) as one, opened(url, tmp_path) as two:
        ids = [(await one.decisions.append(sealed(f"{i}", seconds=1.0))).id for i in range(30)]
        later = dt.datetime.now(dt.UTC) + DAY
        done = await asyncio.gather(one.retention.run(later), two.retention.run(later))
        assert sum(run.erased for run in done) == 30
        rows = await one.decisions.recent(100, kind="erasure.v1")
        assert sorted(id_ for row in rows for id_ in row.record.decisions) == sorted(ids)


async def test_an_erasure_that_stands_in_the_log_alone_is_finished(store, url):
    """As after a kill between record and shredding, by a writer that does not do both at once; or after a restore."""
    first, second, third = [await store.decisions.append(sealed(word)) for word in ("one", "two", "three")]
    erasure = ErasureV1(
        id=new_id("era"),
        at=dt.datetime.now(dt.UTC),
        caller=CallerV1.of(OFFICER),
        cause="request",
        decisions=(first.id, second.id),
        reason=WHY,
    )
    await store.decisions.append_event(erasure)
    await store.holds.place(OFFICER, "a lawsuit", decisions=[second.id])
    before = await _rows(url)
    now = dt.datetime.now(dt.UTC)
    assert (await store.retention.run(now)).finished == 1
    rows = await _rows(url)
    assert (rows[first.id].wrapped, rows[first.id].erasure) == (None, erasure.id)
    assert rows[second.id] == before[second.id], "the hold came first"
    assert rows[third.id] == before[third.id]
    assert (await store.retention.run(now)).finished == 0
    async with raw(url) as connection:  # a copy of the table from before is put back
        old = {name: getattr(rows[third.id], name) for name in ("wrapped", "sealed", "kek", "erasure")}
        await connection.execute(vault.update().where(vault.c.id == first.id).values(**old))
        marks = (await connection.execute(sa.select(store_facts).where(store_facts.c.name == "vault-erasures"))).all()
    assert len(marks) == 1
    assert (await store.retention.run(now)).finished == 0, "it is known to be finished"
    assert (await store.retention.run(now, again=True)).finished == 1
    assert (await _rows(url))[first.id].wrapped is None


async def test_kill_nine_leaves_record_and_shredding_together(url, tmp_path):
    async with opened(url, tmp_path) as store:
        ids = [(await store.decisions.append(sealed(f"{i}"))).id for i in range(60)]
    for _ in range(3):
        child = start_child("erase", url, str(tmp_path), *ids)
        line = await asyncio.to_thread(child.stdout.readline)
        assert line.startswith("era_") or line == "done\n", line
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.to_thread(child.wait)
        child.stdout.close()
        rows = await _rows(url)
        async with opened(url, tmp_path) as store:
            erased = {
                id_: row.record.id
                for row in await store.decisions.recent(500, kind="erasure.v1")
                for id_ in row.record.decisions
            }
            assert {id_: row.erasure for id_, row in rows.items() if row.erasure is not None} == erased
            for row in rows.values():
                record = (await store.decisions.get(row.id)).record
                assert vault_problem(record, row) is None
            assert (await store.retention.run(dt.datetime.now(dt.UTC))).finished == 0
            assert (await store.decisions.check()).ok
    assert erased, "some were erased before the kill"


async def test_the_queries_find_their_rows_by_an_index(sqlite_url, tmp_path):
    async with opened(sqlite_url, tmp_path) as store:
        await store.decisions.append(sealed())
    with sqlite3.connect(make_url(sqlite_url).database) as connection:
        for sql in (
            "SELECT body FROM decision_log WHERE kind <> 'decision.v1' AND kind = ?",
            "SELECT body FROM decision_log WHERE kind <> 'decision.v1' AND kind = ? AND at >= '2026'",
        ):
            plan = " ".join(str(row) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("hold.v1",)))
            assert "ix_decision_log_events" in plan
        due = "EXPLAIN QUERY PLAN SELECT id FROM vault WHERE erasure IS NULL AND until <= 'x'"
        plan = " ".join(str(row) for row in connection.execute(due))
        assert "ix_vault_until" in plan


async def test_a_changed_clock_of_the_run_erases_by_what_it_is_told(store):
    """A clock that is behind erases later, never sooner."""
    logged = await store.decisions.append(sealed(seconds=3600.0))
    until = (await store.decisions.get(logged.id)).record.sealed.until
    for now in (until - 400 * DAY, until - dt.timedelta(microseconds=1)):
        assert (await store.retention.run(now)).erased == 0
    assert (await store.retention.run(until)).erased == 1


async def test_the_nightly_job_needs_no_key_of_the_vault(tmp_path):
    settings = read_settings({"GATEWAY_DATA_DIR": str(tmp_path), "GATEWAY_SECRET": SECRET.hex()})
    async with opened(settings.database_url, tmp_path) as store:
        due, later = [(await store.decisions.append(sealed(seconds=s))).id for s in (0.001, 3600.0)]
        before = await _rows(settings.database_url)
    (tmp_path / "vault.key").unlink()
    assert await jobs.erase_due(settings) == (1, 0)
    rows = await _rows(settings.database_url)
    assert rows[due].sealed is None
    assert rows[later] == before[later]
    schedule = create_worker(settings).conf.beat_schedule
    assert {entry["task"] for entry in schedule.values()} >= {"gateway.erase_due", "gateway.verify_log"}
