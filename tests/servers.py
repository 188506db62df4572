"""Servers of a test's own, which may be killed: PostgreSQL and Redis."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import free_port


class Cluster:
    """A PostgreSQL server of the test's own, which may be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        # PostgreSQL refuses to run as root, who may become another; anybody else runs it as they are.
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(folder, "postgres", "postgres")
        self._run(_program("initdb"), "-D", str(folder / "db"), "-U", "postgres", "-A", "trust", "--no-instructions")
        self.start()

    def _run(self, *words: str) -> None:
        done = subprocess.run([*self._as, *words], capture_output=True, text=True, cwd=self.folder, timeout=120)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        (self.folder / "db" / "postmaster.pid").unlink(missing_ok=True)  # of the one that was killed
        self.server = subprocess.Popen(
            [*self._as, _program("postgres"), "-D", str(self.folder / "db"), "-p", str(self.port), "-h", "127.0.0.1",
             "-k", str(self.folder)],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while subprocess.run(
            [_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], timeout=20
        ).returncode:
            assert time.monotonic() < end and self.server.poll() is None, "the server did not come back"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the server and all its children at once, as a machine that loses its power does."""
        children = subprocess.run(["pgrep", "-P", str(self.server.pid)], capture_output=True, text=True, timeout=20)
        for pid in [self.server.pid, *map(int, children.stdout.split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait(20)
        # A child that still lives would hold the shared memory, and the next start would refuse.
        deadline = time.monotonic() + 20
        while any(Path("/proc", pid).exists() for pid in children.stdout.split()) and time.monotonic() < deadline:
            time.sleep(0.01)


def _program(name: str) -> str:
    """Find a program of PostgreSQL: the newest of Debian's folders, or on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name) or name


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not Path(_program("postgres")).exists():
        why = "no PostgreSQL programs to start a server with"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    folder = Path("/tmp") / f"gateway-cluster-{os.getpid()}-{random.getrandbits(32):08x}"  # other users may enter here
    folder.mkdir(mode=0o755)
    made = Cluster(folder)
    yield made
    made.kill()
    shutil.rmtree(folder)


class Redis:
    """A Redis server of the test's own; `url` names its first database. What it holds is gone with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.server = subprocess.Popen(
            words, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < end and self.server.poll() is None, "Redis did not start"
            time.sleep(0.02)

    def kill(self) -> None:
        self.server.kill()
        self.server.wait(20)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        why = "no redis-server to start"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    made = Redis(tmp_path)
    yield made
    made.kill()
