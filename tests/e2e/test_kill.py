"""`kill -9` at random moments under load, of the gateway and of the database: every answer that left has its record.

Six times each in an ordinary run; `GATEWAY_TEST_KILLS=50` asks for more.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from servers import Cluster
from store.kit import postgres_database
from support import Serve, Served, faulty_policy

from gateway.store.engine import make_engine, normalise

KILLS = int(os.environ.get("GATEWAY_TEST_KILLS", "6"))


def _hammer(served: Served, key: str, answered: set[str], stop: threading.Event) -> None:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hello"}]})
    port = int(served.base.rsplit(":", 1)[1])
    while not stop.is_set():
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            while not stop.is_set():
                client.request(
                    "POST",
                    "/v1/chat/completions",
                    body,
                    {"content-type": "application/json", "authorization": f"Bearer {key}"},
                )
                answer = client.getresponse()
                decision = answer.headers.get("x-gateway-decision")
                if decision:
                    answered.add(decision)
                answer.read()
                if answer.status == 503:
                    time.sleep(0.02)
        except (OSError, http.client.HTTPException):
            time.sleep(0.01)


@contextlib.contextmanager
def _load(served: Served, key: str, answered: set[str]) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=_hammer, args=(served, key, answered, stop)) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _logged(url: str) -> set[str]:
    async def read() -> set[str]:
        engine = make_engine(normalise(url))
        try:
            async with engine.connect() as connection:
                return set((await connection.execute(sa.text("SELECT id FROM decision_log"))).scalars())
        finally:
            await engine.dispose()

    return asyncio.run(read())


def _holds(served: Served, answered: set[str], logged: set[str]) -> None:
    assert len(answered) > 10 * KILLS, "the load was real"
    assert answered <= logged
    verified = served.run("log", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def _kill_gateways(serve: Serve, env: dict[str, str], data: Path) -> tuple[Served, set[str]]:
    answered: set[str] = set()
    key = ""
    random.seed(20)
    for _ in range(KILLS):
        served = serve({"radiology": faulty_policy()}, env=env, data=data)
        key = key or served.key()
        with _load(served, key, answered):
            time.sleep(random.uniform(0.15, 0.6))
            served.kill()
    return served, answered


def test_the_gateway_is_killed_on_sqlite(serve: Serve, faulty: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    served, answered = _kill_gateways(serve, faulty, data)
    database = next(data.glob("*.sqlite3"))
    with sqlite3.connect(database) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    _holds(served, answered, _logged(f"sqlite:///{database}"))


@pytest.fixture
def database() -> Iterator[str]:
    """A fresh database on the server that is there."""
    with asyncio.Runner() as runner:
        made = postgres_database()
        url = runner.run(made.__aenter__())
        yield url
        runner.run(made.__aexit__(None, None, None))


@pytest.mark.service
def test_the_gateway_is_killed_on_postgresql(
    serve: Serve, faulty: dict[str, str], database: str, tmp_path: Path
) -> None:
    env = faulty | {"GATEWAY_DATABASE_URL": database}
    served, answered = _kill_gateways(serve, env, tmp_path / "data")
    _holds(served, answered, _logged(database))


def _answers(served: Served, key: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, OSError):
        return served.chat("hello", key)[0] == 200
    return False


@pytest.mark.service
def test_the_database_is_killed(serve: Serve, faulty: dict[str, str], cluster: Cluster, tmp_path: Path) -> None:
    """The gateway lives on: no answer leaves while the log can not be written, and it recovers by itself."""
    random.seed(21)
    env = faulty | {"GATEWAY_DATABASE_URL": cluster.url}
    served = serve({"radiology": faulty_policy()}, env=env, data=tmp_path / "data")
    key = served.key()
    answered: set[str] = set()
    with _load(served, key, answered):
        for _ in range(KILLS):
            time.sleep(random.uniform(0.15, 0.6))
            cluster.kill()
            before = len(answered)
            status, _, body = served.chat("hello", key)
            assert status == 503, body
            assert len(answered) - before < 9, "only what was on its way may still leave"
            cluster.start()
            end = time.monotonic() + 30
            while not _answers(served, key):
                assert time.monotonic() < end, served.output()
                time.sleep(0.05)
    assert served.stop() == 0
    _holds(served, answered, _logged(cluster.url))
