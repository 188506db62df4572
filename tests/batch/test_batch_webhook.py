"""Whoever waits for a batch is told of its end: signed so that OpenAI's own client trusts it, until it was heard."""

import base64
import contextlib
import datetime as dt

import openai
import pytest
from aiohttp import web
from batch.kit import chat

from gateway.batch.webhook import signed
from gateway.store.batch_tables import jobs

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef" * 2).decode()


@contextlib.asynccontextmanager
async def receiver(*statuses):
    """Take messages, and answer them with `statuses`, the last one from then on."""
    heard = []

    async def hear(request):
        heard.append((dict(request.headers), await request.read()))
        status = statuses[min(len(heard), len(statuses)) - 1]
        return web.Response(status=status, headers={"location": "/elsewhere"} if status == 307 else {})

    app = web.Application()
    app.router.add_post("/{path:.*}", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook", heard
    finally:
        await runner.cleanup()


def told(url):
    return {"radiology": {"batch": {"webhook": {"url": url, "secret_env": "HOOK_SECRET"}}}}


def opened(headers, body):
    client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
    return client.webhooks.unwrap(body, headers)


async def due(bench):
    """Let what waits for its time be due."""
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    async with bench.store._engine.begin() as connection:
        await connection.execute(jobs.update().values(available_at=past))


async def test_the_openai_client_opens_the_message(quick_bench, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    async with receiver(200) as (url, heard), quick_bench(**told(url)) as bench:
        good = await bench.submit("one", b"{bad")
        await bench.run()
        empty = await bench.submit(b"")
        await bench.run()
        events = [opened(*message) for message in heard]
        assert [(event.type, event.data.id) for event in events] == [
            ("batch.completed", good.id),
            ("batch.failed", empty.id),
        ]
        ended = await bench.batch(good)
        assert events[0].created_at == int(ended.completed_at.timestamp())
        assert events[0].data.request_counts == {"total": 2, "completed": 1, "failed": 1}
        assert events[0].data.by_outcome == {"released": 1, "invalid": 1}
        headers, body = heard[0]
        with pytest.raises(openai.InvalidWebhookSignatureError):
            opened(headers, body.replace(b"completed", b"cancelled"))


async def test_it_is_told_again_under_the_same_id_until_it_was_taken(quick_bench, monkeypatch, caplog):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    async with receiver(500, 307, 204) as (url, heard), quick_bench(**told(url)) as bench:
        batch = await bench.submit("one")
        engine = bench.engine()
        for _ in range(6):
            await engine.work(seconds=20, stopped=lambda: False)
            await due(bench)
        assert len(heard) == 3, "a redirect is not followed, and what was taken is not told again"
        assert {headers["webhook-id"] for headers, _ in heard} == {f"msg_{batch.id}"}
        assert len({body for _, body in heard}) == 1
        assert (await bench.batch(batch)).status == "completed"
        assert not await bench.unfinished()
        assert "answered with status 307" in caplog.text


async def test_nobody_is_told_for_ever(quick_bench, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    async with receiver(500) as (url, heard), quick_bench(**told(url)) as bench:
        await bench.submit("one")
        engine = bench.engine()
        for _ in range(9):
            await engine.work(seconds=20, stopped=lambda: False)
            await due(bench)
        assert len(heard) == 5
        assert not await bench.unfinished()


@pytest.mark.parametrize("secret", [None, "whsec_", "whsec_no base64", base64.b64encode(b"x" * 32).decode()])
async def test_without_its_secret_nothing_is_sent_unsigned(quick_bench, monkeypatch, caplog, secret):
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    if secret is not None:
        monkeypatch.setenv("HOOK_SECRET", secret)
    async with receiver(200) as (url, heard), quick_bench(**told(url)) as bench:
        batch = await bench.submit(chat("one"))
        await bench.engine().work(seconds=20, stopped=lambda: False)
        assert (await bench.batch(batch)).status == "completed"
        assert heard == []
        assert "set HOOK_SECRET to `whsec_` and base64" in caplog.text


def test_the_signature_is_that_of_standard_webhooks():
    """The example of the specification's own libraries."""
    headers = signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
