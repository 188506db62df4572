"""An answer while it grows: pieces are added up to choices, and checked as they come. Pure."""

from __future__ import annotations

from gateway.policy.validate import is_text
from gateway.values import Choice, Completion, Ended, FinishReason, Piece, Text, ToolCall

LONGEST = 8 * 2**20
"""The most characters of all choices, tool calls included, that one answer may have: an endless one ends here."""

MOST_CALLS = 128
"""The most tool calls of one choice."""

_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})


class _Call:
    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id, self.name = "", ""
        self.arguments: list[str] = []


class _GrowingChoice:
    __slots__ = ("calls", "finish_reason", "fresh", "length", "text")

    def __init__(self) -> None:
        self.text = ""
        self.length = 0
        self.fresh: list[str] = []
        self.calls: list[_Call] = []
        self.finish_reason: FinishReason | None = None


class Growing:
    """The `n` choices of a streamed answer."""

    def __init__(self, n: int) -> None:
        self._choices = [_GrowingChoice() for _ in range(n)]
        self._size = 0

    def add(self, piece: object) -> str | None:
        """Add a piece; give a code (see `gateway.policy.validate`) where it is no piece of such an answer."""
        if type(piece) is not Piece:
            return "nonsense:type"
        texts = (piece.text, piece.call_id, piece.name, piece.arguments)
        if type(piece.choice) is not int or not 0 <= piece.choice < len(self._choices):
            return "nonsense:choice"
        if not all(map(is_text, texts)):
            return "nonsense:text"
        choice = self._choices[piece.choice]
        if choice.finish_reason is not None and any(texts):
            return "nonsense:after-end"
        self._size += sum(map(len, texts))
        if self._size > LONGEST:
            return "nonsense:too-long"
        if piece.text:
            choice.fresh.append(piece.text)
            choice.length += len(piece.text)
        if piece.call is not None:
            problem = _add_call(choice, piece, piece.call)
            if problem is not None:
                return problem
        elif piece.call_id or piece.name or piece.arguments:
            return "nonsense:tool_calls"
        if piece.finish_reason is not None:
            if type(piece.finish_reason) is not str or piece.finish_reason not in _REASONS:
                return "nonsense:finish_reason"
            choice.finish_reason = piece.finish_reason
        return None

    def length(self, choice: int) -> int:
        """Count the characters of a choice's text as far as it is written."""
        return self._choices[choice].length

    def text(self, choice: int) -> str:
        """Give the text of a choice as far as it is written."""
        found = self._choices[choice]
        if found.fresh:
            found.text += "".join(found.fresh)
            found.fresh = []
        return found.text

    def completion(self, ended: Ended, *, cut: bool = False) -> Completion:
        """Give the answer as far as it is written.

        A choice for which no reason of its end came has ended by itself, or by the gateway where the answer was `cut`.
        """
        return Completion(
            model=ended.model,
            choices=tuple(self._whole(index, cut=cut) for index in range(len(self._choices))),
            usage=ended.usage,
            blind=ended.blind,
            revision=ended.revision,
        )

    def _whole(self, index: int, *, cut: bool) -> Choice:
        found, place = self._choices[index], f"choices[{index}]"
        calls = tuple(
            ToolCall(
                id=call.id or f"call_{number}",
                name=Text(id=f"{place}.tool_calls[{number}].name", text=call.name),
                arguments=Text(id=f"{place}.tool_calls[{number}].arguments", text="".join(call.arguments)),
            )
            for number, call in enumerate(found.calls)
        )
        by_itself: FinishReason = "tool_calls" if calls else "stop"
        reason: FinishReason = found.finish_reason or ("content_filter" if cut else by_itself)
        text = Text(id=f"{place}.content", text=self.text(index))
        return Choice(index=index, text=text, tool_calls=calls, finish_reason=reason)


def _add_call(choice: _GrowingChoice, piece: Piece, number: int) -> str | None:
    if type(number) is not int or not 0 <= number <= len(choice.calls) or number >= MOST_CALLS:
        return "nonsense:tool_calls"
    if number == len(choice.calls):
        if not piece.name:
            return "nonsense:tool_calls"
        choice.calls.append(_Call())
    call = choice.calls[number]
    call.id = call.id or piece.call_id
    if piece.name and call.name and piece.name != call.name:
        return "nonsense:tool_calls"
    call.name = call.name or piece.name
    if piece.arguments:
        call.arguments.append(piece.arguments)
    return None
