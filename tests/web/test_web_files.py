"""OpenAI's Files API: what comes in is streamed to the disk whole or not at all, and goes out to its owner alone."""

import asyncio
import contextlib
import datetime as dt
import errno
import itertools
import json
import os
import tracemalloc
import types

import aiohttp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import RequestError, TooLarge
from gateway.records import Context
from gateway.store import file_writer
from gateway.web.openai import uploads
from gateway.web.openai.uploads import Upload

LINES = b'{"custom_id": "a"}\n' * 20
BORDER = "xyzzy"
FORM = {"content-type": f"multipart/form-data; boundary={BORDER}"}


def part(name, value, filename=None, head=""):
    file = "" if filename is None else f'; filename="{filename}"'
    value = value if isinstance(value, bytes) else value.encode()
    disposition = f'--{BORDER}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{head}\r\n'
    return disposition.encode() + value + b"\r\n"


def form(*parts, end=True):
    return b"".join(parts) + (f"--{BORDER}--\r\n".encode() if end else b"")


PURPOSE = part("purpose", "batch")
FILE = part("file", LINES, "lines.jsonl")
GOOD = form(PURPOSE, FILE)


def on_disk(gate):
    return sorted(path.name for path in gate.folder.iterdir()) if gate.folder.exists() else []


async def send(gate, body=GOOD, key="key-caller", **headers):
    status, _, answer = await gate.call("POST", "/v1/files", key, data=body, headers=FORM | headers)
    return status, json.loads(answer)


async def until(true):
    while not true():  # noqa: ASYNC110 - the disk has no event
        await asyncio.sleep(0.01)


async def looks(gate):
    return [row.record for row in await gate.store.decisions.recent(100, kind="access.v1")]


async def test_the_client_of_openai_sends_lists_reads_and_deletes(batching):
    async with batching() as gate, gate.client() as client:
        made = [
            await client.files.create(file=(f"night {n}.jsonl", LINES * (n + 1)), purpose="batch") for n in range(3)
        ]
        first = made[0]
        assert (first.object, first.purpose, first.filename, first.bytes) == (
            "file", "batch", "night 0.jsonl", len(LINES),
        )  # fmt: skip
        assert first.expires_at - first.created_at == 30 * 86400
        assert first.status == "processed"
        page = await client.files.list(limit=2)
        assert ([each.id for each in page.data], page.has_more) == ([made[2].id, made[1].id], True)
        assert [each.id async for each in client.files.list(limit=2, order="asc")] == [each.id for each in made]
        assert [each.id async for each in client.files.list(purpose="batch_output")] == []
        assert await client.files.retrieve(first.id) == first
        content = await client.files.content(first.id)
        assert content.content == LINES
        assert content.response.headers["content-type"] == "application/jsonl"
        assert 'filename="night 0.jsonl"' in content.response.headers["content-disposition"]
        gone = await client.files.delete(first.id)
        assert (gone.id, gone.object, gone.deleted) == (first.id, "file", True)
        assert on_disk(gate) == sorted(each.id for each in made[1:])
        short = await client.files.create(
            file=b"{}", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        assert 3595 <= short.expires_at - short.created_at <= 3600
        assert await looks(gate) == [], "what was sent in is nobody's answer"
        status, _, body = await gate.call("GET", "/v1/files")
        assert status == 200
        page = json.loads(body)
        assert (page["first_id"], page["last_id"]) == (short.id, made[1].id)


NAMES = {
    "../../etc/passwd": "passwd",
    "C:\\\\night\\\\list.jsonl": "list.jsonl",
    "..": "upload.jsonl",
    None: "upload.jsonl",
    "a\u202eb\u0007c.jsonl": "abc.jsonl",
    "Röntgen%22 1.jsonl": 'Röntgen" 1.jsonl',
    "n" * 300: "n" * 255,
}


async def test_a_name_is_kept_without_its_path_and_what_can_not_be_shown(batching):
    async with batching() as gate:
        for given, kept in NAMES.items():
            status, body = await send(gate, form(part("file", LINES, given), PURPOSE))
            assert (status, body["filename"]) == (200, kept)
            status, headers, content = await gate.call("GET", f"/v1/files/{body['id']}/content")
            assert (status, content) == (200, LINES)
            assert headers["content-disposition"].startswith('attachment; filename="')


BROKEN = {
    "no purpose": (form(FILE), 400, "`purpose` is missing; send `batch`"),
    "another purpose": (form(part("purpose", "vision"), FILE), 400, "`purpose` is `vision`; send `batch`"),
    "another purpose, behind": (form(FILE, part("purpose", "vision")), 400, "`purpose` is `vision`; send `batch`"),
    "two purposes": (form(PURPOSE, PURPOSE, FILE), 400, "`purpose` stands twice"),
    "a long purpose": (form(part("purpose", "b" * 1000), FILE), 400, "`purpose` is over 256 bytes"),
    "no file": (form(PURPOSE), 400, "there is no field `file`"),
    "two files": (form(PURPOSE, FILE, FILE), 400, "`file` stands twice"),
    "an empty file": (form(PURPOSE, part("file", b"", "x")), 400, "`file` is empty"),
    "an unknown field": (form(PURPOSE, part("pupose", "x"), FILE), 400, "unknown field `pupose`; did you mean"),
    "a field without a name": (form(part("", "x"), FILE), 400, "unknown field ``"),
    "too many parts": (form(*[part(f"{n}", "") for n in range(9)]), 400, "unknown field `0`"),
    "no anchor": (form(part("expires_after[seconds]", "7200"), PURPOSE, FILE), 400, "`expires_after.anchor`"),
    "no seconds": (form(part("expires_after[anchor]", "created_at"), FILE), 400, "`expires_after.seconds` is missing"),
    "too short": (
        form(part("expires_after[anchor]", "created_at"), part("expires_after[seconds]", "60"), FILE),
        400,
        "`expires_after.seconds` is 60; give a whole number from 3600 to 2592000",
    ),
    "no number": (
        form(part("expires_after[anchor]", "created_at"), part("expires_after[seconds]", "soon"), FILE),
        400,
        "`expires_after.seconds` is `soon`",
    ),
    "expiry behind the file": (form(FILE, part("expires_after[seconds]", "7200")), 400, "send it before the file"),
    "cut off": (GOOD[:-30], 400, "ended early"),
    "cut off in the head": (form(PURPOSE, FILE[:30], end=False), 400, "ended early"),
    "nothing": (b"", 400, "ended early"),
    "another border": (GOOD.replace(BORDER.encode(), b"other"), 400, "ended early"),
    "no disposition": (f"--{BORDER}\r\nX: y\r\n\r\nz\r\n".encode() + GOOD, 400, "malformed"),
    "newlines alone": (GOOD.replace(b"\r\n", b"\n"), 400, "malformed"),
    "a long head": (form(part("file", LINES, "x", "X: " + "y" * 9000 + "\r\n")), 400, "too long heads"),
    "coded": (form(part("file", LINES, "x", "Content-Transfer-Encoding: base64\r\n")), 400, "Transfer-Encoding"),
    "no utf-8": (form(part("purpose", b"\xff"), FILE), 400, "not in UTF-8"),
    "too large": (form(PURPOSE, part("file", b"x" * 5000, "x")), 413, "the file is over 4096 bytes; split it"),
    "far too large": (b"x" * 200_000, 413, "the file is over 4096 bytes; split it"),
}


async def test_what_is_wrong_with_a_form_is_told_and_nothing_is_kept(batching):
    async with batching(max_file_bytes=4096) as gate:
        for name, (body, status, told) in BROKEN.items():
            given, answer = await send(gate, body)
            assert (given, set(answer["error"])) == (status, {"message", "type", "param", "code"}), name
            assert told in answer["error"]["message"], name
            assert on_disk(gate) == [], name
        assert (await gate.store.files.list("radiology")) == ()
        for headers, told in (
            ({"content-type": "application/json"}, "no form with a file"),
            ({"content-type": "multipart/form-data"}, "no form with a file"),
            ({"content-type": f"multipart/form-data; boundary={'x' * 300}"}, "no form with a file"),
            ({"content-encoding": "gzip"}, "uncompressed"),
        ):
            status, answer = await send(gate, GOOD, **headers)
            assert (status, told in answer["error"]["message"]) == (400, True), headers
        assert (await send(gate, form(PURPOSE, part("file", b"x" * 4096, "x"))))[0] == 200, "the limit itself is taken"


async def test_a_length_over_the_limit_is_refused_before_a_byte_is_read(batching):
    """The body never comes: the answer does, all the same."""
    async with batching() as gate:
        host, port = gate.base.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-caller\r\ncontent-length: {10**12}\r\n"
        writer.write(f"{head}content-type: {FORM['content-type']}\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 413 " in answer.split(b"\r\n")[0]
        writer.close()
        assert on_disk(gate) == []


async def test_a_body_without_a_length_is_stopped_where_it_passes_the_limit(batching):
    sent = 0
    ended = asyncio.Event()

    async def endless():
        nonlocal sent
        yield PURPOSE + part("file", b"", "x")[:-2]
        while not ended.is_set():
            sent += 1
            yield b"x" * 65536

    async with batching(max_file_bytes=1 << 20) as gate:
        headers = FORM | {"authorization": "Bearer key-caller"}
        async with gate.session.post(f"{gate.base}/v1/files", data=endless(), headers=headers) as answer:
            assert answer.status == 413
            assert "over 1048576 bytes" in (await answer.json())["error"]["message"]
            ended.set()
        assert on_disk(gate) == []
    assert sent < 20_000


async def test_64_mib_pass_through_in_little_memory(batching):
    size, piece = 64 << 20, os.urandom(64 << 10)

    async def body():
        yield PURPOSE + part("file", b"", "big.jsonl")[:-2]
        for _ in range(size // len(piece)):
            yield piece
        yield f"\r\n--{BORDER}--\r\n".encode()

    async with batching(max_file_bytes=size, max_body_bytes=1 << 20) as gate:
        await send(gate)  # what is made once is not what is measured
        tracemalloc.start()
        try:
            status, made = await send(gate, body())
            assert (status, made["bytes"]) == (200, size)
            headers = {"authorization": "Bearer key-caller"}
            async with gate.session.get(f"{gate.base}/v1/files/{made['id']}/content", headers=headers) as answer:
                assert int(answer.headers["content-length"]) == size
                got = 0
                while chunk := await answer.content.read(len(piece)):
                    place = got % len(piece)
                    assert chunk == (piece + piece)[place : place + len(chunk)]
                    got += len(chunk)
            assert got == size
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


@contextlib.asynccontextmanager
async def stuck(gate, body=GOOD[:-50]):
    """An upload whose end does not come; gives what it is sent with."""
    began, end = asyncio.Event(), asyncio.Event()

    async def pieces():
        yield body
        began.set()
        await end.wait()
        yield GOOD[-50:]

    async with aiohttp.ClientSession() as session:
        headers = FORM | {"authorization": "Bearer key-caller"}
        task = asyncio.create_task(session.post(f"{gate.base}/v1/files", data=pieces(), headers=headers))
        await began.wait()
        await until(lambda: on_disk(gate))
        yield types.SimpleNamespace(task=task, end=end)
        task.cancel()


async def test_a_caller_who_goes_leaves_nothing_on_the_disk(batching):
    async with batching() as gate:
        async with stuck(gate) as upload:
            assert len(on_disk(gate)) == 1
            upload.task.cancel()
        await until(lambda: not on_disk(gate))
        assert await gate.store.files.list("radiology") == ()


async def test_more_uploads_than_are_taken_are_told_to_come_again(batching, monkeypatch):
    monkeypatch.setattr(uploads.Gate.__init__, "__defaults__", (1,))
    async with batching() as gate:
        async with stuck(gate) as upload:
            status, answer = await send(gate)
            assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
            upload.end.set()
            async with await upload.task as late:
                assert late.status == 200
        assert (await send(gate))[0] == 200


async def test_an_upload_that_pauses_too_long_ends(batching, monkeypatch):
    monkeypatch.setattr(uploads, "IDLE_SECONDS", 0.2)
    async with batching() as gate, stuck(gate) as upload:
        async with await upload.task as answer:
            assert answer.status == 400
            assert "nothing of the file came for" in (await answer.json())["error"]["message"]
        assert on_disk(gate) == []


async def test_an_upload_that_drips_ends(batching, monkeypatch):
    monkeypatch.setattr(uploads, "IDLE_SECONDS", 0.5)

    async def drips():
        yield GOOD[:-50]
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    async with batching() as gate, aiohttp.ClientSession() as session:
        headers = FORM | {"authorization": "Bearer key-caller"}
        async with session.post(f"{gate.base}/v1/files", data=drips(), headers=headers) as answer:
            assert answer.status == 400
            assert "less than 65536 bytes of the file came in" in (await answer.json())["error"]["message"]
        await until(lambda: not on_disk(gate))


async def test_a_full_disk_says_what_to_do(batching, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    async with batching() as gate:
        _, kept = await send(gate)
        monkeypatch.setattr(file_writer.os, "fsync", full)
        status, answer = await send(gate)
        monkeypatch.undo()
        assert (status, answer["error"]["code"]) == (503, "unavailable")
        assert "the disk is full; free some space and upload again" in answer["error"]["message"]
        assert on_disk(gate) == [kept["id"]]


async def test_content_is_for_its_owner_alone_and_others_learn_nothing(batching):
    async with batching() as gate:
        _, mine = await send(gate)
        _, adas = await send(gate, key="key-ada")

        async def status(key, path, method="GET"):
            return (await gate.call(method, path, key))[0]

        of_mine, of_adas = (f"/v1/files/{each['id']}" for each in (mine, adas))
        for key, sees, reads in (
            ("key-caller", True, True),
            ("key-colleague", True, False),
            ("key-named-k1", True, False),  # a person whose name is the id of that key
            ("key-operator", True, False),
            ("key-admin", True, False),
            ("key-everywhere", True, False),
            ("key-elsewhere", False, False),
        ):
            assert await status(key, of_mine) == (200 if sees else 404), key
            assert await status(key, f"{of_mine}/content") == (200 if reads else 404), key
            page = json.loads((await gate.call("GET", "/v1/files", key))[2])
            assert (mine["id"] in [file["id"] for file in page["data"]]) == sees, key
        assert await status("key-ada-too", f"{of_adas}/content") == 200, "another key of the same person"
        absent = (await gate.call("GET", f"/v1/files/file-{'0' * 32}", "key-elsewhere"))[2]
        hidden = (await gate.call("GET", of_mine, "key-elsewhere"))[2]
        assert hidden.replace(mine["id"].encode(), b"") == absent.replace(b"file-" + b"0" * 32, b"")
        assert await status("key-elsewhere", f"/v1/files?after={mine['id']}") == 404
        assert await status("key-elsewhere", of_mine, "DELETE") == 404
        assert await status("key-colleague", of_mine, "DELETE") == 403
        assert await status("key-operator", of_mine, "DELETE") == 200
        assert await status("key-caller", of_mine, "DELETE") == 404
        assert await status("key-everywhere", "/v1/files", "POST") == 403
        for id_ in ("x", "file-X", "file-" + "0" * 33, "file-" + "0" * 31 + "%0A", "batch_" + "0" * 32):
            assert await status("key-caller", f"/v1/files/{id_}") == 404


async def output(gate, data=b"{}\n"):
    """A file that came out of a batch of `key-caller`."""
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    async with gate.store.files.create("radiology", "k1", "batch_output", "out.jsonl", expires) as writer:
        await writer.write(data)
        return await writer.finish()


async def test_answers_that_are_taken_away_are_recorded_first(batching, monkeypatch):
    async with batching() as gate:
        file = await output(gate)
        path = f"/v1/files/{file.id}/content"
        assert (await gate.call("GET", path, "key-colleague"))[0] == 404
        assert await looks(gate) == []
        status, _, body = await gate.call("GET", path, headers={"x-gateway-why": "the morning round"})
        assert (status, body) == (200, b"{}\n")
        [look] = await looks(gate)
        assert (look.action, look.endpoint, look.filter) == ("download", "/v1/files/{id}/content", f"file={file.id}")
        assert (look.caller.key, look.why) == ("k1", "the morning round")
        (gate.folder / file.id).write_bytes(b"")
        status, _, body = await gate.call("GET", path)
        assert status == 503
        assert json.loads(body)["error"]["type"] == "api_error"

        async def away(_):
            raise TooLarge("the log is away")

        monkeypatch.setattr(gate.store.decisions, "append_event", away)
        assert (await gate.call("GET", f"/v1/files/{(await output(gate)).id}/content"))[0] == 413


async def test_a_file_that_a_batch_reads_stays(batching):
    async with batching() as gate:
        _, file = await send(gate)
        caller = await gate.runtime.authenticate("key-caller")
        made = {"kind": "answer", "endpoint": "/v1/chat/completions", "said": Context(), "department": "radiology"}
        batch = await gate.store.batches.create(caller=caller, input_file=file["id"], **made)
        status, _, body = await gate.call("DELETE", f"/v1/files/{file['id']}")
        assert (status, json.loads(body)["error"]["code"]) == (409, "conflict")
        assert batch.id in json.loads(body)["error"]["message"]


async def test_wrong_queries_are_told(batching):
    async with batching() as gate:
        for query in ("limit=0", "limit=10001", "limit=x", "order=up", "purpose=", "colour=red", "limit=1&limit=2"):
            status, _, body = await gate.call("GET", f"/v1/files?{query}")
            assert (status, json.loads(body)["error"]["param"]) == (400, query.split("=")[0]), query
        assert (await gate.call("GET", "/v1/files?after=x"))[0] == 404


class Disk:
    """Stands for the store's writer."""

    def __init__(self):
        self.data, self.finished, self.open = b"", False, False

    def begin(self, name, expires):
        self.name = name
        return self

    async def __aenter__(self):
        self.open = True
        return self

    async def __aexit__(self, *_):
        self.open = False

    async def write(self, data):
        self.data += data

    async def finish(self):
        self.finished = True
        return self


def upload(pieces):
    """Let the pieces be read as one upload."""

    class Http:
        headers = FORM
        content_length = None

        async def stream(self):
            for piece in pieces:
                yield piece

    disk = Disk()
    try:
        asyncio.run(Upload(Http(), disk.begin, most=1 << 20, days=1).read())
    except RequestError as exc:
        disk.told = exc.message
    assert not disk.open
    return disk


def cut(body, places):
    marks = [0, *sorted({place % (len(body) + 1) for place in places}), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(marks)]


FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CONTENT = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b"\r\n--", b"--" + BORDER.encode()[:-1], b"\r\r\n-"])),
    min_size=1,
    max_size=12,
).map(b"".join)


@FEW
@given(content=CONTENT, places=st.lists(st.integers(0, 10**4), max_size=20), last=st.booleans())
def test_any_content_comes_through_however_it_is_cut(content, places, last):
    file = part("file", content, "x")
    disk = upload(cut(form(file, PURPOSE) if last else form(PURPOSE, file), places))
    assert (disk.data, disk.finished) == (content, bool(content))


@FEW
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**4), st.binary(max_size=3)), min_size=1, max_size=6),
    places=st.lists(st.integers(0, 10**4), max_size=6),
)
def test_a_body_that_is_tampered_with_is_told_or_taken_and_never_half_kept(changes, places):
    body = GOOD
    for place, bytes_ in changes:
        place %= len(body)
        body = body[:place] + bytes_ + body[place + 1 :]
    disk = upload(cut(body, places))
    assert disk.finished != hasattr(disk, "told")


@FEW
@given(body=st.binary(max_size=300), places=st.lists(st.integers(0, 300), max_size=5))
def test_noise_is_refused(body, places):
    disk = upload(cut(body, places))
    assert disk.told and not disk.finished
