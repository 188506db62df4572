"""What a good request becomes: the values the stages get, and the answer for each outcome."""

import asyncio
import statistics
import time

import msgspec
import pytest

from gateway.errors import TooMany, Unavailable
from gateway.values import Image, Text
from gateway.wire.chat import HARMLESS, LEFT_OUT, REFUSED, TAKEN, read_chat
from gateway.wire.ids import is_decision_id
from gateway.wire.render import answer_of, completion_body
from gateway.wire.strict import read_object

PATH = "/v1/chat/completions"
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}]


def chat(content="Which plane is this?", **more):
    return {"model": "auto", "messages": [{"role": "user", "content": content}], **more}


def read(body):
    asked = read_chat(read_object(msgspec.json.encode(body)), id="dec_x", department="radiology", models=("a", "b"))
    return asked.request({})


async def test_a_question_is_answered_and_names_its_decision(client, runtime):
    answer = await client.post(PATH, json=chat())
    assert answer.status_code == 200
    body = answer.json()
    decision = answer.headers["x-gateway-decision"]
    assert is_decision_id(decision)
    assert answer.headers["x-gateway-outcome"] == "released"
    assert answer.headers["x-request-id"] == decision
    assert body["id"] == f"chatcmpl-{decision}"
    assert body["object"] == "chat.completion"
    assert body["model"] == "org/model-a"
    assert abs(body["created"] - time.time()) < 5
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "you said: Which plane is this?", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert runtime.asked[0].id == decision
    assert runtime.asked[0].department == "radiology"


@pytest.mark.parametrize(("word", "outcome"), [("fraud", "refused"), ("secret", "withheld")])
async def test_a_refusal_is_a_message(client, word, outcome):
    answer = await client.post(PATH, json=chat(f"the {word} thing", n=2))
    assert answer.status_code == 200
    assert answer.headers["x-gateway-outcome"] == outcome
    body = answer.json()
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "content_filter"
    assert answer.headers["x-gateway-decision"] in choice["message"]["content"]
    assert body["usage"]["total_tokens"] == 0


@pytest.mark.parametrize(("word", "outcome"), [("fraud", "refused"), ("secret", "withheld")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_an_error_where_the_policy_says_so(client, runtime, word, outcome, stream):
    runtime.refuse_as = "error"
    answer = await client.post(PATH, json=chat(word, stream=stream))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "content_filter"
    assert answer.headers["x-gateway-decision"] in error["message"]
    assert answer.headers["x-gateway-outcome"] == outcome


@pytest.mark.parametrize("refuse_as", ["message", "error"])
@pytest.mark.parametrize(("word", "status"), [("broken", 502), ("slow", 504)])
async def test_a_failed_model_is_a_bad_gateway(client, runtime, refuse_as, word, status):
    runtime.refuse_as = refuse_as
    answer = await client.post(PATH, json=chat(word))
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "api_error"
    assert answer.json()["error"]["code"] == "model_unavailable"
    assert answer.headers["x-gateway-outcome"] == "withheld"
    assert is_decision_id(answer.headers["x-gateway-decision"])


async def test_choices_and_tool_calls(client):
    body = (await client.post(PATH, json=chat(n=3))).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    body = (await client.post(PATH, json=chat(tools=TOOLS))).json()
    message = body["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["name"] == "look"
    assert body["choices"][0]["finish_reason"] == "tool_calls"


async def test_an_image_reaches_the_stages_as_pixels(client, runtime, png):
    content = [
        {"type": "image_url", "image_url": png},
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": png, "detail": "high"}},
    ]
    answer = await client.post(PATH, json=chat(content))
    assert answer.status_code == 200
    first, text, last = runtime.asked[0].turns[0].parts
    assert isinstance(first, Image)
    assert isinstance(last, Image)
    assert (first.id, text.id, last.id) == tuple(f"messages[0].content[{i}]" for i in range(3))
    assert (first.width, first.height) == (8, 6)


def test_every_text_becomes_a_part_with_its_place():
    request = read(
        {
            "model": "b",
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "system", "content": [{"type": "text", "text": "be kind"}, {"type": "text", "text": ""}]},
                {"role": "user", "content": "look", "name": "ann"},
                {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}],
                },
                {"role": "tool", "content": [{"type": "text", "text": "seen"}], "tool_call_id": "c1"},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
                {"role": "assistant", "content": "", "refusal": "never"},
                {"role": "user", "content": [{"type": "text", "text": "more"}]},
            ],
            "tools": TOOLS,
            "tool_choice": {"type": "function", "function": {"name": "look"}},
            "response_format": {"type": "json_object"},
            "stop": "x",
            "max_completion_tokens": 5,
        }
    )
    assert request.model == "b"
    assert [turn.role for turn in request.turns] == [
        *("system", "system", "user", "assistant", "tool", "assistant", "assistant", "user")
    ]
    texts = {part.id: part.text for part in request.parts() if isinstance(part, Text)}
    assert texts == {
        "tools": msgspec.json.encode(TOOLS).decode(),
        "tool_choice": '{"type":"function","function":{"name":"look"}}',
        "response_format": '{"type":"json_object"}',
        "messages[0].content": "be brief",
        "messages[1].content[0]": "be kind",
        "messages[2].content": "look",
        "messages[3].tool_calls[0].name": "look",
        "messages[3].tool_calls[0].arguments": "{}",
        "messages[4].content[0]": "seen",
        "messages[5].content[0]": "no",
        "messages[6].refusal": "never",
        "messages[7].content[0]": "more",
    }
    assert request.turns[3].tool_calls[0].id == "call_0", "no stage reads a caller's id, so no model may"
    assert request.turns[4].tool_call_id == "call_0"
    assert request.sampling.stop == ("x",)
    assert request.sampling.max_tokens == 5


def test_sampling_is_taken_as_it_was_sent():
    request = read(
        chat(
            temperature=0,
            top_p=1,
            top_k=40,
            min_p=0.05,
            presence_penalty=-2,
            frequency_penalty=2,
            repetition_penalty=1.1,
            seed=-7,
            n=8,
            stop=["a", "b"],
            max_tokens=32768,
            logprobs=True,
            top_logprobs=20,
        )
    )
    sampling = msgspec.structs.asdict(request.sampling)
    assert sampling == {
        "max_tokens": 32768,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 40,
        "min_p": 0.05,
        "presence_penalty": -2.0,
        "frequency_penalty": 2.0,
        "repetition_penalty": 1.1,
        "seed": -7,
        "n": 8,
        "stop": ("a", "b"),
        "logprobs": 20,
    }
    assert read(chat(top_k=-1)).sampling.top_k is None


def test_what_is_left_out_reaches_nothing():
    filled = {dict: {"k": "marker"}, str: "marker", bool: True}
    body = chat(**{name: filled[kind] for name, kind in LEFT_OUT.items()}, parallel_tool_calls=True)
    body["messages"][0]["name"] = "marker"
    assert "marker" not in repr(read(body))


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_field_passes_when_it_says_what_holds_anyway(name):
    assert read(chat(**{name: None})) == read(chat())
    for value in HARMLESS.get(name, ()):
        assert read(chat(**{name: value})) == read(chat())


def test_no_field_is_in_two_lists():
    assert not set(TAKEN) & set(REFUSED)
    assert not set(TAKEN) & set(LEFT_OUT)
    assert not set(LEFT_OUT) & set(REFUSED)
    assert set(HARMLESS) <= set(REFUSED)


async def test_more_in_flight_than_allowed_is_told_to_come_again(make_runtime, serving):
    import aiohttp

    runtime = make_runtime(in_flight=1)
    runtime.hold = asyncio.Event()
    headers = {"authorization": "Bearer key-caller"}
    async with serving(runtime) as base, aiohttp.ClientSession(headers=headers) as session:
        first = asyncio.create_task(session.post(base + PATH, json=chat()))
        await runtime.arrived.wait()
        second = await session.post(base + PATH, json=chat())
        assert second.status == 429
        assert second.headers["retry-after"] == "1"
        assert (await second.json())["error"]["type"] == "rate_limit_error"
        runtime.hold.set()
        assert (await first).status == 200
        assert (await session.post(base + PATH, json=chat())).status == 200


async def test_a_place_is_given_back_after_a_failure(make_runtime):
    from litestar.testing import AsyncTestClient

    from gateway.web.app import create_app

    runtime = make_runtime(in_flight=1)
    async with AsyncTestClient(create_app(runtime), raise_server_exceptions=False) as client:
        client.headers["authorization"] = "Bearer key-caller"
        for raised, status in ((RuntimeError("marker"), 500), (Unavailable("no log"), 503), (None, 200)):
            runtime.raises = raised
            assert (await client.post(PATH, json=chat())).status_code == status
        assert (await client.post(PATH, json=chat(""))).status_code == 400
        assert (await client.post(PATH, json=chat())).status_code == 200
    assert runtime.closed


def test_bytes_held_at_once_are_bounded():
    from gateway.web.body import BODIES_AT_ONCE, InFlight

    in_flight = InFlight(100, 10)
    with in_flight.place() as first:
        for _ in range(BODIES_AT_ONCE):
            in_flight.hold(first, 10)
            first.bytes = 0  # as if it were another's: the total stays
        with in_flight.place() as second, pytest.raises(TooMany):
            in_flight.hold(second, 1)


async def test_reading_and_writing_cost_under_a_millisecond(runtime):
    raw = msgspec.json.encode(chat("Which imaging plane is shown in this brain MRI? " * 8, max_tokens=64))
    times = []
    for _ in range(200):
        start = time.perf_counter()
        asked = read_chat(read_object(raw), id="dec_x", department="radiology", models=("a", "b"))
        request = asked.request({})
        times.append(time.perf_counter() - start)
        caller = await runtime.authenticate("key-caller")
        logged = await runtime.answer(request, caller, PATH)
        start = time.perf_counter()
        completion_body(answer_of(logged.outcome, logged.id))
        times[-1] += time.perf_counter() - start
    assert statistics.median(times) < 0.001
