"""`GET /v1/batches/{id}/events`: the progress of a batch as server-sent events, until it has ended.

A batch that changes is told about once a second. A stream ends with the batch (``event: done``), with the caller, with
the server, or after an hour: a caller whose stream ends without ``done`` asks again, with a key that is then looked at
anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
from litestar.datastructures import State

from gateway.errors import TooMany, Unavailable, describe
from gateway.store.batch_shape import ENDED
from gateway.web.openai.objects import batch_object
from gateway.web.openai.progress import Progress, Seen
from gateway.web.openai.streams import Streamed

AT_ONCE = 64
"""How many streams one process serves at once."""

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment is sent, so that no proxy takes the connection for a dead one."""

LONGEST = 3600.0
"""Seconds after which a stream ends in any case: a key that was revoked meanwhile must not go on to see."""

_EVERY = 1.0  # seconds between two looks
_log = logging.getLogger("gateway.web")


class Streams:
    """The streams of one process."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.open = 0

    def answer(self, batch_id: str, stopping: Callable[[], bool]) -> Streamed:
        """Make the answer that streams the progress of a batch.

        `stopping` tells whether the server is about to end: streams would hold it up. Raises TooMany where no stream
        is free.
        """
        if self.open >= AT_ONCE:
            raise TooMany(
                f"the gateway streams the progress of {AT_ONCE} batches at once, and does; ask for the batch itself, "
                "or again in a moment",
                code="rate_limit_exceeded",
            )
        self.open += 1
        # Proxies hold answers back to send more at once, unless they are asked not to.
        return Streamed(
            self._events(batch_id, stopping),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
            closed=self._closed,
        )

    def _closed(self) -> None:
        self.open -= 1

    async def _events(self, batch_id: str, stopping: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
        told: tuple[Any, ...] | None = None
        began = spoke = time.monotonic()
        while not stopping() and time.monotonic() - began < LONGEST:
            try:
                seen = await self._progress.look(batch_id)
            except Unavailable as exc:  # the database may be back in a moment; what a caller sees is silence
                _log.warning("the progress of a batch can not be read: %s", describe(exc))
            else:
                if seen is None:
                    return
                if seen.batch.status in ENDED:
                    yield _event("done", seen)
                    return
                news = (seen.batch, seen.counts, seen.pace.rate)
                if news != told:
                    told, spoke = news, time.monotonic()
                    yield _event("progress", seen)
            if time.monotonic() - spoke >= KEEP_ALIVE:
                spoke = time.monotonic()
                yield b": keep-alive\n\n"
            await asyncio.sleep(_EVERY)


def stopping_of(state: State) -> Callable[[], bool]:
    """Give what tells whether the server is about to end: `stopping` in the application's state, set by who serves."""

    def stopping() -> bool:
        told: Callable[[], bool] | None = state.get("stopping")
        return told is not None and told()

    return stopping


def _event(name: str, seen: Seen) -> bytes:
    body = msgspec.json.encode(batch_object(seen.batch, seen.counts, seen.pace))
    return b"event: %b\ndata: %b\n\n" % (name.encode(), body)
