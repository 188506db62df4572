"""Files of batches over HTTP: sent and fetched piece by piece, with a bar; memory is flat however large they are."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from gateway.cli.batch_client import Client
from gateway.cli.batch_failures import Away, Failed, Slow, plain
from gateway.cli.batch_seen import span

STDIN = Path("-")
"""The name of standard input."""

PATIENCE = 60.0
"""Seconds for which a lost connection is made again."""

_PIECE = 1 << 20  # bytes
_QUIET = 10.0  # seconds between two lines of text, where there is no terminal


class Sent(Struct, frozen=True, kw_only=True):
    """A file that was sent. `digest` is a keyed digest of its bytes, in hex: nobody without the key can compare it."""

    id: str
    bytes: int
    digest: str


class Fetched(Struct, frozen=True, kw_only=True):
    """A file that was fetched."""

    place: Path
    bytes: int
    lines: int


class _Payload(aiohttp.Payload):
    """The bytes of a file as they are read; `seen` is called with each piece."""

    def __init__(self, source: BinaryIO, size: int | None, seen: Callable[[bytes], object], filename: str) -> None:
        super().__init__(source, content_type="application/jsonl", filename=filename)
        self._whole = size
        self._seen = seen
        self.changed = False

    @property
    def size(self) -> int | None:
        return self._whole

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise NotImplementedError  # part of aiohttp's protocol; a file is never shown

    async def write(self, writer: Any) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        del content_length
        left = self._whole
        while left is None or left > 0:
            piece = await asyncio.to_thread(self._value.read, _PIECE if left is None else min(_PIECE, left))
            if not piece:
                break
            left = None if left is None else left - len(piece)
            await writer.write(piece)
            self._seen(piece)
        if left:
            self.changed = True
            raise OSError("the file has become shorter while it was read")


async def send(client: Client, file: Path, key: str) -> Sent:
    """Send an input file, and give what the gateway says of it. `key` keys the digest. Raises Failed.

    A lost connection is made again, except for standard input, which can be read only once.
    """

    async def once() -> Sent:
        with _source(file) as (source, size):
            digest, sent = hmac.new(key.encode(), digestmod=hashlib.sha256), 0

            with _bar("sending", file.name if file != STDIN else "standard input", size) as advance:

                def seen(piece: bytes) -> None:
                    nonlocal sent
                    digest.update(piece)
                    sent += len(piece)
                    advance(len(piece))

                name = "stdin.jsonl" if file == STDIN else file.name
                payload = _Payload(source, size, seen, name)
                form = aiohttp.FormData(quote_fields=False)
                form.add_field("purpose", "batch")
                form.add_field("file", payload, filename=_header_safe(name))
                try:
                    answer = await client.once("POST", "v1/files", data=form)
                except (Away, Slow) as exc:
                    if payload.changed:
                        raise Failed(f"{file}: became shorter while it was read; submit it again") from None
                    if file == STDIN and sent:
                        raise Failed(f"{exc.message}; nothing was kept of standard input, send it again") from None
                    raise
            return Sent(id=plain(answer["id"]), bytes=sent, digest=digest.hexdigest())

    return await client.patiently(once, 0.0 if file == STDIN else PATIENCE)


async def fetch(client: Client, file_id: str, place: Path, *, force: bool, headers: dict[str, str]) -> Fetched:
    """Fetch a file to a new place, which only its owner may read; it is there whole or not at all. Raises Failed."""

    async def once() -> Fetched:
        part = place.with_name(f"{place.name}.part")
        lines = size = 0
        last = b"\n"
        async with client.open("GET", f"v1/files/{file_id}/content", headers=headers) as answer:
            with _written(part) as file, _bar("fetching", place.name, answer.content_length) as advance:
                async for piece in answer.content.iter_chunked(_PIECE):
                    file.write(piece)
                    lines, size, last = lines + piece.count(b"\n"), size + len(piece), piece[-1:]
                    advance(len(piece))
                file.flush()
                os.fsync(file.fileno())
        _move(part, place, force=force)
        return Fetched(place=place, bytes=size, lines=lines + (last != b"\n"))

    return await client.patiently(once, PATIENCE)


@contextlib.contextmanager
def _source(file: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open what is to be sent; gives its size where it is known."""
    if file == STDIN:
        yield sys.stdin.buffer, None
        return
    try:
        source = file.open("rb")
    except OSError as exc:
        raise Failed(f"{file}: can not be read ({(exc.strerror or type(exc).__name__).lower()})") from None
    with source:
        size = os.fstat(source.fileno()).st_size
        regular = size > 0 or file.is_file()
        if regular and size == 0:
            raise Failed(f"{file}: is empty; a batch has one request a line")
        yield source, size if regular else None


@contextlib.contextmanager
def _written(part: Path) -> Iterator[BinaryIO]:
    """Open a file that only its owner may read; it is removed where the block does not come to its end."""
    with _told(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        file = os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        try:
            with file:
                yield file
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def check_free(place: Path, *, force: bool) -> None:
    """Raise Failed where there is such a file, unless it may be overwritten."""
    if place.exists() and not force:
        raise Failed(f"{place}: is there; name another folder with --out, or overwrite it with --force")


def _move(part: Path, place: Path, *, force: bool) -> None:
    with _told(place):
        try:
            check_free(place, force=force)
        except Failed:
            part.unlink()
            raise
        part.replace(place)


@contextlib.contextmanager
def _told(place: Path) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError):  # some of them are errors of the operating system as well
        raise
    except OSError as exc:
        why = (exc.strerror or type(exc).__name__).lower()
        raise Failed(f"{place}: can not be written ({why}); name another folder with --out") from None


@contextlib.contextmanager
def _bar(what: str, name: str, size: int | None) -> Iterator[Callable[[int], object]]:
    """Show how many bytes have gone, with rate and estimate; without a terminal a line every ten seconds."""
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(32, style="bright_black", complete_style="green", finished_style="green"),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(f"{what} {plain(name)}".replace("[", "\\["), total=size)
            yield lambda count: progress.advance(task, count)
        return
    began = told = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        now = time.monotonic()
        if now - told >= _QUIET:
            told = now
            of = f" of {size:,}" if size else ""
            console.print(
                f"{what} {plain(name)}: {done:,}{of} bytes after {span(now - began)}", highlight=False, markup=False
            )

    yield advance


def _header_safe(name: str) -> str:
    """Give a file's name without what would end its field in the head of a form's part."""
    return "".join(c if c.isprintable() and c not in '"\\' else "_" for c in name)
