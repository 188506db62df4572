"""What dead workers held goes on: their writes are refused, and a line that ends its workers takes no other down."""

import json

import pytest
import sqlalchemy as sa
from store.batching import CALLER, begun, die, finalize, line_of, now, opened, result, submit, upload, work
from store.sealing import raw

from gateway.errors import Unavailable
from gateway.store import Chunk, LeaseLost
from gateway.store.batch_tables import batches, jobs
from gateway.store.jobs import MAX_ATTEMPTS


async def test_a_worker_taken_for_dead_writes_nothing(store, batch_url):
    batch = await begun(store, 1)
    zombie = await store.jobs.claim("w1")
    await die(batch_url, "w1")
    for late in (
        store.batches.store_lines(batch, [result(batch, 1)], zombie),
        store.jobs.done(zombie),
        store.jobs.give_back(zombie),
    ):
        with pytest.raises(LeaseLost):
            await late
    assert await store.jobs.reap(now()) == 1
    assert await store.jobs.reap(now()) == 0
    assert await store.jobs.heartbeat("w1", [zombie.id]) == frozenset()
    heir = await store.jobs.claim("w1")
    assert (heir.id, heir.attempts) == (zombie.id, 2)
    with pytest.raises(LeaseLost):
        await store.jobs.done(zombie)  # the same name, and an older hold
    await work(store, heir)
    await store.jobs.done(heir)
    with pytest.raises(LeaseLost):
        await store.jobs.done(zombie)
    assert (await finalize(store)).summary.by_outcome == {"released": 1}


async def test_a_heartbeat_keeps_a_job(store, batch_url):
    await begun(store, 2)
    held = [await store.jobs.claim("w1"), await store.jobs.claim("w2")]
    await die(batch_url, "w1")
    await die(batch_url, "w2")
    # late, but nobody has taken it
    assert await store.jobs.heartbeat("w1", [job.id for job in held]) == {held[0].id}
    assert await store.jobs.reap(now()) == 1
    await work(store, held[0])
    assert (await store.jobs.claim("w3")).id == held[1].id


async def test_a_worker_that_dies_over_a_cancelled_batch_does_not_hold_it_up(store, batch_url):
    batch = await begun(store, 3)
    await store.jobs.claim("w1")
    await store.batches.cancel(batch.id, CALLER)
    assert await store.jobs.claim("w2") is None
    await die(batch_url, "w1")
    assert await store.jobs.reap(now()) == 1
    assert (await finalize(store)).status == "cancelled"


async def claimed(store, worker):
    """Claim all that there is, as a worker with many places does."""
    found = []
    while (job := await store.jobs.claim(worker)) is not None:
        found.append(job)
    return found


async def test_a_line_that_ends_its_worker_takes_no_other_down(store, batch_url):
    batch = await begun(store, 12, chunk=4)
    poison, lives = 6, 0
    await store.batches.store_lines(batch, [result(batch, 7)])  # it was answered before the worker died
    while (await store.batches.get(batch.id)).status == "in_progress":
        lives += 1
        assert lives < 20
        held = await claimed(store, f"w{lives}")
        if any(job.first <= poison < job.first + job.count for job in held):
            await die(batch_url, f"w{lives}")
            assert await store.jobs.reap(now()) == len(held)
        else:
            for job in held:
                await work(store, job)
    job = await store.jobs.claim("w", kinds=("finalize",))
    assert await store.batches.answered(batch.id, 1, 12) == set(range(1, 13))
    (body,) = [json.loads(body) async for body in store.batches.results(batch, ok=False)]
    assert body["custom_id"] == "c6"
    message = f"line 6: the line was tried {MAX_ATTEMPTS} times and ended the worker each time"
    assert (body["error"], body["response"]) == ({"code": "line_failed", "message": message, "line": 6}, None)
    ended = await store.batches.finish(job, output_file=None, error_file=None)
    assert ended.summary.by_outcome == {"released": 11, "failed": 1}


async def test_a_job_is_split_where_its_lines_begin(sqlite, sqlite_url):
    data = [b"\xef\xbb\xbf" + line_of(1), line_of(2).replace(b"\n", b"\r\n"), line_of(3).rstrip(b"\n")]
    stored = await upload(sqlite, b"".join(data))
    await submit(sqlite, input_file=stored.id)
    job = await sqlite.jobs.claim("w")
    await sqlite.batches.add_chunks(job, [Chunk(first=1, count=3, start=0, size=stored.bytes)], [])
    await sqlite.batches.validated(job, 3)
    for _ in range(2):
        await sqlite.jobs.claim("w")
        await die(sqlite_url, "w")
        assert await sqlite.jobs.reap(now()) == 1
    singles = [job for job in await claimed(sqlite, "w2") if job.kind == "lines"]
    assert [(job.first, job.count, job.attempts) for job in singles] == [(1, 1, 3), (2, 1, 3), (3, 1, 3)]
    assert [await sqlite.files.range(stored.id, job.start, job.size) for job in singles] == data


async def test_lines_that_can_not_be_told_apart_end_as_well(sqlite, sqlite_url):
    batch = await submit(sqlite, input_file="file-gone")
    job = await sqlite.jobs.claim("w")
    await sqlite.batches.add_chunks(job, [Chunk(first=1, count=2, start=0, size=9)], [])
    await sqlite.batches.validated(job, 2)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        job = await sqlite.jobs.claim("w")
        assert (job.count, job.attempts) == (2, attempt)
        await die(sqlite_url, "w")
        await sqlite.jobs.reap(now())
    assert (await finalize(sqlite)).summary.by_outcome == {"failed": 2}
    assert (await sqlite.batches.get(batch.id)).status == "completed"


async def test_a_file_that_ends_its_reader_each_time_fails_its_batch(sqlite, sqlite_url):
    batch = await submit(sqlite)
    for _ in range(MAX_ATTEMPTS):
        assert (await sqlite.jobs.claim("w")).kind == "validate"
        await die(sqlite_url, "w")
        await sqlite.jobs.reap(now())
    failed = await sqlite.batches.get(batch.id)
    assert (failed.status, failed.errors[0].code) == ("failed", "unreadable_file")


async def test_files_that_end_their_writer_are_tried_for_ever_but_not_at_once(sqlite, sqlite_url):
    await begun(sqlite, 1)
    await work(sqlite, await sqlite.jobs.claim("w"))
    for _ in range(MAX_ATTEMPTS):
        assert (await sqlite.jobs.claim("w")).kind == "finalize"
        await die(sqlite_url, "w")
        await sqlite.jobs.reap(now())
    assert await sqlite.jobs.claim("w") is None
    async with raw(sqlite_url) as connection:
        await connection.execute(jobs.update().values(available_at=now()))
    assert (await finalize(sqlite)).status == "completed"


async def test_a_lost_key_of_one_batch_holds_up_no_other(sqlite, sqlite_url, tmp_path):
    lost, other = await begun(sqlite, 1), await begun(sqlite, 1)
    async with raw(sqlite_url) as connection:
        await connection.execute(jobs.update().where(jobs.c.batch == lost.id).values(attempts=MAX_ATTEMPTS - 1))
        await connection.execute(batches.update().where(batches.c.id == lost.id).values(kek="kek-gone"))
    async with opened(sqlite_url, tmp_path) as again:
        assert (await again.jobs.claim("w1")).batch == lost.id
        assert await again.jobs.claim("w1") is None
        assert (await again.jobs.claim("w2")).batch == other.id
        await die(sqlite_url, "w1")
        await die(sqlite_url, "w2")
        with pytest.raises(Unavailable, match="kek-gone"):
            await again.jobs.reap(now())
        assert (await again.jobs.claim("w3")).batch == other.id


async def test_the_last_try_is_had_by_a_worker_that_holds_nothing_else(store, batch_url):
    await begun(store, 3)
    async with raw(batch_url) as connection:
        suspects = jobs.update().where(jobs.c.first < 3, jobs.c.kind == "lines")
        await connection.execute(suspects.values(attempts=MAX_ATTEMPTS - 1))
    assert [job.first for job in await claimed(store, "w1")] == [1]
    assert [job.first for job in await claimed(store, "w2")] == [2]
    assert [job.first for job in await claimed(store, "w3")] == [3]


async def test_a_webhook_is_told_until_it_is_done_or_dropped(store, batch_url):
    for _ in range(2):
        await begun(store, 1)
        await work(store, await store.jobs.claim("w", kinds=("lines",)))
        await finalize(store, webhook=True)
    first = await store.jobs.claim("w", kinds=("webhook",))
    assert (first.kind, first.department) == ("webhook", "radiology")
    assert await store.jobs.claim("w", full={"radiology"}) is None
    assert await store.jobs.waiting() == 1
    await store.jobs.done(first)
    await store.jobs.done(first)
    waits = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        job = await store.jobs.claim("w")
        assert (job.kind, job.attempts) == ("webhook", attempt)
        if attempt == 2:
            await die(batch_url, "w")
            await store.jobs.reap(now())
        else:
            await store.jobs.give_back(job, count_attempt=True)
        assert await store.jobs.claim("w") is None
        async with raw(batch_url) as connection:
            at = await connection.scalar(sa.select(jobs.c.available_at))
            waits.append(at and (at - now()).total_seconds())
            await connection.execute(jobs.update().values(available_at=now()))
    assert waits[-1] is None, "it is dropped after the last attempt"
    assert waits[:-1] == sorted(waits[:-1]) and waits[0] > 5
