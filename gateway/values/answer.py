"""What a model answered: whole, or piece by piece while it is written."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gateway.values.request import Text, ToolCall

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
"""Why an answer ended, in OpenAI's words."""


class TokenLogprob(Struct, frozen=True, kw_only=True):
    """A token of an answer's text with the natural logarithm of its probability.

    `top` are the likeliest tokens at its place with theirs, the likeliest first, as many as were asked for.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Choice(Struct, frozen=True, kw_only=True):
    """One answer of a model. `logprobs` are given where they were asked for, and their tokens spell `text`."""

    index: int
    text: Text
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    logprobs: tuple[TokenLogprob, ...] | None = None

    def texts(self) -> tuple[Text, ...]:
        """Give every text of this choice that would leave the gateway.

        Tokens that the model might have written in place of its own would leave too: they are one text, a line each.
        """
        calls = tuple(t for call in self.tool_calls for t in (call.name, call.arguments))
        others = [token for place in self.logprobs or () for token, _ in place.top]
        if not others:
            return (self.text, *calls)
        return (self.text, *calls, Text(id=f"choices[{self.index}].logprobs", text="\n".join(others)))


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens read and written, demonstrations included."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Completion(Struct, frozen=True, kw_only=True):
    """What a model answered.

    `model` is the name the model gives itself; `blind` says that it has not seen the images. `revision` names the
    weights or the set-up behind the name (such as OpenAI's ``system_fingerprint``), None where nothing tells.
    """

    model: str
    choices: tuple[Choice, ...]
    usage: Usage = Usage()
    blind: bool = False
    revision: str | None = None


class Piece(Struct, frozen=True, kw_only=True):
    """What a model has written further of the choice with the index `choice`.

    `text` are further characters of its text. Of a tool call, `call` is its number in the choice (from 0), `call_id`
    and `name` come with its first piece, and `arguments` are further characters. `finish_reason` comes once, with the
    choice's last piece.
    """

    choice: int = 0
    text: str = ""
    call: int | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    finish_reason: FinishReason | None = None


class Ended(Struct, frozen=True, kw_only=True):
    """The end of a streamed answer, with what `Completion` tells of the whole; a stream without it was cut off."""

    model: str
    usage: Usage = Usage()
    blind: bool = False
    revision: str | None = None
