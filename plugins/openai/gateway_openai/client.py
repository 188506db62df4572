"""The stage: requests over pooled connections, bounded in number, time and size, to whichever server is well."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import aiohttp

from gateway.plugin import Completion, Ended, Image, Piece, Prompt, in_thread
from gateway_openai import Config
from gateway_openai.dialect import DIALECTS
from gateway_openai.errors import UpstreamError
from gateway_openai.exchange import Given, Limits, Streamed, open_response, read_whole, start_stream
from gateway_openai.places import Places
from gateway_openai.room import taken
from gateway_openai.score import ASKED, decode_score, fold, scored
from gateway_openai.servers import Upstream, upstreams_of
from gateway_openai.wire import STREAMED, Asked, asked_logprobs, decode, encode_tail, with_model

_T = TypeVar("_T")
_KEEPALIVE = 30.0  # seconds for which an idle connection is kept


class _Local:
    """What belongs to one event loop: the session with its connections, and the places."""

    def __init__(self, config: Config) -> None:
        self.places = Places(config.in_flight or config.max_connections, config.queue)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=config.max_connections, keepalive_timeout=_KEEPALIVE),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=config.connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=config.use_proxy,
            auto_decompress=False,  # no encoding is asked for, and a packed answer could unpack to any size
        )


class OpenAIBackend:
    """Asks one model, on one server or several."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._dialect = DIALECTS[config.dialect]
        self._upstreams = upstreams_of(config, clock=clock, draw=draw)
        self._locals: WeakKeyDictionary[asyncio.AbstractEventLoop, _Local] = WeakKeyDictionary()

    def models(self) -> tuple[str, ...]:
        """Name the one model that is asked."""
        return (self._config.model,)

    async def complete(self, prompt: Prompt) -> Completion:
        """Answer `prompt`.

        Raises:
            UpstreamError: no server is there, in time, willing, or making sense; or too many requests are under way.
        """
        sampling = prompt.request.sampling
        return await self._whole(
            prompt,
            asked_logprobs(sampling),
            lambda body, model: decode(body, model=model, n=sampling.n, top=sampling.logprobs),
        )

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | Ended, None]:
        """Give the answer to `prompt` as it grows. Closing the generator closes the connection, so the writing stops.

        Log-probabilities are not asked for: only a whole answer can have them.

        Raises:
            UpstreamError: as `complete`. Once a piece was given, the request is not tried again.
        """
        self._dialect.check(prompt.request)
        limits, local = self._limits(), self._local()
        async with local.places.place(limits.end):
            upstream, answer = await self._begin(prompt, local.session, limits)
            try:
                while items := await answer.more():
                    if type(items[-1]) is Ended:  # noted before it is given: nobody has to ask for more after it
                        upstream.breaker.succeeded()
                    for item in items:
                        yield item
            except UpstreamError as fault:
                upstream.note(fault)
                raise
            finally:
                answer.close()

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
        return await self._whole(scored(prompt), ASKED, lambda body, _: decode_score(body, answers))

    async def room(self, prompt: Prompt) -> int | None:
        """Estimate the tokens of `context` that `prompt` leaves; None where the policy does not name the context.

        No server says how it cuts text, so the estimate is cautious: three characters of English a token, a token for
        each byte of other scripts' characters beyond the first, and eight for the marks of a turn.
        """
        if self._config.context is None:
            return None
        return self._config.context - taken(prompt, self._config.image_tokens)

    async def aclose(self) -> None:
        """Close the connections."""
        local = self._locals.pop(asyncio.get_running_loop(), None)
        if local is not None:
            await local.session.close()

    async def _whole(self, prompt: Prompt, extra: Asked, read: Callable[[bytes, str], _T]) -> _T:
        """Ask for a whole answer, and give what `read` makes of its body and the model's name."""
        self._dialect.check(prompt.request)
        limits, local = self._limits(), self._local()
        async with local.places.place(limits.end):
            tail = await self._encode(prompt, extra)  # of every try: images are made into base64 once

            async def attempt(upstream: Upstream) -> _T:
                until = limits.until(limits.headers)
                headers = upstream.headers | {"accept": "application/json"}
                sent = with_model(tail, upstream.model)
                async with await open_response(local.session, upstream.url, sent, headers, until) as response:
                    return read(await read_whole(response, limits), upstream.model)

            upstream, answer = await self._upstreams.ask(attempt, until=limits.end)
            upstream.breaker.succeeded()
            return answer

    async def _begin(
        self, prompt: Prompt, session: aiohttp.ClientSession, limits: Limits
    ) -> tuple[Upstream, Streamed | Given]:
        """Try servers until one has begun to write; give it, and its answer."""
        tail = await self._encode(prompt, STREAMED)
        n, by_id = prompt.request.sampling.n, self._dialect.calls_by_id

        async def attempt(upstream: Upstream) -> Streamed | Given:
            since = asyncio.get_running_loop().time()
            until = limits.until(min(limits.headers, limits.first_token), since)
            headers = upstream.headers | {"accept": "text/event-stream"}
            response = await open_response(session, upstream.url, with_model(tail, upstream.model), headers, until)
            return await start_stream(response, limits, since, model=upstream.model, n=n, calls_by_id=by_id)

        return await self._upstreams.ask(attempt, until=limits.end)

    async def _encode(self, prompt: Prompt, extra: Asked) -> bytes:
        """Give the body without the model's name."""
        limit = "max_completion_tokens" if self._config.max_completion_tokens else "max_tokens"
        # base64 of images takes milliseconds per megabyte; text alone is encoded faster than a thread is reached
        seen = any(isinstance(part, Image) for turn in prompt.chat() for part in turn.parts)
        if seen:
            return await in_thread(encode_tail, prompt, self._dialect, extra, limit=limit)
        return encode_tail(prompt, self._dialect, extra, limit=limit)

    def _limits(self) -> Limits:
        asked = self._config
        end = None if asked.whole_timeout is None else asyncio.get_running_loop().time() + asked.whole_timeout
        return Limits(
            headers=asked.headers_timeout,
            first_token=asked.first_token_timeout or asked.headers_timeout,
            body=asked.body_timeout,
            end=end,
        )

    def _local(self) -> _Local:
        loop = asyncio.get_running_loop()
        local = self._locals.get(loop)
        if local is None or local.session.closed:  # made at first use, because it belongs to the running loop
            local = self._locals[loop] = _Local(self._config)
        return local
