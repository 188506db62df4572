"""A draft of an answer, and how it is written: as one ``chat.completion``, or as the events of a stream."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.testing.upstream.asked import Asked

_TOKEN = re.compile(r"\s*\S{1,16}|\s+")
_encode = msgspec.json.encode
DONE = b"data: [DONE]\n\n"


def tokens_of(text: str) -> tuple[str, ...]:
    """Cut a text into the tokens in which it is streamed: words with the space before them, long ones in parts."""
    return tuple(_TOKEN.findall(text))


class Called(Struct, frozen=True, kw_only=True):
    """A call of a tool: its name and the JSON text of its arguments."""

    name: str
    arguments: str


class Spoken(Struct, frozen=True, kw_only=True):
    """One choice of an answer. `finish` is None where it never says that it ended."""

    tokens: tuple[str, ...]
    calls: tuple[Called, ...] = ()
    finish: str | None = "stop"


class Draft(Struct, frozen=True, kw_only=True):
    """An answer before it is written.

    `seed` is echoed in ``system_fingerprint``. `logprobs` is how many alternatives each token comes with, None where no
    probabilities were asked for. `usage` says whether a stream ends with the count of tokens.
    """

    model: str
    choices: tuple[Spoken, ...]
    number: int = 1
    seed: int | None = None
    logprobs: int | None = None
    prompt_tokens: int = 0
    usage: bool = False

    def body(self) -> bytes:
        """Write the answer whole."""
        choices = [
            {
                "index": index,
                "message": _message(spoken, f"call_{self.number}_{index}"),
                "logprobs": self._logprobs(spoken.tokens),
                "finish_reason": spoken.finish,
            }
            for index, spoken in enumerate(self.choices)
        ]
        return _encode(self._head("chat.completion") | {"choices": choices, "usage": self._usage()})

    def events(self) -> Iterator[bytes]:
        """Write the stream, event by event: the choices in turn, token by token. The ``[DONE]`` is the last."""
        yield b"".join(
            self._event(index, {"role": "assistant", "content": ""}, None) for index in range(len(self.choices))
        )
        for place in range(max(len(spoken.tokens) for spoken in self.choices)):
            yield b"".join(
                self.text_event(spoken.tokens[place], index)
                for index, spoken in enumerate(self.choices)
                if place < len(spoken.tokens)
            )
        for index, spoken in enumerate(self.choices):
            for number, call in enumerate(spoken.calls):
                for delta in _call_deltas(call, number, f"call_{self.number}_{index}_{number}"):
                    yield self._event(index, {"tool_calls": [delta]}, None)
        finished = [(index, spoken.finish) for index, spoken in enumerate(self.choices) if spoken.finish]
        if finished:
            yield b"".join(self._event(index, {}, finish) for index, finish in finished)
        if self.usage:
            yield _data(self._head("chat.completion.chunk") | {"choices": [], "usage": self._usage()})
        yield DONE

    def text_event(self, text: str, choice: int = 0) -> bytes:
        """Write the event that tells further text of a choice."""
        return self._event(choice, {"content": text}, None, self._logprobs((text,)))

    def _event(self, choice: int, delta: dict[str, Any], finish: str | None, logprobs: Any = None) -> bytes:
        told = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return _data(self._head("chat.completion.chunk") | {"choices": [told]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.number}",
            "object": kind,
            "created": 1,
            "model": self.model,
            "system_fingerprint": "fp_reference" if self.seed is None else f"fp_seed_{self.seed}",
        }

    def _usage(self) -> dict[str, int]:
        written = sum(
            len(spoken.tokens) + sum(len(tokens_of(call.arguments)) for call in spoken.calls) for spoken in self.choices
        )
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        }

    def _logprobs(self, tokens: Sequence[str]) -> dict[str, Any] | None:
        if self.logprobs is None:
            return None
        return {"content": [_token(token, self.logprobs) for token in tokens], "refusal": None}


NOTHING = Draft(model="", choices=())
"""The draft of an answer in which no model speaks."""


def _data(event: dict[str, Any]) -> bytes:
    return b"data: " + _encode(event) + b"\n\n"


def _message(spoken: Spoken, name: str) -> dict[str, Any]:
    text = "".join(spoken.tokens)
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not spoken.calls else None}
    if spoken.calls:
        message["tool_calls"] = [
            {
                "id": f"{name}_{place}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for place, call in enumerate(spoken.calls)
        ]
    return message


def _call_deltas(call: Called, number: int, name: str) -> Iterator[dict[str, Any]]:
    """Give the call's name first, then its arguments seven characters at a time."""
    yield {"index": number, "id": name, "type": "function", "function": {"name": call.name, "arguments": ""}}
    for start in range(0, len(call.arguments), 7):
        yield {"index": number, "function": {"arguments": call.arguments[start : start + 7]}}


def _token(token: str, alternatives: int) -> dict[str, Any]:
    """Give a token a probability that depends on its letters alone, and less likely ones beside it."""
    own = -(zlib.crc32(token.encode()) % 64 + 1) / 100
    beside = [token, *(f"{token}~{place}" for place in range(1, alternatives))][:alternatives]
    top = [_told(other, own - place) for place, other in enumerate(beside)]
    return _told(token, own) | {"top_logprobs": top}


def _told(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def draft(asked: Asked, texts: Sequence[str], number: int = 1) -> Draft:
    """Draft the answer to a request: `texts` in turn for its choices, within its `max_tokens` and `stop`."""
    body = asked.body
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    stops = body.get("stop") or ()
    stops = (stops,) if isinstance(stops, str) else stops
    choices = []
    for index in range(body.get("n") or 1):
        text = texts[index % len(texts)]
        for stop in stops:
            text = text.partition(stop)[0]
        tokens = tokens_of(text)
        cut = most is not None and len(tokens) > most
        choices.append(Spoken(tokens=tokens[:most] if cut else tokens, finish="length" if cut else "stop"))
    return Draft(
        model=asked.model,
        choices=tuple(choices),
        number=number,
        seed=body.get("seed"),
        logprobs=(body.get("top_logprobs") or 0) if body.get("logprobs") else None,
        prompt_tokens=asked.prompt_tokens(),
        usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )
