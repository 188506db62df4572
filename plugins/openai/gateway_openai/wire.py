"""OpenAI's chat completions on the wire: a prompt to the request's body, the response's body to a completion."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.plugin import (
    Choice,
    Completion,
    FinishReason,
    Image,
    Prompt,
    Request,
    Sampling,
    Text,
    ToolCall,
    Turn,
    Usage,
)
from gateway_openai.dialect import DIALECTS, Dialect
from gateway_openai.errors import UpstreamCut, UpstreamNonsense
from gateway_openai.logprobs import read_logprobs

_SAME_NAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
)

Asked = dict[str, bool | int | dict[str, bool]]
"""Fields of a request beside those of the prompt."""

STREAMED: Asked = {"stream": True, "stream_options": {"include_usage": True}}
"""The fields that ask for a stream with the tokens that were used."""


def encode(prompt: Prompt, model: str, **extra: bool | int) -> bytes:
    """Give the JSON body for `prompt` in OpenAI's own dialect, with `extra` fields.

    Raises:
        ValueError: tools, a tool choice or a response format that is not JSON.
    """
    return with_model(encode_tail(prompt, DIALECTS["openai"], dict(extra)), model)


def encode_tail(prompt: Prompt, dialect: Dialect, extra: Asked, *, limit: str = "max_tokens") -> bytes:
    """Give the JSON body for `prompt` without the model's name, which may differ from server to server.

    Parameters that are not asked for are left out: a server may not know them. `limit` is the field that bounds the
    answer.

    Raises:
        ValueError: tools, a tool choice or a response format that is not JSON.
    """
    request = prompt.request
    body: dict[str, Any] = {"messages": [_message(turn, dialect) for turn in prompt.chat()]}
    if request.sampling.max_tokens is not None:
        body[limit] = request.sampling.max_tokens
    body |= _sampling(request.sampling) | extra
    for name in ("tools", "tool_choice", "response_format"):
        text: Text | None = getattr(request, name)
        if text is not None and name not in dialect.lacks:
            body[name] = _raw(name, text)
    if _parallel(request) and "parallel_tool_calls" not in dialect.lacks:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return msgspec.json.encode(body)


def with_model(tail: bytes, model: str) -> bytes:
    """Put the model's name before a body without one."""
    return b'{"model":' + msgspec.json.encode(model) + b"," + tail[1:]


def asked_logprobs(sampling: Sampling) -> Asked:
    """Give the fields that ask for the log-probabilities of the tokens; none where they are not wanted."""
    if sampling.logprobs is None:
        return {}
    return {"logprobs": True, "top_logprobs": sampling.logprobs} if sampling.logprobs else {"logprobs": True}


def _parallel(request: Request) -> bool:
    return request.parallel_tool_calls is not None and request.tools is not None  # without tools OpenAI refuses it


def _sampling(asked: Sampling) -> dict[str, Any]:
    given: dict[str, Any] = {name: value for name in _SAME_NAME if (value := getattr(asked, name)) is not None}
    if asked.n != 1:
        given["n"] = asked.n
    if asked.stop:
        given["stop"] = list(asked.stop)
    return given


def _raw(name: str, text: Text) -> msgspec.Raw:
    try:
        msgspec.json.decode(text.text)
    except msgspec.DecodeError:
        raise ValueError(f"`{name}` is not JSON") from None
    return msgspec.Raw(text.text.encode())


def _message(turn: Turn, dialect: Dialect) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": _content(turn, dialect)}
    if turn.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name.text, "arguments": call.arguments.text}}
            for call in turn.tool_calls
        ]
    if turn.tool_call_id is not None:
        message["tool_call_id"] = turn.tool_call_id
    return message


def _content(turn: Turn, dialect: Dialect) -> str | list[dict[str, Any]] | None:
    """Give plain text, which every server takes, where a turn has nothing else, and a list where it has images."""
    if not turn.parts:
        return None if turn.tool_calls else ""
    if len(turn.parts) == 1 and isinstance(turn.parts[0], Text):
        return turn.parts[0].text
    texts = [part.text for part in turn.parts if isinstance(part, Text)]
    if len(texts) == len(turn.parts):
        return "\n".join(texts)
    return [_part(part, dialect) for part in turn.parts]


def _part(part: Text | Image, dialect: Dialect) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    # base64 holds nothing to escape, so the megabytes are not looked through for it
    url = msgspec.Raw(b'"data:%b;base64,%b"' % (part.media_type.encode(), b64encode(part.data)))
    return {"type": "image_url", "image_url": url if dialect.plain_images else {"url": url}}


class _Function(Struct, frozen=True, kw_only=True):
    name: str
    arguments: str


class _Call(Struct, frozen=True, kw_only=True):
    function: _Function
    id: str
    type: Literal["function"] = "function"


class _Message(Struct, frozen=True, kw_only=True):
    """`reasoning_content` and whatever else a server adds is dropped: no auditor would see it."""

    content: str | None = None
    refusal: str | None = None
    role: Literal["assistant"] = "assistant"
    tool_calls: tuple[_Call, ...] | None = None


class _Choice(Struct, frozen=True, kw_only=True):
    message: _Message
    finish_reason: str | None
    index: int = 0
    logprobs: msgspec.Raw = msgspec.Raw(b"null")


class TokensUsed(Struct, frozen=True, kw_only=True):
    """The usage of a response. None where a server writes null."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0


class _Response(Struct, frozen=True, kw_only=True):
    choices: tuple[_Choice, ...]
    model: str | None = None
    usage: TokensUsed | None = None
    system_fingerprint: object = None


_decoder = msgspec.json.Decoder(_Response, strict=True)
_FINISH: dict[str | None, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_GAVE_UP = frozenset({"abort", "error"})


def decode(body: bytes, *, model: str, n: int, top: int | None = None) -> Completion:
    """Read the response's body. `model` stands where the server names none; `n` choices must be there, each once.

    `top` is how many of the likeliest tokens were asked for at each place; None where no log-probabilities were.

    Raises:
        UpstreamNonsense: it is something else.
        UpstreamCut: the server says that it gave up.
    """
    try:
        response = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UpstreamNonsense("the answer is not a chat completion") from None  # its own message may quote the body
    if len(response.choices) != n:
        raise UpstreamNonsense(f"{len(response.choices)} choices where {n} were asked for")
    if sorted(choice.index for choice in response.choices) != list(range(n)):
        raise UpstreamNonsense("the choices are not numbered from 0")
    choices = sorted(response.choices, key=lambda choice: choice.index)
    return Completion(
        model=word(response.model) or model,
        choices=tuple(_choice(choice, top) for choice in choices),
        usage=usage(response.usage),
        revision=word(response.system_fingerprint),
    )


def usage(told: TokensUsed | None) -> Usage:
    """Give the tokens that were used; zeros where the server does not tell.

    Raises:
        UpstreamNonsense: they are negative.
    """
    prompt, completion = (told.prompt_tokens or 0, told.completion_tokens or 0) if told else (0, 0)
    if prompt < 0 or completion < 0:
        raise UpstreamNonsense("the usage is negative")
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def word(told: object) -> str | None:
    """Give what names the model or its set-up, where it is a short word: an odd one is no reason to lose an answer."""
    fits = isinstance(told, str) and 0 < len(told) <= 200 and told.isprintable()
    return str(told) if fits else None


def finish(reason: str | None) -> FinishReason:
    """Give OpenAI's word for why an answer ended.

    Raises:
        UpstreamCut: the server gave up.
        UpstreamNonsense: it is no such reason.
    """
    if reason in _GAVE_UP:
        raise UpstreamCut("the server gave up in the middle of the answer")
    found = _FINISH.get(reason)
    if found is None:
        raise UpstreamNonsense("the finish reason is not one of OpenAI's")
    return found


def _choice(choice: _Choice, top: int | None) -> Choice:
    message, place = choice.message, f"choices[{choice.index}]"
    calls = message.tool_calls or ()
    reason = finish(choice.finish_reason)
    if message.content is None and message.refusal is None and not calls and reason != "content_filter":
        raise UpstreamNonsense("a choice has neither text nor tool calls")
    text = message.content or message.refusal or ""
    return Choice(
        index=choice.index,
        text=Text(id=f"{place}.content", text=text),
        tool_calls=tuple(_call(call, f"{place}.tool_calls[{number}]") for number, call in enumerate(calls)),
        finish_reason=reason,
        logprobs=None if top is None else read_logprobs(choice.logprobs, text, top),
    )


def _call(call: _Call, place: str) -> ToolCall:
    return ToolCall(
        id=call.id,
        name=Text(id=f"{place}.name", text=call.function.name),
        arguments=Text(id=f"{place}.arguments", text=call.function.arguments),
    )
