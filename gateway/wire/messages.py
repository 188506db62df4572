"""The messages of a chat: turns of text, images and tool calls. What no stage could inspect, no model may read."""

from __future__ import annotations

import re
from typing import Any, NoReturn, get_args

from msgspec import Struct

from gateway.values import Image, Role, Text, ToolCall, Turn
from gateway.wire.fields import Body, bad, items, known, members, string, wrong
from gateway.wire.words import quote

MAX_MESSAGES = 512
MAX_PARTS = 1024
MAX_IMAGES = 16
MAX_TEXT = 1_000_000
"""The most characters of text in one request: some 250,000 tokens."""

_MAX_CALLS = 64
# Some chat templates show these to the model, and no stage reads them: they are too narrow for a sentence.
_CALL_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ROLES = ("system", "developer", *get_args(Role)[1:])
_FIELDS = {
    "system": ("role", "content", "name"),
    "developer": ("role", "content", "name"),
    "user": ("role", "content", "name"),
    "assistant": ("role", "content", "name", "tool_calls", "refusal", "audio", "function_call", "annotations"),
    "tool": ("role", "content", "name", "tool_call_id"),
}
_CONTENT = "a string or a list of parts"
_PARTS = "the gateway takes parts of type `text` and `image_url`"


class Link(Struct, frozen=True, kw_only=True):
    """An image that is still a URL. `id` is its place in the request."""

    id: str
    url: str


class Draft(Struct, frozen=True, kw_only=True):
    """A turn whose images are not decoded yet."""

    role: Role
    parts: tuple[Text | Link, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def links(self) -> tuple[Link, ...]:
        """Give the images to decode, in reading order."""
        return tuple(part for part in self.parts if isinstance(part, Link))

    def turn(self, images: dict[str, Image]) -> Turn:
        """Give the turn, with `images` (by id) in the places of the links."""
        return Turn(
            role=self.role,
            parts=tuple(images[part.id] if isinstance(part, Link) else part for part in self.parts),
            tool_calls=self.tool_calls,
            tool_call_id=self.tool_call_id,
        )


class _Reader:
    """Walks the messages once, counting what it meets."""

    def __init__(self) -> None:
        self.parts = 0
        self.images = 0
        self.calls: dict[str, str] = {}

    def message(self, value: object, where: str) -> Draft:
        message = members(value, where, "an object with `role` and `content`")
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            told = quote(role) if role is not None else "missing"
            bad(f"{where}.role", f"`{where}.role` is {told}; give one of {', '.join(_ROLES)}", "invalid_role")
        known(message, _FIELDS[role], where)
        if message.get("name") is not None:
            string(message["name"], f"{where}.name")  # checked and left out: no stage reads it, so no model may
        if role == "assistant":
            return self._assistant(message, where)
        parts = self.content(message.get("content"), f"{where}.content", role)
        if role == "tool":
            return Draft(role="tool", parts=parts, tool_call_id=self._answered(message, where))
        if role == "user":
            if not parts:
                bad(f"{where}.content", f"`{where}.content` is empty; give the user's text or image", "empty_content")
            return Draft(role="user", parts=parts)
        return Draft(role="system", parts=parts)

    def _assistant(self, message: Body, where: str) -> Draft:
        for name in ("audio", "function_call"):
            if message.get(name) is not None:
                bad(
                    f"{where}.{name}",
                    f"`{where}.{name}` is not taken; give text, or `tool_calls`",
                    "unsupported_parameter",
                )
        if message.get("annotations"):
            bad(f"{where}.annotations", f"`{where}.annotations` is not taken; leave it out", "unsupported_parameter")
        calls = self._calls(message.get("tool_calls"), f"{where}.tool_calls")
        content, refusal = message.get("content"), message.get("refusal")
        if content is None and refusal is None and not calls:
            bad(f"{where}.content", f"`{where}.content` is missing; give a string, or `tool_calls`", "empty_content")
        parts = self.content(content, f"{where}.content", "assistant") if content is not None else ()
        if refusal is not None:
            parts += self._text(string(refusal, f"{where}.refusal"), f"{where}.refusal")
        return Draft(role="assistant", parts=parts, tool_calls=calls)

    def _answered(self, message: Body, where: str) -> str:
        answered = string(message.get("tool_call_id"), f"{where}.tool_call_id", "the id of the call that it answers")
        if answered not in self.calls:
            bad(
                f"{where}.tool_call_id",
                f"`{where}.tool_call_id` is {quote(answered)}, which no earlier `tool_calls` has; "
                "send the assistant's message with the call before its answer",
            )
        return self.calls[answered]

    def _text(self, text: str, where: str) -> tuple[Text, ...]:
        self.parts += 1
        return (Text(id=where, text=text),) if text else ()  # an empty text is nothing that a model could read

    def content(self, content: object, where: str, role: str) -> tuple[Text | Link, ...]:
        """Read a string or a list of parts, as a turn of `role` may hold them."""
        if isinstance(content, str):
            return self._text(content, where)
        if content is None:
            bad(where, f"`{where}` is missing or null; give {_CONTENT}", "empty_content")
        parts: list[Text | Link] = []
        for place, part in enumerate(items(content, where, MAX_PARTS, _CONTENT)):
            parts += self._part(part, f"{where}[{place}]", role)
        return tuple(parts)

    def _part(self, value: object, where: str, role: str) -> tuple[Text | Link, ...]:
        part = members(value, where, "an object with `type`")
        match part.get("type"):
            case "text":
                known(part, ("type", "text"), where)
                return self._text(string(part.get("text"), f"{where}.text"), where)
            case "refusal" if role == "assistant":
                known(part, ("type", "refusal"), where)
                return self._text(string(part.get("refusal"), f"{where}.refusal"), where)
            case "image_url":
                if role != "user":
                    bad(
                        where,
                        f"`{where}` is an image in a turn of role `{role}`; images are taken in turns of role `user`",
                    )
                return (self._link(part, where),)
        return self._other(part, where)

    def _other(self, part: Body, where: str) -> NoReturn:
        told = "missing" if part.get("type") is None else quote(part["type"])
        bad(f"{where}.type", f"`{where}.type` is {told}; {_PARTS}", "unsupported_part")

    def _link(self, part: Body, where: str) -> Link:
        known(part, ("type", "image_url"), where)
        self.images += 1
        if self.images > MAX_IMAGES:
            bad(where, f"there are more than {MAX_IMAGES} images; send fewer", "too_many_images")
        place, value = f"{where}.image_url", part.get("image_url")
        if isinstance(value, str):
            return Link(id=where, url=value)
        image = members(value, place, "an object with `url`, or a string")
        known(image, ("url", "detail"), place)
        if image.get("detail") not in (None, "auto", "low", "high"):
            wrong(f"{place}.detail", image["detail"], "one of auto, low, high")
        return Link(id=where, url=string(image.get("url"), f"{place}.url", "a data URL"))

    def _calls(self, value: object, where: str) -> tuple[ToolCall, ...]:
        if value is None:
            return ()
        return tuple(self._call(call, f"{where}[{k}]") for k, call in enumerate(items(value, where, _MAX_CALLS)))

    def _call(self, value: object, where: str) -> ToolCall:
        call = members(value, where, "an object with `id`, `type` and `function`")
        known(call, ("id", "type", "function", "index"), where)
        id_ = string(call.get("id"), f"{where}.id")
        if not _CALL_ID.fullmatch(id_):
            bad(f"{where}.id", f"`{where}.id` is {quote(id_)}; give 1 to 64 letters, digits, `_`, `.`, `:` or `-`")
        if call.get("type", "function") != "function":
            wrong(f"{where}.type", call["type"], "`function`")
        function = members(call.get("function"), f"{where}.function", "an object with `name` and `arguments`")
        known(function, ("name", "arguments"), f"{where}.function")
        name = string(function.get("name"), f"{where}.function.name")
        if not _NAME.fullmatch(name):
            bad(
                f"{where}.function.name",
                f"`{where}.function.name` is {quote(name)}; give 1 to 64 letters, digits, `_`, `.` or `-`",
            )
        arguments = string(function.get("arguments"), f"{where}.function.arguments", "a string of JSON")
        # No stage reads an id, so no model may: it gets a number for each, and the caller's own word stays here.
        own = self.calls.setdefault(id_, f"call_{len(self.calls)}")
        self.parts += 2
        return ToolCall(
            id=own,
            name=Text(id=f"{where}.name", text=name),
            arguments=Text(id=f"{where}.arguments", text=arguments or "{}"),
        )


def read_messages(value: object) -> tuple[Draft, ...]:
    """Read `messages`.

    Raises InvalidRequest, with the place, on: an unknown role, part or field; no message; nothing from the user; an
    image outside the user's turns; a ``tool`` turn that answers no call; a last turn of the assistant; more than the
    bounds.
    """
    if value is None:
        bad("messages", "`messages` is missing; give a list with at least one message", "missing_parameter")
    given: list[Any] = items(value, "messages", MAX_MESSAGES, "a list of messages")
    if not given:
        bad("messages", "`messages` is empty; give at least one message", "empty_content")
    reader = _Reader()
    drafts = tuple(reader.message(message, f"messages[{i}]") for i, message in enumerate(given))
    if reader.parts + reader.images > MAX_PARTS:
        bad("messages", f"there are more than {MAX_PARTS} parts; send fewer", "too_many_items")
    if not any(draft.role in ("user", "tool") and draft.parts for draft in drafts):
        bad("messages", "nothing is asked; give a message of role `user` with text or an image", "empty_content")
    if drafts[-1].role == "assistant":
        bad(
            "messages",
            "the last message is of role `assistant`, and a model must not go on with an answer that its caller began; "
            "end with a message of role `user` or `tool`",
            "unsupported_parameter",
        )
    return drafts


def read_parts(value: object, where: str) -> Draft:
    """Read a list of parts as one turn of the user. Raises InvalidRequest, with the place, as `read_messages` does."""
    parts = _Reader().content(value, where, "user")
    if not parts:
        bad(where, f"`{where}` is empty; give text or an image", "empty_content")
    return Draft(role="user", parts=parts)


def characters(drafts: tuple[Draft, ...]) -> int:
    """Count the characters of text in `drafts`."""
    return sum(
        sum(len(part.text) for part in draft.parts if isinstance(part, Text))
        + sum(len(call.name.text) + len(call.arguments.text) for call in draft.tool_calls)
        for draft in drafts
    )
