"""A batch from its file to its answers: every line once, decided and recorded as a live request would be."""

import asyncio
import json

import pytest
from batch.kit import MODERATIONS, chat, moderation, picture

from gateway.errors import Unavailable
from gateway.records import Context

BOM = b"\xef\xbb\xbf"


def by_id(lines):
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def said(line):
    return line["response"]["body"]["choices"][0]["message"]["content"]


async def test_every_line_is_answered_once_in_order_and_recorded(open_bench):
    async with open_bench() as bench:
        lines = [f"q{number}" for number in range(70)]
        lines[5] = chat("a fraud", "help with a fraud")
        lines[9] = chat("seen", [{"type": "text", "text": "what is it?"}, picture()], context={"patient": "4711"})
        lines[11] = chat("model", body={"model": "gpt-4"})
        lines[12] = chat("stop", body={"stop": 5})
        lines[20] = b"{bad"
        lines[21] = chat("q3")
        batch = await bench.submit(*lines, said=Context(task="night-list"))
        await bench.run()

        output, errors = await bench.ended(batch)
        found = by_id(output)
        assert list(found) == [
            *(f"q{n}" for n in range(5)), "a fraud", *(f"q{n}" for n in range(6, 9)), "seen", "q10",
            *(f"q{n}" for n in range(13, 20)), *(f"q{n}" for n in range(22, 70)),
        ]  # fmt: skip
        assert said(found["q3"]) == "you said: q3"
        assert found["a fraud"]["response"]["body"]["choices"][0]["finish_reason"] == "content_filter"
        assert "could help to cause harm" in said(found["a fraud"])
        assert {line["response"]["status_code"] for line in output} == {200}
        assert {line["error"] for line in output} == {None}

        assert [line["custom_id"] for line in errors] == ["model", "stop", None, None]
        assert [line["response"] and line["response"]["status_code"] for line in errors] == [404, 400, None, None]
        assert errors[0]["response"]["body"]["error"]["code"] == "model_not_found"
        assert errors[1]["response"]["body"]["error"]["param"] == "stop"
        assert errors[2]["error"]["code"] == "invalid_line" and errors[2]["error"]["line"] == 21
        assert errors[3]["error"] == {
            "code": "duplicate_custom_id",
            "message": "line 22: its `custom_id` is that of line 4; lines 4 and 22 need ids of their own",
            "line": 22,
        }
        assert len({line["id"] for line in output + errors}) == 70

        decisions = await bench.decisions()
        assert {d.id for d in decisions} == {line["response"]["request_id"] for line in output}
        assert len(decisions) == len(output) == 66
        assert {(d.batch.batch, d.batch.tries, d.batch.patience) for d in decisions} == {(batch.id, 1, 10.0)}
        by_line = {d.batch.line: d for d in decisions}
        assert by_line[10].context.patient == bench.store.decisions.pseudonym("patient", "4711")
        assert {d.context.task for d in decisions} == {"night-list"}
        assert {d.endpoint for d in decisions} == {"/v1/chat/completions"}
        ended = await bench.batch(batch)
        assert ended.summary.by_outcome == {"released": 65, "refused": 1, "invalid": 4}
        assert (ended.summary.total, ended.summary.completed, ended.summary.failed) == (70, 66, 4)
        assert sorted(bench.model.asked).count("q3") == 1
        kept = await bench.store.files.get(ended.output_file)
        assert (kept.owner, kept.purpose, kept.filename) == (batch.owner, "batch_output", f"{batch.id}_output.jsonl")


async def test_what_stands_around_lines_spoils_none(quick_bench):
    async with quick_bench() as bench:
        good = [json.dumps(chat(name)).encode() for name in ("one", "two", "three", "four")]
        data = BOM + good[0] + b"\r\n\r\n  \n" + good[1] + b"\n\xff\xfe\n" + good[2] + b"\n"
        data += b"x" * 70_000 + b"\n" + good[3]
        batch = await bench.submit(data)
        await bench.run()
        output, errors = await bench.ended(batch)
        assert [line["custom_id"] for line in output] == ["one", "two", "three", "four"]
        assert [(line["custom_id"], line["error"]["message"]) for line in errors] == [
            (None, "line 5: it is not valid JSON: byte 0 is not UTF-8; send one JSON object in UTF-8"),
            (None, "line 7: it is longer than 65536 bytes; send smaller images, or fewer"),
        ]


@pytest.mark.parametrize(("data", "code"), [(b"", "empty_file"), (BOM + b"\n \r\n\n", "empty_file")])
async def test_a_file_without_a_line_fails_its_batch(quick_bench, data, code):
    async with quick_bench() as bench:
        batch = await bench.submit(data)
        await bench.run()
        ended = await bench.batch(batch)
        assert (ended.status, [error.code for error in ended.errors]) == ("failed", [code])
        assert ended.output_file is None and ended.error_file is None


async def test_too_many_lines_fail_a_batch(quick_bench, monkeypatch):
    monkeypatch.setattr("gateway.batch.validating.MAX_LINES", 300)
    async with quick_bench() as bench:
        batch = await bench.submit(*(f"q{number}" for number in range(301)))
        await bench.run()
        ended = await bench.batch(batch)
        assert (ended.status, ended.errors[0].code) == ("failed", "too_many_lines")
        assert bench.model.asked == []


async def test_a_damaged_file_fails_its_batch_and_a_damaged_part_its_lines(quick_bench, tmp_path):
    async with quick_bench() as bench:
        whole = await bench.submit("one")
        path = tmp_path / "files" / whole.input_file
        path.write_bytes(path.read_bytes()[:-3])
        await bench.run()
        ended = await bench.batch(whole)
        assert (ended.status, ended.errors[0].code) == ("failed", "unreadable_file")

        part, engine = await bench.submit("one", "two"), bench.engine()
        job = await bench.store.jobs.claim("another", kinds=("validate",))
        assert await engine._papers.do(job) is None
        path = tmp_path / "files" / part.input_file
        path.write_bytes(path.read_bytes()[:-3])
        await bench.run(engine)
        output, errors = await bench.ended(part)
        told = [(line["error"]["code"], line["error"]["line"]) for line in errors]
        assert (output, told) == ([], [("unreadable_file", 1), ("unreadable_file", 2)])
        assert bench.model.asked == []


async def test_moderations_are_screened_alone_and_a_line_may_hold_several_inputs(quick_bench):
    async with quick_bench() as bench:
        batch = await bench.submit(
            moderation("one", "hello there"),
            moderation("many", ["hello", "a fraud", "again"]),
            moderation("none", []),
            chat("wrong"),
            endpoint=MODERATIONS,
        )
        await bench.run()
        output, errors = await bench.ended(batch)
        results = {line["custom_id"]: line["response"]["body"]["results"] for line in output}
        assert [r["flagged"] for r in results["one"]] == [False]
        assert [r["flagged"] for r in results["many"]] == [False, True, False]
        assert [(e["custom_id"], e["response"] is None) for e in errors] == [("none", False), ("wrong", True)]
        assert bench.model.asked == []
        decisions = await bench.decisions()
        assert {d.id for d in decisions} == {r["decision"] for each in results.values() for r in each}
        assert sorted(d.batch.line for d in decisions) == [1, 2, 2, 2]
        assert (await bench.batch(batch)).summary.by_outcome == {"screened": 1, "refused": 1, "invalid": 2}


async def test_a_policy_that_refuses_as_an_error_fills_the_error_file(quick_bench):
    async with quick_bench(radiology={"refuse_as": "error"}) as bench:
        batch = await bench.submit("a fraud", "fine")
        await bench.run()
        output, errors = await bench.ended(batch)
        assert [line["custom_id"] for line in output] == ["fine"]
        assert errors[0]["custom_id"] == "a fraud" and errors[0]["error"] is None
        assert errors[0]["response"]["status_code"] == 400
        assert errors[0]["response"]["body"]["error"]["code"] == "content_filter"
        refused = next(d for d in await bench.decisions() if d.batch.line == 1)
        assert errors[0]["response"]["request_id"] == refused.id


async def test_a_department_without_a_policy_is_told_so_and_nothing_is_judged(quick_bench):
    async with quick_bench() as bench:
        batch = await bench.submit("one", "two", department="closed")
        await bench.run()
        output, errors = await bench.ended(batch)
        assert output == [] and [e["custom_id"] for e in errors] == ["one", "two"]
        assert errors[0]["error"]["code"] == "no_policy"
        assert "no policy covers the department `closed`" in errors[0]["error"]["message"]
        assert bench.screen.asked == 0 and await bench.decisions() == []


async def test_images_are_looked_at_by_few_lines_at_once(quick_bench, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    async with quick_bench() as bench:
        lines = [chat(f"i{n}", [{"type": "text", "text": "what?"}, picture()]) for n in range(20)]
        batch = await bench.submit(*lines)
        await bench.run()
        assert len((await bench.ended(batch))[0]) == 20
        assert 1 <= bench.screen.most <= 2


async def test_content_reaches_no_process_log(quick_bench, caplog):
    caplog.set_level("DEBUG")
    async with quick_bench(radiology={"batch": {"tries": 2}}) as bench:
        bench.model.failing = {"MARKER-OF-CONTENT": 9}
        bench.screen.broken = 1
        batch = await bench.submit(
            chat("MARKER-OF-CONTENT"),
            chat("a", "MARKER-OF-CONTENT"),
            b'{"MARKER-OF-CONTENT": NaN}',
            chat("b", body={"MARKER-OF-CONTENT": 1}),
        )
        append, failed = bench.store.decisions.append_line, []

        async def away(outcomes, row):
            if not failed:
                failed.append(row)
                raise Unavailable("MARKER-OF-CONTENT")
            return await append(outcomes, row)

        bench.store.decisions.append_line = away
        await bench.run()
        assert failed and len((await bench.ended(batch))[1]) == 3
        assert "a line of a batch waits to be stored" in caplog.text
        assert "MARKER-OF-CONTENT" not in caplog.text


async def test_nothing_to_do_is_told_at_once(quick_bench):
    async with quick_bench() as bench:
        engine = bench.engine(beats=True)
        async with asyncio.timeout(5):
            assert await engine.work(seconds=60, stopped=lambda: False) is False
        assert await bench.store.processes.live("worker") == (), "who has nothing to do takes no share"
        assert await engine.work(seconds=60, stopped=lambda: True) is True
        assert await bench.store.processes.live("worker") == ("worker-1",)
        await engine.close()
        assert await bench.store.processes.live("worker") == ()
