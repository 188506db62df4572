"""The personalities whose streams are not quite as OpenAI writes them: their lines, ends and letters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from gateway.testing.upstream.draft import DONE, draft
from gateway.testing.upstream.personality import personality
from gateway.testing.upstream.talk import EVENTS, Talk

_FOREIGN = " Größe 5 µm bei 37 °C — 肺野清晰 🫁"


async def send_events(talk: Talk, pieces: Iterable[bytes]) -> None:
    """Write a stream of these events."""
    await talk.head(kind=EVENTS)
    async for piece in talk.paced(pieces):
        await talk.send(piece)
    await talk.end()


async def _streams(talk: Talk, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Write the stream with its events changed; an answer that is no stream has none to change."""
    if talk.asked.stream:
        await send_events(talk, change(list(talk.draft.events())))
    else:
        await talk.say()


@personality("double-done", "ends its stream twice")
async def _double_done(talk: Talk, _argument: str) -> None:
    await _streams(talk, lambda events: [*events, DONE])


@personality("after-done", "goes on with its text after the end of its stream")
async def _after_done(talk: Talk, _argument: str) -> None:
    await _streams(talk, lambda events: [*events, *events[1:]])


@personality("no-done", "leaves out the `[DONE]` of its stream")
async def _no_done(talk: Talk, _argument: str) -> None:
    await _streams(talk, lambda events: events[:-1])


@personality("no-finish", "never says why its answer ended, and leaves out the `[DONE]` of its stream")
async def _no_finish(talk: Talk, _argument: str) -> None:
    talk.draft = replace(talk.draft, choices=tuple(replace(each, finish=None) for each in talk.draft.choices))
    await _streams(talk, lambda events: events[:-1])


@personality("ping", "puts comments between the events of its stream")
async def _ping(talk: Talk, _argument: str) -> None:
    await _streams(talk, lambda events: [b": ping\n\n" + event for event in events])


@personality("crlf", "ends the lines of its stream with CR and LF")
async def _crlf(talk: Talk, _argument: str) -> None:
    await _streams(talk, lambda events: [event.replace(b"\n", b"\r\n") for event in events])


@personality("invalid-utf8", "puts bytes that are no UTF-8 into the middle of its text")
async def _invalid_utf8(talk: Talk, _argument: str) -> None:
    pieces = talk.pieces()
    middle = len(pieces) // 2 - 1
    at = pieces[middle].index(b'"content":"') + 11 if talk.asked.stream else 0
    if not talk.asked.stream:
        # the body is cut without regard to its text, so the bytes go behind the first letter of the text
        whole = b"".join(pieces)
        at = whole.index(b'"content":"') + 12
        pieces, middle = [whole], 0
    pieces[middle] = pieces[middle][:at] + b"\xff\xc3\x28" + pieces[middle][at:]
    if talk.asked.stream:
        await send_events(talk, pieces)
    else:
        await talk.whole(pieces[0])


@personality("split-utf8", "adds letters of several bytes to its text, and writes each byte of them by itself")
async def _split_utf8(talk: Talk, _argument: str) -> None:
    text = "".join(talk.draft.choices[0].tokens)
    talk.draft = draft(talk.asked, (text + _FOREIGN,), talk.draft.number)
    raw = b"".join(talk.pieces())
    inside = [place for place, byte in enumerate(raw) if byte & 0xC0 == 0x80]
    await talk.open()
    for start, end in zip([0, *inside], [*inside, len(raw)], strict=True):
        await talk.send(raw[start:end])
        await asyncio.sleep(0)
    await talk.end()
