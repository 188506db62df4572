"""Streams that fail, on a real socket: each fault by its name, after the pieces before it, and without content."""

import asyncio
import contextlib
import logging

import pytest

from gateway.plugin import Piece
from gateway.testing import prompt
from gateway_openai.errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamNonsense,
    UpstreamRefused,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTooLong,
    UpstreamUnreachable,
)

MARKER = "zebra-4711-marker"
PATIENCE = 10  # seconds, far more than anything here takes


async def read_until(fault, backend, asked=None):
    """Give the pieces that come before a fault, and the fault."""
    found, caught = [], None
    try:
        async with asyncio.timeout(PATIENCE):
            await _gather(backend.stream(asked or prompt()), found)
    except UpstreamError as exc:
        caught = exc
    assert type(caught) is fault
    assert MARKER not in str(caught)
    assert caught.__cause__ is None
    return found, caught


async def _gather(stream, found):
    async for item in stream:
        found.append(item)


def text(items, choice=0):
    return "".join(item.text for item in items if isinstance(item, Piece) and item.choice == choice)


def cut_after(*parts, **headers):
    async def script(asked):
        asked.headers(**headers) if headers else asked.open()
        for part in parts:
            asked.send(part) if headers else asked.chunk(part)
        await asked.drain()
        asked._writer.close()

    return script


async def test_a_stream_that_breaks_off_is_a_cut_after_a_piece_and_unreachable_before(serve, ask, sse):
    begun, half = sse.said("begun"), sse.said(MARKER)[:-20]
    for parts, extra in (
        ((begun,), {}),
        ((begun, half), {}),
        ((begun,), {"content_length": 5000}),
        ((begun,), {"connection": "close"}),
        ((begun, sse.done), {}),
        ((begun, half), {"connection": "close"}),
    ):
        found, _ = await read_until(UpstreamCut, ask(await serve(cut_after(*parts, **extra))))
        assert text(found) == "begun"
    for parts, extra in (
        ((), {}),
        ((half,), {}),
        ((b": ping\n\n",), {"content_length": 50}),
        ((half,), {"content_length": 999}),
    ):
        found, _ = await read_until(UpstreamUnreachable, ask(await serve(cut_after(*parts, **extra)), retries=0))
        assert found == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {" + MARKER.encode() + b"\n\n",
        b"<html>" + MARKER.encode() + b"</html>\n\n",
        b'data: {"choices": [{"index": 0, "delta": {"content": "\xff\xfe"}}]}\n\n',
        b'{"choices": []}\n\n',
        b"\x00\x01\x02\n\n",
        b'data: {"choices": [{"index": 7, "delta": {"content": "x"}}]}\n\n',
    ],
)
async def test_garbage_in_a_stream_is_nonsense_after_the_pieces_before_it(serve, ask, sse, garbage, caplog):
    caplog.set_level(logging.DEBUG)

    async def script(asked):
        asked.stream(sse.said("good") + garbage, sse.stop, sse.done)

    found, _ = await read_until(UpstreamNonsense, ask(await serve(script)))
    assert text(found) == "good"
    assert MARKER not in caplog.text


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/octet-stream", "application/x-ndjson"])
async def test_what_is_no_stream_by_its_content_type_is_nonsense(serve, ask, sse, kind):
    async def script(asked):
        asked.reply(sse.said("a") + sse.stop + sse.done, kind=kind)

    found, _ = await read_until(UpstreamNonsense, ask(await serve(script)))
    assert found == []


async def test_an_error_in_the_stream_is_told_by_its_code(serve, ask, sse):
    late = {"error": {"message": MARKER, "type": "server_error", "code": 503}}
    early = {"error": {"message": "maximum context length is 9 tokens " + MARKER, "code": 400}}

    async def breaks(asked):
        asked.stream(sse.said("begun"), sse.event(late), sse.done)

    async def refuses(asked):
        asked.stream(sse.event(early), sse.done)

    found, fault = await read_until(UpstreamStatus, ask(await serve(breaks)))
    assert (text(found), fault.status) == ("begun", 503)
    server = await serve(refuses)
    assert (await read_until(UpstreamTooLong, ask(server)))[0] == []
    assert len(server.asked) == 1, "a refusal is not asked again"


async def test_a_status_other_than_200_is_told_before_anything(serve, ask):
    async def script(asked):
        asked.reply({"error": {"message": MARKER}}, status=422)

    found, fault = await read_until(UpstreamRefused, ask(await serve(script)))
    assert (found, fault.status) == ([], 422)


async def test_a_long_line_an_endless_stream_and_endless_pings_are_too_large(serve, ask, sse):
    async def line(asked):
        asked.open()
        asked.chunk(sse.said("begun"))
        for _ in range(10):
            asked.chunk(b"x" * 2**20)
            await asked.drain()

    async def endless(asked):
        asked.open()
        while True:
            asked.chunk(sse.said("x" * 50_000))
            await asked.drain()

    async def pings(asked):
        asked.open()
        while True:
            asked.chunk(b": ping\n\n" * 8_000)
            await asked.drain()

    for script in (line, endless, pings):
        await read_until(UpstreamTooLarge, ask(await serve(script)))


async def test_a_server_that_never_begins_or_stops_midway_is_late(serve, ask, sse):
    async def silent(asked):
        await asked.gone()

    async def headers_alone(asked):
        asked.open()
        asked.chunk(sse.delta(role="assistant", content=""))
        await asked.gone()

    async def pings(asked):
        asked.open()
        with contextlib.suppress(ConnectionError):
            while True:
                asked.chunk(b": ping\n\n")
                await asked.drain()
                await asyncio.sleep(0.02)

    async def stops(asked):
        asked.open()
        asked.chunk(sse.said("begun"))
        await asked.gone()

    for script, config, begun in (
        (silent, {"headers_timeout": 0.2}, ""),
        (headers_alone, {"first_token_timeout": 0.2}, ""),
        (headers_alone, {"headers_timeout": 0.2}, ""),
        (pings, {"first_token_timeout": 0.3}, ""),
        (stops, {"body_timeout": 0.2}, "begun"),
        (stops, {"whole_timeout": 1.5}, "begun"),
        (silent, {"whole_timeout": 0.3}, ""),
    ):
        found, _ = await read_until(UpstreamTimeout, ask(await serve(script), **config))
        assert text(found) == begun


async def test_pings_do_not_keep_a_server_that_writes_nothing_alive(serve, ask, sse):
    async def script(asked):
        asked.open()
        asked.chunk(sse.said("begun"))
        with contextlib.suppress(ConnectionError):
            while True:
                asked.chunk(b": ping\n\n" + sse.event({"choices": []}))
                await asked.drain()
                await asyncio.sleep(0.02)

    found, _ = await read_until(UpstreamTimeout, ask(await serve(script), body_timeout=0.3))
    assert text(found) == "begun"
