"""The stage against a real server on a real socket: what is sent, what is read, and every fault a server can have.

Over 300 lines because one scripted server, with all of its faults, serves every test here.
"""

import asyncio
import base64
import hashlib
import json
import logging
import subprocess
import sys
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugin import (
    Demonstration,
    Image,
    Prompt,
    Request,
    Sampling,
    Text,
    ToolCall,
    Turn,
)
from gateway.testing import check_stage
from gateway_openai import Config, build, gateway_backends
from gateway_openai.errors import (
    UpstreamError,
    UpstreamNonsense,
    UpstreamRefused,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnreachable,
)
from gateway_openai.wire import decode, encode

MARKER = "zebra-4711-marker"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def text(value, place="messages[0].content"):
    return Text(id=place, text=value)


def picture():
    return Image(
        id="messages[0].content[1]",
        data=PNG,
        media_type="image/png",
        width=1,
        height=1,
        digest=hashlib.sha256(PNG).hexdigest(),
        source="dicom",
        texts=(text("name of a patient"),),
    )


def prompt(*turns, sampling=None, demonstrations=(), **extra):
    turns = turns or (Turn(role="user", parts=(text("is this lung clear?"),)),)
    request = Request(
        id="d1", department="radiology", model="auto", turns=turns, sampling=sampling or Sampling(), **extra
    )
    return Prompt(request=request, demonstrations=tuple(demonstrations))


def answer(*contents, **extra):
    choices = [
        {"index": i, "message": {"role": "assistant", "content": c}, "finish_reason": "stop"}
        for i, c in enumerate(contents)
    ]
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"id": "x", "object": "chat.completion", "model": "served", "choices": choices, "usage": usage, **extra}


@asynccontextmanager
async def address(handler):
    """Serve `handler` at /v1/chat/completions and give the address, and what it was sent."""
    seen = []

    async def note(request):
        seen.append((request.headers.copy(), await request.read()))
        return await handler(request)

    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{tail:.*}", note)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", seen
    finally:
        await runner.cleanup()


@asynccontextmanager
async def server(handler, **config):
    """Serve `handler` and give a backend that asks it, and what it was sent."""
    async with address(handler) as (base_url, seen):
        backend = build(Config(base_url=base_url, model="m", **config))
        try:
            yield backend, seen
        finally:
            await backend.aclose()


def says(body, **kind):
    async def handler(request):
        return web.json_response(body) if isinstance(body, dict) else web.Response(text=body, **kind)

    return handler


async def test_a_good_answer_is_read_and_the_request_is_the_smallest_that_says_it():
    async with server(says(answer("the lung is clear"))) as (backend, seen):
        completion = await backend.complete(prompt())
        await backend.complete(prompt())
    assert completion.model == "served"
    assert completion.choices[0].text == text("the lung is clear", "choices[0].content")
    assert completion.choices[0].finish_reason == "stop"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 3)
    assert not completion.blind
    headers, body = seen[0]
    assert json.loads(body) == {"model": "m", "messages": [{"role": "user", "content": "is this lung clear?"}]}
    assert "authorization" not in headers
    assert backend.models() == ("m",)


@pytest.mark.parametrize(
    ("told", "kept"),
    [("fp_44709d6fcb", "fp_44709d6fcb"), (None, None), ("", None), ("x" * 201, None), ("a\nb", None), ({"a": 1}, None)],
)
async def test_the_servers_fingerprint_is_the_revision_where_it_is_a_short_word(told, kept):
    async with server(says(answer("the lung is clear", system_fingerprint=told))) as (backend, _):
        assert (await backend.complete(prompt())).revision == kept


async def test_everything_that_was_asked_is_passed_on(monkeypatch):
    monkeypatch.setenv("A_KEY_FOR_THE_TEST", "secret-key")
    call = ToolCall(id="c1", name=text("lookup", "n"), arguments=text('{"a": 1}', "a"))
    turns = (
        Turn(role="system", parts=(text("be brief"),)),
        Turn(role="user", parts=(text("what is this?"), picture())),
        Turn(role="assistant", parts=(), tool_calls=(call,)),
        Turn(role="tool", parts=(text("found"),), tool_call_id="c1"),
        Turn(role="user", parts=(text("one"), text("two"))),
    )
    sampling = Sampling(
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        min_p=0.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        repetition_penalty=1.1,
        seed=9,
        n=2,
        stop=("END",),
    )
    tools = '[{"type": "function", "function": {"name": "lookup", "parameters": {"big": 12345678901234567890}}}]'
    extra = {
        "tools": text(tools, "tools"),
        "tool_choice": text('"auto"', "tool_choice"),
        "response_format": text('{"type":"json_object"}', "response_format"),
    }
    demo = Demonstration(
        id="x", pair="x", modality="ct", question="shown question", answer="shown answer", refuses=True
    )
    async with server(says(answer("a", "b")), api_key_env="A_KEY_FOR_THE_TEST") as (backend, seen):
        completion = await backend.complete(prompt(*turns, sampling=sampling, demonstrations=[demo], **extra))
    assert [c.text.text for c in completion.choices] == ["a", "b"]
    headers, raw = seen[0]
    assert headers["authorization"] == "Bearer secret-key"
    assert b"name of a patient" not in raw
    assert b"12345678901234567890" in raw
    body = json.loads(raw)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(PNG).decode()}}
    asked = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": '{"a": 1}'}}
    assert body.pop("messages") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "shown question"},
        {"role": "assistant", "content": "shown answer"},
        {"role": "user", "content": [{"type": "text", "text": "what is this?"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "content": "found", "tool_call_id": "c1"},
        {"role": "user", "content": "one\ntwo"},
    ]
    assert body.pop("tools") == json.loads(tools)
    assert body == {
        "model": "m",
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "repetition_penalty": 1.1,
        "seed": 9,
        "n": 2,
        "stop": ["END"],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
    }


async def test_tool_calls_are_read_with_their_places_and_reasoning_is_dropped():
    call = {"id": "c9", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hidden thought"}
    body = answer() | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    async with server(says(body)) as (backend, _):
        choice = (await backend.complete(prompt())).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.text.text == ""
    assert [t.id for t in choice.texts()] == [
        "choices[0].content",
        "choices[0].tool_calls[0].name",
        "choices[0].tool_calls[0].arguments",
    ]
    assert choice.tool_calls[0].arguments.text == '{"x":1}'
    assert b"hidden thought" not in msgspec.json.encode(choice)


def broken(**changes):
    body = answer("fine " + MARKER)
    body["choices"][0] |= changes
    return body


NONSENSE = {
    "html": f"<html><body>{MARKER}</body></html>",
    "not-json": f'{{"choices": [{MARKER}',
    "no-choices": answer() | {"model": MARKER},
    "too-many": answer("a", MARKER),
    "no-choices-field": {"error": {"message": MARKER}},
    "content-number": broken(message={"role": "assistant", "content": 4}),
    "content-parts": broken(message={"role": "assistant", "content": [{"type": "text", "text": MARKER}]}),
    "empty-message": broken(message={"role": "assistant"}),
    "user-role": broken(message={"role": "user", "content": MARKER}),
    "odd-finish": broken(finish_reason=MARKER),
    "null-finish": broken(finish_reason=None),
    "wrong-index": broken(index=3),
    "negative-usage": answer("a") | {"usage": {"prompt_tokens": -1, "completion_tokens": 0}},
    "a-list": "[]",
    "empty": "",
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_fails_by_name_and_without_content(name, caplog):
    caplog.set_level(logging.DEBUG)
    async with server(says(NONSENSE[name])) as (backend, _):
        with pytest.raises(UpstreamNonsense) as caught:
            await backend.complete(prompt())
    assert MARKER not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert MARKER not in caplog.text


async def test_invalid_utf8_is_nonsense():
    async def handler(request):
        return web.Response(body=b'{"choices": [{"index": 0, "message": {"content": "\xff\xfe"}}]}')

    async with server(handler) as (backend, _):
        with pytest.raises(UpstreamNonsense):
            await backend.complete(prompt())


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 502, 503])
async def test_a_status_other_than_200_fails_with_its_number(status):
    async def handler(request):
        return web.Response(status=status, text=MARKER)

    async with server(handler) as (backend, _):
        with pytest.raises(UpstreamStatus) as caught:
            await backend.complete(prompt())
    assert caught.value.status == status
    assert isinstance(caught.value, UpstreamRefused) == (status == 400), "of the others a later try may be answered"
    assert MARKER not in str(caught.value)


async def test_a_redirect_is_not_followed():
    async def handler(request):
        if request.path == "/elsewhere":
            return web.json_response(answer("from elsewhere"))
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with server(handler) as (backend, seen):
        with pytest.raises(UpstreamStatus) as caught:
            await backend.complete(prompt())
    assert caught.value.status == 307
    assert len(seen) == 1


async def test_the_environments_proxy_is_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with server(says(answer("direct"))) as (backend, _):
        assert (await backend.complete(prompt())).choices[0].text.text == "direct"


async def raw_server(bytes_to_send, *, end=True):
    """Serve bytes as they are, whatever HTTP says of them."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes_to_send)
        await writer.drain()
        if end:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CUTS = {
    "mid-body": HEAD + b"content-length: 5000\r\n\r\n" + json.dumps(answer(MARKER)).encode()[:60],
    "mid-chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nff\r\n" + MARKER.encode(),
    "no-last-chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n",
    "mid-header": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "not-http": b"SSH-2.0-" + MARKER.encode() + b"\r\n",
    "bad-length": HEAD + b"content-length: twelve\r\n\r\n{}",
    "nothing": b"",
}


@pytest.mark.parametrize("name", CUTS)
async def test_a_connection_that_breaks_off_fails_by_name(name, caplog):
    caplog.set_level(logging.DEBUG)
    listener = await raw_server(CUTS[name])
    backend = build(Config(base_url=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", model="m"))
    try:
        with pytest.raises(UpstreamUnreachable) as caught:
            await asyncio.wait_for(backend.complete(prompt()), 10)
    finally:
        await backend.aclose()
        listener.close()
    assert MARKER not in str(caught.value)
    assert MARKER not in caplog.text


async def test_a_body_longer_than_its_declared_length_is_not_a_completion():
    body = json.dumps(answer("x")).encode()
    listener = await raw_server(HEAD + b"content-length: 20\r\n\r\n" + body)
    backend = build(Config(base_url=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", model="m"))
    try:
        with pytest.raises(UpstreamError):
            await asyncio.wait_for(backend.complete(prompt()), 10)
    finally:
        await backend.aclose()
        listener.close()


async def test_nobody_there_fails_by_name():
    listener = await raw_server(b"")
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    backend = build(Config(base_url=f"http://127.0.0.1:{port}/v1", model="m"))
    with pytest.raises(UpstreamUnreachable):
        await backend.complete(prompt())
    await backend.aclose()


async def test_a_silent_server_and_one_that_stops_midway_are_timeouts():
    async def silent(request):
        await asyncio.sleep(30)

    async def stalls(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"choices"')
        await asyncio.sleep(30)

    for handler in (silent, stalls):
        async with server(handler, headers_timeout=0.2, body_timeout=0.2) as (backend, _):
            with pytest.raises(UpstreamTimeout):
                await asyncio.wait_for(backend.complete(prompt()), 5)


async def test_an_endless_answer_and_a_huge_claim_are_cut_off():
    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)

    async def claims(request):
        response = web.StreamResponse(headers={"content-length": str(2**40)})
        await response.prepare(request)
        await response.write(b"{")
        await asyncio.sleep(30)

    for handler in (endless, claims):
        async with server(handler) as (backend, _):
            with pytest.raises(UpstreamTooLarge):
                await asyncio.wait_for(backend.complete(prompt()), 20)


async def test_a_caller_who_gives_up_closes_the_connection():
    gone = asyncio.Event()

    async def slow(request):
        try:
            while True:
                await asyncio.sleep(0.02)
                if request.transport is None or request.transport.is_closing():
                    gone.set()
                    return web.Response()
        except asyncio.CancelledError:
            gone.set()
            raise

    async with server(slow) as (backend, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend.complete(prompt()), 0.2)
        await asyncio.wait_for(gone.wait(), 5)


async def test_many_at_once_all_get_their_own_answer():
    async def echo(request):
        body = json.loads(await request.read())
        return web.json_response(answer(body["messages"][-1]["content"]))

    async with server(echo, max_connections=8) as (backend, _):
        asked = [prompt(Turn(role="user", parts=(text(f"question {n}"),))) for n in range(64)]
        got = await asyncio.gather(*(backend.complete(p) for p in asked))
    assert [c.choices[0].text.text for c in got] == [f"question {n}" for n in range(64)]


@pytest.mark.parametrize(
    "config",
    [
        {"base_url": "http://user:pass@host/v1", "model": "m"},
        {"base_url": "http://host/v1?key=1", "model": "m"},
        {"base_url": "http://host:notaport/v1", "model": "m"},
        {"base_url": "http://host/v1", "model": "m", "api_key_env": "A_VARIABLE_THAT_IS_NOT_SET"},
    ],
)
def test_settings_that_can_not_work_stop_the_start(config):
    with pytest.raises(ValueError, match="`"):
        build(Config(**config))


@pytest.mark.parametrize(
    "config",
    [
        {"base_url": "ftp://host", "model": "m"},
        {"base_url": "http://host", "model": ""},
        {"base_url": "http://host", "model": "m", "api_key": "secret"},
        {"base_url": "http://host", "model": "m", "api_key_env": "sk-a key itself"},
        {"base_url": "http://host", "model": "m", "headers_timeout": 0},
    ],
)
def test_settings_of_wrong_form_do_not_decode(config):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(config, gateway_backends()[0].config)


def test_tools_that_are_not_json_are_refused_before_anything_is_sent():
    with pytest.raises(ValueError, match="`tools` is not JSON"):
        encode(prompt(tools=text("[", "tools")), "m")


@given(st.text(), st.integers(1, 4))
def test_text_survives_the_wire_whole(value, n):
    sent = json.loads(encode(prompt(Turn(role="user", parts=(text(value),)), sampling=Sampling(n=n)), "m"))
    assert sent["messages"][0]["content"] == value
    got = decode(json.dumps(answer(*[value] * n)).encode(), model="m", n=n)
    assert [c.text.text for c in got.choices] == [value] * n


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_raise_nothing_but_nonsense(body):
    with pytest.raises(UpstreamNonsense):
        decode(body, model="m", n=1)


def test_importing_the_plugin_imports_no_http_client():
    code = "import sys, gateway_openai; assert 'aiohttp' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_the_stage_keeps_its_contract():
    async def echo(request):
        body = json.loads(await request.read())
        said = "asked about " + hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
        return web.json_response(answer(*[said] * body.get("n", 1)))

    async with address(echo) as (base_url, _):
        await check_stage(gateway_backends()[0], "backend", {"base_url": base_url, "model": "m"})
