"""Workers that are killed, ended in the middle, or begun wrongly: others go on, and nothing is left behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import sqlalchemy as sa
from e2e.worker_kit import MARKER, Site, slow_policy
from servers import Redis
from support import GATEWAY, Serve, StartWorker, Upstream, Worker, faulty_policy

from gateway.store import Store
from gateway.store.batch_rows import LEASED
from gateway.store.batch_tables import jobs

MakeSite = Callable[..., Site]


@pytest.fixture
def site(tmp_path: Path, faulty: dict[str, str]) -> MakeSite:
    return lambda broker, **more: Site(tmp_path, faulty, broker, **more)


def gone(pids: Iterable[int], seconds: float = 30) -> bool:
    """Wait until none of these processes is there any more."""
    end = time.monotonic() + seconds
    while any(_lives(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def pool(started: Worker, but: Iterable[int] = ()) -> list[int]:
    """Wait until a worker has children that are not `but`, and give all its children."""
    end = time.monotonic() + 30
    while not (found := set(started.children())) - set(but):
        assert time.monotonic() < end, started.output()
        time.sleep(0.05)
    return sorted(found)


async def leased(store: Store) -> int:
    async with store._engine.connect() as connection:
        query = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state == LEASED)
        return int(await connection.scalar(query))


@pytest.mark.service
def test_children_are_replaced_and_end_with_their_parent(site: MakeSite, worker: StartWorker, redis: Redis) -> None:
    here = site(redis.url)
    started = worker(here.env, "--concurrency", "1", "--beat")
    before = pool(started)
    assert len(before) == 2, "one that works, and one that sends what is due"
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    here.completed(here.submit(4), 4, started)
    started.wait("it is begun anew")
    after = pool(started, before)
    end = time.monotonic() + 30
    while len(after := pool(started, before)) < 2:
        assert time.monotonic() < end, started.output()
    assert not set(after) & set(before)
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.wait(10)
    assert gone(after), "no orphan goes on"


def test_workers_of_the_embedded_broker_are_started_again_and_end_together(site: MakeSite, worker: StartWorker) -> None:
    here = site("filesystem://")
    started = worker(here.env, "--concurrency", "2", "--beat")
    before = pool(started)
    started.wait("gateway: worker with 1 process, and the schedule")
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    started.wait("it is started again in 1 s")
    here.completed(here.submit(4), 4, started)
    here.taken(started)
    after = pool(started, before)
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.wait(10)
    assert gone(after), "no orphan goes on"
    assert MARKER not in started.output()


@pytest.mark.service
def test_an_end_in_the_middle_gives_the_lines_back(
    site: MakeSite, worker: StartWorker, redis: Redis, upstream: Upstream
) -> None:
    upstream.delay = 0.2
    here = site(redis.url, policy=slow_policy(upstream))
    started = worker(here.env, "--concurrency", "2")
    batch = here.submit(120)
    here.answered(batch, 5, started)
    os.killpg(started.process.pid, signal.SIGTERM)  # to all at once, as a service manager does
    assert started.process.wait(30) == 0, started.output()
    assert here.run(leased) == 0, "what it held was given back, and no lease has to run out"
    upstream.delay = 0.0
    again = worker(here.env, "--concurrency", "1")
    here.completed(batch, 120, started, again)
    asked = [body["messages"][-1]["content"] for body in upstream.bodies]
    assert len(asked) == len(set(asked)) == 120, "lines under way were brought to their end, and asked once"
    assert MARKER not in started.output() + again.output()


def test_serve_runs_a_worker_that_ends_with_it(serve: Serve, faulty: dict[str, str], tmp_path: Path) -> None:
    here = Site(tmp_path, faulty, "filesystem://")
    env = faulty | {"GATEWAY_EMBEDDED_WORKER": "true", "GATEWAY_QUEUE": here.settings.queue}
    for end in (signal.SIGTERM, signal.SIGKILL):
        served = serve({"radiology": faulty_policy()}, env=env, data=here.settings.data_dir)
        log = Worker(served.process, served.log)
        assert "a worker for batches runs beside the server" in log.output()
        log.wait("gateway: worker with 1 process, and the schedule")
        beside = pool(log)
        if end == signal.SIGTERM:
            here.completed(here.submit(4), 4, log)
        served.process.send_signal(end)
        assert served.process.wait(30) == (0 if end == signal.SIGTERM else -end), log.output()
        assert gone(beside), "no orphan goes on"
        assert MARKER not in log.output()


def test_once_works_off_what_is_there(site: MakeSite, tmp_path: Path) -> None:
    here = site("filesystem://")
    batch = here.submit(40, wake=False)
    done = subprocess.run([*GATEWAY, "worker", "--once"], env=here.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    here.completed(batch, 40)
    assert MARKER not in done.stdout + done.stderr
    shutil.rmtree(tmp_path / "policies")
    wrong = subprocess.run([*GATEWAY, "worker", "--once"], env=here.env, capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 1 and "load the policies" in wrong.stderr


def test_a_broker_that_is_none_is_told_at_the_start(site: MakeSite) -> None:
    env = site("filesystem://").env | {"GATEWAY_BROKER_URL": "rabbit://guest:s3cr3t@host"}
    for command in ("worker", "serve"):
        wrong = subprocess.run([*GATEWAY, command], env=env, capture_output=True, text=True, timeout=60)
        assert wrong.returncode == 2
        assert "GATEWAY_BROKER_URL" in wrong.stderr and "s3cr3t" not in wrong.stderr
