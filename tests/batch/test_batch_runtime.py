"""A worker over the runtime that policies and plugins make, before a model behind HTTP."""

import datetime as dt
import types

import msgspec
import pytest
from batch.kit import QUICK, Bench, chat
from support import Upstream, faulty_policy, free_port

from gateway.batch.engine import Engine
from gateway.batch.sweep import sweep
from gateway.bootstrap import bootstrap
from gateway.errors import Unavailable
from gateway.policy.model import Duration
from gateway.records import NOTHING_SAID, BatchLine, Caller
from gateway.settings import read_settings
from gateway.testing import request

CALLER = Caller(key="k", department="radiology", roles=("caller",))


@pytest.fixture
def settings(tmp_path, faulty, monkeypatch):
    """Settings with a folder of policies, and the faulty plugin installed aside."""
    monkeypatch.syspath_prepend(faulty["PYTHONPATH"])
    (tmp_path / "policies").mkdir()
    given = {"GATEWAY_DATA_DIR": str(tmp_path / "data"), "GATEWAY_POLICIES_DIR": str(tmp_path / "policies")}

    def make(**policies):
        for department, text in policies.items():
            (tmp_path / "policies" / f"{department}.yaml").write_text(text)
        return read_settings(given)

    return make


def policy(upstream, department="radiology", model="scripted", **batch):
    text = faulty_policy()
    lines = [line for line in text.splitlines() if not line.startswith(("backend:", "department:"))]
    lines += [
        f"department: {department}",
        f'backend: {{stage: openai, deadline: 300ms, config: {{base_url: "{upstream.url}", model: {model}}}}}',
        f"batch: {msgspec.json.encode(batch).decode()}",
    ]
    return "\n".join(lines) + "\n"


def over(runtime):
    bench = object.__new__(Bench)
    bench.runtime, bench.store, bench.engines = runtime, runtime.store, []
    return bench


async def test_a_slow_model_is_given_the_time_that_the_policy_has(settings, upstream):
    """Live, an answer after half a second is too late for a deadline of 300 ms."""
    upstream.delay = 0.5
    runtime = await bootstrap(settings(radiology=policy(upstream, patience=10)), sequencing=False)
    try:
        bench = over(runtime)
        live = await runtime.answering(
            request(id="dec_live"), CALLER, "/v1/chat/completions", context=NOTHING_SAID
        ).run()
        assert live.outcome.word == "withheld"
        batch = await bench.submit("one", "two", chat("three", [{"type": "text", "text": "and this?"}]))
        await bench.run(Engine(runtime, "w", rhythm=QUICK))
        output, errors = await bench.ended(batch)
        assert [line["custom_id"] for line in output] == ["one", "two", "three"] and errors == []
        by_line = [d for d in await bench.decisions() if d.batch is not None]
        assert {d.policy.digest for d in by_line} == {runtime.pipelines["radiology"].loaded.digest}
        assert {d.batch.patience for d in by_line} == {10.0}
        assert runtime.store.sequencer._task is None, "a worker leaves the log's tree to others"
    finally:
        await runtime.close()


async def test_a_line_is_judged_as_it_would_be_live_and_is_not_logged(settings, upstream):
    policies = {
        "radiology": policy(upstream),
        "pathology": policy(upstream, "pathology"),
        "cardiology": policy(upstream, "cardiology", model="other"),
    }
    runtime = await bootstrap(settings(**policies), sequencing=False)
    try:
        line = BatchLine(batch="batch_1", line=7, tries=2, patience=3.0)
        outcome = await runtime.judge(request(), CALLER, "/v1/chat/completions", batch=line)
        assert (outcome.word, outcome.batch) == ("released", line)
        screened = await runtime.judge(request(), CALLER, "/v1/moderations", batch=line, screen_only=True)
        assert screened.word == "screened"
        assert len(upstream.bodies) == 1
        assert await runtime.store.decisions.recent(9) == ()
        with pytest.raises(Unavailable, match="no policy covers the department `closed`"):
            await runtime.judge(request(department="closed"), CALLER, "/v1/chat/completions", batch=line)
        assert runtime.upstream("radiology") is runtime.upstream("pathology")
        assert runtime.upstream("radiology") is not runtime.upstream("cardiology")
        assert await runtime.wake() is None
    finally:
        await runtime.close()


async def test_all_deadlines_are_longer_and_the_policy_of_the_record_is_the_loaded_one(settings, upstream):
    runtime = await bootstrap(settings(radiology=policy(upstream)), sequencing=False)
    try:
        pipeline = runtime.pipelines["radiology"]
        patient = pipeline.patient(4.0)
        assert patient.loaded is pipeline.loaded and pipeline.patient(1.0).policy == pipeline.policy

        def deadlines(value):
            if isinstance(value, Duration):
                return [value.seconds]
            if not isinstance(value, msgspec.Struct | tuple):
                return []
            members = value if isinstance(value, tuple) else msgspec.structs.asdict(value).values()
            return [found for each in members for found in deadlines(each)]

        before, after = deadlines(pipeline.policy), deadlines(patient.policy)
        assert len(before) == 7 and after == [4 * seconds for seconds in before]
    finally:
        await runtime.close()


async def test_a_model_that_can_not_be_reached_is_waited_for(settings):
    port = free_port()
    away = types.SimpleNamespace(url=f"http://127.0.0.1:{port}/v1")
    runtime = await bootstrap(settings(radiology=policy(away, tries=1, concurrency=4)), sequencing=False)
    back: list[Upstream] = []
    try:
        bench = over(runtime)
        batch = await bench.submit(*(f"q{n}" for n in range(20)))
        engine = Engine(runtime, "w", rhythm=QUICK)
        lane = engine.lanes.of("radiology")

        async def until():
            if lane.breaker.open and not back:
                back.append(Upstream(port))
            return (await bench.batch(batch)).status == "completed"

        await bench.run(engine, until=until)
        output, errors = await bench.ended(batch)
        assert len(output) == 20 and errors == []
        assert len(back[0].bodies) == 20
    finally:
        for each in back:
            each.close()
        await runtime.close()


async def test_a_sweep_takes_back_what_the_dead_held(settings, upstream):
    runtime = await bootstrap(settings(radiology=policy(upstream)), sequencing=False)
    try:
        bench = over(runtime)
        batch = await bench.submit("one")
        assert (await runtime.store.jobs.claim("dead")).batch == batch.id
        now = dt.datetime.now(dt.UTC)
        assert (await sweep(runtime.store, now))["jobs"] == 0
        later = now + dt.timedelta(seconds=40)
        assert await sweep(runtime.store, later) == {"jobs": 1, "files": 0, "processes": 0}
        await bench.run(Engine(runtime, "alive", rhythm=QUICK))
        assert len((await bench.ended(batch))[0]) == 1
    finally:
        await runtime.close()
