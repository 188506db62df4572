"""Tries, failover, breakers and rests, against real servers on real sockets."""

import asyncio
import datetime as dt
import email.utils
import time

import pytest

from gateway.plugin import Sampling
from gateway.testing import prompt
from gateway_openai.breaker import MOST
from gateway_openai.errors import (
    UpstreamBusy,
    UpstreamCut,
    UpstreamNonsense,
    UpstreamRefused,
    UpstreamStatus,
    UpstreamUnreachable,
)

PATIENCE = 20
REFUSAL = {"error": {"message": "no", "code": None}}


async def told(backend, asked=None):
    async with asyncio.timeout(PATIENCE):
        return (await backend.complete(asked or prompt())).choices[0].text.text


async def streamed(backend):
    async with asyncio.timeout(PATIENCE):
        return "".join([getattr(item, "text", "") async for item in backend.stream(prompt())])


async def hangs_up(asked):
    asked.hang_up()


async def nobody(serve):
    """Give the address of a port where nobody listens."""
    server = await serve(hangs_up)
    url = server.url
    await server.close()
    return url


@pytest.mark.parametrize("way", [told, streamed])
@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_fault_that_may_pass_is_tried_again(serve, ask, sse, status, way):
    server = await serve(sse.fails(2, status))
    assert await way(ask(server)) == "fine"
    assert len(server.asked) == 3
    assert len({asked.raw for asked in server.asked}) == 1


@pytest.mark.parametrize("way", [told, streamed])
async def test_a_reset_is_tried_again_and_no_more_than_retries_allow(serve, ask, sse, way):
    async def script(asked):
        if asked.number == 0:
            asked.hang_up()
        else:
            await sse.answers()(asked)

    assert await way(ask(await serve(script))) == "fine"
    server = await serve(hangs_up)
    with pytest.raises(UpstreamUnreachable):
        await way(ask(server, retries=1))
    assert len(server.asked) == 2
    never = await serve(hangs_up)
    with pytest.raises(UpstreamUnreachable):
        await way(ask(never, retries=0))
    assert len(never.asked) == 1


@pytest.mark.parametrize(("status", "fault"), [(400, UpstreamRefused), (422, UpstreamRefused), (500, UpstreamStatus)])
async def test_what_would_not_pass_is_not_tried_again_on_the_same_server(serve, ask, sse, status, fault):
    server = await serve(sse.fails(9, status))
    with pytest.raises(fault):
        await told(ask(server))
    assert len(server.asked) == 1


async def test_a_refusal_is_not_carried_to_another_server(serve, under, sse):
    refuses, other = await serve(sse.fails(9, 400)), await serve(sse.answers())
    backend, _ = under(refuses, other)
    with pytest.raises(UpstreamRefused):
        await told(backend)
    assert (len(refuses.asked), len(other.asked)) == (1, 0)


@pytest.mark.parametrize("way", [told, streamed])
@pytest.mark.parametrize("kind", ["nobody", "reset", "500", "401", "html", "silent", "cut"])
async def test_another_server_is_asked_where_nothing_was_produced(serve, under, sse, kind, way):
    async def ill(asked):
        if kind == "reset":
            asked.hang_up()
        elif kind in ("500", "401"):
            asked.reply(REFUSAL, status=int(kind))
        elif kind == "html":
            asked.reply(b"<html></html>", kind="text/html")
        elif kind == "silent":
            await asked.gone()
        elif asked.body.get("stream"):
            asked.stream(sse.delta(role="assistant"))
        else:
            asked.headers(kind="application/json", content_length=999)
            asked.hang_up()

    good = await serve(sse.answers())
    first = await nobody(serve) if kind == "nobody" else await serve(ill)
    backend, _ = under(first, good, headers_timeout=1.5 if kind == "silent" else PATIENCE)
    assert await way(backend) == "fine"
    assert len(good.asked) == 1


async def test_after_the_first_piece_nothing_is_tried_again(serve, under, sse):
    async def cuts(asked):
        asked.open()
        asked.chunk(sse.said("begun"))
        await asked.drain()
        asked._writer.close()

    first, other = await serve(cuts), await serve(sse.answers())
    backend, _ = under(first, other)
    with pytest.raises(UpstreamCut):
        await streamed(backend)
    assert (len(first.asked), len(other.asked)) == (1, 0)


async def test_a_server_that_says_when_is_asked_again_then_and_not_before(serve, ask, sse):
    server = await serve(sse.fails(1, 429, retry_after="1"))
    begun = time.monotonic()
    assert await told(ask(server)) == "fine"
    assert time.monotonic() - begun >= 1.0


async def test_a_server_that_asks_for_a_long_rest_is_not_waited_for(serve, ask, sse):
    server = await serve(sse.fails(1, 429, retry_after="20"))
    backend = ask(server)
    with pytest.raises(UpstreamBusy) as caught:
        await told(backend)
    assert caught.value.retry_after == 20.0
    with pytest.raises(UpstreamBusy) as caught:
        await told(backend)
    assert 0 < caught.value.retry_after <= 20.0
    assert len(server.asked) == 1, "a server that rests was asked"


async def test_a_date_in_retry_after_is_read(serve, ask, sse):
    due = email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=100), usegmt=True)
    with pytest.raises(UpstreamBusy) as caught:
        await told(ask(await serve(sse.fails(1, 429, retry_after=due))))
    assert 90 < caught.value.retry_after <= 100


async def test_busy_servers_are_passed_over_and_where_all_are_the_caller_hears_it(serve, under, sse):
    busy, good = await serve(sse.fails(99, 429, retry_after="9")), await serve(sse.answers())
    backend, clock = under(busy, good)
    for _ in range(3):
        assert await told(backend) == "fine"
    assert (len(busy.asked), len(good.asked)) == (1, 3)
    clock.now += 9.1
    await told(backend)
    assert len(busy.asked) == 2
    alone = await serve(sse.fails(99, 429))
    with pytest.raises(UpstreamBusy):
        await told(under(alone)[0])
    assert len(alone.asked) == 3


async def test_a_breaker_opens_leaves_the_server_alone_and_finds_it_well_again(serve, under, sse):
    server = await serve(sse.fails(MOST, 500))
    backend, clock = under(server)
    for _ in range(MOST):
        with pytest.raises(UpstreamStatus):
            await told(backend)
    for way in (told, streamed):
        with pytest.raises(UpstreamUnreachable):
            await way(backend)
    assert len(server.asked) == MOST
    clock.now += 1.1
    assert await told(backend) == "fine"
    assert await streamed(backend) == "fine"


async def test_an_open_breaker_lets_one_request_through_at_a_time(serve, under, sse):
    go = asyncio.Event()

    async def script(asked):
        if asked.number < MOST:
            return asked.reply(REFUSAL, status=500)
        await go.wait()
        return asked.reply(sse.answer("fine"))

    server = await serve(script)
    backend, clock = under(server)
    for _ in range(MOST):
        with pytest.raises(UpstreamStatus):
            await told(backend)
    clock.now += 1.1
    probe = asyncio.create_task(told(backend))
    async with asyncio.timeout(PATIENCE):
        while len(server.asked) <= MOST:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.005)
    with pytest.raises(UpstreamUnreachable):
        await told(backend)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    go.set()
    assert await told(backend) == "fine", "a probe that was given up leaves its place to another"


async def test_faults_of_the_request_do_not_open_a_breaker(serve, under, sse):
    server = await serve(sse.fails(3 * MOST, 400))
    backend, _ = under(server)
    for _ in range(3 * MOST):
        with pytest.raises(UpstreamRefused):
            await told(backend)
    assert await told(backend) == "fine"


async def test_streams_that_are_cut_open_the_breaker_too(serve, under, sse):
    async def cuts(asked):
        asked.stream(sse.said("begun"))

    server = await serve(cuts)
    backend, _ = under(server)
    for _ in range(MOST):
        with pytest.raises(UpstreamCut):
            await streamed(backend)
    with pytest.raises(UpstreamUnreachable):
        await streamed(backend)
    assert len(server.asked) == MOST


async def test_a_server_whose_host_drops_packets_is_unreachable(under, serve, sse):
    # a listener with a full backlog answers no further connection, as a host behind a firewall that drops does
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        good = await serve(sse.answers())
        backend, _ = under(f"http://127.0.0.1:{port}/v1", good, connect_timeout=1)
        alone, _ = under(f"http://127.0.0.1:{port}/v1", connect_timeout=1, retries=0)
        try:
            assert await told(backend) == "fine"
            with pytest.raises(UpstreamUnreachable):
                await told(alone)
        finally:
            for filler in fillers:
                filler.close()


async def test_nonsense_of_every_server_is_told_as_such(serve, under, sse):
    async def html(asked):
        asked.reply(b"<html></html>", kind="text/html")

    backend, _ = under(await serve(html), await serve(html))
    with pytest.raises(UpstreamNonsense):
        await told(backend, prompt(sampling=Sampling(max_tokens=3)))
