"""The reference upstream does on the wire what its table says, and says what it was asked."""

import asyncio
import base64
import hashlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from support import ROOT

from gateway.testing.upstream import PERSONALITIES, ReferenceUpstream, Step, read_script, table

WORDS = [f"word{number}" for number in range(40)]
TEXT = " ".join(WORDS)
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"finding": {"type": "string"}, "most": {"type": "integer"}}},
    },
}


@pytest.fixture
async def upstream() -> AsyncIterator[ReferenceUpstream]:
    async with ReferenceUpstream(TEXT) as server:
        yield server


def whole_letters(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


def request(model: str, **fields: Any) -> bytes:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


async def connect(upstream: ReferenceUpstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(upstream.url.split(":")[2].split("/")[0])
    return await asyncio.open_connection("127.0.0.1", port)


async def ask(upstream: ReferenceUpstream, model: str, **fields: Any) -> bytes:
    """Give all bytes that come until the connection is closed."""
    reader, writer = await connect(upstream)
    writer.write(request(model, **fields))
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


def split(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Take an answer apart: status, headers, and the body out of its chunks, as far as it came."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
        body = whole
    return int(first.split()[1]), headers, body


def events(body: bytes) -> list[Any]:
    lines = [line.strip() for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [line[6:] if line == b"data: [DONE]" else json.loads(line[6:]) for line in lines]


def text_of(told: list[Any]) -> str:
    chunks = [event for event in told if event != b"[DONE]" and "choices" in event]
    return "".join(choice["delta"].get("content") or "" for event in chunks for choice in event["choices"])


async def stream(upstream: ReferenceUpstream, model: str, **fields: Any) -> tuple[list[Any], bytes]:
    raw = await ask(upstream, model, stream=True, **fields)
    status, headers, body = split(raw)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    return events(body), raw


async def whole(upstream: ReferenceUpstream, model: str, **fields: Any) -> Any:
    status, _, body = split(await ask(upstream, model, **fields))
    assert status == 200
    return json.loads(body)


async def test_the_openai_client_takes_its_answers(upstream: ReferenceUpstream) -> None:
    async with openai.AsyncOpenAI(base_url=upstream.url, api_key="k", max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == list(PERSONALITIES)
        messages: Any = [{"role": "user", "content": "hello"}]
        answer = await client.chat.completions.create(model="plain", messages=messages, n=2, seed=7)
        assert [choice.message.content for choice in answer.choices] == [TEXT, TEXT]
        assert answer.system_fingerprint == "fp_seed_7" and answer.usage.completion_tokens == 80
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="plain", messages=messages, n=2, stream=True, stream_options={"include_usage": True}
            )
        ]
        for index in (0, 1):
            told = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
            assert "".join(choice.delta.content or "" for choice in told) == TEXT
            assert told[-1].finish_reason == "stop"
        assert chunks[-1].usage.completion_tokens == 80
    asked = upstream.requests[-1]
    assert (asked.method, asked.model, asked.body["n"]) == ("POST", "plain", 2)
    assert asked.headers["authorization"] == "Bearer k"


async def test_max_tokens_and_stop_end_an_answer(upstream: ReferenceUpstream) -> None:
    cut = (await whole(upstream, "plain", max_tokens=3))["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("word0 word1 word2", "length")
    stopped = (await whole(upstream, "plain", stop=["word2"]))["choices"][0]
    assert (stopped["message"]["content"], stopped["finish_reason"]) == ("word0 word1 ", "stop")


async def test_logprobs_come_with_every_token(upstream: ReferenceUpstream) -> None:
    told = (await whole(upstream, "plain", logprobs=True, top_logprobs=3))["choices"][0]["logprobs"]["content"]
    assert "".join(place["token"] for place in told) == TEXT
    assert {len(place["top_logprobs"]) for place in told} == {3}
    streamed, _ = await stream(upstream, "plain", logprobs=True, top_logprobs=3)
    places = [choice["logprobs"] for event in streamed[:-1] for choice in event["choices"] if choice["logprobs"]]
    assert [place for told in places for place in told["content"]] == told
    assert all(place["top_logprobs"][0]["logprob"] == place["logprob"] < 0 for place in told)
    assert (await whole(upstream, "plain", logprobs=True))["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


async def test_the_answer_may_depend_on_the_request_and_differ_between_choices(upstream: ReferenceUpstream) -> None:
    upstream.answer = lambda body: [f"one of {body['n']}", "two"]
    assert [c["message"]["content"] for c in (await whole(upstream, "plain", n=3))["choices"]] == [
        "one of 3",
        "two",
        "one of 3",
    ]


async def test_images_are_counted_in_both_dialects(upstream: ReferenceUpstream) -> None:
    image = bytes(range(256)) * 20
    url = "data:image/png;base64," + base64.b64encode(image).decode()
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
    ]
    answer = await whole(upstream, "images", messages=[{"role": "user", "content": parts}])
    digest = hashlib.sha256(image).hexdigest()[:8]
    assert answer["choices"][0]["message"]["content"] == f"2 images, 10240 bytes: {digest} {digest}"
    assert answer["usage"]["prompt_tokens"] == 3 + 2 * 256
    assert upstream.requests[-1].images() == [image, image]


@pytest.mark.parametrize(
    ("model", "text"),
    [("say:A calm answer: yes.", "A calm answer: yes."), ("echo", "hello"), ("images", "0 images, 0 bytes")],
)
async def test_what_is_said_may_be_named(upstream: ReferenceUpstream, model: str, text: str) -> None:
    assert (await whole(upstream, model))["choices"][0]["message"]["content"] == text
    told, _ = await stream(upstream, model)
    assert text_of(told) == text and told[-1] == b"[DONE]"


async def test_long_is_as_long_as_is_said(upstream: ReferenceUpstream) -> None:
    assert len((await whole(upstream, "long:12345"))["choices"][0]["message"]["content"]) == 12345


async def test_tools_are_called_in_pieces(upstream: ReferenceUpstream) -> None:
    arguments = {"finding": TEXT, "most": 1}
    other = {"type": "function", "function": {"name": "other"}}
    message = (await whole(upstream, "tool-call", tools=[TOOL]))["choices"][0]
    assert message["finish_reason"] == "tool_calls" and message["message"]["content"] is None
    assert json.loads(message["message"]["tool_calls"][0]["function"]["arguments"]) == arguments
    told, _ = await stream(upstream, "two-tools", tools=[TOOL, other])
    deltas = [c["delta"]["tool_calls"][0] for e in told[:-1] for c in e["choices"] if "tool_calls" in c["delta"]]
    first = [delta["function"].get("arguments", "") for delta in deltas if delta["index"] == 0]
    assert json.loads("".join(first)) == arguments and len(first) > 10
    assert [delta["function"]["name"] for delta in deltas if "id" in delta] == ["look_up", "other"]
    assert (await whole(upstream, "tool-call"))["choices"][0]["message"]["content"] == TEXT, "no tools to call"


async def test_rates_are_kept() -> None:
    async with ReferenceUpstream("one two three four") as server:
        loop = asyncio.get_running_loop()
        start = loop.time()
        told, _ = await stream(server, "tokens:20")
        assert text_of(told) == "one two three four"
        assert loop.time() - start > 6 / 20, "six pieces follow the first"
        told, _ = await stream(server, "tokens:10000,300")
        assert len(text_of(told).split()) == 300


@pytest.mark.parametrize("model", ["slow-first:0.1", "slow-headers:0.01", "slow-loris:0.0001"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_slow_answers_are_whole_at_last(model: str, streamed: bool) -> None:
    async with ReferenceUpstream("Slow, and whole.") as server:
        if streamed:
            told, _ = await stream(server, model)
            assert text_of(told) == "Slow, and whole." and told[-1] == b"[DONE]"
        else:
            assert (await whole(server, model))["choices"][0]["message"]["content"] == "Slow, and whole."
        assert server.cancelled == 0


async def test_half_of_a_stream_comes_before_a_cut(upstream: ReferenceUpstream) -> None:
    assert await ask(upstream, "cut-before") == b""
    told, raw = await stream(upstream, "cut-mid-stream")
    assert TEXT.startswith(text_of(told)) and 15 < len(text_of(told).split()) < 25
    assert not raw.endswith(b"0\r\n\r\n")
    _, headers, body = split(await ask(upstream, "cut-mid-stream"))
    assert int(headers["content-length"]) > len(body) > 250
    reader, writer = await connect(upstream)
    writer.write(request("reset-mid-stream", stream=True))
    await reader.readuntil(b"word10")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    assert upstream.cancelled == 0, "the upstream broke off, not its client"


async def test_a_client_that_leaves_is_counted(upstream: ReferenceUpstream) -> None:
    for number, model in enumerate(("stall", "endless", "slow-first:60"), 1):
        reader, writer = await connect(upstream)
        writer.write(request(model, stream=True))
        if "slow" not in model:
            await reader.readuntil(b"word10")
        await until(lambda model=model: bool(upstream.requests) and upstream.requests[-1].model == model)
        assert upstream.open == 1
        writer.close()
        await until(lambda number=number: upstream.cancelled == number and upstream.open == 0)
    await stream(upstream, "plain")
    assert upstream.cancelled == 3


async def test_bodies_that_are_no_answer(upstream: ReferenceUpstream) -> None:
    for streamed in (False, True):
        status, headers, body = split(await ask(upstream, "html", stream=streamed))
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8") and b"<html>" in body
        assert split(await ask(upstream, "html-502", stream=streamed))[0] == 502
        raw = await ask(upstream, "garbage", stream=streamed)
        assert not raw.startswith(b"HTTP") and len(raw) > 4096
        status, _, body = split(await ask(upstream, "garbage-body", stream=streamed))
        assert status == 200 and b"data:" not in body and len(body) > 4096
        _, _, body = split(await ask(upstream, "malformed-chunk", stream=streamed))
        with pytest.raises(json.JSONDecodeError):
            events(body) if streamed else json.loads(body)


async def test_lengths_are_false(upstream: ReferenceUpstream) -> None:
    for streamed in (False, True):
        _, headers, body = split(await ask(upstream, "wrong-length-short", stream=streamed))
        assert len(body) // 2 == int(headers["content-length"])
        _, headers, body = split(await ask(upstream, "wrong-length-long", stream=streamed))
        assert len(body) + 1000 == int(headers["content-length"])


async def test_endless_and_long_lines(upstream: ReferenceUpstream) -> None:
    for streamed in (False, True):
        reader, writer = await connect(upstream)
        writer.write(request("endless", stream=streamed))
        for _ in range(100):
            await reader.readuntil(WORDS[-1].encode())
        writer.close()
        _, _, body = split(await ask(upstream, "endless-line", stream=streamed))
        assert max(map(len, body.split(b"\n"))) > 10_000_000
    told, _ = await stream(upstream, "endless-line")
    assert text_of(told).startswith(TEXT) and told[-1] == b"[DONE]"


async def test_the_ends_of_streams(upstream: ReferenceUpstream) -> None:
    plain, _ = await stream(upstream, "plain")
    assert text_of(plain) == TEXT
    assert [e["choices"][0]["finish_reason"] for e in plain[:-1]][-2:] == [None, "stop"]
    for model in ("double-done", "after-done", "no-done", "no-finish"):
        assert (await whole(upstream, model))["choices"][0]["message"]["content"] == TEXT
    told, _ = await stream(upstream, "double-done")
    assert told[-2:] == [b"[DONE]"] * 2 and text_of(told) == TEXT
    told, _ = await stream(upstream, "after-done")
    assert text_of(told[: told.index(b"[DONE]")]) == TEXT and text_of(told) == TEXT * 2
    told, raw = await stream(upstream, "no-done")
    assert b"[DONE]" not in told and raw.endswith(b"0\r\n\r\n") and told[-1]["choices"][0]["finish_reason"] == "stop"
    told, _ = await stream(upstream, "no-finish")
    assert text_of(told) == TEXT and all(e["choices"][0]["finish_reason"] is None for e in told)
    assert (await whole(upstream, "no-finish"))["choices"][0]["finish_reason"] is None


async def test_lines_of_streams(upstream: ReferenceUpstream) -> None:
    told, raw = await stream(upstream, "ping")
    assert text_of(told) == TEXT and raw.count(b": ping\n\n") == len(told)
    told, raw = await stream(upstream, "crlf")
    assert text_of(told) == TEXT and split(raw)[2].count(b"\r\n\r\n") == len(told)


async def test_letters(upstream: ReferenceUpstream) -> None:
    for streamed in (False, True):
        body = split(await ask(upstream, "invalid-utf8", stream=streamed))[2]
        with pytest.raises(UnicodeDecodeError):
            body.decode()
        assert b"word" in body.partition(b"\xff\xc3")[2]
    told, raw = await stream(upstream, "split-utf8")
    assert text_of(told) == TEXT + " Größe 5 µm bei 37 °C — 肺野清晰 🫁"
    chunks = raw.partition(b"\r\n\r\n")[2].split(b"\r\n")
    assert sum(not whole_letters(chunk) for chunk in chunks) >= 17, "every byte of a letter comes by itself"
    assert (await whole(upstream, "split-utf8"))["choices"][0]["message"]["content"].endswith("肺野清晰 🫁")


async def test_errors(upstream: ReferenceUpstream) -> None:
    for streamed in (False, True):
        for model, status, code in (
            ("busy:7", 429, "rate_limit_exceeded"),
            ("error-500", 500, "internal_error"),
            ("context-length", 400, "context_length_exceeded"),
            ("context-length:vllm", 400, "400"),
            ("refused", 422, "invalid_value"),
        ):
            told, headers, body = split(await ask(upstream, model, stream=streamed))
            assert (told, json.loads(body)["error"]["code"]) == (status, code)
            assert headers.get("retry-after") == ("7" if model == "busy:7" else None)
    told, _ = await stream(upstream, "error-in-stream")
    assert told[-1]["error"]["code"] == "internal_error" and TEXT.startswith(text_of(told)) and text_of(told)
    assert (await whole(upstream, "error-in-stream"))["error"]["type"] == "api_error"


async def test_once_is_the_first_request_for_a_model(upstream: ReferenceUpstream) -> None:
    for model, status in (("busy-once", 429), ("error-503-once", 503)):
        asked = [split(await ask(upstream, model))[0] for _ in range(3)]
        assert asked == [status, 200, 200]
        upstream.forget()
        assert split(await ask(upstream, model))[0] == status


async def test_a_script_goes_before_the_model(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('["busy", {"personality": "plain", "say": "scripted", "times": 2}]')
    async with ReferenceUpstream(TEXT, script=read_script(path), personality="error-500") as server:
        assert split(await ask(server, "plain"))[0] == 429
        for _ in range(2):
            assert (await whole(server, "error-500"))["choices"][0]["message"]["content"] == "scripted"
        assert (await whole(server, "plain"))["choices"][0]["message"]["content"] == TEXT
        assert split(await ask(server, "some-model"))[0] == 500, "the server's own, where the model names nobody"


@pytest.mark.parametrize("script", ['["nobody"]', '[{"persona": "plain"}]', '[{"times": 0}]', "{}", "["])
def test_a_script_is_read_strictly(tmp_path: Path, script: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(script)
    with pytest.raises(ValueError, match=r"no script|no personality `nobody`"):
        read_script(path)
    with pytest.raises(ValueError, match="no personality `plain:1`"):
        ReferenceUpstream(personality="plain:1")
    assert Step(say="x").personality == "plain"


async def test_what_is_no_request_gets_400(upstream: ReferenceUpstream) -> None:
    for sent in (
        b"hello\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n[]",
        b'POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 15\r\n\r\n{"messages": 7}',
    ):
        reader, writer = await connect(upstream)
        writer.write(sent)
        assert split(await reader.read())[0] == 400
        writer.close()
    reader, writer = await connect(upstream)
    writer.write(b"GET /v1/nothing HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert split(await reader.read())[0] == 404
    writer.close()
    assert not upstream.requests


async def test_one_connection_serves_many_requests(upstream: ReferenceUpstream) -> None:
    reader, writer = await connect(upstream)
    for number in range(3):
        sent = request("plain", stream=bool(number % 2)).replace(b"connection: close\r\n", b"")
        writer.write(sent)
        end = b"0\r\n\r\n" if number % 2 else b"}}"
        assert b"word39" in await reader.readuntil(end)
    assert upstream.open == 1
    body = request("plain").partition(b"\r\n\r\n")[2]
    half = len(body) // 2
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
        + b"0\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    assert b"word39" in await reader.readuntil(b"}}")
    writer.close()
    assert len(upstream.requests) == 4


async def test_closing_breaks_off_what_is_being_answered() -> None:
    async with ReferenceUpstream(TEXT) as server:
        reader, writer = await connect(server)
        writer.write(request("stall", stream=True))
        await reader.readuntil(b"word10")
    assert b"word39" not in await reader.read()
    writer.close()
    assert (server.open, server.cancelled) == (0, 0)


async def test_many_streams_at_once_keep_their_order(upstream: ReferenceUpstream) -> None:
    told = await asyncio.gather(*(stream(upstream, f"say:{number} {TEXT}") for number in range(100)))
    assert [text_of(events) for events, _ in told] == [f"{number} {TEXT}" for number in range(100)]


def test_in_a_thread() -> None:
    with ReferenceUpstream(TEXT).in_thread() as server:
        client = openai.OpenAI(base_url=server.url, api_key="k", max_retries=0)
        messages: Any = [{"role": "user", "content": "hello"}]
        assert client.chat.completions.create(model="plain", messages=messages).choices[0].message.content == TEXT
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="busy", messages=messages)
        client.close()
        url = server.url
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url + "/models", timeout=5)


def test_as_a_process_that_ends_quietly(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"say": "first"}]')
    command = [
        sys.executable,
        "-m",
        "gateway.testing.upstream",
        "--port",
        "0",
        "--say",
        "then",
        "--script",
        str(script),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split(" at ")[1].split(";")[0]
        client = openai.OpenAI(base_url=url, api_key="k", max_retries=0)
        messages: Any = [{"role": "user", "content": "hello"}]
        said = [client.chat.completions.create(model="m", messages=messages).choices[0].message.content for _ in "12"]
        assert said == ["first", "then"]
        client.chat.completions.create(model="stall", messages=messages, stream=True)  # and it is still at it
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")
        client.close()
    finally:
        process.kill()
    wrong = subprocess.run([*command[:3], "--personality", "nobody"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2 and "there is no personality `nobody`" in wrong.stderr


def test_the_page_holds_the_table() -> None:
    assert table() in (ROOT / "docs" / "upstream.md").read_text(), "copy what `… upstream --list` writes"
    assert len(table().splitlines()) == len(PERSONALITIES) + 2
