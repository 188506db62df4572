"""Copies of checkpoints arrive at real files and real servers, whole, in order, and in spite of trouble."""

import asyncio
import contextlib
import datetime as dt

import pytest
import sqlalchemy as sa
from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from store.kit import SECRET, outcomes

from gateway.errors import ConfigurationError
from gateway.records.note import parse_head, parse_note, parse_vkey, split_notes
from gateway.store import FileSink, Store, VerifyOptions, copies_of, parse_sinks
from gateway.store.sinks import Deliveries
from gateway.store.tables import checkpoint_sinks


class Server:
    """Takes what is sent; `answers` are the statuses to give, then 200."""

    def __init__(self):
        self.took = []
        self.answers = []
        self.arrived = asyncio.Event()
        self.url = ""

    async def take(self, request):
        status = self.answers.pop(0) if self.answers else 200
        body = await request.read()
        self.took.append((status, request.method, request.path, dict(request.headers), body))
        self.arrived.set()
        return web.Response(status=status, headers={"location": self.url} if status == 302 else {})


@pytest.fixture
async def server():
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@contextlib.asynccontextmanager
async def opened(url, *sinks, **options):
    store = await Store.open(url, secret=SECRET, sinks=sinks)
    store.deliveries = Deliveries(store._engine, store.tree, sinks, **options)
    store.sequencer._grown = store.deliveries.wake
    try:
        yield store
    finally:
        await store.close()


async def grow(store, number):
    for _ in range(number):
        await store.decisions.append(outcomes.refused())
    return await store.sequencer.catch_up()


async def state(store, sink):
    async with store._engine.connect() as connection:
        query = sa.select(checkpoint_sinks).where(checkpoint_sinks.c.name == sink.name)
        return (await connection.execute(query)).first()


def sizes(path):
    with path.open() as lines:
        return [parse_head(parse_note(one).text).size for one in split_notes(lines)]


async def test_a_file_gets_each_and_is_what_verify_compares(url, tmp_path):
    path = tmp_path / "somewhere" / "copies.notes"
    (sink,) = parse_sinks(f"file://{path}")
    async with opened(url, sink) as store:
        assert await store.deliveries.once(sink), "there is nothing to bring yet"
        assert not path.exists()
        for _ in range(3):
            await grow(store, 2)
            assert await store.deliveries.once(sink)
            assert await store.deliveries.once(sink), "once is enough"
        assert sizes(path) == [2, 4, 6]
        with path.open() as lines:
            assert all(parse_note(one).signed_by(parse_vkey(store.signer.vkey)) for one in split_notes(lines))
        row = await state(store, sink)
        assert (row.size, row.trouble) == (6, None)
        report = await store.decisions.check(wanted=VerifyOptions(copies=copies_of(f"file://{path} https://x/")))
        assert (report.problem, report.copies) == (None, 3)


async def test_a_folder_gets_a_file_a_day(url, tmp_path, monkeypatch):
    sink = FileSink(tmp_path / "checkpoints", folder=True)
    async with opened(url, sink) as store:
        for day in (1, 2):
            monkeypatch.setattr(
                "gateway.store.sequencer._now", lambda day=day: dt.datetime(2026, 1, day, tzinfo=dt.UTC)
            )
            await grow(store, 1)
            assert await store.deliveries.once(sink)
        assert [sizes(path) for path in sorted((tmp_path / "checkpoints").iterdir())] == [[1], [2]]
        assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
            "2026-01-01.notes",
            "2026-01-02.notes",
        ]
        report = await store.decisions.check(wanted=VerifyOptions(copies=(tmp_path / "checkpoints",)))
        assert (report.problem, report.copies) == (None, 2)


async def test_http_gets_the_note_again_and_again_until_it_takes_it(url, server):
    (sink,) = parse_sinks(f"{server.url}/witness?log=1")
    server.answers = [500, 302, 403]
    async with opened(url, sink, every=0.01, first_wait=0.01) as store:
        store.deliveries.start()
        store.deliveries.start()
        await grow(store, 2)
        async with asyncio.timeout(20):
            while (row := await state(store, sink)) is None or row.size < 2:  # noqa: ASYNC110 - the database has no event
                await asyncio.sleep(0.01)
        note = (await store.tree.checkpoint()).note
        assert row.trouble is None
        assert [one[0] for one in server.took] == [500, 302, 403, 200]
        for _, method, path, headers, body in server.took:
            assert (method, path, body.decode()) == ("POST", "/witness", note)
            assert headers["Content-Type"] == "text/plain; charset=utf-8"
            assert headers["x-checkpoint-size"] == "2"
        await grow(store, 1)
    assert server.took[-1][3]["x-checkpoint-size"] == "3", "the last one is brought before it stops"


async def test_trouble_is_told_and_holds_up_nothing(url, server, tmp_path, caplog):
    secretive = server.url.replace("//", "//user:hunter2@")
    bad, good = *parse_sinks(f"{secretive}/x"), FileSink(tmp_path / "copies.notes", folder=False)
    server.answers = [500, 500]
    async with opened(url, bad, good, first_wait=30.0, every=0.01) as store:
        store.deliveries.start()
        await grow(store, 2)
        async with asyncio.timeout(20):
            while (row := await state(store, bad)) is None or (await state(store, good)) is None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        assert (row.size, row.at) == (0, None)
        assert row.trouble == "ConnectionError status 500"
        assert sizes(tmp_path / "copies.notes") == [2]
    assert "can not be brought to `http://127.0.0.1" in caplog.text
    assert "hunter2" not in caplog.text and "hunter2" not in bad.name + bad.told


async def test_a_disk_that_takes_nothing_is_trouble(url):
    (sink,) = parse_sinks("file:///dev/full")
    async with opened(url, sink) as store:
        await grow(store, 1)
        assert not await store.deliveries.once(sink)
        assert (await state(store, sink)).trouble == "OSError"
        await grow(store, 1)  # the log goes on


async def test_s3_gets_an_object_for_each_size_under_a_good_signature(url, server, monkeypatch):
    keys = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys.secret_key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    (sink,) = parse_sinks(f"s3://audit-bucket/logs/one?endpoint={server.url}&region=eu-central-1")
    server.answers = [200, 403]
    async with opened(url, sink) as store:
        await grow(store, 2)
        assert await store.deliveries.once(sink)
        note = (await store.tree.checkpoint()).note
        await grow(store, 1)
        assert not await store.deliveries.once(sink), "403 is no success"
        assert (await state(store, sink)).size == 2
    _, method, path, headers, body = server.took[0]
    assert (method, path) == ("PUT", "/audit-bucket/logs/one/00000000000000000002.note")
    assert note.encode() in body  # botocore may send it in chunks with a checksum
    low = {name.lower(): value for name, value in headers.items()}
    scope = low["authorization"].split("Credential=")[1].split(",")[0]
    signed = low["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert scope.startswith("AKIDEXAMPLE/") and scope.endswith("/eu-central-1/s3/aws4_request")
    request = AWSRequest(method, server.url + path, headers={name: low[name] for name in signed}, data=body)
    signer = S3SigV4Auth(keys, "s3", "eu-central-1")
    request.context["timestamp"] = low["x-amz-date"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert low["authorization"].endswith(f"Signature={signer.signature(text, request)}")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("ftp://host/x", "of a kind that is not known"),
        ("copies.notes", "of a kind that is not known"),
        ("file://host/x", "no path of this machine"),
        ("file:relative", "no path of this machine"),
        ("https:///x", "no host"),
        ("http://[::1", "can not be read"),
        ("http://user:hunter2@host:port/", "can not be read"),
        ("s3://B/x", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("s3://bucket/x?endpoint=host", "endpoint that is no address"),
        ("s3://bucket/x?acl=public", "option that is not known"),
    ],
)
def test_a_bad_address_says_which_and_what_is_expected(bad, said):
    with pytest.raises(ConfigurationError, match=r"address 2 .*expected `file:///path`") as caught:
        parse_sinks(f"file:///tmp/x {bad}")
    assert said in str(caught.value) and "hunter2" not in str(caught.value)


def test_the_same_address_twice_is_one_sink():
    assert len(parse_sinks("https://a.example/x  https://a.example/x\nhttps://a.example/y")) == 2
    assert parse_sinks("") == ()
