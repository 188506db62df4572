"""The chunks of a streamed chat completion, made into the pieces of an answer. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from gateway.plugin import Completion, Ended, FinishReason, Piece, Usage
from gateway_openai.errors import UpstreamCut, UpstreamNonsense
from gateway_openai.faults import fault_in_stream
from gateway_openai.wire import TokensUsed, finish, usage, word

MOST_CALLS = 128
"""The most tool calls of one choice."""


class _Function(Struct, frozen=True, kw_only=True):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct, frozen=True, kw_only=True):
    index: int | None = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct, frozen=True, kw_only=True):
    """What a model thinks aloud (`reasoning_content`, `reasoning`) is a sign of life, and dropped: nobody audits it."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[_Call, ...] | None = None


class _Choice(Struct, frozen=True, kw_only=True):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct, frozen=True, kw_only=True):
    choices: tuple[_Choice, ...] | None = None
    model: str | None = None
    usage: TokensUsed | None = None
    system_fingerprint: object = None
    error: object = None
    kind: str | None = msgspec.field(name="object", default=None)


class _OpenCall:
    """A tool call as it comes. Nothing of it is given before its name is known."""

    __slots__ = ("arguments", "id", "name", "number")

    def __init__(self) -> None:
        self.number: int | None = None  # its place in the choice, once it is given
        self.id, self.name, self.arguments = "", "", ""


class _OpenChoice:
    __slots__ = ("calls", "current", "finish", "given")

    def __init__(self) -> None:
        self.calls: list[_OpenCall] = []
        self.current: dict[object, _OpenCall] = {}
        self.given = 0
        self.finish: FinishReason | None = None


_decoder = msgspec.json.Decoder(_Chunk, strict=True)


class Pieces:
    """Reads the chunks of an answer with `n` choices.

    `model` stands where the server names none. With `calls_by_id` a tool call that comes with another id is another
    call, whatever its number; else it is where its name differs too, since a server may make up an id for each chunk.
    `signs` counts the chunks in which the model has written something, thoughts included.
    """

    def __init__(self, n: int, *, model: str, calls_by_id: bool = False) -> None:
        self._choices = [_OpenChoice() for _ in range(n)]
        self._model = model
        self._calls_by_id = calls_by_id
        self._usage = Usage()
        self._revision: str | None = None
        self.signs = 0

    @property
    def whole(self) -> bool:
        """Tell whether every choice has ended."""
        return all(choice.finish is not None for choice in self._choices)

    def add(self, event: str) -> Iterator[Piece]:
        """Give the pieces in the data of one event.

        Raises:
            UpstreamNonsense: it is no chunk of such an answer.
            UpstreamError: it tells a fault of the server's.
        """
        try:
            chunk = _decoder.decode(event)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise UpstreamNonsense("a chunk of the stream is not one of a chat completion") from None
        if chunk.error is not None or chunk.kind == "error":
            raise fault_in_stream(event)
        if chunk.choices is None and chunk.usage is None:
            raise UpstreamNonsense("a chunk of the stream has no choices")
        self._model = word(chunk.model) or self._model
        self._revision = word(chunk.system_fingerprint) or self._revision
        if chunk.usage is not None:
            self._usage = usage(chunk.usage)
        for choice in chunk.choices or ():
            yield from self._grow(choice)

    def ended(self) -> Ended:
        """Give the end of the answer.

        Raises:
            UpstreamCut: a choice has not ended.
        """
        if not self.whole:
            raise UpstreamCut("the stream ended before the answer did")
        return Ended(model=self._model, usage=self._usage, revision=self._revision)

    def _grow(self, told: _Choice) -> Iterator[Piece]:
        if not 0 <= told.index < len(self._choices):
            raise UpstreamNonsense("a choice is not one that was asked for")
        choice, delta = self._choices[told.index], told.delta or _Delta()
        text = (delta.content or "") + (delta.refusal or "")
        if text or delta.tool_calls or delta.reasoning_content or delta.reasoning or told.finish_reason:
            self.signs += 1
        if choice.finish is not None:
            if text or delta.tool_calls:
                raise UpstreamNonsense("a choice goes on after its end")
            return
        calls = [piece for call in delta.tool_calls or () for piece in self._call(told.index, choice, call)]
        reason = finish(told.finish_reason) if told.finish_reason else None
        choice.finish = reason
        if reason is not None and any(call.number is None for call in choice.calls):
            raise UpstreamNonsense("a tool call has no name")
        if text or (reason is not None and not calls):
            yield Piece(choice=told.index, text=text, finish_reason=None if calls else reason)
        yield from calls
        if reason is not None and calls:
            yield Piece(choice=told.index, finish_reason=reason)

    def _call(self, index: int, choice: _OpenChoice, told: _Call) -> Iterator[Piece]:
        function = told.function or _Function()
        call = self._open_call(choice, told, function.name)
        if call.name and function.name and function.name != call.name:
            raise UpstreamNonsense("a tool call changes its name")
        call.id = call.id or told.id or ""
        call.name = call.name or function.name or ""
        call.arguments += function.arguments or ""
        if not call.name:
            return
        first = call.number is None
        if first:
            call.number, choice.given = choice.given, choice.given + 1
        arguments, call.arguments = call.arguments, ""
        if first or arguments:
            call_id, name = (call.id, call.name) if first else ("", "")
            yield Piece(choice=index, call=call.number, call_id=call_id, name=name, arguments=arguments)

    def _open_call(self, choice: _OpenChoice, told: _Call, name: str | None) -> _OpenCall:
        """Give the call that is written on, or a new one."""
        key: object = told.index or 0
        if self._calls_by_id:
            key = told.id or next(reversed(choice.current), None)
        call = choice.current.get(key)
        if call is not None and not (_differ(call.id, told.id) and _differ(call.name, name)):
            return call
        if len(choice.calls) == MOST_CALLS:
            raise UpstreamNonsense("a choice has too many tool calls")
        choice.current[key] = call = _OpenCall()
        choice.calls.append(call)
        return call


def _differ(known: str, told: str | None) -> bool:
    return bool(known and told and known != told)


def pieces_of(completion: Completion) -> Iterator[Piece | Ended]:
    """Give a whole answer as a stream: a server may answer so although a stream was asked for."""
    for choice in completion.choices:
        if choice.text.text:
            yield Piece(choice=choice.index, text=choice.text.text)
        for number, call in enumerate(choice.tool_calls):
            yield Piece(
                choice=choice.index,
                call=number,
                call_id=call.id,
                name=call.name.text,
                arguments=call.arguments.text,
            )
        yield Piece(choice=choice.index, finish_reason=choice.finish_reason)
    yield Ended(model=completion.model, usage=completion.usage, revision=completion.revision)
