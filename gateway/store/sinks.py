"""Where copies of checkpoints go: a file, an HTTP address, an object store; so that they outlive who owns the database.

A sink is given the latest checkpoint that it has not been given yet: sizes only rise, and what came between is proved
by what follows. A sink that fails is tried again, ever more slowly, and holds up neither the log nor another sink.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import hashlib
import logging
import os
import re
import socket
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import ConfigurationError, GatewayError, describe
from gateway.store.engine import writer
from gateway.store.indexing import insert_of
from gateway.store.migrate import TROUBLE
from gateway.store.tables import checkpoint_sinks
from gateway.store.tree import Checkpoint, Tree

_SECONDS = 10.0  # for one delivery
_SLOWEST = 300.0  # seconds between two tries
_LOOK = 30.0  # seconds between two looks for checkpoints of other processes
_EVERY = 5.0  # seconds between two deliveries that went well
_EXPECTED = "expected `file:///path`, `https://host/path` or `s3://bucket/prefix?endpoint=https://host`"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_log = logging.getLogger("gateway.store")


class Sink(Protocol):
    """Takes copies of checkpoints. `name` is unlike any other's, and holds no password; `told` is for people."""

    name: str
    told: str

    async def deliver(self, checkpoint: Checkpoint) -> None:
        """Store a copy; it is stored when this returns. Raises whatever it meets."""
        ...


def _name(kind: str, place: str) -> str:
    return f"{kind}:{hashlib.sha256(place.encode()).hexdigest()[:24]}"


class FileSink:
    """Appends to a file; where the path is a folder, to a file a day in it (``2026-01-31.notes``)."""

    def __init__(self, path: Path, *, folder: bool) -> None:
        self._path = path
        self._folder = folder
        # Each host has its own copy, though all share the database.
        self.name = _name("file", f"{socket.gethostname()}:{path.absolute()}")
        self.told = f"the file `{path}`"

    async def deliver(self, checkpoint: Checkpoint) -> None:
        """Append, and wait for the disk."""
        await asyncio.to_thread(self._append, checkpoint)

    def _append(self, checkpoint: Checkpoint) -> None:
        path = self._path / f"{checkpoint.at:%Y-%m-%d}.notes" if self._folder else self._path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            data, before = f"{checkpoint.note}\n".encode(), os.fstat(handle).st_size
            if os.write(handle, data) != len(data):  # one write, so that two processes do not mix theirs
                os.ftruncate(handle, before)
                raise OSError(errno.ENOSPC, "the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)


class HttpSink:
    """Sends by POST, as text. Any answer of 2xx means that it is stored; redirections are not followed."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self.name = _name(parts.scheme, url)
        self.told = f"`{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}`"

    async def deliver(self, checkpoint: Checkpoint) -> None:
        """Send it."""
        import aiohttp  # imported here: most commands bring nothing anywhere

        headers = {"content-type": "text/plain; charset=utf-8", "x-checkpoint-size": str(checkpoint.size)}
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(self._url, data=checkpoint.note.encode(), headers=headers, allow_redirects=False) as answer,
        ):
            if not 200 <= answer.status < 300:
                raise ConnectionError(f"status {answer.status}")


class S3Sink:
    """Puts objects into a bucket, named by size (``prefix/00000000000000000042.note``), with AWS's own credentials.

    Credentials are found as AWS's tools find them: the environment, its files, or the machine's role.
    """

    def __init__(self, bucket: str, prefix: str, endpoint: str | None, region: str | None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._region = region
        self.name = _name("s3", f"{endpoint}/{bucket}/{self._prefix}")
        self.told = f"the bucket `{bucket}`"

    async def deliver(self, checkpoint: Checkpoint) -> None:
        """Put it."""
        await asyncio.to_thread(self._put, checkpoint)

    def _put(self, checkpoint: Checkpoint) -> None:
        import boto3  # imported here: half a second that only this sink needs
        from botocore.config import Config

        config = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"total_max_attempts": 1})
        session = boto3.session.Session()
        region = self._region or session.region_name or "us-east-1"
        client = session.client("s3", endpoint_url=self._endpoint, region_name=region, config=config)
        try:
            client.put_object(
                Bucket=self._bucket,
                Key=f"{self._prefix}{checkpoint.size:020d}.note",
                Body=checkpoint.note.encode(),
                ContentType="text/plain; charset=utf-8",
            )
        finally:
            client.close()


def parse_sinks(text: str) -> tuple[Sink, ...]:
    """Read the addresses of sinks, with spaces between. Raises ConfigurationError with every one that is none."""
    found: list[Sink] = []
    problems = []
    for number, url in enumerate(text.split(), 1):
        try:
            found.append(_sink(url))
        except ValueError as exc:  # the address is not quoted: it may hold a password
            problems.append(f"GATEWAY_CHECKPOINT_SINKS: address {number} {exc}; {_EXPECTED}")
    if problems:
        raise ConfigurationError(*problems)
    return tuple({sink.name: sink for sink in found}.values())


def copies_of(text: str) -> tuple[Path, ...]:
    """Give the files and folders among the addresses of sinks."""
    urls = (urlsplit(url) for url in text.split())
    return tuple(Path(unquote(url.path)) for url in urls if url.scheme == "file")


def _sink(url: str) -> Sink:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError("can not be read") from None
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/") or parts.query:
            raise ValueError("is no path of this machine")
        path = Path(unquote(parts.path))
        return FileSink(path, folder=parts.path.endswith("/") or path.is_dir())
    if parts.scheme in ("http", "https"):
        if not host:
            raise ValueError("has no host")
        return HttpSink(url)
    if parts.scheme == "s3":
        asked = parse_qs(parts.query, strict_parsing=bool(parts.query))
        if not _BUCKET.fullmatch(parts.netloc):
            raise ValueError("names no bucket")
        if set(asked) - {"endpoint", "region"}:
            raise ValueError("has an option that is not known")
        endpoint = asked.get("endpoint", [None])[0]
        if endpoint is not None and urlsplit(endpoint).scheme not in ("http", "https"):
            raise ValueError("has an endpoint that is no address")
        return S3Sink(parts.netloc, unquote(parts.path), endpoint, asked.get("region", [None])[0])
    raise ValueError("is of a kind that is not known")


class Deliveries:
    """Brings checkpoints to the sinks, each by a task of its own."""

    def __init__(
        self,
        engine: AsyncEngine,
        tree: Tree,
        sinks: tuple[Sink, ...],
        *,
        every: float = _EVERY,
        first_wait: float = 1.0,
    ) -> None:
        self._engine = engine
        self._tree = tree
        self.sinks = sinks
        self._every = every
        self._first_wait = first_wait
        self._stop = asyncio.Event()
        self._wakes = {sink.name: asyncio.Event() for sink in sinks}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Run in the background until `close`. Starting once more does nothing."""
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._run(sink), name=f"sink {sink.name}") for sink in self.sinks]
            self.wake()

    def wake(self) -> None:
        """Tell that there is a new checkpoint."""
        for wake in self._wakes.values():
            wake.set()

    async def close(self) -> None:
        """Try once more each sink that lacks the latest, and stop."""
        self._stop.set()
        self.wake()
        tasks, self._tasks = self._tasks, []
        if tasks:
            await asyncio.wait(tasks, timeout=_SECONDS + 1)
            for task in tasks:
                task.cancel()

    async def once(self, sink: Sink) -> bool:
        """Bring a sink the latest checkpoint where it lacks it; False where that failed."""
        try:
            latest = await self._tree.checkpoint()
            if latest is None or await self._given(sink) >= latest.size:
                return True
            async with asyncio.timeout(2 * _SECONDS):
                await sink.deliver(latest)
            await self._note(sink, latest.size, None)
        except Exception as exc:  # noqa: BLE001 - whatever a sink meets, it is tried again
            trouble = f"{type(exc).__name__}{f' {exc}' if isinstance(exc, ConnectionError) else ''}"[:200]
            _log.error("a checkpoint can not be brought to %s: %s", sink.told, describe(exc))
            await self._note_trouble(sink, trouble)
            return False
        return True

    async def _run(self, sink: Sink) -> None:
        wake, wait = self._wakes[sink.name], self._first_wait
        while True:
            stopping = self._stop.is_set()
            if not stopping:
                with contextlib.suppress(TimeoutError):  # another process may have signed one
                    await asyncio.wait_for(wake.wait(), _LOOK)
                wake.clear()
                stopping = self._stop.is_set()
            good = await self.once(sink)
            if stopping:
                return
            pause = self._every if good else wait
            wait = self._first_wait if good else min(2 * wait, _SLOWEST)
            if not good:
                wake.set()
            try:
                await asyncio.wait_for(self._stop.wait(), pause)
            except TimeoutError:
                continue

    async def _given(self, sink: Sink) -> int:
        query = sa.select(checkpoint_sinks.c.size).where(checkpoint_sinks.c.name == sink.name)
        async with self._engine.connect() as connection:
            return int(await connection.scalar(query) or 0)

    async def _note(self, sink: Sink, size: int, trouble: str | None) -> None:
        values = {"size": size, "at": dt.datetime.now(dt.UTC), "trouble": trouble}
        await self._write(sink, values, values)

    async def _note_trouble(self, sink: Sink, trouble: str) -> None:
        try:
            await self._write(sink, {"size": 0, "at": None, "trouble": trouble}, {"trouble": trouble})
        except (*TROUBLE, GatewayError):  # the database is what fails, perhaps; the next try tells
            return

    async def _write(self, sink: Sink, new: dict[str, object], again: dict[str, object]) -> None:
        async with writer(self._engine).begin() as connection:
            await connection.run_sync(
                lambda c: c.execute(
                    insert_of(c, checkpoint_sinks)
                    .values(name=sink.name, **new)
                    .on_conflict_do_update(index_elements=["name"], set_=again)
                )
            )
