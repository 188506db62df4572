"""One call of one stage, with its deadline: whatever the stage does, a value or a fault comes back, in time."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from gateway.pipeline.gone import GONE, Gone

_CODE = re.compile(r"[^A-Za-z0-9_]")


class Fault(Struct, frozen=True, kw_only=True):
    """Why a call gave no usable value: a short code (see `StageFailed.cause`)."""

    cause: str


async def _contained(call: Callable[[], Awaitable[object]]) -> object:
    """Await the stage's method; turn everything it raises into a Fault, since messages may quote a prompt."""
    try:
        awaitable = call()
        if not inspect.isawaitable(awaitable):
            return Fault(cause="nonsense:not-async") if awaitable is not None else Fault(cause="nothing")
        return await awaitable
    except (SystemExit, KeyboardInterrupt, Exception) as exc:  # noqa: BLE001 - a plugin's fault is evidence, whatever it is
        return fault_of(exc)


def fault_of(exc: BaseException) -> Fault:
    """Give the code of what a stage raised: its type alone."""
    if isinstance(exc, SystemExit | KeyboardInterrupt):
        return Fault(cause="exited")
    return Fault(cause=f"raised:{_CODE.sub('_', type(exc).__name__)[:48]}")


def _swallow(task: asyncio.Task[object]) -> None:
    """Look at an abandoned task's end, so that the event loop does not log its exception, which may quote a prompt."""
    if not task.cancelled():
        task.exception()


async def call_stage(
    call: Callable[[], Awaitable[object]],
    *,
    deadline: float,
    check: Callable[[object], str | None],
    gone: Gone | None = None,
) -> tuple[object | Fault, float]:
    """Run one call of a stage for at most `deadline` seconds, and no longer than its caller waits, where `gone` tells.

    Gives the value that passed `check` (which gives a code where the value is nonsense), or a Fault, and the
    milliseconds it took. A stage that hangs is cancelled and no longer waited for, even where it ignores the
    cancellation; one that blocked the event loop past its deadline is late, although it answered.
    """
    if gone is not None and gone.told:
        return Fault(cause=GONE), 0.0
    start = time.perf_counter()
    task = asyncio.ensure_future(_contained(call))
    task.add_done_callback(_swallow)
    try:
        waited: set[asyncio.Future[Any]] = {task} if gone is None else {task, gone.future}
        await asyncio.wait(waited, timeout=max(0.0, deadline), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        task.cancel()
        raise
    elapsed = time.perf_counter() - start
    if not task.done():
        task.cancel()
        return Fault(cause=GONE if gone is not None and gone.told else "deadline"), elapsed * 1000
    if task.cancelled():
        return Fault(cause="cancelled"), elapsed * 1000
    value = task.result()
    if isinstance(value, Fault):
        return value, elapsed * 1000
    if elapsed > deadline:
        return Fault(cause="deadline"), elapsed * 1000
    try:
        problem = check(value)
    except Exception:  # noqa: BLE001 - a value made to break its own check is nonsense
        problem = "nonsense:type"
    return (Fault(cause=problem) if problem else value), elapsed * 1000
