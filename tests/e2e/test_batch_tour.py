"""A night's worklist by the unmodified `openai` client: on every broker and both databases, each line exactly once.

In an ordinary run some lines, and the real stages for two of the six pairs; `GATEWAY_TEST_LINES=2000` asks for more of
both.
"""

import asyncio
import io
import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from e2e.batch_kit import Mixed, check_exactly_once, logged, results, wait
from store.kit import postgres_database
from support import Serve, StartWorker, Upstream, faulty_policy, policy

LINES = int(os.environ.get("GATEWAY_TEST_LINES", "160"))
LIVE = 12
REAL = {("sqlite", "embedded"), ("postgresql", "redis")}
"""The pairs that read with the real stages also in an ordinary run: loading them is what takes the time."""
BROKERS = {
    "redis": os.environ.get("GATEWAY_TEST_REDIS_URL", "redis://127.0.0.1:6379/7"),
    "rabbitmq": os.environ.get("GATEWAY_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//"),
    "embedded": "filesystem://",
}


@pytest.fixture
def database(kind: str, tmp_path: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/log.sqlite3"
        return
    with asyncio.Runner() as runner:
        made = postgres_database()
        yield runner.run(made.__aenter__())
        runner.run(made.__aexit__(None, None, None))


@pytest.mark.service
@pytest.mark.parametrize("broker", BROKERS)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_line_once_and_decided_as_live(
    serve: Serve,
    worker: StartWorker,
    upstream: Upstream,
    faulty: dict[str, str],
    kind: str,
    database: str,
    broker: str,
    tmp_path: Path,
) -> None:
    real = "GATEWAY_TEST_LINES" in os.environ or (kind, broker) in REAL
    data = tmp_path / "data"
    env = faulty | {"GATEWAY_DATABASE_URL": database, "GATEWAY_BROKER_URL": BROKERS[broker]}
    env["GATEWAY_QUEUE"] = f"tour-{uuid.uuid4().hex[:12]}"
    env["GATEWAY_EMBEDDED_WORKER"] = "true" if broker == "embedded" else "false"
    served = serve({"radiology": policy(upstream.url) if real else faulty_policy()}, env=env, data=data)
    workers = [] if broker == "embedded" else [worker(served.env, "--concurrency", "2", "--beat")]
    key = served.key("caller", "officer")
    client = openai.OpenAI(base_url=served.base + "/v1", api_key=key, max_retries=0)
    mixed = Mixed(LINES)
    file = client.files.create(file=("night.jsonl", io.BytesIO(mixed.bytes())), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"ward": "night"}
    )
    assert batch.status == "validating"
    done = wait(client, batch.id, 280, served, *workers)
    assert done.status == "completed"
    good, bad = results(client, done)
    check_exactly_once(mixed, done, good, bad, logged(database, data, batch.id))

    drawn = random.Random(7).sample([line for line in good if line["custom_id"] in mixed.contents], LIVE)
    for line in drawn:
        live = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": mixed.contents[line["custom_id"]]}]
        )
        choice = line["response"]["body"]["choices"][0]
        assert choice["finish_reason"] == live.choices[0].finish_reason
        if choice["finish_reason"] == "stop":
            assert choice["message"]["content"] == live.choices[0].message.content
    finishes = {line["response"]["body"]["choices"][0]["finish_reason"] for line in good}
    assert finishes == ({"stop", "content_filter"} if real else {"stop"}), "both answers and refusals came"
    verified = served.run("log", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
