"""What goes wrong while a batch is worked off costs no line, and answers none twice."""

import asyncio
import datetime as dt
import sqlite3
import sys
import types

import pytest
import sqlalchemy as sa
from batch.kit import bench, chat, holds

from gateway.errors import Unavailable
from gateway.records import Caller, ReauditV1
from gateway.records.events import CallerV1, new_id
from gateway.store import LeaseLost, LineResult
from gateway.store.batch_tables import batches, jobs
from gateway.store.tables import decision_log

CALLER = Caller(key="key-radiology", department="radiology", roles=("caller",))


class PromptRefused(Exception):
    pass


class PromptTooLong(Exception):
    pass


def ids(lines):
    return sorted(line["custom_id"] for line in lines)


def names(count):
    return [f"q{number:03}" for number in range(count)]


async def execute(bench, statement):
    async with bench.store._engine.begin() as connection:
        await connection.execute(statement)


async def lapse(bench):
    """Let all leases run out, and take the jobs back, as after the death of their workers."""
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    await execute(bench, jobs.update().where(jobs.c.state == "leased").values(lease_until=past))
    return await bench.store.jobs.reap(dt.datetime.now(dt.UTC))


async def test_two_workers_share_a_batch_and_answer_each_line_once(open_bench):
    async with open_bench() as bench:
        batch = await bench.submit(*names(200))
        workers = [bench.engine(name, beats=True) for name in ("worker-1", "worker-2")]
        held = dict.fromkeys(("worker-1", "worker-2"), 0)
        claim = bench.store.jobs.claim

        async def counted(owner, **more):
            job = await claim(owner, **more)
            held[owner] += job is not None
            return job

        bench.store.jobs.claim = counted
        for name in held:  # each knows of the other from its first look on: who comes later is seen by the next beat
            await bench.store.processes.beat(name, "worker", {})
        await bench.run(*workers)
        output, errors = await bench.ended(batch)
        assert ids(output) == names(200) and errors == []
        assert len(await bench.decisions()) == 200
        assert sorted(bench.model.asked) == names(200)
        assert min(held.values()) > 0
        assert bench.model.most <= 16, "the bound is that of all workers"


async def test_a_worker_that_was_taken_for_dead_answers_no_line_again(open_bench):
    async with open_bench() as bench:
        batch = await bench.submit("one", "two")
        late = bench.model.hold = asyncio.Event()
        slow = bench.engine("slow", tick=1000, beat=1000)
        ended = asyncio.Event()
        first = asyncio.ensure_future(slow.work(seconds=60, stopped=ended.is_set))
        await holds(lambda: bench.model.at_once == 2)
        bench.model.hold = asyncio.Event()
        bench.model.hold.set()
        assert await lapse(bench) == 1
        await bench.run(bench.engine("quick"))
        output, _ = await bench.ended(batch)

        late.set()
        ended.set()
        await first
        assert sorted(bench.model.asked) == ["one", "one", "two", "two"]
        assert {d.id for d in await bench.decisions()} == {line["response"]["request_id"] for line in output}
        assert len(await bench.decisions()) == 2
        assert (await bench.ended(batch))[0] == output


@pytest.mark.parametrize("what", ["model", "screen", "audit"])
async def test_what_fails_once_is_tried_again_and_recorded_once(quick_bench, what):
    async with quick_bench() as bench:
        bench.model.failing = {"one": 1} if what == "model" else {}
        bench.screen.broken = int(what == "screen")
        bench.audit.broken = int(what == "audit")
        batch = await bench.submit("one")
        await bench.run()
        output, _ = await bench.ended(batch)
        (decision,) = await bench.decisions()
        assert (decision.outcome, decision.batch.tries) == ("released", 2)
        assert output[0]["response"]["request_id"] == decision.id
        assert bench.model.asked == ["one"] if what == "screen" else ["one", "one"]


async def test_the_last_try_is_recorded_as_it_is(quick_bench):
    async with quick_bench(radiology={"batch": {"tries": 2}}) as bench:
        bench.model.failing = {"bad": 99}
        batch = await bench.submit("bad", *names(40))
        await bench.run()
        output, errors = await bench.ended(batch)
        assert len(output) == 40 and ids(errors) == ["bad"]
        assert errors[0]["response"]["status_code"] == 502
        assert bench.model.asked.count("bad") == 2
        failed = next(d for d in await bench.decisions() if d.batch.line == 1)
        assert (failed.outcome, failed.batch.tries) == ("withheld", 2)
        assert failed.id == errors[0]["response"]["request_id"]
        ended = await bench.batch(batch)
        assert (ended.summary.by_outcome, ended.summary.reasons) == (
            {"released": 40, "failed": 1},
            {"model-failed": 1},
        )


async def test_a_check_that_fails_for_good_refuses_as_it_would_live(quick_bench):
    async with quick_bench(radiology={"batch": {"tries": 2}}) as bench:
        bench.screen.broken = 99
        batch = await bench.submit("one")
        await bench.run()
        output, _ = await bench.ended(batch)
        assert output[0]["response"]["body"]["choices"][0]["finish_reason"] == "content_filter"
        assert (await bench.batch(batch)).summary.by_outcome == {"failed": 1}
        assert bench.screen.asked == 2 and bench.model.asked == []


@pytest.mark.parametrize("raises", [PromptRefused, PromptTooLong])
async def test_a_prompt_that_the_model_refuses_is_not_sent_again_and_opens_no_breaker(quick_bench, raises):
    async with quick_bench(radiology={"batch": {"tries": 3, "concurrency": 1}}) as bench:
        bench.model.raises = raises
        bench.model.failing = dict.fromkeys(names(12), 99)
        batch = await bench.submit(*names(12), "fine")
        await bench.run()
        output, errors = await bench.ended(batch)
        assert ids(output) == ["fine"] and ids(errors) == names(12)
        assert sorted(bench.model.asked) == ["fine", *names(12)]


@pytest.mark.parametrize("tries", [1, 3])
async def test_an_outage_of_the_model_costs_no_line(quick_bench, tries):
    async with quick_bench(radiology={"batch": {"tries": tries, "concurrency": 2}}) as bench:
        bench.model.away = True
        batch = await bench.submit(*names(40))
        engine = bench.engine()
        lane = engine.lanes.of("radiology")
        opened = []

        async def probed():
            if lane.breaker.open and not opened:
                opened.append(len(bench.model.asked))
            if opened and len(bench.model.asked) >= opened[0] + 4:  # those under way, and some probes
                bench.model.away = False
            return (await bench.batch(batch)).status == "completed"

        await bench.run(engine, until=probed)
        output, errors = await bench.ended(batch)
        assert ids(output) == names(40) and errors == []
        assert {d.batch.tries for d in await bench.decisions()} <= set(range(1, tries + 1))
        assert len(await bench.decisions()) == 40
        assert len(bench.model.asked) < 100, "it was not asked by every line while it was away"


async def test_tries_are_counted_over_jobs_that_come_back(quick_bench):
    async with quick_bench(radiology={"batch": {"tries": 3}}) as bench:
        bench.model.failing = {"bad": 99}
        batch = await bench.submit("bad", "good")
        engine = bench.engine(rest=0.001)
        for asked in range(1, 4):
            await engine.work(seconds=20, stopped=lambda asked=asked: bench.model.asked.count("bad") >= asked)
        await bench.run(engine)
        assert ids((await bench.ended(batch))[1]) == ["bad"]
        assert bench.model.asked.count("bad") == 3


async def test_an_answer_waits_for_the_database_and_the_model_is_not_asked_again(open_bench):
    async with open_bench() as bench:
        batch = await bench.submit("one", "two")
        append, away = bench.store.decisions.append_line, []

        async def stored(outcomes, row):
            if len(away) < 7:
                away.append(outcomes[0].request.id)
                raise Unavailable("the database is away")
            return await append(outcomes, row)

        bench.store.decisions.append_line = stored
        await bench.run()
        output, _ = await bench.ended(batch)
        assert {line["response"]["request_id"] for line in output} == set(away)
        assert sorted(bench.model.asked) == ["one", "two"]


async def test_a_database_that_is_held_up_by_another_costs_nothing(tmp_path, caplog):
    async with bench(f"sqlite:///{tmp_path}/log.sqlite3", tmp_path, lock_wait=0.05) as made:
        batch = await made.submit(*names(40))
        made.model.hold = asyncio.Event()
        engine = made.engine(tick=0.02, beat=0.02)
        work = asyncio.ensure_future(made.run(engine))
        await made.model.arrived.wait()
        other = sqlite3.connect(tmp_path / "log.sqlite3", isolation_level=None, check_same_thread=False)
        try:
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            made.model.hold.set()
            await holds(lambda: "waits to be stored" in caplog.text and "does not answer a worker" in caplog.text)
        finally:
            other.close()
        await work
        output, errors = await made.ended(batch)
        assert ids(output) == names(40) and errors == []
        assert sorted(made.model.asked) == names(40)
        assert len(await made.decisions()) == 40


async def test_a_record_that_was_stored_although_it_seemed_not_is_there_once(quick_bench):
    async with quick_bench() as bench:
        batch = await bench.submit("one")
        append, told = bench.store.decisions.append_line, []

        async def stored(outcomes, row):
            await append(outcomes, row)
            if not told:
                told.append(row)
                raise Unavailable("the connection broke as it was committed")

        bench.store.decisions.append_line = stored
        await bench.run()
        output, _ = await bench.ended(batch)
        assert [d.id for d in await bench.decisions()] == [output[0]["response"]["request_id"]]


async def test_a_worker_that_is_told_to_stop_gives_its_lines_to_the_next(quick_bench):
    async with quick_bench(radiology={"batch": {"concurrency": 1}}) as bench:
        batch = await bench.submit(*names(64))
        bench.model.hold = asyncio.Event()
        stop = asyncio.Event()
        first = asyncio.ensure_future(bench.engine("old").work(seconds=60, stopped=stop.is_set))
        await bench.model.arrived.wait()
        stop.set()
        await asyncio.sleep(0)
        bench.model.hold.set()
        assert await first is True
        asked = len(bench.model.asked)
        assert asked < 64
        async with bench.store._engine.connect() as connection:
            states = (await connection.execute(sa.select(jobs.c.state, jobs.c.attempts, jobs.c.kind))).all()
        lines = {tuple(row) for row in states if row.kind == "lines"}
        assert lines == {("waiting", 0, "lines")}, "none is held or counted"
        await bench.run(bench.engine("new"))
        output, errors = await bench.ended(batch)
        assert ids(output) == names(64) and errors == []
        assert len(bench.model.asked) == 64


async def test_a_line_that_takes_longer_than_its_call_goes_on(open_bench):
    async with open_bench() as bench:
        batch = await bench.submit("one")
        bench.model.hold = asyncio.Event()
        engine = bench.engine(beats=True, beat=0.02)
        moved, heartbeat = [], bench.store.jobs.heartbeat

        async def counted(owner, ids):
            moved.append(await heartbeat(owner, ids))
            return moved[-1]

        bench.store.jobs.heartbeat = counted
        while not bench.model.arrived.is_set():
            assert await engine.work(seconds=0.1, stopped=lambda: False) is True
        assert bench.model.at_once == 1
        moved.clear()
        await holds(lambda: len(moved) > 1 and all(moved))
        assert await engine.work(seconds=0.05, stopped=lambda: False) is True
        bench.model.hold.set()
        await holds(bench.decisions)
        await holds(lambda: not engine._watch._tasks)
        await bench.run(engine)
        assert ids((await bench.ended(batch))[0]) == ["one"]
        assert bench.model.asked == ["one"]


async def test_a_worker_that_closes_between_two_calls_gives_back_what_is_under_way(quick_bench, monkeypatch):
    monkeypatch.setattr("gateway.batch.engine._GRACE", 0.1)
    async with quick_bench() as bench:
        batch = await bench.submit("one")
        bench.model.hold = asyncio.Event()
        engine = bench.engine("old", beats=True)
        while not bench.model.arrived.is_set():
            assert await engine.work(seconds=0.1, stopped=lambda: False) is True
        await engine.close()
        assert await bench.store.jobs.waiting() == 1
        assert await bench.store.processes.live("worker") == ()
        bench.model.hold.set()
        await bench.run(bench.engine("new"))
        assert ids((await bench.ended(batch))[0]) == ["one"]


async def test_a_worker_whose_lines_hang_stops_all_the_same(quick_bench, monkeypatch):
    monkeypatch.setattr("gateway.batch.engine._GRACE", 0.1)
    async with quick_bench() as bench:
        batch = await bench.submit("one")
        bench.model.hold = asyncio.Event()
        stop = asyncio.Event()
        first = asyncio.ensure_future(bench.engine("old").work(seconds=60, stopped=stop.is_set))
        await bench.model.arrived.wait()
        stop.set()
        async with asyncio.timeout(10):
            assert await first is True
        assert await bench.decisions() == []
        bench.model.hold.set()
        await bench.run(bench.engine("new"))
        assert ids((await bench.ended(batch))[0]) == ["one"]


async def started(bench, *lines, **more):
    """Begin a batch and wait until its model is asked; gives the batch, the engine, and its running work."""
    batch, engine = await bench.submit(*lines, **more), bench.engine()
    bench.model.hold = asyncio.Event()
    work = asyncio.ensure_future(engine.work(seconds=60, stopped=lambda: False))
    await bench.model.arrived.wait()
    return batch, engine, work


async def idle(bench):
    """Wait until no job is held."""
    leased = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state == "leased")

    async def none():
        async with bench.store._engine.connect() as connection:
            return not await connection.scalar(leased)

    await holds(none)


async def test_a_paused_batch_rests_until_it_goes_on(open_bench):
    async with open_bench(radiology={"batch": {"concurrency": 1}}) as bench:
        batch, engine, work = await started(bench, *names(64))
        await bench.store.batches.pause(batch.id, CALLER)
        await holds(lambda: not any(held.wanted for held in engine._held.values()))
        bench.model.hold.set()
        await idle(bench)
        asked = len(bench.model.asked)
        assert asked < 64
        assert await work is False, "there is nothing to do while it rests"
        assert len(bench.model.asked) == asked
        await bench.store.batches.resume(batch.id, CALLER)
        await bench.run(bench.engine("later"))
        output, errors = await bench.ended(batch)
        assert ids(output) == names(64) and errors == []
        assert sorted(bench.model.asked) == names(64)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_a_batch_that_is_stopped_keeps_what_was_answered_and_tells_of_the_rest(open_bench, how):
    async with open_bench(radiology={"batch": {"concurrency": 1}}) as bench:
        batch, engine, work = await started(bench, *names(64), b"{bad")
        if how == "cancelled":
            await bench.store.batches.cancel(batch.id, CALLER)
        else:
            past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
            await execute(bench, batches.update().values(expires_at=past))
            await bench.store.jobs.reap(dt.datetime.now(dt.UTC))
        await holds(lambda: not any(held.wanted for held in engine._held.values()))
        bench.model.hold.set()
        await work
        await bench.run()
        output, errors = await bench.ended(batch, how)
        told = [line for line in errors if line["error"]["code"] == f"batch_{how}"]
        assert ids(output + told) == names(64), "every line stands in one of the files"
        assert output and told
        assert [line["error"]["code"] for line in errors if line not in told] == ["invalid_line"]
        assert told[-1]["error"]["message"].startswith("line 64: the batch")
        assert len(await bench.decisions()) == len(output) == len(bench.model.asked)
        summary = (await bench.batch(batch)).summary
        assert summary.by_outcome == {"released": len(output), how: len(told), "invalid": 1}


async def test_a_department_with_few_lines_does_not_wait_for_one_with_many(quick_bench):
    async with quick_bench(radiology={}, pathology={}) as bench:
        many = await bench.submit(*names(320))
        few = await bench.submit("few-1", "few-2", department="pathology")
        engine = bench.engine()
        left = []

        async def done():
            if not left and (await bench.batch(few)).status == "completed":
                left.append((await bench.store.batches.counts(await bench.batch(many))).completed)
            return (await bench.batch(many)).status == "completed"

        await bench.run(engine, until=done)
        assert left and left[0] < 320
        assert max(map(bench.model.asked.index, ("few-1", "few-2"))) < 160
        assert ids((await bench.ended(many))[0]) == names(320)


async def test_departments_share_a_model_or_have_each_their_own(quick_bench):
    policies = {"radiology": {"batch": {"concurrency": 8}}, "pathology": {"batch": {"concurrency": 3}}}
    for shared, expected in ((True, [3, 3]), (False, [8, 3])):
        async with quick_bench(shared=shared, **policies) as bench:
            engine = bench.engine()
            await engine.work(seconds=0, stopped=lambda: False)
            lanes = [engine.lanes.of(name) for name in policies]
            assert (lanes[0] is lanes[1]) == shared
            assert [lane.share for lane in lanes] == expected


async def test_live_requests_go_first(quick_bench):
    async with quick_bench(shared=True, radiology={}, pathology={}) as bench:
        await bench.store.processes.beat("web-1", "web", {"radiology": 9, "pathology": 5})
        batch = await bench.submit(*names(40))
        engine = bench.engine(tick=0.02)
        await bench.run(engine)
        assert engine.lanes.of("radiology").share == 2
        assert bench.model.most == 2
        assert ids((await bench.ended(batch))[0]) == names(40)


async def test_files_of_a_worker_that_died_over_them_do_not_stay(open_bench):
    async with open_bench() as bench:
        batch = await bench.submit("one", b"{bad")
        finish, died = bench.store.batches.finish, []

        async def dies(job, **more):
            if not died:
                died.append(more)
                raise Unavailable("the database is away")
            return await finish(job, **more)

        bench.store.batches.finish = dies
        before = await bench.submit("another")
        await bench.run(until=lambda: bench_done(bench, batch, before))
        now = await bench.batch(batch)
        files = {file.id for file in await bench.store.files.list("radiology", purpose="batch_output")}
        other = await bench.batch(before)
        assert died[0]["output_file"] not in files and len(files) == 3
        assert files == {now.output_file, now.error_file, other.output_file}


async def bench_done(bench, *those):
    due = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)  # a job that failed is due at once
    await execute(bench, jobs.update().where(jobs.c.state == "waiting").values(available_at=due))
    return all([(await bench.batch(batch)).status == "completed" for batch in those])


async def test_files_that_came_too_late_are_taken_away(quick_bench):
    async with quick_bench() as bench:
        batch = await bench.submit("one")
        finish, late = bench.store.batches.finish, []

        async def raced(job, **more):
            if not late:
                late.append(more["output_file"])
                raise LeaseLost
            return await finish(job, **more)

        bench.store.batches.finish = raced
        engine = bench.engine()
        while not late:
            await engine.work(seconds=1, stopped=lambda: False)
        await lapse(bench)
        await bench.run(engine)
        now = await bench.batch(batch)
        files = await bench.store.files.list("radiology", purpose="batch_output")
        assert [file.id for file in files] == [now.output_file]


async def test_a_batch_cancelled_while_its_file_is_read_ends(quick_bench):
    async with quick_bench() as bench:
        batch = await bench.submit("one")
        await bench.store.batches.cancel(batch.id, CALLER)
        await bench.run()
        assert await bench.ended(batch, "cancelled") == ([], [])
        assert bench.model.asked == []


async def test_past_decisions_are_judged_again_and_reported(quick_bench, monkeypatch):
    closed = []

    class ReauditLines:
        def __init__(self, runtime):
            self.runtime = runtime

        async def line(self, batch, number, raw):
            known = number != 2
            result = LineResult(
                batch=batch.id, line=number, outcome="judged" if known else "invalid", ok=known, decision=None,
                reason=None, tries=1, body=b'{"line": %d}' % number,
            )  # fmt: skip
            event = ReauditV1(
                id=new_id("rea"), at=dt.datetime.now(dt.UTC), caller=CallerV1.of(batch.caller), batch=batch.id,
                line=number, decision=f"dec_{number}", department="radiology", policy="0" * 64, source="evidence",
                before="released", after="refused", rule="tiers", reasons=("risk",),
            )  # fmt: skip
            return (event if known else None), result

        async def report(self, batch, results):
            return b"|".join([line async for line in results])

        async def close(self):
            closed.append(self)

    monkeypatch.setitem(sys.modules, "gateway.batch.reaudit", types.SimpleNamespace(ReauditLines=ReauditLines))
    async with quick_bench() as bench:
        lines = [{"custom_id": f"dec_{n}", "decision": f"dec_{n}"} for n in (1, 2, 3)]
        batch = await bench.submit(*lines, chat("dec_4"), kind="reaudit", endpoint="reaudit")
        engine = bench.engine()
        await bench.run(engine)
        await engine.close()
        output, errors = await bench.ended(batch)
        assert output == [{"line": 1}, {"line": 3}] and len(closed) == 1
        assert [line.get("line", line.get("custom_id")) for line in errors] == [2, "dec_4"]
        ended = await bench.batch(batch)
        report = b"".join([piece async for piece in bench.store.files.read(ended.report_file)])
        assert report.startswith(b'{"line": 1}|{"line": 3}|{"line": 2}|')
        assert (await bench.store.files.get(ended.report_file)).purpose == "batch_report"
        async with bench.store._engine.connect() as connection:
            kinds = (await connection.execute(sa.select(decision_log.c.kind))).scalars().all()
        assert sorted(kinds) == ["change.v1", "reaudit.v1", "reaudit.v1"]
        assert bench.model.asked == []
