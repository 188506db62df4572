"""Batches of a department with several models: each line counts at the model that it asks, and waits for no other."""

from __future__ import annotations

import json

import pytest
from batch.kit import Model, chat, moderation
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.breaker import MOST
from gateway.batch.reading import model_of
from gateway.pipeline import Built, Pipeline

ECHO = {"stage": "echo"}
TWO = {"models": {"big": ECHO}}


def asks(model: str, *names: str):
    return [chat(name, name, body={"model": model}) for name in names]


def names(first: str, count: int):
    return [f"{first}-{number:03d}" for number in range(count)]


async def test_each_line_is_answered_by_the_model_that_it_names(quick_bench):
    async with quick_bench(radiology={"models": {"big": ECHO, "small": ECHO}}) as bench:
        lines = [*asks("big", "b1", "b2"), *asks("auto", "d1"), *asks("small", "s1"), *asks("echo", "d2")]
        batch = await bench.submit(*lines, *asks("hugh", "x1"))
        await bench.run()
        output, errors = await bench.ended(batch)
        assert {line["custom_id"]: line["response"]["body"]["model"] for line in output} == {
            "b1": "big", "b2": "big", "d1": "echo", "s1": "small", "d2": "echo"
        }  # fmt: skip
        assert sorted(bench.model.asked) == ["d1", "d2"]
        assert sorted(bench.models["radiology:big"].asked) == ["b1", "b2"]
        assert bench.models["radiology:small"].asked == ["s1"]
        (error,) = errors
        assert (error["custom_id"], error["response"]["status_code"]) == ("x1", 404)
        assert error["response"]["body"]["error"]["code"] == "model_not_found"
        assert sorted(record.model for record in await bench.decisions()) == ["big", "big", "echo", "echo", "small"]


async def test_each_model_is_asked_as_much_at_once_as_the_policy_says(quick_bench):
    policy = TWO | {"batch": {"concurrency": 3}}
    async with quick_bench(radiology=policy) as bench:
        engine, big = bench.engine(tick=0.02), bench.models["radiology:big"]
        bench.model.hold.clear()
        big.hold.clear()
        batch = await bench.submit(*asks("big", *names("b", 12)), *asks("auto", *names("d", 12)))

        async def both_full():
            if big.at_once == bench.model.at_once == 3:
                bench.model.hold.set()
                big.hold.set()
            return (await bench.batch(batch)).status == "completed"

        await bench.run(engine, until=both_full)
        assert (big.most, bench.model.most) == (3, 3)
        lanes = engine.lanes.all_of("radiology")
        assert lanes == (engine.lanes.of("radiology"), engine.lanes.of("radiology", "big"))
        assert [lane.share for lane in lanes] == [3, 3]
        assert engine.lanes.of("radiology", "stranger") is engine.lanes.of("radiology")
        assert [lane.coming for lane in lanes] == [0, 0]


async def test_a_model_that_is_away_keeps_only_its_own_batches_waiting(quick_bench):
    async with quick_bench(radiology=TWO) as bench:
        big = bench.models["radiology:big"]
        big.away = True
        first = await bench.submit(*asks("big", *names("b", 200)))
        second = await bench.submit(*asks("auto", *names("d", 200)))
        engine = bench.engine()
        held = []

        async def other_is_through():
            if big.away and (await bench.batch(second)).status == "completed":
                lane = engine.lanes.of("radiology", "big")
                held.append((lane.breaker.open, engine.lanes.of("radiology").breaker.open))
                held.append(sum(one.job.count for one in engine._held.values()))
                big.away = False
            return (await bench.batch(first)).status == "completed"

        await bench.run(engine, until=other_is_through)
        assert held[0] == (True, False), "each model has a breaker of its own"
        assert held[1] < 200, "what can not be worked on is left for others"
        for batch, count in ((first, 200), (second, 200)):
            output, errors = await bench.ended(batch)
            assert (len(output), errors) == (count, [])
        assert len(set(big.asked)) == 200
        summary = (await bench.batch(first)).summary
        assert summary.by_outcome == {"released": 200}


async def test_a_batch_of_both_models_takes_no_more_than_the_one_that_is_away_can_hold(quick_bench):
    async with quick_bench(radiology=TWO) as bench:
        big = bench.models["radiology:big"]
        big.away = True
        lines = [
            line
            for pair in zip(asks("big", *names("b", 400)), asks("auto", *names("d", 400)), strict=True)
            for line in pair
        ]
        batch = await bench.submit(*lines)
        engine = bench.engine()
        lanes, most = engine.lanes, [0]

        async def done():
            most[0] = max(most[0], sum(one.job.count for one in engine._held.values() if one.job.kind == "lines"))
            lane = lanes.of("radiology", "big")
            idle = not bench.model.at_once and not lanes.of("radiology").begun
            if big.away and lane.breaker.open and idle and lane.enough:
                big.away = False
            return (await bench.batch(batch)).status == "completed"

        await bench.run(engine, until=done)
        assert most[0] < 400
        output, errors = await bench.ended(batch)
        assert (len(output), errors) == (800, [])


async def test_names_of_one_stage_share_its_lane(quick_bench):
    async with quick_bench(radiology={"models": {"big": ECHO, "same": ECHO}}, pathology=TWO) as bench:
        runtime = bench.runtime
        shared = Built(name="echo", version="1", stage=Model())
        for department, models in (("radiology", ("big", "same")), ("pathology", ("big",))):
            old = runtime.pipelines[department]
            runtime.pipelines[department] = Pipeline(old.loaded, old._stages, None, dict.fromkeys(models, shared))
        lanes = bench.engine().lanes
        big = lanes.of("radiology", "big")
        assert big is lanes.of("radiology", "same") is lanes.of("pathology", "big")
        assert lanes.all_of("radiology") == (lanes.of("radiology"), big)
        lanes.share({"radiology": 10, "pathology": 2}, workers=1, rank=0)
        assert (big.share, lanes.of("pathology").share) == (4, 4), "who is live may be asking any of its models"


async def test_lines_without_a_model_wait_in_the_defaults_lane(quick_bench):
    async with quick_bench(radiology=TWO) as bench:
        broken = [b'{"custom_id": "a", "body": {"model": 7}}', b"{", b'{"body": "big"}']
        batch = await bench.submit("good", *broken, *asks("big", "b1"))
        engine = bench.engine()
        raws = dict(enumerate([*broken, json.dumps(asks("big", "b1")[0]).encode()]))
        found = await engine.lanes.sort(await bench.batch(batch), raws)
        assert found == {engine.lanes.of("radiology"): [0, 1, 2], engine.lanes.of("radiology", "big"): [3]}
        await bench.run(engine)
        output, errors = await bench.ended(batch)
        assert sorted(line["custom_id"] for line in output) == ["b1", "good"]
        assert len(errors) == 3
        screened = await bench.submit(moderation("m", "is it"), endpoint="/v1/moderations")
        assert await engine.lanes.sort(await bench.batch(screened), {1: b"{}"}) == {engine.lanes.of("radiology"): [1]}


async def test_a_line_that_its_model_failed_is_tried_again_there(quick_bench):
    async with quick_bench(radiology=TWO | {"batch": {"tries": 3}}) as bench:
        big = bench.models["radiology:big"]
        big.failing["b1"] = 2
        batch = await bench.submit(*asks("big", "b1", "b2"), "d1")
        await bench.run()
        output, errors = await bench.ended(batch)
        assert len(output) == 3 and errors == []
        assert big.asked.count("b1") == 3 < MOST and bench.model.asked == ["d1"]


@pytest.mark.parametrize(
    ("raw", "model"),
    [
        (b'{"body": {"model": "big", "messages": []}, "custom_id": "x"}', "big"),
        (b'{"body": {"messages": []}}', None),
        (b'{"body": {"model": null}}', None),
        (b'{"body": {"model": 7}}', None),
        (b'{"body": []}', None),
        (b'{"body": {"model": "a"}', None),
        (b"", None),
        (b'{"body": {"model": "\xff"}}', None),
        (b'{"x": ' + b"[" * 100_000, None),
    ],
)
def test_the_model_of_a_line(raw, model):
    assert model_of(raw) == model


@given(st.binary(max_size=80) | st.text(max_size=60).map(str.encode))
def test_no_line_breaks_the_look_for_its_model(raw):
    assert model_of(raw) is None or isinstance(model_of(raw), str)
