"""`gateway batch watch`: follow a batch until it has ended, whatever happens to the connection or to the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from gateway.cli.batch_bar import Bar
from gateway.cli.batch_client import Client
from gateway.cli.batch_failures import Away, Failed, Slow
from gateway.cli.batch_options import batch_id as checked
from gateway.cli.batch_options import connection
from gateway.cli.batch_seen import Seen, seen_of, span
from gateway.cli.batch_show import summary
from gateway.cli.batch_view import View, plain_line
from gateway.cli.measuring import INTERRUPTED

FAILED_LINES, NOT_COMPLETED = 3, 4
"""Exit codes: some lines failed; the batch failed, expired or was cancelled."""

GIVE_UP = 3600.0
"""Seconds without any answer after which it is no longer tried."""

_BACKOFF = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds
_POLL = 2.0  # seconds between two looks where events do not come
_POLLING = 30.0  # seconds of looking before events are asked for again
_FIRST = 10.0  # seconds in which a stream must tell something; what stands between may hold events back
_FRAME = 0.2  # seconds
_PLAIN, _STILL = 5.0, 60.0  # seconds between two lines of text, where something has changed and where nothing has


@click.command("watch")
@click.argument("batch_id")
@click.option("--json", "as_json", is_flag=True, help="Print the batch as JSON at the end; progress goes to stderr.")
@connection
def watch(batch_id: str, as_json: bool, **place: Any) -> None:
    """Follow a batch until it has ended.

    Ends with 0 where every line succeeded, 3 where some failed, 4 where the batch failed, expired or was cancelled. The
    batch needs nobody to watch it: stop with Ctrl-C, and watch again whenever you like.
    """
    client = Client(place["url"], place["key_file"])
    seen = until_ended(client, checked(batch_id), stdout=not as_json)
    if as_json:
        import json

        click.echo(json.dumps(seen.raw, ensure_ascii=False, indent=2))
    raise SystemExit(exit_code(seen))


def until_ended(client: Client, batch_id: str, *, stdout: bool) -> Seen:
    """Follow a batch to its end, on standard output or standard error. Leaves with 130 on Ctrl-C. Raises Failed."""
    console = Console(stderr=not stdout)
    if not console.is_terminal:
        console = Console(stderr=not stdout, width=160)

    async def run() -> Seen:
        async with client:
            return await follow(client, batch_id, console)

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        click.echo(
            "not watching any more; the batch goes on\n"
            f"  gateway batch watch {batch_id}    watches it again\n"
            f"  gateway batch cancel {batch_id}   stops it",
            err=True,
        )
        raise SystemExit(INTERRUPTED) from None


def exit_code(seen: Seen) -> int:
    """Give the exit code that tells how a batch has ended."""
    if seen.status != "completed":
        return NOT_COMPLETED
    return FAILED_LINES if seen.failed else 0


async def follow(client: Client, batch_id: str, console: Console) -> Seen:
    """Show a batch until it has ended, then its summary. Raises Failed where it can not be seen at all."""
    view = View(seen_of(await client.get(f"v1/batches/{batch_id}")), time.monotonic())

    def trouble(text: str) -> None:
        view.trouble = text

    tell, client.tell = client.tell, lambda _: None  # the view tells
    try:
        async with _shown(view, console) as redraw, contextlib.aclosing(looks(client, view.seen, trouble)) as found:
            redraw()
            async for seen in found:
                view.see(seen, time.monotonic())
                redraw()
    finally:
        client.tell = tell
    console.print(summary(view.seen, named=not _moves(console)))
    return view.seen


async def looks(client: Client, seen: Seen, trouble: Callable[[str], object]) -> AsyncGenerator[Seen, None]:
    """Give each look at a batch until it has ended: by events while they come, else by asking again and again.

    `trouble` is told what stands in the way. Raises Failed where the batch can not be seen any more, and after an hour
    without any answer.
    """
    path = f"v1/batches/{seen.id}"
    answered, failures, until = time.monotonic(), 0, 0.0
    while not seen.over:
        try:
            if time.monotonic() < until:
                await asyncio.sleep(_POLL)
            else:
                told, opened = False, time.monotonic()
                async with contextlib.aclosing(_events(client, path)) as stream:
                    async for seen in stream:
                        told, answered, failures = True, time.monotonic(), 0
                        yield seen
                until = 0.0 if told else time.monotonic() + _POLLING
                if not seen.over:  # whatever stands between may cut every stream
                    await asyncio.sleep(max(opened + 1 - time.monotonic(), 0))
            if not seen.over:  # a stream has ended without a word of the end, or there is none
                seen = seen_of(await client.get(path))
                answered, failures = time.monotonic(), 0
                yield seen
        except (Away, Slow) as exc:
            silent = time.monotonic() - answered
            if silent > GIVE_UP:
                told_for = f"tried for {span(silent)}; the batch goes on without you"
                raise Failed(f"{exc.message} ({told_for})") from None
            pause = _BACKOFF[min(failures, len(_BACKOFF) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
            failures += 1
            if not isinstance(exc, Slow):
                trouble(f"{exc.message} (trying again; the batch goes on meanwhile)")
            await asyncio.sleep(pause)


async def _events(client: Client, path: str) -> AsyncGenerator[Seen, None]:
    """Give what a stream of events tells; nothing where there is none to be had. Raises Away where it breaks."""
    async with contextlib.aclosing(client.events(f"{path}/events")) as stream:
        try:
            async with asyncio.timeout(_FIRST):
                event = await anext(stream, None)
        except Away:
            raise
        except (Failed, TimeoutError):
            return
        while event is not None:
            yield seen_of(event[1])
            event = await anext(stream, None)


def _moves(console: Console) -> bool:
    """Tell whether what was printed can be drawn anew."""
    return console.is_terminal and not console.is_dumb_terminal


@contextlib.asynccontextmanager
async def _shown(view: View, console: Console) -> AsyncIterator[Callable[[], None]]:
    """Keep the batch on the screen, or tell it line by line; gives what is called where something has changed."""
    if _moves(console):
        with Live(console=console, auto_refresh=False) as live:

            def draw() -> None:
                live.update(Bar(view, time.monotonic(), time.time()), refresh=True)

            async with _ticking(draw, _FRAME):
                yield draw
            draw()
        return
    lines = _Lines(view, console)
    async with _ticking(lines.tick, 1.0):
        yield lines.tick


@contextlib.asynccontextmanager
async def _ticking(tick: Callable[[], None], every: float) -> AsyncIterator[None]:
    async def run() -> None:
        while True:
            await asyncio.sleep(every)
            tick()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class _Lines:
    """Tells a batch in lines of text: at once where its status changes, every few seconds where its counts do."""

    def __init__(self, view: View, console: Console) -> None:
        self._view = view
        self._console = console
        self._at = float("-inf")
        self._phase: tuple[Any, ...] = ()
        self._done = -1

    def tick(self) -> None:
        """Print a line where it is time for one."""
        view, now = self._view, time.monotonic()
        clock = time.time()
        notice = view.notice(now, clock) is not None
        phase = (view.seen.status, view.seen.paused, view.trouble, notice)
        after = _PLAIN if view.seen.done != self._done else _STILL
        if phase != self._phase or now - self._at >= after:
            self._phase, self._at, self._done = phase, now, view.seen.done
            self._console.print(
                f"{time.strftime('%H:%M:%S')}  {plain_line(view, now, clock)}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
