"""A backend's stream, read in a task of its own: what it gives, how it ends and where it breaks, as plain values."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from gateway.pipeline.call import Fault, fault_of
from gateway.pipeline.gone import GONE, Gone
from gateway.values import Ended, Piece

AHEAD = 4096
"""Pieces that are read ahead of the audit: so much the model may write while a caller reads slowly."""

AHEAD_CHARACTERS = 65_536
"""Characters that are read ahead: a model that writes megabytes at once must not make one look of the auditors late."""

_CLOSING = 5.0  # seconds that a stage gets to close its stream


class Pump:
    """Reads one stream. What went wrong comes as the last item, a `Fault`; an `Ended` is the last item as well."""

    def __init__(self, open_: Callable[[], AsyncGenerator[Any, None]], gone: Gone | None) -> None:
        self._items: deque[Piece | Ended | Fault] = deque()
        self._size = 0
        self._more, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._gone = gone
        self._task = asyncio.get_running_loop().create_task(self._read(open_), name="stream of a model")
        if gone is not None:
            gone.future.add_done_callback(self._leave)

    async def some(self, deadline: float) -> tuple[Piece | Ended | Fault, ...]:
        """Give what has come, one item at least, within `deadline` seconds; else a `Fault` that says so."""
        try:
            async with asyncio.timeout(max(0.0, deadline)):
                await self._more.wait()
        except TimeoutError:
            return (Fault(cause="deadline"),)
        found = tuple(self._items)
        self._items.clear()
        self._size = 0
        self._more.clear()
        self._room.set()
        return found

    def close(self) -> None:
        """Stop reading, and close the stream; what the stage does at its end is not waited for."""
        if self._gone is not None:
            self._gone.future.remove_done_callback(self._leave)
        self._task.cancel()

    def _leave(self, _: object) -> None:
        self._put(Fault(cause=GONE))
        self._task.cancel()

    def _put(self, item: Piece | Ended | Fault) -> None:
        self._items.append(item)
        self._more.set()

    async def _read(self, open_: Callable[[], AsyncGenerator[Any, None]]) -> None:
        stream: AsyncGenerator[Any, None] | None = None
        try:
            stream = open_()
            async for item in stream:
                if type(item) is Ended:
                    self._put(item)
                    return
                if type(item) is not Piece:
                    self._put(Fault(cause="nonsense:type"))
                    return
                self._put(item)
                self._size += len(item.text) + len(item.arguments)
                if len(self._items) >= AHEAD or self._size >= AHEAD_CHARACTERS:
                    self._room.clear()
                    await self._room.wait()
            self._put(Fault(cause="nonsense:cut"))
        except asyncio.CancelledError:
            self._put(Fault(cause="cancelled"))
        except BaseException as exc:  # noqa: BLE001 - a plugin's fault is evidence, whatever it is
            self._put(fault_of(exc))
        finally:
            aclose = getattr(stream, "aclose", None)
            if aclose is not None:
                # its message may quote a prompt, and there is nobody left to tell
                with contextlib.suppress(BaseException):
                    async with asyncio.timeout(_CLOSING):
                        await aclose()
