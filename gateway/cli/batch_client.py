"""A client of the gateway's HTTP interface, for commands: every failure is told in one line."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import aiohttp

from gateway.cli.batch_failures import Away, Failed, Slow, plain, say
from gateway.cli.batch_options import DEFAULT_URL, address_of, key_of

SILENCE = 40.0
"""Seconds of silence after which a stream of events counts as broken; the gateway says something every 15 s."""

_CONNECT = 10.0  # seconds
_ANSWER = 120.0  # seconds for the next bytes of an answer
_LONGEST_WAIT = 120.0  # seconds; whoever is asked to wait longer is told so instead
_WAITS = 10
_BACKOFF = (0.5, 1.0, 2.0, 4.0, 8.0)
_EVENT_LONGEST = 1 << 20  # bytes
_T = TypeVar("_T")


class Client:
    """Asks one gateway, with one key. `tell` gets words for the person while something is waited for."""

    def __init__(self, url: str | None, key_file: Path | None, tell: Callable[[str], object] = say) -> None:
        self.base = address_of(url or os.environ.get("GATEWAY_URL") or DEFAULT_URL)
        self.place = str(self.base).rstrip("/")
        self.key = key_of(key_file)
        self.tell = tell
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_ANSWER)
        self._session = aiohttp.ClientSession(
            timeout=timeout, headers={"authorization": f"Bearer {self.key}"}, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Ask for JSON. Raises Failed, and Away at once where nobody answers."""
        return await self.ask("GET", path, params={name: str(value) for name, value in query.items()})

    async def ask(self, method: str, path: str, *, patience: float = 0.0, **sent: Any) -> dict[str, Any]:
        """Ask for JSON; whatever asks to wait is waited for, and for `patience` seconds it is tried again otherwise.

        Give patience only to what does no harm where it is done twice. Raises Failed.
        """
        return await self.patiently(lambda: self.once(method, path, **sent), patience)

    async def once(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        """Ask for JSON, once. Raises Failed."""
        async with self.open(method, path, **sent) as answer:
            found = await self._json(answer)
        if not isinstance(found, dict):
            self._stranger(answer.status)
        return found

    async def patiently(self, once: Callable[[], Awaitable[_T]], patience: float) -> _T:
        """Try `once` until it works; after a lost connection for `patience` seconds. Raises Failed."""
        end, tries, waits = time.monotonic() + patience, 0, 0
        while True:
            try:
                return await once()
            except Slow as exc:
                waits += 1
                if exc.seconds > _LONGEST_WAIT or waits > _WAITS:
                    raise
                self.tell(f"the gateway asks to wait {exc.seconds:.0f} s: {exc.message}")
                await asyncio.sleep(exc.seconds)
            except Away as exc:
                pause = _BACKOFF[min(tries, len(_BACKOFF) - 1)]
                tries += 1
                if time.monotonic() + pause > end:
                    raise
                self.tell(f"{exc.message}; trying again in {pause:g} s")
                await asyncio.sleep(pause)

    def open(self, method: str, path: str, **sent: Any) -> _Asked:
        """Send a request, for ``async with``; gives an answer with a status from 200 to 299. Raises Failed."""
        if self._session is None:
            raise RuntimeError("a client asks within `async with`")
        return _Asked(self, self._session.request(method, self.base / path.lstrip("/"), allow_redirects=False, **sent))

    async def events(self, path: str) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Give the server-sent events of a path, by name, until the stream ends. Raises Failed, Away if it breaks."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=SILENCE)
        async with self.open("GET", path, headers={"accept": "text/event-stream"}, timeout=timeout) as answer:
            if answer.content_type != "text/event-stream":
                self._stranger(answer.status)
            kept = b""
            async for piece in answer.content.iter_any():
                *whole, kept = (kept + piece.replace(b"\r\n", b"\n")).split(b"\n\n")
                for block in whole:
                    event = _event(block)
                    if event is not None:
                        yield event
                if len(kept) > _EVENT_LONGEST:
                    self._stranger(answer.status)

    async def check(self, answer: aiohttp.ClientResponse) -> None:
        """Raise what an answer without success tells."""
        if 200 <= answer.status < 300:
            return
        try:
            body = await self._json(answer)
            message = plain(body["error"]["message"])
        except (Failed, KeyError, TypeError):
            if answer.status == 429:
                raise _slow(answer, "too many requests") from None
            self._stranger(answer.status)
        if answer.status == 429:
            raise _slow(answer, message)
        if answer.status >= 500:
            raise Away(message, answer.status)
        raise Failed(message, answer.status)

    async def _json(self, answer: aiohttp.ClientResponse) -> Any:
        try:
            return json.loads(await answer.read())
        except ValueError:
            self._stranger(answer.status)

    def _stranger(self, status: int) -> NoReturn:
        told = f"{self.place} answers with status {status}, and not as a gateway does; check --url or GATEWAY_URL"
        raise (Away if status >= 500 else Failed)(told, status)

    def lost(self, exc: Exception) -> Failed:
        """Tell a failure of the connection."""
        if isinstance(exc, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return Failed(
                f"{self.place}: its certificate is not trusted here; name the file of the authority's in SSL_CERT_FILE"
            )
        if isinstance(exc, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return Away(f"the gateway is not reachable at {self.place}: is `gateway serve` running there?")
        if isinstance(exc, TimeoutError):
            return Away(f"the gateway at {self.place} does not answer")
        return Away(f"the connection to the gateway at {self.place} was lost")


class _Asked:
    """A request that is under way."""

    def __init__(self, client: Client, request: Any) -> None:
        self._client = client
        self._request = request

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            answer: aiohttp.ClientResponse = await self._request.__aenter__()
        except (aiohttp.ClientError, OSError) as exc:
            raise self._client.lost(exc) from None
        try:
            await self._client.check(answer)
        except BaseException as exc:
            await self._request.__aexit__(None, None, None)
            if isinstance(exc, aiohttp.ClientError | OSError):
                raise self._client.lost(exc) from None
            raise
        return answer

    async def __aexit__(self, kind: Any, exc: BaseException | None, trace: Any) -> None:
        await self._request.__aexit__(kind, exc, trace)
        if isinstance(exc, aiohttp.ClientError | TimeoutError | ConnectionError):
            raise self._client.lost(exc) from None


def _slow(answer: aiohttp.ClientResponse, message: str) -> Slow:
    text = answer.headers.get("retry-after", "")
    return Slow(message, float(text) if text.isascii() and text.isdigit() and len(text) < 9 else 2.0)


def _event(block: bytes) -> tuple[str, dict[str, Any]] | None:
    """Read an event; None for a comment, and for what is no event of this gateway's."""
    name, data = "message", []
    for line in block.decode(errors="replace").split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    try:
        found = json.loads("\n".join(data)) if data else None
    except ValueError:
        return None
    return (name, found) if isinstance(found, dict) else None
