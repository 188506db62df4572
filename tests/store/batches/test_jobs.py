"""Jobs: held by one worker at a time, fair between departments, never lost, and every batch comes to its end."""

import asyncio
from collections import Counter

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from store.batching import CALLER, DAY, OTHER, THIRD, begun, die, finalize, now, opened, result, submit, work
from store.sealing import raw

from gateway.store import LeaseLost, job_claim
from gateway.store.batch_tables import batches, jobs
from gateway.store.jobs import LEASE


async def test_two_processes_never_get_the_same_job(store, batch_url, tmp_path):
    await begun(store, 24)
    async with opened(batch_url, tmp_path) as other:

        async def drain(store, worker):
            found = []
            while (job := await store.jobs.claim(worker)) is not None:
                found.append(job.first)
            return found

        shares = await asyncio.gather(*(drain(one, f"w{n}") for n, one in enumerate((store, other, store, other))))
    assert sorted(line for share in shares for line in share) == list(range(1, 25))
    assert all(shares)


async def test_the_last_jobs_that_end_at_once_end_the_batch(store, batch_url, tmp_path):
    async with opened(batch_url, tmp_path) as other:
        for _ in range(3):
            batch = await begun(store, 5)
            held = [await store.jobs.claim("w") for _ in range(5)]
            await asyncio.gather(*((store, other)[n % 2].jobs.done(job) for n, job in enumerate(held)))
            assert (await store.batches.get(batch.id)).status == "finalizing"
            assert (await finalize(other)).status == "completed"


async def test_a_cancel_and_the_end_of_the_last_job_at_once_end_the_batch(store, batch_url, tmp_path):
    async with opened(batch_url, tmp_path) as other:
        for number in range(4):
            batch = await begun(store, 2)
            held = await store.jobs.claim("w")
            last = store.jobs.done(held) if number % 2 else store.jobs.give_back(held)
            got, _, cancelled = await asyncio.gather(
                store.jobs.claim("w2"), last, other.batches.cancel(batch.id, CALLER)
            )
            assert cancelled.status == "cancelling"
            if got is not None and got.kind == "lines":
                await store.jobs.done(got)
                got = None
            if got is None:
                assert (await finalize(store)).status == "cancelled"
            else:
                ended = await store.batches.finish(got, output_file=None, error_file=None)
                assert ended.status == "cancelled"


async def test_departments_share_workers_and_a_full_one_waits(store):
    for caller, lines in ((CALLER, 30), (OTHER, 30), (THIRD, 3)):
        await begun(store, lines, chunk=3, caller=caller)
    got = Counter()
    for _ in range(9):
        job = await store.jobs.claim("w")
        got[job.department] += 1
    assert got == {"radiology": 4, "pathology": 4, "cardiology": 1}
    assert (await store.jobs.claim("w", full={"radiology"})).department == "pathology"
    assert await store.jobs.claim("w", full={"radiology", "pathology"}) is None


async def test_of_a_batch_that_is_full_no_job_is_given(store):
    first, second = await begun(store, 2), await begun(store, 2)
    assert (await store.jobs.claim("w", full={first.id})).batch == second.id
    assert await store.jobs.claim("w", full={first.id, second.id}) is None
    assert await store.jobs.claim("w", full={first.id, "radiology"}) is None
    assert (await store.jobs.claim("w")).batch == first.id


async def test_one_worker_serves_departments_in_turn(sqlite):
    for caller in (CALLER, OTHER, THIRD):
        await begun(sqlite, 3, caller=caller)
    served = []
    for _ in range(9):
        job = await sqlite.jobs.claim("w", kinds=("lines",))
        served.append(job.department)
        await work(sqlite, job)
    assert [len(set(served[start : start + 3])) for start in (0, 3, 6)] == [3, 3, 3]


async def test_a_small_department_does_not_wait_for_a_large_chunk(sqlite):
    await begun(sqlite, 64, chunk=32)
    await begun(sqlite, 4, chunk=1, caller=OTHER)
    got = [(await sqlite.jobs.claim("w")).department for _ in range(5)]
    assert Counter(got) == {"radiology": 1, "pathology": 4}


async def test_inside_a_department_priority_then_age_counts(store):
    old = await begun(store, 1)
    new = await begun(store, 1)
    urgent = await begun(store, 1, priority=5)
    got = [(await store.jobs.claim("w")).batch for _ in range(3)]
    assert got == [urgent.id, old.id, new.id]


async def test_the_file_of_an_old_batch_is_written_before_the_lines_of_a_new_one(sqlite):
    old = await begun(sqlite, 1)
    await begun(sqlite, 5)
    await work(sqlite, await sqlite.jobs.claim("w"))
    job = await sqlite.jobs.claim("w")
    assert (job.batch, job.kind) == (old.id, "finalize")


async def test_kinds_are_claimed_by_themselves(sqlite):
    await submit(sqlite)
    assert await sqlite.jobs.claim("w", kinds=("lines", "finalize", "webhook")) is None
    assert (await sqlite.jobs.claim("w", kinds=("validate",))).kind == "validate"


async def test_a_job_given_back_waits_and_its_attempt_may_not_count(store):
    await begun(store, 1)
    job = await store.jobs.claim("w")
    assert (job.attempts, job.owner, job.count) == (1, "w", 1)
    assert 0 < (job.lease_until - now()).total_seconds() <= LEASE
    await store.jobs.give_back(job)
    again = await store.jobs.claim("w")
    assert (again.id, again.attempts) == (job.id, 1)
    await store.jobs.give_back(again, count_attempt=True)
    again = await store.jobs.claim("w")
    assert again.attempts == 2
    await store.jobs.give_back(again, delay=60)
    assert (await store.jobs.claim("w"), await store.jobs.waiting()) == (None, 0)


async def test_a_claim_reads_by_the_indexes(sqlite, sqlite_url):
    """With many lines the queries of each claim must not read through all of them."""
    plans = []
    batch = await begun(sqlite, 2)
    async with sqlite._engine.connect() as connection:
        queries = [
            sa.select(batches.c.id).where(
                job_claim.open_batches(None, now()), sa.exists().where(job_claim.ready(now()))
            ),
            sa.select(jobs.c.id).where(jobs.c.batch == batch.id, jobs.c.state == "waiting").order_by(jobs.c.id),
            job_claim.telling((), now()),
            sa.select(jobs.c.department).where(jobs.c.state == "leased").group_by(jobs.c.department),
        ]
        for query in queries:
            text = str(query.compile(sqlite._engine.sync_engine, compile_kwargs={"literal_binds": True}))
            plans += [row.detail for row in await connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}"))]
    assert not [plan for plan in plans if plan.startswith("SCAN")], plans


_OPS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.integers(0, 2)),
        st.tuples(st.sampled_from(["done", "give", "count", "die", "beat"]), st.integers(0, 2)),
        st.tuples(st.sampled_from(["pause", "resume", "cancel", "expire", "twice"]), st.integers(0, 1)),
    ),
    max_size=25,
)


@given(ops=_OPS)
@settings(max_examples=8, deadline=None)
def test_whatever_workers_do_each_line_comes_out_once(tmp_path_factory, ops):
    """Two processes, three workers, two batches: no job has two holders, none is lost, and every batch ends."""
    folder = tmp_path_factory.mktemp("any")

    async def run():
        url = f"sqlite:///{folder}/log.sqlite3"
        async with opened(url, folder) as one, opened(url, folder) as two:
            await _any(url, (one, two), ops)

    asyncio.run(run())


async def _any(url, stores, ops):
    store = stores[0]
    made = [await begun(store, 5, chunk=2), await begun(store, 2, caller=OTHER)]
    held = {worker: [] for worker in ("w0", "w1", "w2")}

    def take(job):
        assert job is None or job.id not in {one.id for mine in held.values() for one in mine}, "two holders"
        if job is not None:
            held[job.owner].append(job)

    for op, number in ops:
        worker = f"w{number}"
        mine = held[worker]
        if op == "claim":
            take(await stores[number % 2].jobs.claim(worker))
        elif op == "twice":
            for job in await asyncio.gather(*(stores[n].jobs.claim(f"w{n}") for n in (0, 1))):
                take(job)
        elif op == "die":
            await die(url, worker)
            assert await store.jobs.reap(now()) == len(mine)
            for job in mine:
                with pytest.raises(LeaseLost):
                    await store.jobs.give_back(job)
            mine.clear()
        elif op == "beat":
            assert await store.jobs.heartbeat(worker, [job.id for job in mine]) <= {job.id for job in mine}
        elif op in ("done", "give", "count"):
            for job in mine:
                if op == "done":
                    await _end(store, job)
                else:
                    await store.jobs.give_back(job, count_attempt=op == "count")
            mine.clear()
        elif op == "expire":
            past = batches.update().where(batches.c.id == made[number].id)
            async with raw(url) as connection:
                await connection.execute(past.values(expires_at=now() - DAY))
        elif (await store.batches.get(made[number].id)).status == "in_progress":
            await getattr(store.batches, op)(made[number].id, CALLER)
    await _drain(store, made, held)


async def _end(store, job):
    if job.kind == "lines":
        await work(store, job)
    else:
        batch = await store.batches.get(job.batch)
        lost = [result(batch, line, "cancelled") async for run in store.batches.missing(batch) for line in run]
        await store.batches.store_lines(batch, lost, job)
        await store.batches.finish(job, output_file=None, error_file=None)


async def _drain(store, made, held):
    """Let everything come to its end, and look at what came out."""
    for mine in held.values():
        for job in mine:
            await _end(store, job)
    await store.jobs.reap(now())
    for batch in made:
        if (await store.batches.get(batch.id)).status == "in_progress":
            await store.batches.resume(batch.id, CALLER)
    while (job := await store.jobs.claim("w9")) is not None:
        await _end(store, job)
    for batch in made:
        ended = await store.batches.get(batch.id)
        assert ended.status in ("completed", "expired", "cancelled")
        assert ended.summary.completed + ended.summary.failed == batch.total
        assert sum(ended.summary.by_outcome.values()) == batch.total
        if ended.status == "completed":
            assert set(ended.summary.by_outcome) <= {"released", "failed"}
