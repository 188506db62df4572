"""The reference upstream as a process: `python -m gateway.testing.upstream --port 9000`; Ctrl-C ends it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from gateway.testing.upstream.server import TEXT, ReferenceUpstream, read_script
from gateway.testing.upstream.table import table


def _words() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="python -m gateway.testing.upstream",
        description="An OpenAI-compatible server for tests, whose answers and faults are chosen by the model's name.",
    )
    words.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    words.add_argument("--port", type=int, default=9000, help="port to listen on, 0 for a free one (%(default)s)")
    words.add_argument("--personality", default="plain", help="who answers where `model` names nobody (%(default)s)")
    words.add_argument("--say", default=TEXT, help="the text of its answers (%(default)s)")
    words.add_argument("--tokens-per-second", type=float, help="how fast streams leave (as fast as they are taken)")
    script = (
        "a JSON list of steps for successive requests: personalities, or objects of `personality`, `say` and `times`"
    )
    words.add_argument("--script", type=Path, help=script)
    words.add_argument("--list", action="store_true", help="write the table of personalities and end")
    return words


async def _serve(upstream: ReferenceUpstream) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: there Ctrl-C raises KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with upstream:
        sys.stdout.write(f"a reference upstream listens at {upstream.url}; its models are its personalities\n")
        sys.stdout.flush()
        await ended.wait()


def main(words: list[str] | None = None) -> int:
    """Serve until Ctrl-C; give the exit status."""
    parser = _words()
    given = parser.parse_args(words)
    if given.list:
        sys.stdout.write(table())
        return 0
    try:
        upstream = ReferenceUpstream(
            given.say,
            personality=given.personality,
            rate=given.tokens_per_second,
            script=read_script(given.script) if given.script else (),
            host=given.host,
            port=given.port,
            keep=0,
        )
    except (ValueError, OSError) as exc:
        parser.error(str(exc))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(upstream))
    return 0


if __name__ == "__main__":
    sys.exit(main())
