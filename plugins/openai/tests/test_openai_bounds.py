"""Settings, shares, bounds and connections of the stage, against real servers on real sockets."""

import asyncio
import collections

import msgspec
import pytest

from gateway.testing import image, prompt
from gateway_openai import Config, build, wire
from gateway_openai.client import OpenAIBackend
from gateway_openai.errors import (
    UpstreamBusy,
    UpstreamStatus,
    UpstreamTimeout,
)

PATIENCE = 20
REFUSAL = {"error": {"message": "no", "code": None}}


async def told(backend, asked=None):
    async with asyncio.timeout(PATIENCE):
        return (await backend.complete(asked or prompt())).choices[0].text.text


async def streamed(backend):
    async with asyncio.timeout(PATIENCE):
        return "".join([getattr(item, "text", "") async for item in backend.stream(prompt())])


async def test_requests_are_shared_out_by_weight(serve, sse):
    servers = [await serve(sse.answers(str(n))) for n in range(3)]
    upstreams = tuple({"base_url": s.url, "weight": w} for s, w in zip(servers, (1.0, 3.0, 6.0), strict=True))
    draws = iter([n / 100 for n in range(100)])
    config = msgspec.convert({"model": "m", "upstreams": upstreams}, Config)
    backend = OpenAIBackend(config, draw=lambda: next(draws))
    try:
        got = collections.Counter([await told(backend) for _ in range(100)])
    finally:
        await backend.aclose()
    assert got == {"0": 10, "1": 30, "2": 60}


async def test_each_server_has_its_own_model_and_key(serve, sse, monkeypatch):
    monkeypatch.setenv("KEY_OF_ALL", "one")
    monkeypatch.setenv("KEY_OF_THE_SECOND", "two")
    first, second = await serve(sse.fails(9, 503)), await serve(sse.answers())
    upstreams = (
        {"base_url": first.url},
        {"base_url": second.url, "model": "other", "api_key_env": "KEY_OF_THE_SECOND"},
    )
    config = msgspec.convert({"model": "m", "upstreams": upstreams, "api_key_env": "KEY_OF_ALL"}, Config)
    backend = OpenAIBackend(config, draw=lambda: 0.0)
    try:
        assert backend.models() == ("m",)
        await told(backend)
    finally:
        await backend.aclose()
    assert (first.asked[0].body["model"], second.asked[0].body["model"]) == ("m", "other")
    assert b"Bearer one" in first.asked[0].head
    assert b"Bearer two" in second.asked[0].head


async def test_an_image_is_encoded_once_however_often_it_is_sent(serve, sse, monkeypatch):
    encoded = []

    def counting(data):
        encoded.append(len(data))
        return original(data)

    original = wire.b64encode
    monkeypatch.setattr(wire, "b64encode", counting)
    first, second = await serve(sse.fails(9, 503)), await serve(sse.answers())
    upstreams = ({"base_url": first.url}, {"base_url": second.url, "model": "other"})
    backend = OpenAIBackend(msgspec.convert({"model": "m", "upstreams": upstreams}, Config), draw=lambda: 0.0)
    picture = msgspec.structs.replace(image(), data=b"\x89PNG" + bytes(5 * 2**20))
    try:
        assert await told(backend, prompt(images=[picture])) == "fine"
    finally:
        await backend.aclose()
    assert encoded == [5 * 2**20 + 4]
    sent = [server.asked[0].body["messages"] for server in (first, second)]
    assert sent[0] == sent[1]
    assert len(sent[1][0]["content"][1]["image_url"]["url"]) > 6 * 2**20


async def test_too_many_at_once_are_refused_and_the_queue_takes_its_turn(serve, ask, sse):
    go = asyncio.Event()

    async def script(asked):
        await go.wait()
        asked.reply(sse.answer("fine"))

    server = await serve(script)
    backend = ask(server, in_flight=2, queue=3)
    tasks = [asyncio.create_task(told(backend)) for _ in range(5)]
    async with asyncio.timeout(PATIENCE):
        while len(server.asked) < 2:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.005)
    for way in (told, streamed):
        with pytest.raises(UpstreamBusy):
            await way(backend)
    assert len(server.asked) == 2
    go.set()
    assert await asyncio.gather(*tasks) == ["fine"] * 5


async def test_the_whole_time_bounds_every_try_together(serve, ask, sse):
    server = await serve(sse.fails(99, 503, retry_after="3"))
    with pytest.raises(UpstreamStatus):
        await told(ask(server, whole_timeout=1.5))
    assert len(server.asked) == 1, "no try is begun that would be over the time"

    async def slow(asked):
        asked.headers(kind="application/json", content_length=10_000)
        while True:
            asked.send(b" ")
            await asked.drain()
            await asyncio.sleep(0.02)

    with pytest.raises(UpstreamTimeout):
        await told(ask(await serve(slow), whole_timeout=0.3, body_timeout=5))


async def test_connections_are_kept_and_each_event_loop_has_its_own(serve, ask, sse):
    server = await serve(sse.answers())
    backend = ask(server)
    for _ in range(3):
        await told(backend)
    assert server.connections == 1

    def elsewhere():
        async def once():
            try:
                return await told(backend)
            finally:
                await backend.aclose()

        return asyncio.run(once())

    assert await asyncio.to_thread(elsewhere) == "fine"
    assert await told(backend) == "fine"
    assert server.connections == 2


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        ({}, "`base_url`"),
        ({"base_url": "http://a/v1", "upstreams": [{"base_url": "http://b/v1"}]}, "not both"),
        ({"upstreams": [{"base_url": "http://b/v1?x=1"}]}, "`api_key_env`"),
        ({"upstreams": [{"base_url": "http://b/v1", "api_key_env": "NOT_SET_ANYWHERE"}]}, "NOT_SET_ANYWHERE"),
        ({"base_url": "http://a/v1", "in_flight": 200}, "`max_connections`"),
        ({"base_url": "http://a/v1", "dialect": "ollama", "max_completion_tokens": True}, "`max_completion_tokens`"),
    ],
)
def test_settings_that_do_not_fit_together_stop_the_start(config, hint):
    with pytest.raises(ValueError, match=hint):
        build(msgspec.convert({"model": "m", **config}, Config))


@pytest.mark.parametrize(
    "config",
    [
        {"base_url": "http://a", "dialect": "klingon"},
        {"base_url": "http://a", "retries": -1},
        {"base_url": "http://a", "in_flight": 0},
        {"upstreams": [{"base_url": "http://b", "weight": 0}]},
        {"upstreams": [{"base_url": "b"}]},
        {"upstreams": [{"base_url": "http://b", "api_key": "secret"}]},
    ],
)
def test_settings_of_wrong_form_do_not_decode(config):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"model": "m", **config}, Config)
