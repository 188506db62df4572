"""The client: one pooled session per event loop, bounded in time, size and connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import aiohttp
from yarl import URL

from gateway.plugin import Completion, Image, Prompt, in_thread
from gateway_openai import Config
from gateway_openai.errors import (
    UpstreamRefused,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnreachable,
)
from gateway_openai.score import decode_score, encode_score, fold
from gateway_openai.wire import decode, encode

MOST = 8 * 2**20
"""The largest answer that is read, in bytes."""


TURN = 8
"""Tokens that the marks of one turn take."""


def tokens(text: str) -> int:
    """Estimate the tokens of a text, rather too high than too low."""
    return -(-len(text) // 3) + len(text.encode("utf-8", "surrogatepass")) - len(text)


class OpenAIBackend:
    """Asks one model of one server."""

    def __init__(self, config: Config) -> None:
        self._config = config
        try:
            url = URL(config.base_url.rstrip("/") + "/chat/completions")
        except ValueError:
            raise ValueError("`base_url` is not an address; write it as `http://host:port/v1`") from None
        if not url.host or url.user or url.password or url.query_string or url.fragment:
            raise ValueError("`base_url` has to be scheme, host and path alone; give a key by `api_key_env`")
        self._url = url
        self._headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "identity",
        }
        if config.api_key_env is not None:
            key = os.environ.get(config.api_key_env)
            if not key or not key.isascii() or not key.isprintable():
                raise ValueError(
                    f"the environment variable `{config.api_key_env}` holds no key; set it, or leave `api_key_env` out"
                )
            self._headers["authorization"] = f"Bearer {key}"
        self._session: aiohttp.ClientSession | None = None

    def models(self) -> tuple[str, ...]:
        """Name the one model that is asked."""
        return (self._config.model,)

    async def complete(self, prompt: Prompt) -> Completion:
        """Answer `prompt`.

        Raises:
            UpstreamError: the server is not there, late, refuses, or answers nonsense.
        """
        model = self._config.model
        body = await self._encoded(encode, prompt)
        return decode(await self._ask(body), model=model, n=prompt.request.sampling.n)

    async def room(self, prompt: Prompt) -> int | None:
        """Estimate the tokens of `context` that `prompt` leaves; None where the policy does not name the context.

        No server says how it cuts text, so the estimate is cautious: three characters of English a token, a token for
        each byte of other scripts' characters beyond the first, and eight for the marks of a turn.
        """
        if self._config.context is None:
            return None
        asked = prompt.request
        extra = (text for text in (asked.tools, asked.tool_choice, asked.response_format) if text is not None)
        taken = sum(tokens(text.text) for text in extra)
        for turn in prompt.chat():
            taken += TURN
            for part in turn.all_parts():
                taken += self._config.image_tokens if isinstance(part, Image) else tokens(part.text)
        return self._config.context - taken

    async def score(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[float, ...]:
        """Give the log-probability of each of `answers`, summed over the likeliest tokens that may begin it.

        It is exact where no other word begins with those tokens, and -inf where none of the server's 20 likeliest does.
        The prompt's sampling does not count.

        Raises:
            ValueError: there is no answer, one is blank, or one begins another: their first tokens could not differ.
            UpstreamError: as `complete`, or the server gives no log-probabilities.
        """
        folded = [fold(answer) for answer in answers]
        if not all(folded) or not folded:
            raise ValueError("an answer is empty; give at least one answer, each of at least one letter")
        if any(one.startswith(other) for n, one in enumerate(folded) for m, other in enumerate(folded) if n != m):
            raise ValueError("one answer begins another; give answers whose first letters differ")
        return decode_score(await self._ask(await self._encoded(encode_score, prompt)), answers)

    async def _encoded(self, encode: Callable[[Prompt, str], bytes], prompt: Prompt) -> bytes:
        # base64 of images takes milliseconds per megabyte; text alone is encoded faster than a thread is reached
        seen = any(isinstance(part, Image) for turn in prompt.chat() for part in turn.parts)
        return await in_thread(encode, prompt, self._config.model) if seen else encode(prompt, self._config.model)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, body: bytes) -> bytes:
        asking = self._open().post(self._url, data=body, headers=self._headers, allow_redirects=False)
        try:
            async with asyncio.timeout(self._config.headers_timeout):
                response = await asking
            async with response:
                if response.status != 200:
                    refused = response.status in UpstreamRefused.CODES
                    raise (UpstreamRefused if refused else UpstreamStatus)(response.status)
                return await self._read(response)
        except TimeoutError:
            raise UpstreamTimeout("the server did not answer in time") from None
        except (aiohttp.ClientError, OSError):
            # its message may hold what the server sent, so only the kind of fault is kept
            raise UpstreamUnreachable("the server can not be reached, or broke off") from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if response.content_length is not None and response.content_length > MOST:
            raise UpstreamTooLarge("the answer is over 8 MiB")
        whole = bytearray()
        while True:
            async with asyncio.timeout(self._config.body_timeout):
                piece = await response.content.readany()
            if not piece:
                return bytes(whole)
            whole += piece
            if len(whole) > MOST:
                raise UpstreamTooLarge("the answer is over 8 MiB")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:  # made at first use, because it belongs to the running loop
            asked = self._config
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=asked.max_connections, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=asked.connect_timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=asked.use_proxy,
                auto_decompress=False,  # no encoding is asked for, and a packed answer could unpack to any size
            )
        return self._session
