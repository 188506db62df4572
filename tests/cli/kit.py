"""A gateway that is served for real, with no worker: what happens to batches, a test does through the same database."""

import asyncio
import contextlib
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from cli.terminal import Terminal
from click.testing import CliRunner, Result
from store.batching import line_of, result
from support import FAULTY, GATEWAY, Served, faulty_policy, free_port

from gateway.cli import main
from gateway.store import Batch, Chunk, Job, Store, load_keyring, load_secret

LIMIT = 200_000  # bytes of a file that this gateway takes


class Gateway(Served):
    """Also the store of a gateway, and workers' deeds. `key` is a caller's."""

    def __init__(self, folder: Path) -> None:
        _install(folder / "aside")
        (folder / "policies").mkdir()
        (folder / "policies" / "radiology.yaml").write_text(faulty_policy())
        port = free_port()
        env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")} | {
            "GATEWAY_DATA_DIR": str(folder / "data"),
            "GATEWAY_POLICIES_DIR": str(folder / "policies"),
            "GATEWAY_PORT": str(port),
            "GATEWAY_EMBEDDED_WORKER": "false",
            "GATEWAY_MAX_FILE_BYTES": str(LIMIT),
            "PYTHONPATH": str(folder / "aside"),
        }
        self.base, self.env, self.data = f"http://127.0.0.1:{port}", env, folder / "data"
        self.log = folder / "serve.log"
        self.begin()
        self.ready()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.store: Store = self.do(self._open())
        self.env["GATEWAY_URL"] = self.base + "/v1"
        self.key = self.env["GATEWAY_API_KEY"] = self.make_key("caller")

    def begin(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*GATEWAY, "serve"], env=self.env, stdout=out, stderr=out, start_new_session=True, cwd=self.data.parent
            )

    def ready(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self.process.poll() is None, self.output()
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(self.base + "/readyz", timeout=2).close()
                return
            time.sleep(0.05)
        raise AssertionError("not ready: " + self.output())

    async def _open(self) -> Store:
        return await Store.open(
            f"sqlite:///{self.data}/gateway.sqlite3",
            secret=load_secret(self.data, None),
            keyring=load_keyring(self.data),
            files_dir=self.data / "files",
            must_sign=False,
        )

    def do(self, work: Awaitable[Any]) -> Any:
        """Do something with the store."""
        return asyncio.run_coroutine_threadsafe(_await(work), self._loop).result(30)

    async def ask(self, work: Awaitable[Any]) -> Any:
        """Do something with the store, from a test that has a loop of its own."""
        return await asyncio.to_thread(self.do, work)

    def close(self) -> None:
        self.kill()
        self.do(self.store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def make_key(self, *roles: str, **more: Any) -> str:
        return str(self.do(self.store.keys.create("radiology", roles, **more))[1])

    def batch(self, *words: str, code: int | None = 0, stdin: bytes | None = None, **env: str) -> Result:
        """Run `gateway batch` in this process."""
        found = CliRunner().invoke(main, ["batch", *words], env=self.env | env, input=stdin)
        assert code is None or found.exit_code == code, (found.exit_code, found.output, found.exception)
        return found

    def watch(self, batch: str, **more: Any) -> Terminal:
        """Run `gateway batch watch` in a terminal."""
        return Terminal([*GATEWAY, "batch", "watch", batch], self.env, **more)

    def submit(self, file: Path, lines: int) -> str:
        file.write_bytes(b"".join(line_of(number) for number in range(1, lines + 1)))
        return self.batch("submit", str(file), "--again").stdout.strip()

    def validated(self, batch: str, lines: int, chunk: int) -> None:
        """Read a file as a worker does."""

        async def work() -> None:
            job = await self.claim(batch, "validate")
            data = [line_of(number) for number in range(1, lines + 1)]
            chunks = [
                Chunk(
                    first=first + 1,
                    count=chunk,
                    start=sum(map(len, data[:first])),
                    size=sum(map(len, data[first : first + chunk])),
                )
                for first in range(0, lines, chunk)
            ]
            await self.store.batches.begin_validation(job)
            await self.store.batches.add_chunks(job, chunks, [])
            await self.store.batches.validated(job, lines)

        self.do(work())

    async def claim(self, batch: str, kind: str) -> Job:
        job = await self.store.jobs.claim("w0", kinds=(kind,), batch=batch)
        assert job.batch == batch
        return job

    def answer(self, batch: str, *outcomes: str) -> None:
        """Work a job off: its lines come to this."""

        async def work() -> None:
            job = await self.claim(batch, "lines")
            assert job.count == len(outcomes)
            lines = range(job.first, job.first + job.count)
            done = [
                result(batch, n, o, reason=None if o == "released" else "risk:H06")
                for n, o in zip(lines, outcomes, strict=True)
            ]
            await self.store.batches.store_lines(await self.read(batch), done, job)
            await self.store.jobs.done(job)

        self.do(work())

    async def read(self, batch: str) -> Batch:
        found = await self.store.batches.get(batch)
        assert found.id == batch
        return found

    def finish(self, batch: str) -> None:
        """End a batch whose lines are all done, with its files."""

        async def work() -> None:
            job = await self.claim(batch, "finalize")
            read = await self.read(batch)
            async for run in self.store.batches.missing(read):
                await self.store.batches.store_lines(read, [result(batch, line, "cancelled") for line in run], job)
            made = {}
            for name, ok in (("output_file", True), ("error_file", False)):
                async with self.store.files.create(
                    "radiology", read.owner, "batch_output", f"{batch}.jsonl", None
                ) as writer:
                    async for line in self.store.batches.results(read, ok=ok):
                        await writer.write(line)
                    made[name] = (await writer.finish()).id
            await self.store.batches.finish(job, **made)

        self.do(work())

    def work(self) -> None:
        """Let a real worker do what there is."""
        assert self.run("worker", "--once").returncode == 0


async def _await(work: Awaitable[Any]) -> Any:
    return await work


def _install(folder: Path) -> None:
    info = folder / "gateway_faulty-9.9.9.dist-info"
    info.mkdir(parents=True)
    (folder / "gateway_faulty.py").write_text(FAULTY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gateway-faulty\nVersion: 9.9.9\n")
    (info / "entry_points.txt").write_text("[gateway]\nfaulty = gateway_faulty\n")
