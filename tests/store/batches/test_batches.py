"""Batches: made once, recorded before they change, read by one worker, counted, and ended as they were meant to."""

import asyncio
import datetime as dt

import pytest
import sqlalchemy as sa
from store.batching import CALLER, DAY, OTHER, begun, bodies, finalize, missing, now, result, submit, work
from store.kit import SECRET
from store.sealing import raw

from gateway.errors import Conflict, InvalidRequest, NotFound, Unavailable
from gateway.records import Context
from gateway.store import BatchError, Chunk, Counts, LeaseLost, Store
from gateway.store.batch_tables import batch_lines as lines_table
from gateway.store.batch_tables import batches, jobs


async def changes(store, id_):
    rows = [row.record for row in await store.decisions.recent(100, kind="change.v1")]
    return [(change.what, change.before, change.after) for change in reversed(rows) if change.subject == id_]


async def test_a_batch_is_made_recorded_and_read_back(store):
    said = Context(purpose="TREAT", patient="4711")
    made = await submit(
        store, said=said, metadata={"night": "7"}, priority=3, options={"webhook": True}, window_seconds=60
    )
    assert made.id.startswith("batch_") and len(made.id) == 38
    assert await store.batches.get(made.id) == made
    assert (made.status, made.paused, made.total, made.caller, made.said) == ("validating", False, None, CALLER, said)
    assert (made.metadata, made.options, made.errors) == ({"night": "7"}, {"webhook": True}, ())
    assert made.expires_at - made.created_at == dt.timedelta(seconds=60)
    assert await changes(store, made.id) == [("batch-created", None, "validating")]
    assert await store.batches.counts(made) == Counts(total=0, completed=0, failed=0)
    assert await store.batches.get("batch_\x00") is None


async def test_the_same_idempotency_key_makes_one_batch(store):
    more = {"idempotency_key": "night-7", "metadata": {"night": "7"}}
    made = await asyncio.gather(*(submit(store, **more) for _ in range(4)))
    assert len({batch.id for batch in made}) == 1
    assert (await submit(store, **more)) == made[0]
    assert (await submit(store, caller=OTHER, **more)).id != made[0].id
    for other in ({"metadata": None}, {"input_file": "file-other"}, {"said": Context(purpose="HPAYMT")}):
        with pytest.raises(Conflict, match=made[0].id):
            await submit(store, **(more | other))
    with pytest.raises(InvalidRequest, match="1 to 200 characters"):
        await submit(store, idempotency_key="x" * 201)
    assert len(await store.batches.list("*")) == 2


async def test_batches_are_listed_newest_first(store):
    made = [await submit(store, caller=caller) for caller in (CALLER, OTHER, CALLER, CALLER)]
    mine = [made[3], made[2], made[0]]
    assert await store.batches.list("radiology") == tuple(mine)
    assert await store.batches.list("*", limit=2) == (made[3], made[2])
    assert await store.batches.list("radiology", after=mine[0].id, limit=1) == (mine[1],)
    assert await store.batches.list("radiology", after=mine[2].id) == ()
    with pytest.raises(NotFound, match="no batch `batch_x`"):
        await store.batches.list("radiology", after="batch_x")


async def test_a_batch_from_its_file_to_its_end(store, batch_url):
    batch = await begun(store, 5, chunk=2)
    assert (batch.status, batch.total) == ("in_progress", 5)
    done = []
    while (job := await store.jobs.claim("w1")).kind == "lines":
        done.append((job.first, job.count))
        await work(store, job, "refused" if job.first == 3 else "released")
    assert done == [(1, 2), (3, 2), (5, 1)]
    assert (await store.batches.get(batch.id)).status == "finalizing"
    assert await bodies(store, batch, ok=True) == [result(batch, line).body for line in (1, 2, 5)]
    assert await bodies(store, batch, ok=False) == [result(batch, line).body for line in (3, 4)]
    ended = await store.batches.finish(job, output_file="file-a", error_file="file-b", webhook=True)
    counts = Counts(total=5, completed=3, failed=2, by_outcome={"released": 3, "refused": 2})
    assert (ended.status, ended.summary, ended.output_file, ended.error_file) == (
        "completed",
        counts,
        "file-a",
        "file-b",
    )
    assert await store.batches.get(batch.id) == ended
    assert await store.batches.counts(ended) == counts
    async with raw(batch_url) as connection:
        row = (await connection.execute(sa.select(batches.c.kek, batches.c.wrapped))).one()
        assert (row.kek, bytes(row.wrapped)) == ("", b"")
        assert set((await connection.execute(sa.select(lines_table.c.sealed))).scalars()) == {None}
        assert [tuple(row) for row in await connection.execute(sa.select(jobs.c.kind, jobs.c.state))] == [
            ("webhook", "telling")
        ]
    with pytest.raises(LeaseLost):
        await store.batches.finish(job, output_file=None, error_file=None)
    with pytest.raises(LeaseLost):
        await store.batches.store_lines(batch, [result(batch, 9)])
    with pytest.raises(LeaseLost):
        await bodies(store, batch, ok=True)


async def test_a_validation_that_died_leaves_nothing(store):
    batch = await submit(store)
    first = await store.jobs.claim("w1")
    chunk = Chunk(first=1, count=2, start=0, size=9)
    await store.batches.add_chunks(first, [chunk], [result(batch, 3, "invalid")])
    assert await store.jobs.claim("w2") is None, "no line is tried before the file was read to its end"
    assert await store.jobs.reap(now() + DAY / 2) == 1
    second = await store.jobs.claim("w2")
    assert (second.kind, second.attempts) == ("validate", 2)
    await store.batches.begin_validation(second)
    assert await missing(store, batch) == []
    assert (await store.batches.counts(batch)).failed == 0
    for late in (
        store.batches.begin_validation(first),
        store.batches.add_chunks(first, [chunk], []),
        store.batches.validated(first, 2),
        store.batches.fail(first, []),
    ):
        with pytest.raises(LeaseLost):
            await late
    await store.batches.add_chunks(second, [], [result(batch, 1, "invalid")])
    await store.batches.validated(second, 1)
    await store.jobs.done(second)  # once more is no harm
    assert (await store.batches.get(batch.id)).status == "finalizing", "nothing is left to be tried"
    ended = await finalize(store)
    assert (ended.status, ended.summary.by_outcome) == ("completed", {"invalid": 1})


async def test_a_batch_fails_as_a_whole(store, batch_url):
    batch = await submit(store, options={"webhook": True})
    job = await store.jobs.claim("w")
    await store.batches.add_chunks(job, [Chunk(first=1, count=1, start=0, size=1)], [result(batch, 2, "invalid")])
    error = BatchError(code="too_many_lines", message="there are more than 1000000 lines", line=1_000_001)
    await store.batches.fail(job, [error])
    failed = await store.batches.get(batch.id)
    assert (failed.status, failed.total, failed.errors) == ("failed", 0, (error,))
    assert failed.summary == Counts(total=0, completed=0, failed=0)
    assert batch.created_at <= failed.failed_at <= now()
    async with raw(batch_url) as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(lines_table)) == 0
        assert list((await connection.execute(sa.select(jobs.c.kind))).scalars()) == ["webhook"]
    with pytest.raises(Conflict, match="it is failed"):
        await store.batches.cancel(batch.id, CALLER)


async def test_a_cancelled_batch_ends_when_its_last_worker_does(store):
    batch = await begun(store, 6, chunk=2)
    held = [await store.jobs.claim(worker) for worker in ("w1", "w2")]
    await store.batches.store_lines(batch, [result(batch, 1)], held[0])
    cancelled = await store.batches.cancel(batch.id, OTHER)
    assert (cancelled.status, cancelled.cancelling_at is not None) == ("cancelling", True)
    assert await store.batches.cancel(batch.id, OTHER) == cancelled
    assert await changes(store, batch.id) == [
        ("batch-created", None, "validating"),
        ("batch-cancelled", "in_progress", "cancelling"),
    ]
    assert await store.jobs.claim("w3") is None
    assert await store.jobs.heartbeat("w1", [held[0].id]) == frozenset()
    await store.jobs.give_back(held[0])
    assert await store.jobs.claim("w3") is None
    await work(store, held[1])
    ended = await finalize(store)
    assert (ended.status, ended.summary.by_outcome) == ("cancelled", {"released": 3, "cancelled": 3})
    assert ended.cancelling_at <= ended.cancelled_at <= now()
    with pytest.raises(Conflict, match="it is cancelled"):
        await store.batches.cancel(batch.id, OTHER)


async def test_a_batch_is_cancelled_while_its_file_is_read(store):
    batch = await submit(store)
    job = await store.jobs.claim("w1")
    await store.batches.add_chunks(job, [Chunk(first=2, count=2, start=0, size=1)], [result(batch, 1, "invalid")])
    await store.batches.cancel(batch.id, CALLER)
    with pytest.raises(LeaseLost):
        await store.batches.add_chunks(job, [Chunk(first=4, count=2, start=0, size=1)], [])
    assert await store.jobs.heartbeat("w1", [job.id]) == frozenset()
    ended = await finalize(store)
    assert (ended.status, ended.total) == ("cancelled", 3)
    assert ended.summary.by_outcome == {"invalid": 1, "cancelled": 2}


async def test_a_batch_is_cancelled_before_anything_is_read(store):
    batch = await submit(store)
    await store.batches.cancel(batch.id, CALLER)
    ended = await finalize(store)
    assert (ended.id, ended.status, ended.total) == (batch.id, "cancelled", 0)


async def test_a_paused_batch_rests_and_goes_on(store):
    batch = await begun(store, 3)
    held = await store.jobs.claim("w1")
    paused = await store.batches.pause(batch.id, CALLER)
    assert (paused.paused, paused.status) == (True, "in_progress")
    assert await store.batches.pause(batch.id, CALLER) == paused
    assert await store.jobs.stopping([batch.id]) == {batch.id}
    assert await store.jobs.heartbeat("w1", [held.id]) == frozenset()
    await store.jobs.give_back(held)
    assert (await store.jobs.claim("w1"), await store.jobs.waiting()) == (None, 0)
    assert (await store.batches.resume(batch.id, CALLER)).paused is False
    assert (await store.jobs.stopping([batch.id]), await store.jobs.waiting()) == (frozenset(), 3)
    again = await store.jobs.claim("w1")
    assert (again.id, again.attempts) == (held.id, 1)
    assert await store.jobs.heartbeat("w1", [again.id]) == {again.id}
    assert [word for word, *_ in await changes(store, batch.id)] == ["batch-created", "batch-paused", "batch-resumed"]
    await store.batches.pause(batch.id, CALLER)
    await store.batches.cancel(batch.id, CALLER)
    await store.jobs.done(again)
    assert (await finalize(store)).status == "cancelled", "a paused batch can be cancelled"


async def test_what_is_paused_too_late_is_said_so(store):
    batch = await begun(store, 1)
    await work(store, await store.jobs.claim("w"))
    for change in (store.batches.pause, store.batches.resume, store.batches.cancel):
        with pytest.raises(Conflict, match="no line of the batch"):
            await change(batch.id, CALLER)
        with pytest.raises(NotFound, match="no batch `batch_x`"):
            await change("batch_x", CALLER)
    assert (await finalize(store)).status == "completed"


@pytest.mark.parametrize("paused", [True, False])
async def test_a_batch_whose_time_is_over_ends_as_expired(store, paused):
    batch = await begun(store, 3, window_seconds=3600)
    held = await store.jobs.claim("w1")
    if paused:
        await store.batches.pause(batch.id, CALLER)
    assert await store.batches.expire_due(now()) == []
    assert await store.batches.expire_due(now() + DAY) == [batch.id]
    expired = await store.batches.get(batch.id)
    assert (expired.status, expired.expired_at is not None) == ("finalizing", True)
    assert await store.jobs.stopping([batch.id, "batch_x"]) == {batch.id, "batch_x"}
    assert await store.jobs.claim("w2") is None
    await work(store, held)
    ended = await finalize(store)
    assert (ended.status, ended.summary.by_outcome) == ("expired", {"released": 1, "cancelled": 2})


async def test_a_batch_expires_while_its_file_waits_to_be_read(store):
    batch = await submit(store, window_seconds=-1)
    assert await store.jobs.claim("w") is None, "its time is over, whoever has noticed that"
    assert await store.jobs.stopping([batch.id]) == {batch.id}
    await store.jobs.reap(now())
    ended = await finalize(store)
    assert (ended.status, ended.total, ended.expired_at is not None) == ("expired", 0, True)


async def test_the_end_is_tidied_up_by_another_where_the_worker_died_over_it(sqlite, sqlite_url, monkeypatch):
    batch = await begun(sqlite, 2)
    while (job := await sqlite.jobs.claim("w")).kind == "lines":
        await work(sqlite, job)

    class Died(BaseException):
        pass

    async def die(id_):
        raise Died

    monkeypatch.setattr(sqlite.batches, "tidy", die)
    with pytest.raises(Died):
        await sqlite.batches.finish(job, output_file=None, error_file=None)
    monkeypatch.undo()
    assert (await sqlite.batches.get(batch.id)).status == "completed"
    assert await sqlite.jobs.reap(now() + DAY / 2) == 1
    async with raw(sqlite_url) as connection:
        assert set((await connection.execute(sa.select(lines_table.c.sealed))).scalars()) == {None}
        assert await connection.scalar(sa.select(sa.func.count()).select_from(jobs)) == 0


async def test_without_keys_there_are_no_batches(sqlite_url):
    store = await Store.open(sqlite_url, secret=SECRET)
    try:
        with pytest.raises(Unavailable, match="was given no keys for the vault"):
            await submit(store)
        assert await store.decisions.count() == 0
    finally:
        await store.close()


async def test_a_batch_that_can_not_be_recorded_is_not_made(sqlite):
    await sqlite.decisions.close()
    with pytest.raises(Unavailable):
        await submit(sqlite)
    assert await sqlite.batches.list("*") == ()
