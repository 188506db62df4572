"""What the tests of batches share: stores with a folder of files, uploads, and batches with lines."""

import contextlib
import datetime as dt
import json

from store.kit import SECRET
from store.sealing import raw

from gateway.records import Caller, Context
from gateway.store import Chunk, LineResult, Store, load_keyring
from gateway.store.batch_tables import jobs

CALLER = Caller(key="ca11er000001", department="radiology", roles=("caller",), person="mary")
OTHER = Caller(key="ca11er000002", department="pathology", roles=("caller",))
THIRD = Caller(key="ca11er000003", department="cardiology", roles=("caller",))
MARKER = b"XYLOPHONEQUARTZ"
ENDPOINT = "/v1/chat/completions"
DAY = dt.timedelta(days=1)


def now():
    return dt.datetime.now(dt.UTC)


@contextlib.asynccontextmanager
async def opened(url, folder):
    """Open a store with keys and files in `folder`."""
    store = await Store.open(url, secret=SECRET, keyring=load_keyring(folder), files_dir=folder / "files")
    try:
        yield store
    finally:
        await store.close()


async def upload(store, data=b"{}\n", *, caller=CALLER, purpose="batch", expires_at=None, step=None):
    """Store `data` as a file, in writes of `step` bytes."""
    async with store.files.create(caller.department, caller.key, purpose, "lines.jsonl", expires_at) as writer:
        for place in range(0, len(data), step or max(1, len(data))):
            await writer.write(data[place : place + (step or len(data))])
        return await writer.finish()


def line_of(number, **more):
    """Make the bytes of an input line."""
    return (
        json.dumps({"custom_id": f"c{number}", "method": "POST", "url": ENDPOINT, "body": {}, **more}).encode() + b"\n"
    )


async def submit(store, *, caller=CALLER, input_file="file-none", **more):
    """Make a batch."""
    made = {"kind": "answer", "said": Context(), "endpoint": ENDPOINT, "department": caller.department} | more
    return await store.batches.create(caller=caller, input_file=input_file, **made)


async def begun(store, lines=4, *, chunk=1, caller=CALLER, worker="w0", **more):
    """Make a batch with `lines` lines in jobs of `chunk` lines, whose file was read."""
    data = [line_of(number) for number in range(1, lines + 1)]
    stored = await upload(store, b"".join(data), caller=caller)
    batch = await submit(store, caller=caller, input_file=stored.id, **more)
    job = await store.jobs.claim(worker, kinds=("validate",))
    assert job.batch == batch.id
    chunks, start = [], 0
    for first in range(0, lines, chunk):
        part = data[first : first + chunk]
        size = sum(map(len, part))
        chunks.append(Chunk(first=first + 1, count=len(part), start=start, size=size))
        start += size
    await store.batches.begin_validation(job)
    await store.batches.add_chunks(job, chunks, [])
    await store.batches.validated(job, lines)
    return await store.batches.get(batch.id)


def result(batch, line, outcome="released", *, ok=None, body=None, reason=None, decision=None):
    """Make what a line came to."""
    return LineResult(
        batch=batch if isinstance(batch, str) else batch.id,
        line=line,
        outcome=outcome,
        ok=outcome == "released" if ok is None else ok,
        decision=decision,
        reason=reason,
        tries=1,
        body=json.dumps({"line": line}).encode() if body is None else body,
    )


async def work(store, job, outcome="released"):
    """Work a job off."""
    batch = await store.batches.get(job.batch)
    done = [result(batch, line, outcome) for line in range(job.first, job.first + job.count)]
    await store.batches.store_lines(batch, done, job)
    await store.jobs.done(job)


async def finalize(store, worker="w0", **more):
    """Claim the job that ends a batch, and end it: lines without an answer come out as cancelled."""
    job = await store.jobs.claim(worker, kinds=("finalize",))
    batch = await store.batches.get(job.batch)
    runs = [run async for run in store.batches.missing(batch)]
    lost = [result(batch, line, "cancelled", reason="batch_cancelled") for run in runs for line in run]
    await store.batches.store_lines(batch, lost, job)
    return await store.batches.finish(job, output_file=None, error_file=None, **more)


async def die(url, worker):
    """Let the leases of a worker run out."""
    async with raw(url) as connection:
        gone = jobs.update().where(jobs.c.owner == worker, jobs.c.state == "leased")
        await connection.execute(gone.values(lease_until=now() - DAY))


async def bodies(store, batch, *, ok):
    """Read what the lines of one of the two files came to."""
    return [body async for body in store.batches.results(batch, ok=ok)]


async def missing(store, batch):
    """Read which lines have no answer."""
    return [run async for run in store.batches.missing(batch)]


async def whole(store, id_):
    """Read a file."""
    return b"".join([piece async for piece in store.files.read(id_)])


def folder_of(tmp_path):
    """Name what lies in the folder of files."""
    return sorted(each.name for each in (tmp_path / "files").iterdir())
