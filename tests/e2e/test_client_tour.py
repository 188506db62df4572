"""Clients as their users have them, by base URL alone: OpenAI's, Hugging Face's and the command-line tool `llm`.

One gateway is served for real, with two departments: the streams of one are held, those of the other leave window by
window. What a client hears is the same in both, but for what is found late. All clients stand in one file because the
gateway is started once for them.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from e2e.client_kit import (
    BENIGN,
    CALM,
    CLOSING,
    DEPARTMENTS,
    FORM,
    FRAUD,
    LONG,
    LOOKED_UP,
    NUMBER,
    OTHER,
    SHORT,
    SLOW,
    TOOLS,
    WITH_NUMBER,
    Tour,
    data_url,
    messages,
    picture,
    seen,
    touring,
)
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from pydantic import BaseModel

REDACTED = WITH_NUMBER.replace(NUMBER, "[REDACTED:MRN]").replace("MRN: [", "[")


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    with touring(tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture(params=DEPARTMENTS)
def department(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(tour: Tour, department: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=tour.url, api_key=tour.keys[department], max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
def later(tour: Tour, department: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=tour.url, api_key=tour.keys[department], max_retries=0, timeout=60)


class Form(BaseModel):
    finding: str
    certainty: int


def texts(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def finishes(chunks: list[Any]) -> list[str]:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


def parts() -> list[Any]:
    return [{"type": "text", "text": BENIGN}, {"type": "image_url", "image_url": {"url": data_url(picture())}}]


class TestOpenAI:
    """The client `openai`, unmodified."""

    def test_models_are_listed_and_retrieved(self, client: openai.OpenAI) -> None:
        names = [model.id for model in client.models.list()]
        assert names[0] == "plain" and {"short", "images", "auto"} <= set(names)
        told = client.models.retrieve("images")
        assert (told.id, told.object) == ("images", "model")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nobody")

    def test_text(self, client: openai.OpenAI, tour: Tour) -> None:
        answer = client.chat.completions.create(
            model="plain", messages=messages(), seed=7, temperature=0.2, top_p=0.9, stop=["Never said"], max_tokens=300,
            presence_penalty=0.1, frequency_penalty=0.2,
        )  # fmt: skip
        (choice,) = answer.choices
        assert (choice.message.content, choice.finish_reason, answer.model) == (LONG, "stop", "plain")
        assert answer.usage.completion_tokens > 100 and answer.usage.total_tokens > answer.usage.completion_tokens
        sent = tour.asked()
        assert (sent["seed"], sent["temperature"], sent["top_p"], sent["max_tokens"]) == (7, 0.2, 0.9, 300)
        assert (sent["stop"], sent["presence_penalty"], sent["frequency_penalty"]) == (["Never said"], 0.1, 0.2)
        assert sent["messages"][-1] == {"role": "user", "content": BENIGN}

    def test_an_answer_that_is_cut_short_says_so(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model="plain", messages=messages(), max_completion_tokens=5)
        assert answer.choices[0].finish_reason == "length" and LONG.startswith(answer.choices[0].message.content)

    def test_image(self, client: openai.OpenAI, tour: Tour) -> None:
        answer = client.chat.completions.create(model="images", messages=messages(parts()))
        assert answer.choices[0].message.content == seen(tour)

    def test_two_choices(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model="plain", messages=messages(), n=2)
        assert [choice.message.content for choice in answer.choices] == [LONG, OTHER]

    def test_a_form_for_the_answer(self, client: openai.OpenAI, tour: Tour) -> None:
        answer = client.chat.completions.parse(model="form", messages=messages(), response_format=Form)
        assert answer.choices[0].message.parsed == Form(**FORM)
        asked = tour.asked("form")["response_format"]["json_schema"]
        assert asked["name"] == "Form" and set(asked["schema"]["properties"]) == {"finding", "certainty"}

    def test_json_mode(self, client: openai.OpenAI, tour: Tour) -> None:
        form = {"type": "json_object"}
        answer = client.chat.completions.create(model="form", messages=messages(), response_format=form)
        assert json.loads(answer.choices[0].message.content) == FORM
        assert tour.asked("form")["response_format"] == form

    def test_logprobs(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model="short", messages=messages(), logprobs=True, top_logprobs=2)
        tokens = answer.choices[0].logprobs.content
        assert "".join(token.token for token in tokens) == SHORT
        assert all(token.logprob < 0 and len(token.top_logprobs) == 2 for token in tokens)
        assert all(token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob for token in tokens)

    def test_tools(self, client: openai.OpenAI, tour: Tour) -> None:
        talk = messages("What was the dose of the last scan?")
        first = client.chat.completions.create(model="openai", messages=talk, tools=TOOLS, parallel_tool_calls=False)
        (choice,) = first.choices
        (call,) = choice.message.tool_calls
        assert (choice.finish_reason, call.function.name, choice.message.content) == ("tool_calls", "look_up", None)
        assert json.loads(call.function.arguments) == {"what": "dose"}
        assert tour.asked("openai")["parallel_tool_calls"] is False
        talk += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": LOOKED_UP}]
        second = client.chat.completions.create(model="openai", messages=talk, tools=TOOLS)
        assert second.choices[0].message.content == LOOKED_UP
        called, told = tour.asked("openai")["messages"][-2:]
        assert called["tool_calls"][0]["id"] == told["tool_call_id"]

    def test_stream(self, client: openai.OpenAI, department: str) -> None:
        asked = client.chat.completions.with_raw_response.create(
            model="slow", messages=messages(), stream=True, stream_options={"include_usage": True}
        )
        chunks = list(asked.parse())
        assert (asked.headers.get("x-gateway-stream") == "windowed") == (department == "windowed")
        assert (texts(chunks), finishes(chunks)) == (SLOW, ["stop"])
        assert chunks[0].choices[0].delta.role == "assistant"
        assert not chunks[-1].choices and chunks[-1].usage.completion_tokens > 100
        assert all(chunk.usage is None for chunk in chunks[:-1])
        assert len({chunk.id for chunk in chunks}) == 1 and asked.headers["x-gateway-decision"] in chunks[0].id

    def test_stream_of_two_choices(self, client: openai.OpenAI) -> None:
        chunks = list(client.chat.completions.create(model="plain", messages=messages(), n=2, stream=True))
        assert (texts(chunks, 0), texts(chunks, 1), finishes(chunks)) == (LONG, OTHER, ["stop", "stop"])

    def test_stream_of_tools(self, client: openai.OpenAI) -> None:
        """A first turn by the client's own helper, which adds the events up; a second one by the plain stream."""
        talk = messages("What was the dose of the last scan?")
        with client.chat.completions.stream(model="openai-stream", messages=talk, tools=TOOLS) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_completion().choices[0]
        assert "tool_calls.function.arguments.done" in kinds
        (call,) = final.message.tool_calls
        assert (final.finish_reason, call.function.name) == ("tool_calls", "look_up")
        assert call.function.parsed_arguments == {"what": "dose"}
        said = {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": {
            "name": call.function.name, "arguments": call.function.arguments}}]}  # fmt: skip
        talk += [said, {"role": "tool", "tool_call_id": call.id, "content": LOOKED_UP}]
        chunks = list(client.chat.completions.create(model="openai-stream", messages=talk, tools=TOOLS, stream=True))
        assert (texts(chunks), finishes(chunks)) == (LOOKED_UP, ["stop"])

    def test_stream_by_the_helper(self, client: openai.OpenAI) -> None:
        asked = {"model": "plain", "messages": messages(), "stream_options": {"include_usage": True}}
        with client.chat.completions.stream(**asked) as stream:
            said = [event.delta for event in stream if event.type == "content.delta"]
            final = stream.get_final_completion()
        assert "".join(said) == LONG == final.choices[0].message.content
        assert final.choices[0].finish_reason == "stop" and final.usage.completion_tokens > 100

    def test_refusal(self, client: openai.OpenAI, tour: Tour) -> None:
        before = len(tour.upstreams["plain"].requests)
        whole = client.chat.completions.create(model="auto", messages=messages(FRAUD)).choices[0]
        chunks = list(client.chat.completions.create(model="auto", messages=messages(FRAUD), stream=True))
        assert whole.finish_reason == "content_filter" and finishes(chunks) == ["content_filter"]
        cut = len("The request was")
        assert texts(chunks)[:cut] == whole.message.content[:cut] != ""
        assert len(tour.upstreams["plain"].requests) == before, "a refused question never reaches the model"

    def test_what_is_redacted_never_leaves(self, client: openai.OpenAI) -> None:
        whole = client.chat.completions.create(model="numbers", messages=messages()).choices[0].message.content
        chunks = list(client.chat.completions.create(model="numbers", messages=messages(), stream=True))
        assert texts(chunks) == whole and "[REDACTED:MRN]" in whole
        assert NUMBER not in whole and whole.startswith(CALM * 6) and whole.endswith(CALM * 6)

    def test_what_is_found_late_ends_the_stream(self, client: openai.OpenAI, tour: Tour, department: str) -> None:
        asked = client.chat.completions.with_raw_response.create(model="leaks", messages=messages(), stream=True)
        chunks = list(asked.parse())
        decision = asked.headers["x-gateway-decision"]
        text = texts(chunks)
        assert finishes(chunks) == ["content_filter"] and "im_start" not in text
        record = tour.record(department, decision)
        assert record["outcome"] == "withheld"
        if department == "held":
            assert CALM not in text and record["left"] == 0
        else:
            left = text.removesuffix(f"\n\n{CLOSING} (decision {decision})")
            assert len(left) == len(text) - len(f"\n\n{CLOSING} (decision {decision})") == record["left"] > 0
            assert SLOW.startswith(left) and record["streamed"]["ended"] == "finding"

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    @pytest.mark.parametrize(
        ("model", "kind", "status", "code"),
        [
            ("busy", openai.RateLimitError, 429, "model_busy"),
            ("down", openai.InternalServerError, 502, "model_unavailable"),
            ("late", openai.InternalServerError, 504, "model_unavailable"),
            ("too-long", openai.BadRequestError, 400, "context_length_exceeded"),
            ("nobody", openai.NotFoundError, 404, "model_not_found"),
        ],
    )
    def test_errors(self, client: openai.OpenAI, model: str, kind: Any, status: int, code: str, stream: bool) -> None:
        with pytest.raises(kind) as raised:
            client.chat.completions.create(model=model, messages=messages(), stream=stream)
        assert isinstance(raised.value, openai.APIStatusError)
        assert (raised.value.status_code, raised.value.code) == (status, code)
        assert ("retry-after" in raised.value.response.headers) == (status == 429)

    def test_an_error_in_the_middle_of_a_stream_is_raised(
        self, client: openai.OpenAI, tour: Tour, department: str
    ) -> None:
        said: list[Any] = []
        with pytest.raises(openai.APIError) as raised:
            said.extend(client.chat.completions.create(model="breaks-off", messages=messages(), stream=True))
        if department == "held":
            assert isinstance(raised.value, openai.APIStatusError) and raised.value.status_code == 502
        else:
            assert not isinstance(raised.value, openai.APIStatusError), "the status had left"
            assert 0 < len(texts(said)) < len(SLOW) and SLOW.startswith(texts(said)) and not finishes(said)
        assert raised.value.code == "model_unavailable"

    def test_a_wrong_key(self, tour: Tour) -> None:
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=tour.url, api_key="nope", max_retries=0).models.list()


class TestOpenAIAsync:
    """The same client under asyncio."""

    async def test_whole_image_choices_and_errors(self, later: openai.AsyncOpenAI, tour: Tour, department: str) -> None:
        async with later:
            assert (await later.models.list()).data[0].id == "plain"
            assert (await later.models.retrieve("short")).id == "short"
            ask = later.chat.completions.create
            answers = await asyncio.gather(
                ask(model="plain", messages=messages(), n=2, seed=3),
                ask(model="images", messages=messages(parts())),
                ask(model="auto", messages=messages(FRAUD)),
            )
            assert [choice.message.content for choice in answers[0].choices] == [LONG, OTHER]
            assert tour.asked()["seed"] == 3
            assert answers[1].choices[0].message.content == seen(tour)
            assert answers[2].choices[0].finish_reason == "content_filter"
            scored = await ask(model="short", messages=messages(), logprobs=True, top_logprobs=1)
            assert "".join(token.token for token in scored.choices[0].logprobs.content) == SHORT
            with pytest.raises(openai.RateLimitError):
                await ask(model="busy", messages=messages())
            with pytest.raises(openai.APIStatusError):
                await ask(model="down", messages=messages())

    async def test_streams_at_once(self, later: openai.AsyncOpenAI, department: str) -> None:
        async with later:

            async def read(model: str, **fields: Any) -> list[Any]:
                stream = await later.chat.completions.create(
                    model=model, messages=messages(), stream=True, stream_options={"include_usage": True}, **fields
                )
                return [chunk async for chunk in stream]

            one, two, late = await asyncio.gather(read("plain"), read("slow", n=2), read("leaks"))
            assert (texts(one), finishes(one)) == (LONG, ["stop"]) and one[-1].usage.total_tokens > 0
            assert (texts(two, 0), texts(two, 1), finishes(two)) == (SLOW, OTHER, ["stop", "stop"])
            assert finishes(late) == ["content_filter"] and (CLOSING in texts(late)) == (department == "windowed")
            with pytest.raises(openai.APIError):
                await read("breaks-off")

    async def test_tools_by_the_helper(self, later: openai.AsyncOpenAI) -> None:
        talk = messages("What was the dose of the last scan?")
        async with later:
            async with later.chat.completions.stream(model="openai-async", messages=talk, tools=TOOLS) as stream:
                (call,) = (await stream.get_final_completion()).choices[0].message.tool_calls
            assert call.function.parsed_arguments == {"what": "dose"}
            said = {"id": call.id, "type": "function", "function": {
                "name": call.function.name, "arguments": call.function.arguments}}  # fmt: skip
            talk += [
                {"role": "assistant", "tool_calls": [said]},
                {"role": "tool", "tool_call_id": call.id, "content": LOOKED_UP},
            ]
            answer = await later.chat.completions.create(model="openai-async", messages=talk, tools=TOOLS)
        assert answer.choices[0].message.content == LOOKED_UP


class TestHuggingFace:
    """`huggingface_hub.InferenceClient`, by its base URL."""

    @pytest.fixture
    def hub(self, tour: Tour, department: str) -> InferenceClient:
        return InferenceClient(base_url=tour.url, api_key=tour.keys[department], timeout=60)

    def test_chat_image_and_choices(self, hub: InferenceClient, tour: Tour) -> None:
        answer = hub.chat_completion(messages(), model="plain", max_tokens=300, seed=11, n=2)
        assert [choice.message.content for choice in answer.choices] == [LONG, OTHER]
        assert tour.asked()["seed"] == 11
        shown = hub.chat.completions.create(messages=messages(parts()), model="images")
        assert shown.choices[0].message.content == seen(tour)
        scored = hub.chat_completion(messages(), model="short", logprobs=True, top_logprobs=2)
        assert [token.token for token in scored.choices[0].logprobs.content] == ["The", " sagittal", " plane."]

    def test_stream(self, hub: InferenceClient) -> None:
        chunks = list(
            hub.chat_completion(messages(), model="plain", stream=True, stream_options={"include_usage": True})
        )
        assert (texts(chunks), finishes(chunks)) == (LONG, ["stop"])
        assert chunks[-1].usage.completion_tokens > 100
        refused = list(hub.chat_completion(messages(FRAUD), model="plain", stream=True))
        assert finishes(refused) == ["content_filter"]

    def test_tools(self, hub: InferenceClient) -> None:
        talk = messages("What was the dose of the last scan?")
        first = hub.chat_completion(talk, model="hugging-face", tools=TOOLS, tool_choice="auto")
        (call,) = first.choices[0].message.tool_calls
        assert (first.choices[0].finish_reason, call.function.name) == ("tool_calls", "look_up")
        assert json.loads(call.function.arguments) == {"what": "dose"}
        said = {"id": call.id, "type": "function", "function": {
            "name": call.function.name, "arguments": call.function.arguments}}  # fmt: skip
        talk += [
            {"role": "assistant", "tool_calls": [said]},
            {"role": "tool", "tool_call_id": call.id, "content": LOOKED_UP},
        ]
        second = hub.chat_completion(talk, model="hugging-face", tools=TOOLS)
        assert second.choices[0].message.content == LOOKED_UP

    def test_a_form_for_the_answer(self, hub: InferenceClient, tour: Tour) -> None:
        schema = Form.model_json_schema()
        form = {"type": "json_schema", "json_schema": {"name": "Form", "schema": schema}}
        answer = hub.chat_completion(messages(), model="form", response_format=form)
        assert json.loads(answer.choices[0].message.content) == FORM
        assert tour.asked("form")["response_format"]["json_schema"]["schema"] == schema

    def test_errors(self, hub: InferenceClient) -> None:
        with pytest.raises(HfHubHTTPError, match="429"):
            hub.chat_completion(messages(), model="busy")
        with pytest.raises(HfHubHTTPError, match="context_length_exceeded"):
            list(hub.chat_completion(messages(), model="too-long", stream=True))


class TestLlm:
    """The command-line tool `llm`, by the addresses in its own file of further models. It takes seconds to start."""

    @pytest.fixture
    def ask(self, tour: Tour, tmp_path: Path) -> Any:
        rows = [
            {"model_id": f"gw-{name}", "model_name": name, "api_base": tour.url, "api_key_name": "gw", "vision": True,
             "supports_tools": True, "supports_schema": True}
            for name in ("slow", "images", "form", "llm", "leaks", "too-long")
        ]  # fmt: skip
        (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump(rows))
        # no plugins: the package that holds the embedded model's weights is one, and wants what is not installed
        env = os.environ | {"LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}

        def run(*words: str, department: str = "windowed") -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "llm", "prompt", "--no-log", "--key", tour.keys[department], *words]
            return subprocess.run(
                command, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
            )

        return run

    def test_stream(self, ask: Any, department: str) -> None:
        told = ask("-m", "gw-slow", BENIGN, department=department)
        assert (told.returncode, told.stdout.strip()) == (0, SLOW.strip()), told.stderr

    def test_late_finding(self, ask: Any) -> None:
        late = ask("-m", "gw-leaks", BENIGN)
        left, found, _ = late.stdout.partition("\n\n" + CLOSING)
        assert late.returncode == 0 and found and left and SLOW.startswith(left)

    def test_form_tool_and_an_error(self, ask: Any) -> None:
        told = ask("-m", "gw-form", "--schema", json.dumps(Form.model_json_schema()), BENIGN)
        assert (told.returncode, json.loads(told.stdout)) == (0, FORM), told.stderr
        look_up = f"def look_up(what: str) -> str:\n    'Look up a value.'\n    return {LOOKED_UP!r}"
        told = ask("-m", "gw-llm", "--functions", look_up, "What was the dose of the last scan?")
        assert (told.returncode, told.stdout.strip()) == (0, LOOKED_UP), told.stderr
        failed = ask("-m", "gw-too-long", "--no-stream", BENIGN)
        assert failed.returncode != 0 and "can not read so much" in failed.stderr

    def test_image(self, ask: Any, tour: Tour, tmp_path: Path) -> None:
        (tmp_path / "scan.png").write_bytes(picture())
        told = ask("-m", "gw-images", "--no-stream", "-a", str(tmp_path / "scan.png"), BENIGN)
        assert (told.returncode, told.stdout.strip()) == (0, seen(tour)), told.stderr
