"""OpenAI's chat completions on the wire: a prompt to the request's body, the response's body to a completion."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.plugin import Choice, Completion, Image, Prompt, Sampling, Text, ToolCall, Turn, Usage
from gateway_openai.errors import UpstreamNonsense

_SAME_NAME = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
)


def encode(prompt: Prompt, model: str, **extra: bool | int) -> bytes:
    """Give the JSON body for `prompt`, with `extra` fields.

    Parameters that are not asked for are left out: a server may not know them.

    Raises:
        ValueError: tools, a tool choice or a response format that is not JSON.
    """
    request = prompt.request
    body: dict[str, Any] = {"model": model, "messages": [_message(turn) for turn in prompt.chat()]}
    body |= _sampling(request.sampling) | extra
    for name in ("tools", "tool_choice", "response_format"):
        text: Text | None = getattr(request, name)
        if text is not None:
            body[name] = _raw(name, text)
    return msgspec.json.encode(body)


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


def _message(turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": _content(turn)}
    if turn.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name.text, "arguments": call.arguments.text}}
            for call in turn.tool_calls
        ]
    if turn.tool_call_id is not None:
        message["tool_call_id"] = turn.tool_call_id
    return message


def _content(turn: Turn) -> str | list[dict[str, Any]] | None:
    """Give plain text, which every server takes, where a turn has nothing else, and a list where it has images."""
    if not turn.parts:
        return None if turn.tool_calls else ""
    if len(turn.parts) == 1 and isinstance(turn.parts[0], Text):
        return turn.parts[0].text
    texts = [part.text for part in turn.parts if isinstance(part, Text)]
    if len(texts) == len(turn.parts):
        return "\n".join(texts)
    return [_part(part) for part in turn.parts]


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    data = b64encode(part.data).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{data}"}}


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


class _Usage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Response(Struct, frozen=True, kw_only=True):
    choices: tuple[_Choice, ...]
    model: str | None = None
    usage: _Usage | None = None
    system_fingerprint: object = None


_decoder = msgspec.json.Decoder(_Response, strict=True)
_Finish = Literal["stop", "length", "tool_calls", "content_filter"]
_FINISH: dict[str | None, _Finish] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def decode(body: bytes, *, model: str, n: int) -> Completion:
    """Read the response's body. `model` stands where the server names none; `n` choices must be there, each once.

    Raises:
        UpstreamNonsense: it is something else.
    """
    try:
        response = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UpstreamNonsense("the answer is not a chat completion") from None  # its own message may quote the body
    if len(response.choices) != n:
        raise UpstreamNonsense(f"{len(response.choices)} choices where {n} were asked for")
    if sorted(choice.index for choice in response.choices) != list(range(n)):
        raise UpstreamNonsense("the choices are not numbered from 0")
    usage = response.usage or _Usage()
    if usage.prompt_tokens < 0 or usage.completion_tokens < 0:
        raise UpstreamNonsense("the usage is negative")
    choices = sorted(response.choices, key=lambda choice: choice.index)
    return Completion(
        model=response.model or model,
        choices=tuple(_choice(choice) for choice in choices),
        usage=Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens),
        revision=_revision(response.system_fingerprint),
    )


def _revision(fingerprint: object) -> str | None:
    """Give what names the server's set-up, where it is a short word: an odd one is no reason to lose an answer."""
    fits = isinstance(fingerprint, str) and 0 < len(fingerprint) <= 200 and fingerprint.isprintable()
    return str(fingerprint) if fits else None


def _choice(choice: _Choice) -> Choice:
    message, place = choice.message, f"choices[{choice.index}]"
    calls = message.tool_calls or ()
    finish = _FINISH.get(choice.finish_reason)
    if finish is None:
        raise UpstreamNonsense("the finish reason is not one of OpenAI's")
    if message.content is None and message.refusal is None and not calls and finish != "content_filter":
        raise UpstreamNonsense("a choice has neither text nor tool calls")
    return Choice(
        index=choice.index,
        text=Text(id=f"{place}.content", text=message.content or message.refusal or ""),
        tool_calls=tuple(_call(call, f"{place}.tool_calls[{number}]") for number, call in enumerate(calls)),
        finish_reason=finish,
    )


def _call(call: _Call, place: str) -> ToolCall:
    return ToolCall(
        id=call.id,
        name=Text(id=f"{place}.name", text=call.function.name),
        arguments=Text(id=f"{place}.arguments", text=call.function.arguments),
    )
