"""Break control tokens of chat templates in what a model is given, so that no text of a caller becomes a turn."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.text import defuse
from gateway.values import Image, Part, Prompt, Request, Text, ToolCall, Turn


class _Count:
    """Defuses texts and counts what was broken."""

    def __init__(self) -> None:
        self.broken = 0

    def text(self, text: Text) -> Text:
        plain, broken = defuse(text.text)
        if not broken:
            return text
        self.broken += broken
        return Text(id=text.id, text=plain)

    def maybe(self, text: Text | None) -> Text | None:
        return None if text is None else self.text(text)

    def part(self, part: Part) -> Part:
        return part if isinstance(part, Image) else self.text(part)

    def call(self, call: ToolCall) -> ToolCall:
        return replace(call, name=self.text(call.name), arguments=self.text(call.arguments))

    def turn(self, turn: Turn) -> Turn:
        return replace(turn, parts=tuple(map(self.part, turn.parts)), tool_calls=tuple(map(self.call, turn.tool_calls)))


def defused(request: Request, found: tuple[Text, ...]) -> tuple[Prompt, int]:
    """Give the prompt of a request and of the text found in its images, and how many control tokens were broken."""
    count = _Count()
    plain = replace(
        request,
        turns=tuple(map(count.turn, request.turns)),
        tools=count.maybe(request.tools),
        tool_choice=count.maybe(request.tool_choice),
        response_format=count.maybe(request.response_format),
    )
    prompt = Prompt(request=plain, found=tuple(map(count.text, found)))
    return (prompt if count.broken else Prompt(request=request, found=found)), count.broken
