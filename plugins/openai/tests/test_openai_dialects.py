"""What each dialect is sent, what is refused before anything is sent, and what a server's refusal means."""

import base64
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugin import Ended, Piece, Sampling, Text
from gateway.testing import image, prompt
from gateway_openai.dialect import DIALECTS
from gateway_openai.errors import (
    UnsupportedRefused,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamStatus,
    UpstreamTooLong,
)
from gateway_openai.faults import fault_in_stream, fault_of, retry_after

MARKER = "zebra-4711-marker"
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
TOOLS = Text(id="tools", text='[{"type": "function", "function": {"name": "f"}}]')


def choice(word):
    return Text(id="tool_choice", text=json.dumps(word))


@pytest.fixture
async def sent(serve, ask, sse):
    """Give the body that a prompt is sent as, in a dialect."""

    async def of(asked, **config):
        async def script(request):
            n = request.body.get("n", 1)
            request.reply(sse.answer(*["fine"] * n))

        server = await serve(script)
        await ask(server, **config).complete(asked)
        return server.asked[0].body

    return of


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_images_are_addressed_as_the_dialect_has_it(sent, dialect):
    picture = image()
    body = await sent(prompt("What is this?", images=[picture]), dialect=dialect)
    words, shown = body["messages"][0]["content"]
    url = "data:image/png;base64," + base64.b64encode(picture.data).decode()
    assert words == {"type": "text", "text": "What is this?"}
    assert shown == {"type": "image_url", "image_url": url if dialect == "ollama" else {"url": url}}


@pytest.mark.parametrize("dialect", ["openai", "vllm", "sglang"])
async def test_every_parameter_is_sent_where_the_server_knows_it_or_says_that_it_does_not(sent, dialect):
    given_ = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2, "n": 2, "seed": 3, "max_tokens": 4}
    asked = prompt(sampling=Sampling(**given_), tools=TOOLS, tool_choice=choice("required"), parallel_tool_calls=False)
    body = await sent(asked, dialect=dialect)
    assert {name: body[name] for name in given_} == given_
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"sampling": Sampling(n=2)}, "n"),
        ({"sampling": Sampling(top_k=5)}, "top_k"),
        ({"sampling": Sampling(min_p=0.0)}, "min_p"),
        ({"sampling": Sampling(repetition_penalty=1.0)}, "repetition_penalty"),
        ({"tools": TOOLS, "tool_choice": choice("required")}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": choice("none")}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": choice({"type": "function", "function": {"name": "f"}})}, "tool_choice"),
        ({"tools": TOOLS, "parallel_tool_calls": False}, "parallel_tool_calls"),
    ],
)
async def test_what_ollama_would_pass_over_in_silence_is_refused_before_anything_is_sent(serve, ask, asked, field):
    async def script(request):
        raise AssertionError("it was sent")

    server = await serve(script)
    backend = ask(server, dialect="ollama")
    with pytest.raises(UnsupportedRefused, match=f"`ollama` has no `{field}`"):
        await backend.complete(prompt(**asked))
    with pytest.raises(UnsupportedRefused, match=f"`{field}`"):
        await anext(backend.stream(prompt(**asked)))
    assert server.asked == []


async def test_what_ollama_knows_is_sent(sent):
    sampling = Sampling(
        temperature=0.5, top_p=0.9, seed=1, max_tokens=7, stop=("x",), frequency_penalty=0.1, logprobs=2
    )
    extra = {"tools": TOOLS, "tool_choice": choice("auto"), "parallel_tool_calls": True}
    body = await sent(prompt(sampling=sampling, **extra), dialect="ollama")
    del body["messages"], body["tools"]
    assert body == {
        "model": "m",
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 1,
        "max_tokens": 7,
        "stop": ["x"],
        "frequency_penalty": 0.1,
        "logprobs": True,
        "top_logprobs": 2,
    }


async def test_ollamas_tool_calls_that_are_all_numbered_0_stay_apart_in_a_stream(serve, ask, sse):
    def call(id, arguments):
        return {"id": id, "index": 0, "type": "function", "function": {"name": "f", "arguments": arguments}}

    async def script(asked):
        asked.stream(
            sse.delta(role="assistant", content="", tool_calls=[call("a", '{"n":1}')]),
            sse.delta(role="assistant", content="", tool_calls=[call("b", '{"n":2}')]),
            sse.delta(role="assistant", content="", finish="tool_calls"),
            sse.done,
        )

    items = [item async for item in ask(await serve(script), dialect="ollama").stream(prompt(tools=TOOLS))]
    assert items == [
        Piece(call=0, call_id="a", name="f", arguments='{"n":1}'),
        Piece(call=1, call_id="b", name="f", arguments='{"n":2}'),
        Piece(finish_reason="tool_calls"),
        Ended(model="served"),
    ]


@pytest.mark.parametrize("dialect", ["openai", "vllm", "sglang"])
async def test_the_bound_of_an_answer_has_the_name_that_is_asked_for(sent, dialect):
    asked = prompt(sampling=Sampling(max_tokens=9))
    body = await sent(asked, dialect=dialect, max_completion_tokens=True)
    assert (body.get("max_completion_tokens"), body.get("max_tokens")) == (9, None)
    body = await sent(asked, dialect=dialect)
    assert (body.get("max_completion_tokens"), body.get("max_tokens")) == (None, 9)


TOO_LONG = {
    "openai": {"error": {"message": MARKER, "type": "x", "param": "messages", "code": "context_length_exceeded"}},
    "vllm": {"error": {"message": MARKER, "type": "BadRequestError", "param": "input_tokens", "code": 400}},
    "vllm, older": {
        "object": "error",
        "message": f"This model's maximum context length is 4096 tokens. However, you requested {MARKER}",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
    "vllm, max_tokens": {
        "error": {
            "message": "'max_tokens' is too large: 8000. This model's maximum context length is 4096 tokens",
            "type": "BadRequestError",
            "code": 400,
        }
    },
    "sglang": {
        "object": "error",
        "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "type": "BadRequestError",
        "code": 400,
    },
    "llama.cpp": {"error": {"code": 400, "message": MARKER, "type": "exceed_context_size_error", "n_ctx": 4096}},
}


@pytest.mark.parametrize("server_of", TOO_LONG)
async def test_a_prompt_that_is_too_long_is_told_apart_from_another_refusal(serve, ask, server_of):
    async def script(asked):
        asked.reply(TOO_LONG[server_of], status=400)

    server = await serve(script)
    for ask_one in (lambda b: b.complete(prompt()), lambda b: anext(b.stream(prompt()))):
        with pytest.raises(UpstreamTooLong) as caught:
            await ask_one(ask(server))
        assert MARKER not in str(caught.value)
    assert len(server.asked) == 2, "a refusal was asked again"


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": f"unknown parameter {MARKER}", "code": 400}},
        {
            "error": {
                "message": ["maximum context length"],
                "code": ["context_length_exceeded"],
                "param": {},
                "type": [],
            }
        },
        {"error": MARKER},
        {"error": [1]},
        [],
        b"",
        b"\xff\xfe",
        b"<html>" + MARKER.encode(),
        b"[" * 50_000,
        b"x" * 200_000,
    ],
)
async def test_another_refusal_is_just_that_whatever_it_says(serve, ask, body):
    async def script(asked):
        asked.reply(body, status=400)

    with pytest.raises(UpstreamRefused) as caught:
        await ask(await serve(script)).complete(prompt())
    assert type(caught.value) is UpstreamRefused
    assert MARKER not in str(caught.value)


async def test_a_refusal_that_never_ends_is_a_refusal(serve, ask):
    async def script(asked):
        asked.headers(400, "application/json", content_length=10**9)
        while True:
            asked.send(b" " * 65_536)
            await asked.drain()

    with pytest.raises(UpstreamRefused):
        await ask(await serve(script)).complete(prompt())


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("3", 3.0),
        (" 0.5 ", 0.5),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("nan", None),
        ("1e9", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(told, seconds):
    assert retry_after(told, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "fault"),
    [(429, UpstreamBusy), (400, UpstreamRefused), (404, UpstreamStatus), (503, UpstreamStatus), (301, UpstreamStatus)],
)
def test_a_status_is_a_fault_of_its_kind(status, fault):
    got = fault_of(status, {}, b"", now=lambda: NOW)
    assert (type(got), got.status) == (fault, status)


@given(st.text(max_size=80))
def test_words_of_any_kind_make_faults_and_nothing_else(words):
    assert isinstance(fault_in_stream(words), UpstreamError)
    assert isinstance(
        fault_of(400, {"Retry-After": words}, words.encode("utf-8", "replace"), now=lambda: NOW), UpstreamError
    )
    assert isinstance(fault_of(429, {"Retry-After": words}, b"", now=lambda: NOW), UpstreamBusy)
