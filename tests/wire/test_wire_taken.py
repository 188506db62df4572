"""Log-probabilities and parallel tool calls in a request: what is taken, and what is refused and why."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.values import Request
from gateway.wire.chat import read_chat

TOOLS = [{"type": "function", "function": {"name": "look"}}]


def read(**more: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    return read_chat(body, id="dec_1", department="radiology", models=("m",)).bare


def refused(**more: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(**more)
    return caught.value


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, None),
        ({"logprobs": None, "top_logprobs": None}, None),
        ({"logprobs": False}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": None}, 0),
        ({"logprobs": True, "top_logprobs": 0}, 0),
        ({"logprobs": True, "top_logprobs": 1}, 1),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_log_probabilities_are_taken(asked: dict[str, Any], expected: int | None) -> None:
    assert read(**asked).sampling.logprobs == expected


@pytest.mark.parametrize(
    ("asked", "param", "told"),
    [
        ({"top_logprobs": 3}, "top_logprobs", "without `logprobs: true`"),
        ({"logprobs": False, "top_logprobs": 3}, "top_logprobs", "without `logprobs: true`"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "from 0 to 20"),
        ({"logprobs": True, "top_logprobs": True}, "top_logprobs", "from 0 to 20"),
        ({"logprobs": True, "top_logprobs": 2.0}, "top_logprobs", "from 0 to 20"),
        ({"logprobs": 1}, "logprobs", "true or false"),
        ({"logprobs": "true"}, "logprobs", "true or false"),
        ({"prompt_logprobs": 0}, "prompt_logprobs", "what stands before the question"),
        ({"prompt_logprobs": 5, "logprobs": True}, "prompt_logprobs", "what stands before the question"),
    ],
)
def test_others_are_refused_by_name(asked: dict[str, Any], param: str, told: str) -> None:
    error = refused(**asked)
    assert error.param == param
    assert told in str(error)


@pytest.mark.parametrize(("asked", "expected"), [(True, True), (False, False), (None, None)])
def test_parallel_calls_are_as_the_caller_says(asked: bool | None, expected: bool | None) -> None:
    assert read(tools=TOOLS, parallel_tool_calls=asked).parallel_tool_calls is expected
    assert read(tools=TOOLS).parallel_tool_calls is None


@pytest.mark.parametrize("tools", [{}, {"tools": None}, {"tools": []}])
@pytest.mark.parametrize("asked", [True, False])
def test_without_tools_parallel_calls_mean_nothing(tools: dict[str, Any], asked: bool) -> None:
    assert read(parallel_tool_calls=asked, **tools) == read()


@pytest.mark.parametrize("asked", [0, 1, "false", []])
@pytest.mark.parametrize("tools", [{}, {"tools": TOOLS}])
def test_parallel_calls_are_true_or_false(asked: object, tools: dict[str, Any]) -> None:
    error = refused(parallel_tool_calls=asked, **tools)
    assert error.param == "parallel_tool_calls"
    assert "true or false" in str(error)


def test_a_schema_as_hugging_faces_clients_send_it_is_one() -> None:
    schema = {"type": "object", "properties": {"plane": {"type": "string"}}}
    taken = read(response_format={"type": "json_object", "value": schema}).response_format
    asked = read(response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})
    assert taken == asked.response_format
    assert read(response_format={"type": "json_object", "value": None}).response_format.text.startswith("{")
    assert refused(response_format={"type": "json_object", "value": "text"}).param == "response_format.value"
