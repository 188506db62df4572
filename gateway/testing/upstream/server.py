"""The server: connections, what was asked on them, and which personality answers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, cast

import msgspec
from msgspec import Meta, Struct

from gateway.testing.upstream.asked import Asked, BadRequest, check, read_request
from gateway.testing.upstream.draft import NOTHING, draft
from gateway.testing.upstream.personality import Act
from gateway.testing.upstream.table import PERSONALITIES, find, named
from gateway.testing.upstream.talk import Talk

TEXT = "The scan shows no acute abnormality."
Answer = str | Sequence[str] | Callable[[dict[str, Any]], str | Sequence[str]]
"""What the upstream says: a text, a text for each choice in turn, or a function of the request's body that gives it."""


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step of a script: the next `times` requests are answered by this personality.

    `say` stands in for the server's text; it is None where that is said.
    """

    personality: str = "plain"
    say: str | None = None
    times: Annotated[int, Meta(ge=1)] = 1


def read_script(path: Path) -> tuple[Step, ...]:
    """Read a script: a JSON list of steps, each an object or the name of a personality alone.

    Raises:
        ValueError: it is no such list, or names a personality that is not in the table.
    """
    try:
        steps = msgspec.json.decode(path.read_bytes(), type=tuple[Step | str, ...])
    except msgspec.MsgspecError as exc:
        raise ValueError(f"`{path}` is no script: {exc}") from None
    made = tuple(Step(personality=step) if isinstance(step, str) else step for step in steps)
    for step in made:
        named(step.personality)
    return made


class _Protocol(asyncio.StreamReaderProtocol):
    """Streams, and word of the client's going while it is answered. A client that closes its half has gone."""

    gone = False
    answering: asyncio.Task[Any] | None = None

    def _go(self) -> None:
        self.gone = True
        if self.answering is not None:
            self.answering.cancel()

    def eof_received(self) -> bool | None:
        self._go()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go()
        super().connection_lost(exc)


class ReferenceUpstream:
    """An OpenAI-compatible server of chat completions, whose answers and faults are chosen by the model's name.

    A script's steps come first; then the request's `model`, where it names a personality; then `personality`. `answer`
    may be set at any time. `rate` is how many pieces of a stream leave in a second, None for no bound. `requests` are
    the last `keep` requests for completions. `cancelled` counts the connections that a client left before its answer
    was whole. Use it by ``async with``, or by ``with upstream.in_thread()`` where there is no event loop.
    """

    def __init__(
        self,
        answer: Answer = TEXT,
        *,
        personality: str = "plain",
        rate: float | None = None,
        script: Iterable[Step] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        keep: int = 10_000,
    ) -> None:
        self.answer = answer
        self.personality = personality
        self.rate = rate
        self.requests: deque[Asked] = deque(maxlen=keep)
        self.cancelled = 0
        self._host, self._port = host, port
        self._steps = iter([step for step in script for _ in range(step.times)])
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._asked: Counter[str] = Counter()
        self._number = self._answering = 0
        self._closing = False
        named(personality)

    @property
    def url(self) -> str:
        """Give the address for clients; it ends with ``/v1``."""
        return f"http://{self._host}:{self._port}/v1"

    @property
    def open(self) -> int:
        """Count the connections that are open now."""
        return len(self._connections)

    @property
    def answering(self) -> int:
        """Count the requests that are being answered now."""
        return self._answering

    def forget(self) -> None:
        """Forget what was asked: `requests`, `cancelled`, and which model was asked for before."""
        self.requests.clear()
        self._asked.clear()
        self.cancelled = 0

    async def start(self) -> None:
        """Listen; from now on `url` holds the port that was free."""
        loop = asyncio.get_running_loop()

        def protocol() -> _Protocol:
            return _Protocol(asyncio.StreamReader(loop=loop), self._connected, loop=loop)

        self._server = await loop.create_server(protocol, self._host, self._port, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and break off what is being answered."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Serve in an event loop of a thread of its own."""
        with serving(self):
            yield self

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connections.add(task)
        protocol = cast("_Protocol", writer.transport.get_protocol())
        try:
            while not writer.is_closing() and await self._exchange(reader, writer, protocol):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client broke off while it asked
        except asyncio.CancelledError:
            if not self._closing:
                raise
            task.uncancel()  # asyncio's streams write the end of a cancelled connection to the log
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: _Protocol) -> bool:
        """Read one request and answer it; tell whether the connection goes on."""
        talk = Talk(Asked(method="", path="", headers={}), NOTHING, writer)
        try:
            asked = await read_request(reader, writer)
            if asked is None:
                return False
            talk, act, argument = self._choose(asked, writer)
        except BadRequest as exc:
            await talk.error(400, str(exc), "bad_request", kind="invalid_request_error")
            return False
        protocol.answering = cast("asyncio.Task[None]", asyncio.current_task())
        self._answering += 1
        try:
            if not protocol.gone:
                await act(talk, argument)
        except (asyncio.CancelledError, ConnectionError):
            if not protocol.gone:
                raise
            protocol.answering.uncancel()
        finally:
            protocol.answering = None
            self._answering -= 1
        if protocol.gone and not talk.over:
            self.cancelled += 1
        return not protocol.gone and asked.headers.get("connection", "").lower() != "close"

    def _choose(self, asked: Asked, writer: asyncio.StreamWriter) -> tuple[Talk, Act, str]:
        """Choose who answers, and draft what is to be said."""
        if asked.path != "/v1/chat/completions":
            return Talk(asked, NOTHING, writer), _models if asked.path == "/v1/models" else _unknown, ""
        if asked.method != "POST":
            return Talk(asked, NOTHING, writer), _unknown, ""
        check(asked)
        self.requests.append(asked)
        self._number += 1
        self._asked[asked.model] += 1
        step = next(self._steps, None)
        name = asked.model if step is None else step.personality
        chosen, argument = find(name) or named(self.personality)
        said = self.answer if step is None or step.say is None else step.say
        texts = said(asked.body) if callable(said) else said
        made = draft(asked, (texts,) if isinstance(texts, str) else texts, self._number)
        talk = Talk(asked, made, writer, number=self._asked[asked.model], rate=self.rate)
        return talk, chosen.act, argument


@contextlib.contextmanager
def serving(*upstreams: ReferenceUpstream) -> Iterator[None]:
    """Serve these upstreams in one event loop of a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="upstream", daemon=True)

    def run(work: Callable[[ReferenceUpstream], Coroutine[Any, Any, None]]) -> None:
        for upstream in upstreams:
            asyncio.run_coroutine_threadsafe(work(upstream), loop).result(10)

    thread.start()
    try:
        run(ReferenceUpstream.start)
        yield
    finally:
        run(ReferenceUpstream.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _models(talk: Talk, _argument: str) -> None:
    rows = [{"id": name, "object": "model", "created": 1, "owned_by": "reference"} for name in PERSONALITIES]
    await talk.whole(msgspec.json.encode({"object": "list", "data": rows}))


async def _unknown(talk: Talk, _argument: str) -> None:
    await talk.error(404, "there is nothing here; ask `POST /v1/chat/completions`", "not_found")
