"""What tests of `gateway worker` share: an installation without a server, and batches that are put into it directly."""

import asyncio
import contextlib
import json
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from support import Upstream, faulty_policy

from gateway.batch.wake import Waker
from gateway.batch.worker import create_worker
from gateway.opening import open_store
from gateway.records import Caller, Context
from gateway.settings import read_settings
from gateway.store import Batch, Store

AMQP = os.environ.get("GATEWAY_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
CALLER = Caller(key="ca11er000001", department="radiology", roles=("caller",))
MARKER = "XYLOPHONEQUARTZ"


def slow_policy(upstream: Upstream, concurrency: int = 4) -> str:
    """A policy whose model is an upstream that a test may slow down; checks are those of the faulty plugin."""
    backend = f'{{stage: openai, deadline: 20s, config: {{base_url: "{upstream.url}", model: scripted}}}}'
    lines = [line for line in faulty_policy().splitlines() if not line.startswith("backend")]
    return "\n".join([*lines, f"backend: {backend}", f"batch: {{concurrency: {concurrency}}}"]) + "\n"


class Site:
    """An installation: its settings, and what a test asks of its tables."""

    def __init__(self, folder: Path, env: dict[str, str], broker: str, policy: str | None = None) -> None:
        (folder / "policies").mkdir(exist_ok=True)
        (folder / "policies" / "radiology.yaml").write_text(policy or faulty_policy())
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")} | {
            "GATEWAY_DATA_DIR": str(folder / "data"),
            "GATEWAY_POLICIES_DIR": str(folder / "policies"),
            "GATEWAY_BROKER_URL": broker,
            "GATEWAY_QUEUE": f"test-{uuid.uuid4().hex[:12]}",
            **env,
        }
        self.settings = read_settings(self.env)

    def run(self, work: Any) -> Any:
        """Await `work(store)` on the installation's store."""

        async def do() -> Any:
            store: Store = await open_store(self.settings)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(do())

    def submit(self, lines: int, *, wake: bool = True) -> str:
        """Put a batch into the tables, and wake a worker; give its id."""

        def line(number: int) -> bytes:
            body = {"model": "auto", "messages": [{"role": "user", "content": f"{MARKER} {number}"}]}
            whole = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            return json.dumps(whole).encode() + b"\n"

        async def do(store: Store) -> str:
            async with store.files.create("radiology", CALLER.key, "batch", "lines.jsonl", None) as writer:
                for number in range(lines):
                    await writer.write(line(number))
                stored = await writer.finish()
            batch = await store.batches.create(
                kind="answer",
                caller=CALLER,
                department="radiology",
                said=Context(),
                endpoint="/v1/chat/completions",
                input_file=stored.id,
            )
            if wake:
                await Waker(self.settings).wake()
            return batch.id

        return self.run(do)

    def wake(self) -> None:
        asyncio.run(Waker(self.settings).wake())

    def until(self, holds: Any, *logs: Any, seconds: float = 60) -> Any:
        """Wait until `holds(store)` gives something."""

        async def do(store: Store) -> Any:
            end = time.monotonic() + seconds
            while not (found := await holds(store)):
                assert time.monotonic() < end, [each.output()[-4000:] for each in logs]
                await asyncio.sleep(0.05)
            return found

        return self.run(do)

    def completed(self, id_: str, lines: int, *logs: Any) -> Batch:
        """Wait until a batch is completed; all its lines were answered, each once."""

        async def ended(store: Store) -> Batch | None:
            batch = await store.batches.get(id_)
            return batch if batch is not None and batch.status == "completed" else None

        batch = self.until(ended, *logs)
        assert batch.summary.by_outcome == {"released": lines}, batch.summary

        async def ids(store: Store) -> list[str]:
            pieces = b"".join([piece async for piece in store.files.read(batch.output_file)])
            return [json.loads(each)["custom_id"] for each in pieces.splitlines()]

        assert self.run(ids) == [f"c{number}" for number in range(lines)]
        return batch

    def answered(self, id_: str, least: int, *logs: Any) -> None:
        """Wait until some lines of a batch are answered."""

        async def enough(store: Store) -> bool:
            counts = await store.batches.counts(await store.batches.get(id_))
            return counts.completed >= least

        self.until(enough, *logs)

    def messages(self) -> int:
        """Count the messages that wait in the queue."""
        app = create_worker(self.settings)
        with app.connection_for_read() as connection:
            queue = app.amqp.queues[self.settings.queue](connection.channel())
            return queue.queue_declare().message_count

    def taken(self, *logs: Any) -> None:
        """Wait until all messages were taken."""
        end = time.monotonic() + 60
        while self.messages():
            assert time.monotonic() < end, [each.output()[-4000:] for each in logs]
            time.sleep(0.05)

    def drop_queue(self) -> None:
        app = create_worker(self.settings)
        with contextlib.suppress(OSError), app.connection_for_read() as connection:
            app.amqp.queues[self.settings.queue](connection.channel()).delete()


class Proxy:
    """Passes TCP connections on, and can drop them all."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.open = True

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            server = self._loop.run_until_complete(asyncio.start_server(self._pass, "127.0.0.1", 0))
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            self._loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        assert ready.wait(10)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        pair = {writer, far_writer}
        self._writers |= pair

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            for each in pair:
                each.transport.abort()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        self._writers -= pair

    def drop(self) -> int:
        """Drop every connection, and take no new one; give how many it were."""

        async def do() -> int:
            self.open = False
            dropped = list(self._writers)
            for each in dropped:
                each.transport.abort()
            return len(dropped) // 2

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
