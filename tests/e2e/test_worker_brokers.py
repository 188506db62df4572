"""`gateway worker` on a broker: it wakes on a message, and outlives that the broker is away, restarted, or drops it.

The embedded broker is with `test_worker_deaths`.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from e2e.worker_kit import AMQP, MARKER, Proxy, Site
from servers import Redis
from support import StartWorker

MakeSite = Callable[..., Site]


@pytest.fixture
def site(tmp_path: Path, faulty: dict[str, str]) -> MakeSite:
    return lambda broker, **more: Site(tmp_path, faulty, broker, **more)


@pytest.fixture
def rabbitmq() -> str:
    parts = urlsplit(AMQP)
    try:
        socket.create_connection((parts.hostname, parts.port or 5672), 3).close()
    except OSError:
        why = "no RabbitMQ to test with; name one in GATEWAY_TEST_AMQP_URL"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return AMQP


@pytest.fixture
def proxy(rabbitmq: str) -> Iterator[Proxy]:
    parts = urlsplit(rabbitmq)
    made = Proxy(parts.hostname, parts.port or 5672)
    yield made
    made.close()


@pytest.mark.service
def test_redis_wakes_a_worker_and_may_be_away_and_restarted(site: MakeSite, worker: StartWorker, redis: Redis) -> None:
    redis.kill()
    here = site(redis.url)
    started = worker(here.env, "--concurrency", "1", ready=False)
    started.wait("can not be reached")
    here.completed(here.submit(3), 3, started)  # nobody can be woken, and the worker looks by itself
    redis.start()
    started.wait("gateway: worker with 1 process, woken by the broker `redis://127.0.0.1:")
    here.completed(here.submit(6), 6, started)
    here.taken(started)
    redis.kill()
    redis.start()
    end = time.monotonic() + 60
    while started.output().count("is reached again") < 2:
        assert time.monotonic() < end, started.output()
        time.sleep(0.05)
    here.wake()
    here.taken(started)
    assert started.stop() == 0
    assert MARKER not in started.output()


@pytest.mark.service
def test_rabbitmq_wakes_a_worker_and_may_drop_it(
    site: MakeSite, worker: StartWorker, rabbitmq: str, proxy: Proxy
) -> None:
    parts = urlsplit(rabbitmq)
    there = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}").geturl()
    here = site(rabbitmq)
    try:
        started = worker(here.env | {"GATEWAY_BROKER_URL": there}, "--concurrency", "1")
        here.completed(here.submit(6), 6, started)
        here.taken(started)
        assert proxy.drop() >= 1
        started.wait("can not be reached")
        proxy.open = True
        started.wait("is reached again")
        here.wake()
        here.taken(started)
        assert started.stop() == 0
        assert MARKER not in started.output()
        assert "guest:guest" not in started.output()
    finally:
        here.drop_queue()
