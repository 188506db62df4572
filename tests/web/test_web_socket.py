"""Over a real socket: the `openai` client, oversize bodies, callers that leave."""

import asyncio
import json

import aiohttp
import openai
import pytest

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer key-caller"}
ASKED = [
    {"role": "user", "content": "Which imaging plane is shown in this brain MRI of a ten-year-old, if any at all?"}
]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.fixture
async def openai_client(runtime, serving):
    async with (
        serving(runtime) as base,
        openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="key-caller", max_retries=0) as client,
    ):
        yield client


async def test_the_openai_client_lists_and_asks(openai_client, runtime, png):
    names = [model.id async for model in openai_client.models.list()]
    assert names == ["org/model-a", "model-b", "auto"]
    assert (await openai_client.models.retrieve("org/model-a")).id == "org/model-a"
    answer = await openai_client.chat.completions.create(model=names[0], messages=ASKED, max_tokens=24)
    assert answer.choices[0].message.content == f"you said: {ASKED[0]['content']}"
    assert answer._request_id == runtime.asked[-1].id
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": png}}]
    await openai_client.chat.completions.create(model="auto", messages=[{"role": "user", "content": parts}])
    assert len(runtime.asked[-1].images()) == 1


async def test_the_openai_client_can_send_its_own_answers_back(openai_client, runtime):
    first = await openai_client.chat.completions.create(model="auto", messages=ASKED, tools=TOOLS)
    message = first.choices[0].message
    assert message.tool_calls[0].id == f"call_{first.id.removeprefix('chatcmpl-')}_0_0", "a model's id does not leave"
    done = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "seen"}
    again = [*ASKED, message, done]
    await openai_client.chat.completions.create(model="auto", messages=again, tools=TOOLS)
    again = [*ASKED, message.model_dump(), done]
    await openai_client.chat.completions.create(model="auto", messages=again, tools=TOOLS)
    assert [turn.role for turn in runtime.asked[-1].turns] == ["user", "assistant", "tool"]


async def test_the_openai_client_streams(openai_client, runtime):
    stream = await openai_client.chat.completions.create(
        model="auto", messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == f"you said: {ASKED[0]['content']}"
    assert len(pieces) > 2
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens == 10
    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{runtime.asked[-1].id}"}
    assert runtime.asked[-1].stream


async def test_the_openai_client_streams_choices_and_tool_calls(openai_client):
    stream = await openai_client.chat.completions.create(model="auto", messages=ASKED, stream=True, tools=TOOLS, n=2)
    arguments = {0: "", 1: ""}
    finished = set()
    async for chunk in stream:
        assert chunk.usage is None
        choice = chunk.choices[0]
        for call in choice.delta.tool_calls or ():
            arguments[choice.index] += call.function.arguments or ""
        if choice.finish_reason:
            finished.add((choice.index, choice.finish_reason))
    assert {json.loads(text)["where"] for text in arguments.values()} == {"left lower lobe of the lung"}
    assert finished == {(0, "tool_calls"), (1, "tool_calls")}


async def test_the_openai_client_sees_refusals_and_errors(openai_client, runtime):
    fraud = [{"role": "user", "content": "insurance fraud"}]
    answer = await openai_client.chat.completions.create(model="auto", messages=fraud)
    assert answer.choices[0].finish_reason == "content_filter"
    stream = await openai_client.chat.completions.create(model="auto", messages=fraud, stream=True)
    last = [chunk async for chunk in stream][-1]
    assert last.choices[0].finish_reason == "content_filter"
    runtime.refuse_as = "error"
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.chat.completions.create(model="auto", messages=fraud)
    assert caught.value.code == "content_filter"
    with pytest.raises(openai.NotFoundError):
        await openai_client.chat.completions.create(model="gpt-x", messages=ASKED)
    with pytest.raises(openai.AuthenticationError):
        await openai_client.with_options(api_key="nope").models.list()
    with pytest.raises(openai.InternalServerError):
        await openai_client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "broken"}])


@pytest.mark.parametrize("text", ["a", "  spaces  and\n\nlines\n", "x" * 500, "é😀 " * 40, "\n", ""])
async def test_pieces_make_the_whole(openai_client, text, runtime):
    original = runtime._choice

    def choice(i, words, request):
        import msgspec

        made = original(i, words, request)
        return msgspec.structs.replace(made, text=msgspec.structs.replace(made.text, text=text))

    runtime._choice = choice
    stream = await openai_client.chat.completions.create(model="auto", messages=ASKED, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == text


async def chunks(size, count):
    for _ in range(count):
        yield b"x" * size


async def test_an_oversize_body_is_refused_however_it_comes(runtime, serving):
    runtime.settings.max_body_bytes = 1 << 20
    async with serving(runtime) as base, aiohttp.ClientSession(headers=KEY) as session:
        headers = {"content-type": "application/json"}
        announced = await session.post(base + PATH, data=b"x" * ((1 << 20) + 1), headers=headers)
        assert announced.status == 413
        error = (await announced.json())["error"]
        assert error["code"] == "request_too_large"
        assert str(1 << 20) in error["message"]
        chunked = await session.post(base + PATH, data=chunks(1 << 16, 17), headers=headers)
        assert chunked.status == 413
        assert (await chunked.json())["error"] == error
        just = await session.post(base + PATH, data=b"{" + b" " * ((1 << 20) - 2) + b"}", headers=headers)
        assert just.status == 400
        assert (await session.post(base + PATH, json={"model": "auto", "messages": ASKED})).status == 200


async def test_a_huge_claim_costs_nothing(runtime, serving):
    async with serving(runtime) as base:
        host, port = base.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-caller\r\n"
            f"content-type: application/json\r\ncontent-length: {2 << 30}\r\n\r\n{{".encode()
        )
        line = await asyncio.wait_for(reader.readline(), 10)
        assert b"413" in line
        writer.close()


async def test_a_caller_that_leaves_while_sending_hurts_nobody(runtime, serving):
    async with serving(runtime) as base:
        host, port = base.removeprefix("http://").split(":")
        for _ in range(12):  # more than are taken at once
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-caller\r\n"
                "content-type: application/json\r\ncontent-length: 100\r\n\r\n{".encode()
            )
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.close()
        await asyncio.sleep(0.1)
        async with aiohttp.ClientSession(headers=KEY) as session:
            assert (await session.post(base + PATH, json={"model": "auto", "messages": ASKED})).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_while_waiting_still_gets_its_record(runtime, serving, stream):
    runtime.hold = asyncio.Event()
    async with serving(runtime) as base:
        async with aiohttp.ClientSession(headers=KEY) as session:
            body = {"model": "auto", "messages": ASKED, "stream": stream}
            task = asyncio.create_task(session.post(base + PATH, json=body))
            await runtime.arrived.wait()
            task.cancel()
        await asyncio.sleep(0.05)
        assert runtime.decided == {}
        runtime.hold.set()
        for _ in range(200):
            if runtime.decided:
                break
            await asyncio.sleep(0.01)
    assert list(runtime.decided) == [runtime.asked[0].id]


async def test_a_stop_waits_for_decisions_in_flight(runtime, serving):
    runtime.hold = asyncio.Event()
    async with serving(runtime) as base, aiohttp.ClientSession(headers=KEY) as session:
        task = asyncio.create_task(session.post(base + PATH, json={"model": "auto", "messages": ASKED}))
        await runtime.arrived.wait()
        asyncio.get_running_loop().call_later(0.2, runtime.hold.set)
        task.cancel()
    assert runtime.decided
    assert runtime.closed


async def test_a_body_that_dribbles_loses_its_place(runtime, serving, monkeypatch):
    monkeypatch.setattr("gateway.web.body.BODY_SECONDS", 0.2)
    async with serving(runtime) as base:
        host, port = base.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-caller\r\n"
            "content-type: application/json\r\ncontent-length: 100\r\n\r\n{".encode()
        )
        assert b"400" in await asyncio.wait_for(reader.readline(), 10)
        writer.close()
