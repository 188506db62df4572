"""From a logged outcome to OpenAI's JSON: a completion, or the chunks of a stream that is already audited whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gateway.policy.decide import refusal_text
from gateway.policy.decision import Admit, Reason, Refuse, Release, Withhold
from gateway.records import Outcome
from gateway.values import Choice, Completion, Text, ToolCall, Usage
from gateway.wire.errors import error_of

# Some 24 characters and the rest of the word: enough pieces for a client that shows them as they come, and few events.
_PIECE = re.compile(r"(?s).{1,24}\S*\s?|.+")


class Answer(Struct, frozen=True, kw_only=True):
    """What goes on the wire for one decision: always of a logged outcome. `created` is Unix time in seconds."""

    decision: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage


class Failure(Struct, frozen=True, kw_only=True):
    """A decision that is answered as an error: the HTTP status, and the body in OpenAI's shape."""

    status: int
    body: dict[str, Any]


def model_failed(outcome: Outcome) -> Reason | None:
    """Give the reason where there is no answer because the model failed, None otherwise."""
    reasons = outcome.final.reasons if isinstance(outcome.final, Refuse | Withhold) else ()
    return next((reason for reason in reasons if reason.code == "model-failed"), None)


def failure_of(outcome: Outcome, decision: str) -> Failure | None:
    """Tell whether `outcome` is answered as an error: its model failed, or its policy refuses so."""
    if not isinstance(outcome.final, Refuse | Withhold):
        return None
    failed = model_failed(outcome)
    if failed is not None:
        late = failed.cause == "deadline"
        told = "did not answer within its deadline" if late else "failed"
        message = f"the model {told}, so there is no answer; ask again later (decision {decision})"
        return Failure(status=504 if late else 502, body=error_of(message, "api_error", None, "model_unavailable"))
    if outcome.policy.policy.refuse_as == "error":
        message = refusal_text(outcome.final, decision)
        return Failure(status=400, body=error_of(message, "invalid_request_error", None, "content_filter"))
    return None


def answer_of(outcome: Outcome, decision: str) -> Answer:
    """Make the answer of `outcome`: what was released, or the refusal as a message in every choice's place.

    The model's name is the one that was asked for, ``auto`` resolved.
    """
    match outcome.final:
        case Release():
            if outcome.answer is None:
                raise AssertionError("a released outcome holds its answer")
            completion: Completion = outcome.answer
            choices, usage = tuple(_renamed(choice, decision) for choice in completion.choices), completion.usage
        case Refuse() | Withhold() as final:
            text = Text(id="choices[0].content", text=refusal_text(final, decision))
            choices, usage = (Choice(index=0, text=text, finish_reason="content_filter"),), Usage()
        case Admit():
            raise AssertionError("a screening alone has no answer")
    return Answer(
        decision=decision,
        created=int(outcome.started.timestamp()),
        model=outcome.request.model,
        choices=choices,
        usage=usage,
    )


def _renamed(choice: Choice, decision: str) -> Choice:
    """Give the calls ids of the gateway's own: no auditor reads the model's, so they do not leave."""
    calls = (
        msgspec.structs.replace(call, id=f"call_{decision}_{choice.index}_{place}")
        for place, call in enumerate(choice.tool_calls)
    )
    return msgspec.structs.replace(choice, tool_calls=tuple(calls))


def _head(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.decision}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name.text, "arguments": call.arguments.text}
    return {"id": call.id, "type": "function", "function": function}


def _choice(choice: Choice) -> dict[str, Any]:
    silent = not choice.text.text and bool(choice.tool_calls)
    message: dict[str, Any] = {"role": "assistant", "content": None if silent else choice.text.text, "refusal": None}
    if choice.tool_calls:
        message["tool_calls"] = [_call(call) for call in choice.tool_calls]
    return {"index": choice.index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}


def completion_body(answer: Answer) -> bytes:
    """Write a ``chat.completion``."""
    body = _head(answer, "chat.completion")
    body["choices"] = [_choice(choice) for choice in answer.choices]
    body["usage"] = _usage(answer.usage)
    return msgspec.json.encode(body)


def _deltas(choice: Choice) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "", "refusal": None}
    for piece in _PIECE.findall(choice.text.text):
        yield {"content": piece}
    for index, call in enumerate(choice.tool_calls):
        whole = _call(call)
        arguments = whole["function"]["arguments"]
        whole["function"]["arguments"] = ""
        yield {"tool_calls": [{"index": index, **whole}]}
        for piece in _PIECE.findall(arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _chunks(answer: Answer, *, include_usage: bool) -> Iterator[dict[str, Any]]:
    head = _head(answer, "chat.completion.chunk")
    if include_usage:
        head["usage"] = None
    for choice in answer.choices:
        for delta in _deltas(choice):
            piece = {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}
            yield head | {"choices": [piece]}
        last = {"index": choice.index, "delta": {}, "logprobs": None, "finish_reason": choice.finish_reason}
        yield head | {"choices": [last]}
    if include_usage:
        yield head | {"choices": [], "usage": _usage(answer.usage)}


def stream_body(answer: Answer, *, include_usage: bool) -> bytes:
    """Write the server-sent events of a stream, ``[DONE]`` included.

    They are one body: the answer was held until it was audited and logged, so nothing is waited for between them.
    """
    events = [b"data: " + msgspec.json.encode(chunk) for chunk in _chunks(answer, include_usage=include_usage)]
    return b"\n\n".join([*events, b"data: [DONE]\n\n"])
