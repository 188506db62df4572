"""The image's steps run here as a script, so that they can not rot where no container engine is at hand."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml
from sqlalchemy.engine import make_url
from store.kit import postgres_database, server_do
from support import ROOT, free_port, policy

from gateway.store import Store
from gateway.store.engine import make_engine, normalise
from gateway.store.roles import migrate_for

STEPS = ROOT / "docker" / "steps.sh"


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the build step as the image does: into an environment of its own, from nothing."""
    target = tmp_path_factory.mktemp("image") / "gateway"
    env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    subprocess.run([STEPS, "build", str(target)], check=True, timeout=1500, env=env)
    return target


@pytest.mark.timeout(1800)
def test_build_migrate_web_and_worker(venv: Path, tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "radiology.yaml").write_text(policy("http://127.0.0.1:9/v1"))
    port = free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")} | {
        "GATEWAY_VENV": str(venv),
        "GATEWAY_DATA_DIR": str(tmp_path / "data"),
        "GATEWAY_POLICIES_DIR": str(tmp_path / "policies"),
        "GATEWAY_PORT": str(port),
        "GATEWAY_LOG_LEVEL": "info",
        "GATEWAY_SECRET": "ab" * 32,
    }
    migrated = subprocess.run([STEPS, "migrate"], env=env, capture_output=True, text=True, timeout=120)
    assert migrated.returncode == 0, migrated.stderr
    log = tmp_path / "out.log"
    with log.open("wb") as out:
        processes = [
            subprocess.Popen([STEPS, role], env=env, stdout=out, stderr=out, cwd=tmp_path, start_new_session=True)
            for role in ("web", "worker")
        ]
    try:
        _until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).status == 200, log)
        send = (
            "from gateway.batch.worker import create_worker; from gateway.settings import read_settings;"
            "create_worker(read_settings()).send_task('gateway.verify_log')"
        )
        subprocess.run([venv / "bin" / "python", "-c", send], env=env, check=True, timeout=60)
        _until(lambda: "log verified" in log.read_text(errors="replace"), log)
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)  # to the process alone, as a container engine does
        try:
            codes = [process.wait(60) for process in processes]
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    assert codes == [0, 0], log.read_text(errors="replace")


def _until(holds, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace"))


def test_image_and_compose_use_only_steps_that_exist() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    steps = set(re.findall(r"^  (\w+)\)", STEPS.read_text(), re.MULTILINE))
    assert steps == {"build", "migrate", "web", "worker"}
    assert re.search(r"^USER gateway$", dockerfile, re.MULTILINE), "the image does not run as root"
    assert re.search(r'^ENTRYPOINT \["/app/docker/steps.sh"\]', dockerfile, re.MULTILINE)
    assert json.loads(re.search(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)[1])[0] in steps
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    services = compose["services"]
    assert {"migrate", "web", "worker", "postgres", "redis"} == set(services)
    for role in ("migrate", "web", "worker"):
        assert services[role]["command"][0] == role
        assert "GATEWAY_SECRET" in services[role]["environment"]


def test_an_unknown_step_says_what_there_is() -> None:
    result = subprocess.run([STEPS, "dance"], capture_output=True, text=True, timeout=10)
    assert result.returncode == 2 and "migrate" in result.stderr


@pytest.mark.service
def test_the_role_of_the_compose_file_is_made_and_bound(tmp_path: Path) -> None:
    """The init script and the step `migrate` as the compose file runs them; the application then signs in."""
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    web = compose["services"]["web"]["environment"]["GATEWAY_DATABASE_URL"]
    migrate = compose["services"]["migrate"]
    role = re.match(r"postgresql://(\w+):", web)[1]
    assert role != re.match(r"postgresql://(\w+):", migrate["environment"]["GATEWAY_DATABASE_URL"])[1]
    assert migrate["command"] == ["migrate", "--app-role", role]
    script = (ROOT / "docker" / "postgres-init.sh").read_text()
    mine = f"compose_{os.getpid()}"
    with asyncio.Runner() as runner:
        made = postgres_database()
        url = make_url(runner.run(made.__aenter__()))
        try:
            env = {
                "PATH": os.environ["PATH"], "PGHOST": url.host, "PGPORT": str(url.port or 5432),
                "POSTGRES_USER": url.username or "root", "POSTGRES_DB": url.database,
                "GATEWAY_APP_PASSWORD": "it's; --",
            }  # fmt: skip
            done = subprocess.run(["sh", "-c", script.replace(role, mine)], env=env, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            runner.run(migrate_for(url.render_as_string(hide_password=False), mine))
            app = url.set(username=mine, password="it's; --").render_as_string(hide_password=False)
            store = runner.run(Store.open(app, secret=bytes(32)))
            assert runner.run(store.decisions.count()) == 0
            runner.run(store.close())
            runner.run(_drop(url, mine))
        finally:
            runner.run(made.__aexit__(None, None, None))
            runner.run(server_do(f"DROP ROLE IF EXISTS {mine}"))


async def _drop(url, role: str) -> None:
    engine = make_engine(normalise(url.render_as_string(hide_password=False)))
    async with engine.begin() as connection:
        await connection.execute(sa.text(f"DROP OWNED BY {role}"))
    await engine.dispose()
