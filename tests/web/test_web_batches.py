"""OpenAI's Batch API: batches made, watched and stopped. Nobody works here: the tests take the workers' steps."""

import asyncio
import contextlib
import itertools
import json
import types

import aiohttp
import pytest
from store.batching import finalize, upload, work
from store.kit import postgres_database

from gateway.records import Context
from gateway.store import Chunk
from gateway.store.batch_shape import BatchError, Counts
from gateway.web.openai import events
from gateway.web.openai.progress import Progress

CHAT = "/v1/chat/completions"
FORM = {"endpoint": CHAT, "completion_window": "24h"}


async def caller_of(gate, key="key-caller"):
    return await gate.runtime.authenticate(key)


async def sent(gate, key="key-caller", lines=3):
    """An input file of `key`."""
    return (await upload(gate.store, b"{}\n" * lines, caller=await caller_of(gate, key))).id


async def ask(gate, path="", key="key-caller", method="POST", headers=None, **body):
    more = {} if method == "GET" or not body else {"json": body}
    status, _, answer = await gate.call(method, f"/v1/batches{path}", key, headers=headers or {}, **more)
    return status, json.loads(answer)


async def create(gate, key="key-caller", *, lines=3, headers=None, **body):
    status, made = await ask(gate, key=key, headers=headers, input_file_id=await sent(gate, key, lines), **FORM | body)
    assert status == 200, made
    return made["id"]


async def begin(store, lines=3):
    """Read the file of the batch that came first, into jobs of one line."""
    job = await store.jobs.claim("w", kinds=("validate",))
    await store.batches.begin_validation(job)
    chunks = [Chunk(first=n, count=1, start=3 * (n - 1), size=3) for n in range(1, lines + 1)]
    await store.batches.add_chunks(job, chunks, [])
    await store.batches.validated(job, lines)


async def step(store, outcome="released"):
    await work(store, await store.jobs.claim("w", kinds=("lines",)), outcome)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
async def test_the_client_of_openai_follows_a_batch_to_its_end(batching, kind, monkeypatch):
    monkeypatch.setattr("gateway.web.openai.progress.FRESH", 0)
    async with contextlib.AsyncExitStack() as stack:
        url = () if kind == "sqlite" else (await stack.enter_async_context(postgres_database()),)
        gate = await stack.enter_async_context(batching(*url))
        client = await stack.enter_async_context(gate.client())
        file = await client.files.create(file=("night.jsonl", b"{}\n" * 3), purpose="batch")
        made = await client.batches.create(
            input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"list": "night 7"}
        )
        assert gate.runtime.woken == 1
        assert (made.object, made.status, made.input_file_id) == ("batch", "validating", file.id)
        assert (made.endpoint, made.completion_window, made.metadata) == (CHAT, "24h", {"list": "night 7"})
        assert made.expires_at - made.created_at == 86400
        assert made.request_counts.to_dict() == {"total": 0, "completed": 0, "failed": 0}
        assert (made.errors, made.output_file_id, made.in_progress_at) == (None, None, None)
        await begin(gate.store)
        await step(gate.store)
        await step(gate.store, "refused")
        seen = await client.batches.retrieve(made.id)
        assert (seen.status, seen.request_counts.total) == ("in_progress", 3)
        assert seen.request_counts.completed + seen.request_counts.failed == 2
        assert seen.in_progress_at >= seen.created_at
        await step(gate.store)
        async with gate.store.files.create("radiology", "k1", "batch_output", "out.jsonl", None) as writer:
            await writer.write(b'{"custom_id": "a"}\n')
            output = await writer.finish()
        job = await gate.store.jobs.claim("w", kinds=("finalize",))
        await gate.store.batches.finish(job, output_file=output.id, error_file=None)
        ended = await client.batches.retrieve(made.id)
        assert (ended.status, ended.output_file_id, ended.error_file_id) == ("completed", output.id, None)
        assert ended.completed_at >= ended.finalizing_at >= ended.in_progress_at
        assert ended.gateway["by_outcome"] == {"released": 2, "refused": 1}
        assert (ended.gateway["paused"], ended.gateway["department"]) == (False, "radiology")
        assert (await client.files.content(ended.output_file_id)).content == b'{"custom_id": "a"}\n'
        [change] = [row.record for row in await gate.store.decisions.recent(9, kind="change.v1")]
        assert (change.what, change.subject, change.caller.key) == ("batch-created", made.id, "k1")


async def test_the_client_of_openai_lists_and_cancels(batching):
    async with batching() as gate, gate.client() as client:
        ids = [await create(gate, endpoint=path) for path in (CHAT, "/v1/moderations", CHAT)]
        page = await client.batches.list(limit=2)
        assert ([each.id for each in page.data], page.has_more) == (ids[:0:-1], True)
        assert [each.id async for each in client.batches.list(limit=1)] == ids[::-1]
        assert [(await gate.store.batches.get(id_)).kind for id_ in ids] == ["answer", "screen", "answer"]
        await begin(gate.store)
        assert (await client.batches.cancel(ids[0])).status == "cancelling"
        assert (await client.batches.retrieve(ids[0])).status == "cancelling"
        assert gate.runtime.woken == 4
        await finalize(gate.store)
        ended = await client.batches.retrieve(ids[0])
        assert (ended.status, ended.request_counts.failed) == ("cancelled", 3)
        assert ended.gateway["by_outcome"] == {"cancelled": 3}
        status, told = await ask(gate, f"/{ids[0]}/cancel")
        assert (status, told["error"]["code"]) == (409, "conflict")
        assert "has ended: it is cancelled" in told["error"]["message"]


async def test_a_batch_rests_and_goes_on(batching):
    async with batching() as gate:
        id_ = await create(gate)
        await begin(gate.store)
        status, told = await ask(gate, f"/{id_}/pause", key="key-colleague")
        assert (status, told["gateway"]["paused"], told["status"]) == (200, True, "in_progress")
        assert await gate.store.jobs.claim("w") is None
        status, told = await ask(gate, f"/{id_}/resume")
        assert (status, told["gateway"]["paused"]) == (200, False)
        assert (await gate.store.jobs.claim("w")).batch == id_
        changes = [row.record for row in await gate.store.decisions.recent(9, kind="change.v1")]
        assert [(each.what, each.caller.key) for each in changes] == [
            ("batch-resumed", "k1"), ("batch-paused", "k8"), ("batch-created", "k1"),
        ]  # fmt: skip


async def test_a_batch_that_failed_says_why(batching):
    async with batching() as gate, gate.client() as client:
        id_ = await create(gate)
        job = await gate.store.jobs.claim("w", kinds=("validate",))
        error = BatchError(code="empty_file", message="there is no line in the file; send one a request", line=1)
        await gate.store.batches.fail(job, [error])
        failed = await client.batches.retrieve(id_)
        assert (failed.status, failed.errors.object) == ("failed", "list")
        [told] = failed.errors.data
        assert (told.code, told.message, told.line, told.param) == (error.code, error.message, 1, None)
        assert failed.failed_at >= failed.created_at


WRONG = {
    "no file": ({"input_file_id": None}, "`input_file_id` is missing"),
    "a number": ({"input_file_id": 7}, "`input_file_id` is a number"),
    "no endpoint": ({"endpoint": None}, "`endpoint` is missing"),
    "another endpoint": (
        {"endpoint": "/v1/embeddings"},
        "`endpoint` is `/v1/embeddings`; give `/v1/chat/completions` or `/v1/moderations`",
    ),
    "another window": ({"completion_window": "1h"}, "`completion_window` is `1h`; give `24h`"),
    "an unknown field": ({"metdata": {}}, "unknown field `metdata`; did you mean `metadata`?"),
    "metadata": ({"metadata": "x"}, "`metadata` is `x`; give an object"),
    "many pairs": ({"metadata": {f"{n}": "" for n in range(17)}}, "`metadata` has 17 pairs"),
    "a long key": ({"metadata": {"k" * 65: ""}}, "a key has 1 to 64 characters"),
    "an empty key": ({"metadata": {"": ""}}, "a key has 1 to 64 characters"),
    "a long value": ({"metadata": {"k": "v" * 513}}, "`k` in `metadata` is too long"),
    "no text": ({"metadata": {"k": 1}}, "`k` in `metadata` is a number; give a string"),
    "a zero": ({"metadata": {"k": "\0"}}, "`k` in `metadata`"),
    "high": ({"priority": 11}, "`priority` is 11; give a whole number from -10 to 10"),
    "half": ({"priority": 0.5}, "`priority` is a number"),
    "no anchor": ({"output_expires_after": {"seconds": 3600}}, "`output_expires_after.anchor`"),
    "soon": (
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
        "`output_expires_after.seconds` is 1; give",
    ),
    "odd": ({"output_expires_after": {"anchor": "created_at", "seconds": 3600, "x": 1}}, "unknown field `x` in"),
}


async def test_what_is_wrong_with_a_batch_is_told_and_none_is_made(batching):
    async with batching() as gate:
        file = await sent(gate)
        for name, (body, told) in WRONG.items():
            status, answer = await ask(gate, **{"input_file_id": file, **FORM} | body)
            assert (status, told in answer["error"]["message"]) == (400, True), (name, answer)
            assert set(answer["error"]) == {"message", "type", "param", "code"}, name
        for headers, told in (
            ({"x-gateway-patient": "123"}, "give `patient` in each line's own `context`"),
            ({"x-gateway-study": "123"}, "give `study` in each line's own `context`"),
            ({"x-gateway-purpos": "TREAT"}, "unknown header"),
            ({"idempotency-key": "k" * 201}, "1 to 200 printable ASCII"),
            ({"idempotency-key": "schlüssel"}, "1 to 200 printable ASCII"),
            ({"content-type": "text/plain"}, "not said to be JSON"),
        ):
            status, answer = await ask(gate, headers=headers, input_file_id=file, **FORM)
            assert (status, told in answer["error"]["message"]) == (400, True), headers
        for body in (b"", b"[]", b'{"endpoint": 1, "endpoint": 2}', b"{nope}"):
            status, _, answer = await gate.call(
                "POST", "/v1/batches", data=body, headers={"content-type": "application/json"}
            )
            assert (status, json.loads(answer)["error"]["code"]) == (400, "invalid_json"), body
        big = {"metadata": {"k": "v" * 70_000}}
        assert (await ask(gate, input_file_id=file, **FORM | big))[0] == 413
        assert await gate.store.batches.list("*") == ()
        assert gate.runtime.woken == 0


async def test_a_batch_is_made_of_ones_own_file_in_ones_own_department(batching):
    async with batching() as gate:
        mine, elsewhere = await sent(gate), await sent(gate, "key-elsewhere")
        output = (await upload(gate.store, caller=await caller_of(gate), purpose="batch_output")).id
        for key, file, status, told in (
            ("key-colleague", mine, 404, "there is no file"),
            ("key-named-k1", mine, 404, "there is no file"),
            ("key-caller", elsewhere, 404, "there is no file"),
            ("key-admin", elsewhere, 404, "there is no file"),
            ("key-caller", f"file-{'0' * 32}", 404, "there is no file"),
            ("key-caller", "file-'; DROP TABLE files", 404, "there is no file"),
            ("key-caller", output, 400, "was not sent with the purpose `batch`"),
            ("key-everywhere", mine, 403, "a key for every department can send no batch"),
            ("key-orphan", mine, 503, "no policy covers the department"),
            ("key-officer", mine, 403, "to batch needs a key with the role"),
        ):
            given, answer = await ask(gate, key=key, input_file_id=file, **FORM)
            assert (given, told in answer["error"]["message"]) == (status, True), (key, answer)
        assert await gate.store.batches.list("*") == ()


async def test_what_is_said_in_headers_is_said_of_all_lines(batching):
    async with batching() as gate:
        headers = {
            "x-gateway-purpose": "TREAT",
            "x-gateway-task": "report-draft",
            "x-gateway-on-behalf-of": "dr-who",
            "x-gateway-application": "ris",
            "x-gateway-person": "night-nurse",
        }
        id_ = await create(
            gate,
            "key-operator",
            headers=headers,
            priority=10,
            output_expires_after={"anchor": "created_at", "seconds": 7200},
        )
        batch = await gate.store.batches.get(id_)
        assert batch.said == Context(
            purpose="TREAT",
            task="report-draft",
            on_behalf_of="dr-who",
            claimed_application="ris",
            claimed_person="night-nurse",
        )
        assert (batch.priority, batch.options) == (10, {"output_expires_seconds": 7200})
        assert (batch.caller.key, batch.owner) == ("k9", "k9")
        assert (await gate.store.batches.get(await create(gate, "key-ada"))).owner == "person:ada"
        status, answer = await ask(gate, input_file_id=await sent(gate), **FORM, priority=1)
        assert (status, answer["error"]["param"]) == (403, "priority")
        assert (await gate.store.batches.get(await create(gate, priority=-10))).priority == -10


async def test_a_batch_that_is_sent_twice_is_made_once(batching):
    async with batching() as gate:
        file, other = await sent(gate), await sent(gate)
        headers = {"idempotency-key": "night 7"}
        asked = [ask(gate, headers=headers, input_file_id=file, **FORM) for _ in range(4)]
        answers = [await asked[0], *await asyncio.gather(*asked[1:])]
        assert {status for status, _ in answers} == {200}
        assert len({made["id"] for _, made in answers}) == 1
        status, answer = await ask(gate, headers=headers, input_file_id=other, **FORM)
        assert (status, answer["error"]["code"]) == (409, "conflict")
        await create(gate, "key-colleague", headers=headers)
        assert len(await gate.store.batches.list("*")) == 2


async def test_who_sees_a_batch_and_others_learn_nothing(batching):
    async with batching() as gate:
        id_ = await create(gate)
        made = {"caller": await caller_of(gate), "endpoint": CHAT, "said": Context(), "department": "radiology"}
        again = (await gate.store.batches.create(kind="reaudit", input_file="file-x", **made)).id
        for key, sees, reaudits in (
            ("key-colleague", True, False),
            ("key-operator", True, False),
            ("key-admin", True, False),
            ("key-everywhere", True, False),
            ("key-reviewer", True, True),
            ("key-elsewhere", False, False),
        ):
            assert (await ask(gate, f"/{id_}", key, "GET"))[0] == (200 if sees else 404), key
            assert (await ask(gate, f"/{again}", key, "GET"))[0] == (200 if reaudits else 404), key
            _, page = await ask(gate, "?limit=1", key, "GET")
            assert [row["id"] for row in page["data"]] == ([again] if reaudits else [id_] if sees else []), key
            assert page["has_more"] is reaudits, key
        for path in (f"/{again}/pause", f"/{again}/cancel", f"/{'batch_' + '0' * 32}/resume", "/x/cancel"):
            assert (await ask(gate, path))[0] == 404
        for path in (f"/{id_}", f"/{id_}/events", f"?after={id_}", "/x", "/batch_" + "0" * 33, "/x/events"):
            assert (await ask(gate, path, "key-elsewhere", "GET"))[0] == 404, path
        for path in ("?limit=0", "?limit=101", "?order=asc"):
            assert (await ask(gate, path, method="GET"))[0] == 400, path
        _, absent = await ask(gate, f"/batch_{'0' * 32}", "key-elsewhere", "GET")
        _, hidden = await ask(gate, f"/{id_}", "key-elsewhere", "GET")
        assert hidden["error"]["message"].replace(id_, "") == absent["error"]["message"].replace(
            "batch_" + "0" * 32, ""
        )


class Watcher:
    """Reads the events of one batch."""

    def __init__(self, answer):
        self.answer, self.kept = answer, b""

    async def event(self):
        """The next event and its data; None where the stream has ended."""
        while b"\n\n" not in self.kept:
            more = await self.answer.content.readany()
            if not more:
                assert not self.kept
                return None
            self.kept += more
        one, _, self.kept = self.kept.partition(b"\n\n")
        if one.startswith(b":"):
            return one.decode(), None
        name, data = one.decode().split("\n")
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@contextlib.asynccontextmanager
async def watching(gate, id_, key="key-caller"):
    async with aiohttp.ClientSession() as session:
        headers = {"authorization": f"Bearer {key}"}
        async with session.get(f"{gate.base}/v1/batches/{id_}/events", headers=headers) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            yield Watcher(answer)


@pytest.fixture
def quick(monkeypatch):
    """Look ten times a second."""
    monkeypatch.setattr(events, "_EVERY", 0.1)
    monkeypatch.setattr("gateway.web.openai.progress.FRESH", 0.1)


async def test_events_tell_the_progress_and_then_the_end(batching, quick):
    async with batching() as gate:
        id_ = await create(gate, lines=2)
        async with watching(gate, id_) as watcher:
            name, told = await watcher.event()
            assert (name, told["id"], told["status"]) == ("progress", id_, "validating")
            await begin(gate.store, 2)
            states = []
            for outcome in ("released", "refused"):
                await step(gate.store, outcome)
                while True:
                    name, told = await watcher.event()
                    states.append(told["status"])
                    counts = told["request_counts"]
                    if told["gateway"]["by_outcome"].get(outcome):
                        break
            assert name == "progress"
            assert counts["completed"] + counts["failed"] == 2
            await finalize(gate.store)
            while name == "progress":
                name, told = await watcher.event()
                states.append(told["status"])
            assert (name, told["status"]) == ("done", "completed")
            assert states == sorted(states, key=["validating", "in_progress", "finalizing", "completed"].index)
            assert await watcher.event() is None
        async with watching(gate, id_) as late:
            assert [(await late.event())[0], await late.event()] == ["done", None]


async def test_many_who_watch_cost_one_question(batching, quick, monkeypatch):
    async with batching() as gate:
        id_ = await create(gate)
        await begin(gate.store)
        asked = []
        counts = gate.store.batches.counts

        async def counted(batch):
            asked.append(asyncio.get_running_loop().time())
            return await counts(batch)

        monkeypatch.setattr(gate.store.batches, "counts", counted)
        async with contextlib.AsyncExitStack() as stack:
            watchers = [await stack.enter_async_context(watching(gate, id_)) for _ in range(20)]
            await asyncio.gather(*(watcher.event() for watcher in watchers))
            await step(gate.store)
            await asyncio.gather(*(watcher.event() for watcher in watchers))
        assert all(after - before >= 0.09 for before, after in itertools.pairwise(asked))


async def test_streams_are_bounded_and_one_that_is_left_gives_its_place_back(batching, quick, monkeypatch):
    monkeypatch.setattr(events, "AT_ONCE", 1)
    async with batching() as gate:
        id_ = await create(gate)
        async with watching(gate, id_) as watcher:
            await watcher.event()
            status, told = await ask(gate, f"/{id_}/events", method="GET")
            assert (status, told["error"]["code"]) == (429, "rate_limit_exceeded")
            assert (await ask(gate, f"/{id_}", method="GET"))[0] == 200
        left = False
        while not left:
            headers = {"authorization": "Bearer key-caller"}
            async with gate.session.get(f"{gate.base}/v1/batches/{id_}/events", headers=headers) as answer:
                left = answer.status == 200


async def test_a_stream_lives_through_silence_and_an_absent_database(batching, quick, monkeypatch):
    monkeypatch.setattr(events, "KEEP_ALIVE", 0.2)
    async with batching() as gate:
        id_ = await create(gate)
        async with watching(gate, id_) as watcher:
            assert (await watcher.event())[0] == "progress"
            assert await watcher.event() == (": keep-alive", None)
            get = gate.store.batches.get

            async def away(_):
                raise events.Unavailable("the database is away")

            monkeypatch.setattr(gate.store.batches, "get", away)
            assert await watcher.event() == (": keep-alive", None)
            monkeypatch.setattr(gate.store.batches, "get", get)
            await ask(gate, f"/{id_}/cancel")
            while (told := await watcher.event())[1] is None:
                pass
            assert told[1]["status"] == "cancelling"


async def test_a_stream_does_not_hold_up_the_end_of_the_server(batching, quick):
    async with contextlib.AsyncExitStack() as stack:
        gate = await stack.enter_async_context(batching())
        id_ = await create(gate)
        async with watching(gate, id_) as watcher:
            await watcher.event()
            await stack.aclose()
            assert await watcher.event() is None


async def test_a_stream_ends_after_its_time(batching, quick, monkeypatch):
    monkeypatch.setattr(events, "LONGEST", 0.3)
    async with batching() as gate:
        id_ = await create(gate)
        async with watching(gate, id_) as watcher:
            assert (await watcher.event())[0] == "progress"
            assert await watcher.event() is None


class Story:
    """A store whose one batch has as many ended lines as `done` says."""

    def __init__(self, batch):
        self.batch, self.done, self.asked = batch, 0, 0
        self.batches = self

    async def get(self, _):
        return self.batch

    async def counts(self, _):
        self.asked += 1
        return Counts(total=1000, completed=self.done, failed=0)


async def test_the_pace_is_that_of_the_last_half_minute(batching):
    async with batching() as gate:
        await create(gate)
        await begin(gate.store)
        [batch] = await gate.store.batches.list("*")
    story, clock = Story(batch), types.SimpleNamespace(now=0.0)
    progress = Progress(types.SimpleNamespace(store=story), lambda: clock.now)
    seen = await progress.look(batch.id)
    assert (seen.pace.rate, seen.pace.eta_seconds) == (None, None)
    for clock.now in range(1, 61):
        story.done += 2
        seen = await progress.look(batch.id)
    assert (seen.pace.rate, seen.pace.eta_seconds) == (2.0, 440)
    assert (await progress.of(batch)).counts.completed == 120
    assert story.asked == 61
    for clock.now in range(61, 91):
        story.done += 8
        seen = await progress.look(batch.id)
    assert (seen.pace.rate, seen.pace.eta_seconds) == (8.0, 80)
    for clock.now in range(91, 121):
        seen = await progress.look(batch.id)
    assert (seen.pace.rate, seen.pace.eta_seconds) == (0.0, None)
    clock.now = 1000.0
    assert (await progress.look(batch.id)).pace.rate is None, "what was long ago says nothing of today"
