"""The personalities that fail: each in one way, on the wire.

The text of the script stands in what they send, also in their error pages: whoever passes it on has passed on what no
check has seen.
"""

from __future__ import annotations

import asyncio
import random

import msgspec

from gateway.testing.upstream.draft import DONE, draft
from gateway.testing.upstream.personality import personality
from gateway.testing.upstream.streams import send_events
from gateway.testing.upstream.talk import EVENTS, JSON, Talk

_LINE = 10 * 2**20


def _text(talk: Talk) -> str:
    return "".join(talk.draft.choices[0].tokens)


def _page(talk: Talk) -> bytes:
    return f"<!doctype html><html><title>Sign in</title><body><p>{_text(talk)}</p></body></html>".encode()


@personality("stall", "sends half of its answer, and then nothing for ever")
async def _stall(talk: Talk, _argument: str) -> None:
    await talk.halfway()
    await asyncio.Event().wait()


@personality("cut-before", "reads the request and closes the connection")
async def _cut_before(talk: Talk, _argument: str) -> None:
    talk.close()


@personality("cut-mid-stream", "sends half of its answer and closes the connection")
async def _cut(talk: Talk, _argument: str) -> None:
    await talk.halfway()
    talk.close()


@personality("reset-mid-stream", "sends half of its answer and resets the connection")
async def _reset(talk: Talk, _argument: str) -> None:
    await talk.halfway()
    await talk.reset()


@personality("malformed-chunk", "breaks the JSON of an event in the middle of a stream, or of its answer")
async def _malformed(talk: Talk, _argument: str) -> None:
    if talk.asked.stream:
        events = list(talk.draft.events())
        middle = len(events) // 2
        broken = events[middle].rstrip()[:-9] + b"\n\n"
        await send_events(talk, [*events[:middle], broken, *events[middle + 1 :]])
    else:
        body = talk.draft.body()
        await talk.whole(body[: len(body) // 2])


@personality("garbage", "answers with random bytes that are no HTTP, and closes the connection")
async def _garbage(talk: Talk, _argument: str) -> None:
    await talk.raw(_noise() + _text(talk).encode())
    talk.close()


@personality("garbage-body", "answers with status 200, the right type, and random bytes for a body")
async def _garbage_body(talk: Talk, _argument: str) -> None:
    await talk.whole(_noise() + _text(talk).encode(), kind=EVENTS if talk.asked.stream else JSON)


def _noise() -> bytes:
    return random.Random(7).randbytes(4096)  # noqa: S311 - the same noise each time, and no secret


@personality("html", "answers with status 200 and an HTML page, as a proxy's sign-in page does")
async def _html(talk: Talk, _argument: str) -> None:
    await talk.whole(_page(talk), kind="text/html; charset=utf-8")


@personality("html-502", "answers with status 502 and an HTML page, as a proxy does before a server that is down")
async def _html_502(talk: Talk, _argument: str) -> None:
    await talk.whole(_page(talk), 502, "text/html; charset=utf-8")


@personality("wrong-length-short", "announces half of the bytes that it sends, and closes the connection")
async def _length_short(talk: Talk, _argument: str) -> None:
    await _length(talk, 0.5)


@personality("wrong-length-long", "announces a thousand bytes more than it sends, and closes the connection")
async def _length_long(talk: Talk, _argument: str) -> None:
    await _length(talk, 1, 1000)


async def _length(talk: Talk, share: float, more: int = 0) -> None:
    pieces = talk.pieces()
    kind = EVENTS if talk.asked.stream else JSON
    await talk.head(kind=kind, length=int(sum(map(len, pieces)) * share) + more)
    async for piece in talk.paced(pieces):
        await talk.send(piece)
    talk.close()


@personality("endless", "never stops writing text")
async def _endless(talk: Talk, _argument: str) -> None:
    words = _text(talk) + " "
    if talk.asked.stream:
        await talk.head(kind=EVENTS)
        more = talk.draft.text_event(words)
    else:
        await talk.head()
        body = talk.draft.body()
        start = body.index(b'"content":"') + len(b'"content":"')
        await talk.send(body[:start])
        more = msgspec.json.encode(words)[1:-1]
    while True:
        await talk.send(more)
        await asyncio.sleep(0 if talk.rate is None else 1 / talk.rate)


@personality("endless-line", "sends 10 MB of text without the end of a line")
async def _endless_line(talk: Talk, _argument: str) -> None:
    text = _text(talk) + " "
    text *= _LINE // len(text)
    if talk.asked.stream:
        await send_events(talk, [talk.draft.text_event(text), DONE])
    else:
        talk.draft = draft(talk.asked, (text,), talk.draft.number)
        await talk.say()
