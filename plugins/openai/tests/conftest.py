"""A scripted server on a real socket, byte by byte, and backends that ask it."""

import asyncio
import json
from types import SimpleNamespace

import msgspec
import pytest

from gateway_openai import Config, build
from gateway_openai.client import OpenAIBackend


class Asked:
    """One request as the server got it, and the ways to answer it."""

    def __init__(self, number, head, body, reader, writer):
        self.number = number
        self.head = head
        self.raw = body
        self._reader = reader
        self._writer = writer

    @property
    def body(self):
        return json.loads(self.raw)

    def send(self, data):
        self._writer.write(data)

    async def drain(self):
        await self._writer.drain()

    def headers(self, status=200, kind="text/event-stream", **extra):
        lines = [f"HTTP/1.1 {status} Word", f"content-type: {kind}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in extra.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def reply(self, body, status=200, kind="application/json", **extra):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers(status, kind, content_length=len(data), **extra)
        self.send(data)

    def open(self, **extra):
        self.headers(transfer_encoding="chunked", **extra)

    def chunk(self, data):
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end(self):
        self.send(b"0\r\n\r\n")

    def stream(self, *events, **extra):
        """Answer with a whole stream of `events`."""
        self.open(**extra)
        for event in events:
            self.chunk(event)
        self.end()

    async def gone(self):
        """Wait until the client has closed the connection."""
        while await self._reader.read(1024):
            pass

    def hang_up(self):
        """Close the connection without a word, as a process that dies does."""
        self._writer.transport.abort()


class Scripted:
    """A server that runs `script` for each request; what it was asked is in `asked`."""

    def __init__(self, script):
        self._script = script
        self._tasks = set()
        self.asked = []
        self.connections = 0
        self.open = 0

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:")
                asked = Asked(len(self.asked), head, await reader.readexactly(length), reader, writer)
                self.asked.append(asked)
                await self._script(asked)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
            self._tasks.discard(asyncio.current_task())

    async def close(self):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def serve():
    """Start a server with a script, `async def script(asked)`."""
    started = []

    async def start(script):
        started.append(await Scripted(script).start())
        return started[-1]

    yield start
    for server in started:
        await server.close()


@pytest.fixture
async def ask():
    """Make a backend for a server, or for several, with further settings; it is closed at the end."""
    made = []

    def make(*servers, **config):
        if len(servers) == 1:
            config |= {"base_url": servers[0].url}
        elif servers:
            config |= {"upstreams": tuple({"base_url": server.url} for server in servers)}
        made.append(build(msgspec.convert({"model": "m", **config}, Config)))
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()


class Time:
    """A clock that stands still until it is told otherwise."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
async def under():
    """Make a backend whose breakers keep a time of their own, and whose chance is `draw`; give both."""
    made = []

    def make(*servers, draw=lambda: 0.0, **config):
        upstreams = tuple({"base_url": getattr(server, "url", server)} for server in servers)
        clock = Time()
        decoded = msgspec.convert({"model": "m", "upstreams": upstreams, **config}, Config)
        made.append(OpenAIBackend(decoded, clock=clock, draw=draw))
        return made[-1], clock

    yield make
    for backend in made:
        await backend.aclose()


def event(value):
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(index=0, finish=None, **fields):
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return event({"object": "chat.completion.chunk", "model": "served", "choices": [choice]})


def said(text, index=0):
    return delta(index, content=text)


def used(prompt=7, completion=3, **extra):
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return event({"model": "served", "choices": [], "usage": usage, **extra})


def answer(*texts, **extra):
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for i, text in enumerate(texts)
    ]
    return {"model": "served", "choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 3}, **extra}


DONE = b"data: [DONE]\n\n"
REFUSED = {"error": {"message": "no", "code": None}}


def answers(text="fine"):
    async def script(asked):
        if asked.body.get("stream"):
            asked.stream(said(text), delta(finish="stop"), DONE)
        else:
            asked.reply(answer(text))

    return script


def fails(times, status=503, text="fine", **headers):
    """Answer with `status` so many times, and well after that."""

    async def script(asked):
        if asked.number < times:
            asked.reply(REFUSED, status=status, **headers)
        else:
            await answers(text)(asked)

    return script


@pytest.fixture
def sse():
    """The parts of a stream, `answer`, a whole body, and scripts: one that `answers`, and one that `fails` at first."""
    return SimpleNamespace(
        event=event,
        delta=delta,
        said=said,
        stop=delta(finish="stop"),
        used=used,
        done=DONE,
        answer=answer,
        answers=answers,
        fails=fails,
    )
