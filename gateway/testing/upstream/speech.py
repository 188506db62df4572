"""The personalities that answer as they should, if slowly: what they say, and how fast."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.testing.upstream.draft import Called, draft
from gateway.testing.upstream.personality import personality
from gateway.testing.upstream.talk import Talk

_SENTENCE = "The lungs are clear, the heart is of normal size, and no fracture is seen. "


def _seconds(argument: str, otherwise: float) -> float:
    return float(argument) if argument else otherwise


async def _say(talk: Talk, text: str) -> None:
    talk.draft = draft(talk.asked, (text,), talk.draft.number)
    await talk.say()


@personality("plain", "answers with the script's text, at once or at the server's rate")
async def _plain(talk: Talk, _argument: str) -> None:
    await talk.say()


@personality("say", "answers with the text after the colon", "text")
async def _says(talk: Talk, argument: str) -> None:
    await _say(talk, argument)


@personality("long", "answers with so many characters (10,000)", "characters")
async def _long(talk: Talk, argument: str) -> None:
    characters = int(argument or 10_000)
    await _say(talk, (_SENTENCE * (characters // len(_SENTENCE) + 1))[:characters])


@personality("echo", "answers with the text of the last message")
async def _echo(talk: Talk, _argument: str) -> None:
    await _say(talk, talk.asked.text())


@personality(
    "images",
    "answers with the number, the bytes and the digests of the images that it was sent",
)
async def _images(talk: Talk, _argument: str) -> None:
    images = talk.asked.images()
    digests = " ".join(hashlib.sha256(image).hexdigest()[:8] for image in images)
    await _say(talk, f"{len(images)} images, {sum(map(len, images))} bytes: {digests}".rstrip(": "))


@personality(
    "tokens",
    "streams so many tokens in a second (20), and so many in all where that is said",
    "rate[,tokens]",
)
async def _tokens(talk: Talk, argument: str) -> None:
    rate, _, number = argument.partition(",")
    talk.rate = float(rate or 20)
    if number:
        words = (_SENTENCE * (int(number) // len(_SENTENCE.split()) + 1)).split()[: int(number)]
        await _say(talk, " ".join(words))
    else:
        await talk.say()


@personality("slow-first", "waits so many seconds (2) before the first byte, then answers", "seconds")
async def _slow_first(talk: Talk, argument: str) -> None:
    await asyncio.sleep(_seconds(argument, 2))
    await talk.say()


@personality("slow-headers", "sends a header every so many seconds (0.5), ten of them, then answers", "seconds")
async def _slow_headers(talk: Talk, argument: str) -> None:
    pieces = talk.pieces()
    await talk.raw(b"HTTP/1.1 200 OK\r\n")
    for place in range(10):
        await talk.raw(b"x-slow-%d: yes\r\n" % place)
        await asyncio.sleep(_seconds(argument, 0.5))
    kind = b"text/event-stream" if talk.asked.stream else b"application/json"
    size = sum(map(len, pieces))
    await talk.raw(b"content-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, size))
    for piece in pieces:
        await talk.send(piece)
    await talk.end()


@personality("slow-loris", "sends its answer one byte at a time, one every so many seconds (0.05)", "seconds")
async def _slow_loris(talk: Talk, argument: str) -> None:
    await talk.open()
    for piece in talk.pieces():
        for byte in piece:
            await talk.send(bytes((byte,)))
            await asyncio.sleep(_seconds(argument, 0.05))
    await talk.end()


@personality(
    "tool-call",
    "calls the first tool, its arguments made by its schema, the script's text in every string",
)
async def _tool_call(talk: Talk, _argument: str) -> None:
    await _call(talk, 1)


@personality("two-tools", "calls the first two tools, or the first one twice")
async def _two_tools(talk: Talk, _argument: str) -> None:
    await _call(talk, 2)


async def _call(talk: Talk, number: int) -> None:
    tools = talk.asked.tools
    if tools:
        chosen = [tools[place % len(tools)] for place in range(number)]
        spoken = []
        for each in talk.draft.choices:
            text = "".join(each.tokens)
            calls = tuple(Called(name=tool["name"], arguments=_arguments(tool, text)) for tool in chosen)
            spoken.append(replace(each, tokens=(), calls=calls, finish="tool_calls"))
        talk.draft = replace(talk.draft, choices=tuple(spoken))
    await talk.say()


def _arguments(tool: dict[str, Any], text: str) -> str:
    return msgspec.json.encode(_value(tool.get("parameters") or {"type": "object"}, text)).decode()


def _value(schema: dict[str, Any], text: str) -> Any:
    """Make a value after a JSON Schema, as far as tools use it."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _value(inner, text) for name, inner in (schema.get("properties") or {}).items()}
        case "array":
            return [_value(schema.get("items") or {}, text)]
        case "integer":
            return 1
        case "number":
            return 0.5
        case "boolean":
            return True
    return text
