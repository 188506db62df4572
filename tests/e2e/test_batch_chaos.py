"""Workers are killed every few seconds, the broker and the database are restarted; still each line exactly once.

A bounded form in an ordinary run; `GATEWAY_TEST_CHAOS=120` goes on for so many seconds.
"""

import contextlib
import io
import os
import random
import signal
import time
from pathlib import Path

import openai
import pytest
from e2e.batch_kit import Mixed, check_exactly_once, logged, results, wait
from servers import Cluster, Redis
from support import Serve, StartWorker, Upstream, faulty_policy

SECONDS = float(os.environ.get("GATEWAY_TEST_CHAOS", "15"))
RATE = 60  # lines a second that the slow upstream lets through: 6 at once, a tenth of a second each


@pytest.mark.service
def test_a_night_of_chaos(
    serve: Serve,
    worker: StartWorker,
    faulty: dict[str, str],
    upstream: Upstream,
    cluster: Cluster,
    redis: Redis,
    tmp_path: Path,
) -> None:
    upstream.delay = 0.1
    draw = random.Random(66)
    data = tmp_path / "data"
    env = faulty | {"GATEWAY_DATABASE_URL": cluster.url, "GATEWAY_BROKER_URL": redis.url}
    backend = f'{{stage: openai, deadline: 20s, config: {{base_url: "{upstream.url}", model: scripted}}}}'
    text = "\n".join(line for line in faulty_policy().splitlines() if not line.startswith("backend"))
    served = serve({"radiology": f"{text}\nbackend: {backend}\nbatch: {{concurrency: 6}}\n"}, env=env, data=data)
    words = ("--concurrency", "2", "--beat")
    workers = [worker(served.env, *words) for _ in range(2)]
    key = served.key("caller", "officer")
    client = openai.OpenAI(base_url=served.base + "/v1", api_key=key, max_retries=8)
    mixed = Mixed(int(SECONDS * RATE * 0.5), images=0.005)
    file = client.files.create(file=("night.jsonl", io.BytesIO(mixed.bytes())), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    end = time.monotonic() + SECONDS
    blows = {"worker": 0, "child": 0, "broker": 0, "database": 0}
    while time.monotonic() < end:
        time.sleep(draw.uniform(1.5, 3.0))
        # Each kind at least once, whatever the draw: the one that was struck least comes first.
        blow = min(blows, key=lambda kind: (blows[kind], draw.random()))
        blows[blow] += 1
        match blow:
            case "worker":
                place = draw.randrange(len(workers))
                workers[place].kill()
                workers[place] = worker(served.env, *words, ready=False)
            case "child":
                children = draw.choice(workers).children()
                with contextlib.suppress(ProcessLookupError, IndexError):  # it may be starting, or gone
                    os.kill(draw.choice(children), signal.SIGKILL)
            case "broker":
                redis.kill()
                redis.start()
            case "database":
                cluster.kill()
                cluster.start()
    assert all(blows.values()), blows
    done = wait(client, batch.id, 180, served, *workers)
    assert done.status == "completed"
    good, bad = results(client, done)
    check_exactly_once(mixed, done, good, bad, logged(cluster.url, data, batch.id))
    assert len(good) > len(bad), "most lines were answered"
    verified = served.run("log", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
