"""Streams from a real server on a real socket: what is asked, what is given, and how they end."""

import asyncio
import gc
import json

import pytest

from gateway.plugin import Ended, Piece, Sampling, StreamingBackend, Text, Usage
from gateway.testing import check_backend, prompt

MARKER = "zebra-4711-marker"
PATIENCE = 10  # seconds, far more than anything here takes


async def read(backend, asked=None):
    async with asyncio.timeout(PATIENCE):
        return [item async for item in backend.stream(asked or prompt())]


def text(items, choice=0):
    return "".join(item.text for item in items if isinstance(item, Piece) and item.choice == choice)


async def settled(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in aiohttp, which tells nobody
            await asyncio.sleep(0.005)


async def test_a_stream_is_asked_for_and_given_piece_by_piece(serve, ask, sse):
    async def script(asked):
        asked.stream(sse.delta(role="assistant", content=""), sse.said("no "), sse.said("fracture"), sse.stop)
        # the end of the first stream is written; the second has its usage

    async def with_usage(asked):
        asked.stream(sse.said("no"), sse.stop, sse.used(9, 4, system_fingerprint="fp"), sse.done)

    server = await serve(script)
    backend = ask(server)
    assert isinstance(backend, StreamingBackend)
    sampling = Sampling(max_tokens=9, seed=3, logprobs=5)
    assert await read(backend, prompt("Is it?", sampling=sampling)) == [
        Piece(text="no "),
        Piece(text="fracture"),
        Piece(finish_reason="stop"),
        Ended(model="served"),
    ]
    assert server.asked[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Is it?"}],
        "max_tokens": 9,
        "seed": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert b"accept: text/event-stream" in server.asked[0].head.lower()
    ended = (await read(ask(await serve(with_usage))))[-1]
    assert ended == Ended(model="served", usage=Usage(prompt_tokens=9, completion_tokens=4), revision="fp")


async def test_pieces_come_as_they_are_written(serve, ask, sse):
    go = asyncio.Event()

    async def script(asked):
        asked.open()
        asked.chunk(sse.said("first"))
        await go.wait()
        asked.chunk(sse.said(" second") + sse.stop + sse.done)
        asked.end()

    stream = ask(await serve(script)).stream(prompt())
    async with asyncio.timeout(PATIENCE):
        assert await anext(stream) == Piece(text="first")
        go.set()
        assert [item async for item in stream][-1] == Ended(model="served")


async def test_tool_calls_and_choices_of_a_stream(serve, ask, sse):
    def calling(**call):
        return sse.delta(1, tool_calls=[{"index": 0, **call}])

    async def script(asked):
        asked.stream(
            sse.said("a", 0),
            calling(id="c1", type="function", function={"name": "find", "arguments": ""}),
            calling(function={"arguments": '{"x":'}),
            sse.said("b", 0),
            calling(function={"arguments": " 1}"}),
            sse.delta(1, finish="tool_calls"),
            sse.delta(0, finish="length"),
            sse.done,
        )

    got = await read(ask(await serve(script)), prompt(sampling=Sampling(n=2)))
    assert text(got) == "ab"
    calls = [item for item in got if isinstance(item, Piece) and item.call is not None]
    assert calls[0] == Piece(choice=1, call=0, call_id="c1", name="find")
    assert "".join(piece.arguments for piece in calls) == '{"x": 1}'
    assert {p.choice: p.finish_reason for p in got[:-1] if p.finish_reason} == {0: "length", 1: "tool_calls"}


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
async def test_any_packets_and_line_ends_give_the_same(serve, ask, sse, size):
    events = b": ping\n\n" + sse.said("größer ") + b": ping\n\n" + sse.said("肺 🫁") + sse.stop + sse.used() + sse.done

    async def script(asked):
        asked.open()
        data = events.replace(b"\n", b"\r\n")
        for start in range(0, len(data), size):
            asked.chunk(data[start : start + size])
            await asked.drain()
        asked.end()

    got = await read(ask(await serve(script)))
    assert text(got) == "größer 肺 🫁"
    assert got[-1] == Ended(model="served", usage=Usage(prompt_tokens=7, completion_tokens=3))


async def test_nothing_after_the_mark_of_the_end_is_read(serve, ask, sse):
    async def script(asked):
        asked.stream(sse.said("a"), sse.stop, sse.done + sse.done + b"data: {broken\n\n<html>" + sse.said(MARKER))

    assert text(await read(ask(await serve(script)))) == "a"


async def test_a_stream_without_the_mark_of_the_end_is_whole_where_every_choice_has_ended(serve, ask, sse):
    async def closes(asked):
        asked.headers(connection="close")
        asked.send(sse.said("a") + sse.stop)
        await asked.drain()
        asked.hang_up() if asked.number else asked._writer.close()

    async def breaks(asked):
        asked.open()
        asked.chunk(sse.said("a") + sse.stop)
        await asked.drain()
        asked.hang_up()

    for script in (closes, breaks):
        got = await read(ask(await serve(script)))
        assert (text(got), got[-1]) == ("a", Ended(model="served"))


async def test_one_body_in_place_of_a_stream_is_one_completion(serve, ask, sse):
    async def script(asked):
        asked.reply(sse.answer("whole"))

    got = await read(ask(await serve(script)))
    usage = Usage(prompt_tokens=7, completion_tokens=3)
    assert got == [Piece(text="whole"), Piece(finish_reason="stop"), Ended(model="served", usage=usage)]


async def test_the_connection_of_a_stream_is_used_again(serve, ask, sse):
    async def script(asked):
        asked.stream(sse.said("a"), sse.stop, sse.done)

    server = await serve(script)
    backend = ask(server)
    for _ in range(5):
        await read(backend)
    assert (len(server.asked), server.connections) == (5, 1)


async def test_what_the_caller_does_between_two_pieces_takes_none_of_the_time(serve, ask, sse):
    async def script(asked):
        asked.open()
        asked.chunk(sse.said("a"))
        await asked.drain()
        await asyncio.sleep(0.05)
        asked.chunk(sse.said("b") + sse.stop + sse.done)
        asked.end()

    got = []
    async for item in ask(await serve(script), body_timeout=0.3).stream(prompt()):
        got.append(item)
        await asyncio.sleep(0.4)
    assert text(got) == "ab"


async def test_a_caller_who_goes_away_closes_the_connection_at_once(serve, ask, sse):
    gone = asyncio.Event()

    async def script(asked):
        asked.open()
        asked.chunk(sse.said("first"))
        await asked.gone()
        gone.set()

    server = await serve(script)
    backend = ask(server, in_flight=1, queue=0)
    stream = backend.stream(prompt())
    async with asyncio.timeout(PATIENCE):
        await anext(stream)
        await stream.aclose()
        await gone.wait()
        gone.clear()

        async def reader():
            async for _ in backend.stream(prompt()):  # its place is free again, or this were refused
                pass

        task = asyncio.create_task(reader())
        await settled(lambda: len(server.asked) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()
    await settled(lambda: server.open == 0)


async def test_a_stream_that_is_dropped_and_not_closed_holds_nothing_for_long(serve, ask, sse):
    gone = asyncio.Event()

    async def script(asked):
        asked.open()
        asked.chunk(sse.said("first"))
        await asked.gone()
        gone.set()

    backend = ask(await serve(script))
    async for _ in backend.stream(prompt()):
        break
    gc.collect()
    async with asyncio.timeout(PATIENCE):
        await gone.wait()


async def test_many_streams_at_once_keep_their_own_order(serve, ask, sse):
    async def script(asked):
        asked.open()
        name = asked.body["messages"][-1]["content"]
        for n in range(20):
            asked.chunk(sse.said(f"{name}.{n} "))
            await asyncio.sleep(0)
        asked.chunk(sse.stop + sse.done)
        asked.end()

    backend = ask(await serve(script), max_connections=16)
    got = await asyncio.gather(*(read(backend, prompt(f"q{n}")) for n in range(64)))
    assert [text(items) for items in got] == ["".join(f"q{n}.{k} " for k in range(20)) for n in range(64)]


async def test_the_contract_of_a_model_stage_that_streams(serve, ask, sse):
    async def script(asked):
        choices = range(asked.body.get("n", 1))
        if not asked.body.get("stream"):
            return asked.reply(sse.answer(*["Nothing is found." for _ in choices]))
        said = [sse.said(word, n) for word in ("Nothing ", "is found.") for n in choices]
        ends = [sse.delta(n, finish="stop") for n in choices]
        return asked.stream(*said, *ends, sse.used(), sse.done)

    await check_backend(ask(await serve(script)))


async def test_tools_of_a_stream_are_sent_with_their_choice(serve, ask, sse):
    async def script(asked):
        asked.stream(sse.said("a"), sse.stop, sse.done)

    server = await serve(script)
    tools = [{"type": "function", "function": {"name": "f"}}]
    extra = {
        "tools": Text(id="tools", text=json.dumps(tools)),
        "tool_choice": Text(id="tool_choice", text='"required"'),
        "parallel_tool_calls": False,
    }
    await read(ask(server), prompt(**extra))
    body = server.asked[0].body
    assert (body["tools"], body["tool_choice"], body["parallel_tool_calls"]) == (tools, "required", False)
    await read(ask(server), prompt(parallel_tool_calls=False))
    assert "parallel_tool_calls" not in server.asked[1].body, "it means nothing without tools, and OpenAI refuses it"
