"""From a logged outcome to OpenAI's JSON: a completion, or the error that stands for one."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from gateway.policy.decide import refusal_text
from gateway.policy.decision import Admit, Reason, Refuse, Release, Withhold
from gateway.records import Outcome
from gateway.values import Choice, Completion, Text, TokenLogprob, ToolCall, Usage
from gateway.wire.errors import RETRY_SECONDS, error_of


class Answer(Struct, frozen=True, kw_only=True):
    """What goes on the wire for one decision: always of a logged outcome. `created` is Unix time in seconds."""

    decision: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage


class Failure(Struct, frozen=True, kw_only=True):
    """A decision that is answered as an error: the HTTP status, the body in OpenAI's shape, and further headers."""

    status: int
    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


class _Heard(Struct, frozen=True, kw_only=True):
    """What a caller hears of a model that gave no answer: `told` goes on after ``the model``."""

    status: int
    type: str
    code: str
    told: str
    retry: bool = False


_BUSY = _Heard(
    status=429, type="rate_limit_error", code="model_busy", retry=True,
    told="works on as many requests as it takes, so there is no answer; ask again in a moment",
)  # fmt: skip
_LATE = _Heard(
    status=504, type="api_error", code="model_unavailable",
    told="did not answer within its deadline, so there is no answer; ask again later",
)  # fmt: skip
_TOO_LONG = _Heard(
    status=400, type="invalid_request_error", code="context_length_exceeded",
    told="can not read so much at once; send less text or fewer images, or ask for a shorter answer",
)  # fmt: skip
_REFUSED = _Heard(
    status=400, type="invalid_request_error", code="model_refused_request",
    told="takes no such request, for instance no images, tools or response format; leave out what it can not do",
)  # fmt: skip
_FAILED = _Heard(
    status=502, type="api_error", code="model_unavailable", told="failed, so there is no answer; ask again later"
)
_HEARD = (
    ("Busy", _BUSY),
    ("Full", _BUSY),
    ("TooLong", _TOO_LONG),
    ("Timeout", _LATE),
    ("Late", _LATE),
    ("Refused", _REFUSED),
)
"""By how the name of an exception ends; see docs/stages.md, which tells plugins' authors so."""


def _heard(cause: str | None) -> _Heard:
    if cause == "deadline":
        return _LATE
    raised = (cause or "").partition("raised:")[2]
    return next((heard for end, heard in _HEARD if raised.endswith(end)), _FAILED)


def model_failed(outcome: Outcome) -> Reason | None:
    """Give the reason where there is no answer because the model failed, None otherwise."""
    reasons = outcome.final.reasons if isinstance(outcome.final, Refuse | Withhold) else ()
    return next((reason for reason in reasons if reason.code == "model-failed"), None)


def failure_of(outcome: Outcome, decision: str) -> Failure | None:
    """Tell whether `outcome` is answered as an error: its model failed, nobody waited, or its policy refuses so."""
    if not isinstance(outcome.final, Refuse | Withhold):
        return None
    failed = model_failed(outcome)
    if failed is not None:
        heard = _heard(failed.cause)
        body = error_of(f"the model {heard.told} (decision {decision})", heard.type, None, heard.code)
        retry = (("retry-after", str(RETRY_SECONDS)),) if heard.retry else ()
        return Failure(status=heard.status, body=body, headers=retry)
    if any(reason.code == "caller-gone" for reason in outcome.final.reasons):
        # nobody reads it; a proxy that still listens writes its status to a log
        message = f"the caller had gone before the answer was ready (decision {decision})"
        return Failure(status=499, body=error_of(message, "api_error", None, "caller_gone"))
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


def head_of(answer: Answer, kind: str) -> dict[str, Any]:
    """Give what every completion, and every chunk of one, begins with."""
    return {
        "id": f"chatcmpl-{answer.decision}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
    }


def usage_body(usage: Usage) -> dict[str, int]:
    """Give a usage in OpenAI's shape."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def call_body(call: ToolCall) -> dict[str, Any]:
    """Give a call of a tool in OpenAI's shape."""
    function = {"name": call.name.text, "arguments": call.arguments.text}
    return {"id": call.id, "type": "function", "function": function}


def _token(token: str, logprob: float) -> dict[str, Any]:
    # JSON has no infinity: OpenAI's own servers write this number where a token had no probability.
    return {"token": token, "logprob": max(logprob, -9999.0), "bytes": list(token.encode())}


def logprobs_body(tokens: tuple[TokenLogprob, ...] | None) -> dict[str, Any] | None:
    """Give the `logprobs` of a choice, or of a part of it, in OpenAI's shape; None where there are none."""
    if tokens is None:
        return None
    content = [
        _token(place.token, place.logprob) | {"top_logprobs": [_token(token, logprob) for token, logprob in place.top]}
        for place in tokens
    ]
    return {"content": content, "refusal": None}


def _choice(choice: Choice) -> dict[str, Any]:
    silent = not choice.text.text and bool(choice.tool_calls)
    message: dict[str, Any] = {"role": "assistant", "content": None if silent else choice.text.text, "refusal": None}
    if choice.tool_calls:
        message["tool_calls"] = [call_body(call) for call in choice.tool_calls]
    told = logprobs_body(choice.logprobs)
    return {"index": choice.index, "message": message, "logprobs": told, "finish_reason": choice.finish_reason}


def completion_body(answer: Answer) -> bytes:
    """Write a ``chat.completion``."""
    body = head_of(answer, "chat.completion")
    body["choices"] = [_choice(choice) for choice in answer.choices]
    body["usage"] = usage_body(answer.usage)
    return msgspec.json.encode(body)
