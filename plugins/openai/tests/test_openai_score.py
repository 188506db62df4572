"""Scoring against a real server on a real socket: what is asked, how first tokens are summed, and what is refused."""

import json
import math
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.plugin import Demonstration, Prompt, Request, Sampling, ScoringBackend, Text, Turn
from gateway_openai import Config, build
from gateway_openai.errors import UpstreamError, UpstreamNoLogprobs, UpstreamNonsense, UpstreamStatus
from gateway_openai.score import decode_score

MARKER = "zebra-4711-marker"
ANSWERS = ("Harmful", "Benign")


def prompt(said="is this lung clear?"):
    turn = Turn(role="user", parts=(Text(id="messages[0].content", text=said),))
    shown = Demonstration(id="x", pair="x", modality="ct", question="shown", answer="Benign", refuses=False)
    request = Request(
        id="d", department="d", model="auto", turns=(turn,), sampling=Sampling(temperature=0.9, n=3, stop=("x",))
    )
    return Prompt(request=request, demonstrations=(shown,))


def told(*places):
    """Make a response's body; each place is a mapping of tokens to probabilities, the likeliest first."""
    content = [
        {
            "token": next(iter(place), ""),
            "logprob": -0.1,
            "bytes": None,
            "top_logprobs": [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in place.items()],
        }
        for place in places
    ]
    choice = {"index": 0, "message": {"role": "assistant", "content": "H"}, "finish_reason": "length"}
    return {"id": "x", "model": "m", "choices": [{**choice, "logprobs": {"content": content}}]}


@asynccontextmanager
async def server(body, status=200):
    seen = []

    async def chat(request):
        seen.append(await request.json())
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    backend = build(Config(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1", model="m"))
    try:
        yield backend, seen
    finally:
        await backend.aclose()
        await runner.cleanup()


async def test_the_first_tokens_are_asked_for_and_the_prompts_sampling_does_not_count():
    async with server(told({"Benign": 0.75, "H": 0.125, "harm": 0.0625, " HARM": 0.03125})) as (backend, seen):
        assert isinstance(backend, ScoringBackend)
        scores = await backend.score(prompt(), ANSWERS)
    assert [math.exp(score) for score in scores] == pytest.approx([0.21875, 0.75])
    (body,) = seen
    assert [message["content"] for message in body.pop("messages")] == ["shown", "Benign", "is this lung clear?"]
    asked = {"model": "m", "max_tokens": 3, "temperature": 0.0, "logprobs": True, "top_logprobs": 20}
    assert body == asked


@pytest.mark.parametrize(
    ("places", "answers", "wanted"),
    [
        ([{"\n": 0.9, "H": 0.1}, {"▁Harm": 0.5, "Ben": 0.25}], ANSWERS, (0.5, 0.25)),
        ([{"Ġ": 0.9}, {"Harmful.": 0.5}], ANSWERS, (0.5, 0.0)),
        ([{"I": 0.9, "The": 0.1}], ANSWERS, (0.0, 0.0)),
        ([{"S": 0.5, "Sa": 0.25, "Su": 0.125, "": 0.1}], ("Safe", "Sure"), (0.25, 0.125)),
        ([{"yes": 0.7, "Yes": 0.4}], ("Yes",), (1.0,)),
    ],
)
def test_tokens_are_summed_by_the_answer_that_they_begin(places, answers, wanted):
    scores = decode_score(json.dumps(told(*places)).encode(), answers)
    assert [math.exp(score) for score in scores] == pytest.approx(list(wanted))
    assert all((score == -math.inf) == (chance == 0) for score, chance in zip(scores, wanted, strict=True))


def without(key):
    body = told({"H": 0.5})
    if key == "logprobs":
        del body["choices"][0]["logprobs"]
    elif key == "null":
        body["choices"][0]["logprobs"] = None
    elif key == "top":
        del body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    else:
        body["choices"][0]["logprobs"]["content"] = None
    return body


@pytest.mark.parametrize("key", ["logprobs", "null", "top", "content"])
async def test_a_server_that_tells_no_log_probabilities_fails_by_name(key):
    async with server(without(key)) as (backend, _):
        with pytest.raises(UpstreamNoLogprobs, match="top_logprobs"):
            await backend.score(prompt(), ANSWERS)


@pytest.mark.parametrize(
    "body",
    [
        {"error": MARKER},
        {"choices": []},
        {**told({"H": 0.5}), "choices": told({"H": 0.5})["choices"] * 2},
        told({"H": 2.0}),
        {"choices": [{"logprobs": {"content": [{"token": "H", "top_logprobs": [{"token": "H", "logprob": None}]}]}}]},
    ],
)
async def test_nonsense_is_refused_without_quoting_it(body):
    async with server(body) as (backend, _):
        with pytest.raises(UpstreamNonsense) as caught:
            await backend.score(prompt(MARKER), ANSWERS)
    assert MARKER not in str(caught.value)


async def test_a_server_that_refuses_the_parameter_fails_by_its_status():
    async with server({"error": {"message": "logprobs are not supported"}}, status=400) as (backend, _):
        with pytest.raises(UpstreamStatus) as caught:
            await backend.score(prompt(), ANSWERS)
    assert isinstance(caught.value, UpstreamError)


@pytest.mark.parametrize("answers", [(), ("Yes", " "), ("Safe", "safest"), ("a", "A")])
async def test_answers_that_can_not_be_told_apart_are_refused(answers):
    async with server(told({"H": 0.5})) as (backend, seen):
        with pytest.raises(ValueError, match="answer"):
            await backend.score(prompt(), answers)
    assert seen == []
