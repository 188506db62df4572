"""Write the files of a batch that was worked off: every line of its input stands in one of them, once."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from typing import Any

from gateway.batch.answering import without_response
from gateway.batch.reading import LineError, lines_of, read_id
from gateway.errors import Conflict, NotFound
from gateway.settings import Settings
from gateway.store import Batch, FileDamaged, FileWriter, Job, LeaseLost, LineOutcome, LineResult, Store

_TOGETHER = 200  # lines that are stored at a time
_PAGE = 100


class _End:
    """What is told of lines that have no answer, by how their batch ends."""

    def __init__(self, batch: Batch) -> None:
        self.outcome: LineOutcome
        if batch.cancelling_at is not None:
            self.outcome, self.code = "cancelled", "batch_cancelled"
            self.message = "the batch was cancelled before it was tried"
        elif batch.expired_at is not None:
            self.outcome, self.code = "expired", "batch_expired"
            self.message = (
                f"the batch's time of {batch.completion_window} was over before it was tried; submit it again"
            )
        else:  # every job was done, so this is a fault of the gateway's own, and no line is lost without a word
            self.outcome, self.code = "failed", "internal_error"
            self.message = "the gateway has lost it; tell its operator, and submit it again"


async def finalize(
    store: Store, settings: Settings, job: Job, batch: Batch, *, judging: Callable[[], Any], webhook: bool
) -> None:
    """Give each line without an answer one, write the output and error files in the order of lines, end the batch.

    A file without lines is not made. `judging` gives what writes the report of a re-audit. What an earlier worker, now
    dead, has written of it is deleted. Raises LeaseLost and Unavailable.
    """
    await _complete(store, settings, job, batch)
    kept = batch.options.get("output_expires_seconds") or settings.file_days * 24 * 3600
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=kept)
    files: dict[str, str | None] = {}
    for kind, ok in (("output", True), ("errors", False)):
        writing = _Writing(store, batch, "batch_output", f"{batch.id}_{kind}.jsonl", expires)
        files[kind] = await writing.lines(store.batches.results(batch, ok=ok))
    if batch.kind == "reaudit":
        report = await judging().report(batch, _all(store, batch))
        files["report"] = await _Writing(store, batch, "batch_report", f"{batch.id}_report.json", expires).whole(report)
    made = frozenset(filter(None, files.values()))
    await _sweep(store, batch, made)
    try:
        await store.batches.finish(
            job,
            output_file=files["output"],
            error_file=files["errors"],
            report_file=files.get("report"),
            webhook=webhook,
        )
    except LeaseLost:
        # Another worker has ended the batch, or will: its files count.
        ended = await store.batches.get(batch.id)
        if ended is not None:
            for one in made - {ended.output_file, ended.error_file, ended.report_file}:
                await _delete(store, one)
        raise


async def _complete(store: Store, settings: Settings, job: Job, batch: Batch) -> None:
    """Answer the lines that have no answer, so that none comes later; their ids are read from the input once more."""
    end = _End(batch)
    missing = store.batches.missing(batch)
    run = await anext(missing, None)
    if run is None:
        return
    rows: list[LineResult] = []
    last = run.start
    try:
        async for line in lines_of(store.files.read(batch.input_file), longest=settings.max_body_bytes):
            while run is not None and line.number >= run.stop:
                run = await anext(missing, None)
            if run is None:
                break
            if line.number not in run:
                continue
            last = line.number + 1
            rows.append(without_response(batch, line.number, end.outcome, _id(line.raw, batch), end.code, end.message))
            if len(rows) >= _TOGETHER:
                await store.batches.store_lines(batch, rows, job)
                rows = []
    except (FileDamaged, NotFound):  # its lines are told of all the same, by their numbers
        while run is not None:
            numbers = range(max(run.start, last), run.stop)
            rows += [without_response(batch, n, end.outcome, None, end.code, end.message) for n in numbers]
            run = await anext(missing, None)
    await store.batches.store_lines(batch, rows, job)


def _id(raw: bytes | None, batch: Batch) -> str | None:
    try:
        return None if raw is None else read_id(raw, batch)
    except LineError as exc:
        return exc.custom_id


async def _all(store: Store, batch: Batch) -> AsyncIterator[bytes]:
    for ok in (True, False):
        async for body in store.batches.results(batch, ok=ok):
            yield body


class _Writing:
    """Writes one file, for whoever made the batch."""

    def __init__(self, store: Store, batch: Batch, purpose: str, name: str, expires: dt.datetime) -> None:
        self._make: Callable[[], FileWriter] = lambda: store.files.create(
            batch.department, batch.owner, purpose, name, expires
        )

    async def lines(self, bodies: AsyncIterator[bytes]) -> str | None:
        """Write lines; give the file's id, None where there is no line."""
        first = await anext(bodies, None)
        if first is None:
            return None
        async with self._make() as writer:
            await writer.write(first + b"\n")
            async for body in bodies:
                await writer.write(body + b"\n")
            return (await writer.finish()).id

    async def whole(self, body: bytes) -> str:
        """Write `body`; give the file's id."""
        async with self._make() as writer:
            await writer.write(body)
            return (await writer.finish()).id


async def _sweep(store: Store, batch: Batch, kept: frozenset[str]) -> None:
    """Delete the files of this batch that an earlier worker has finished, and died before they were its files."""
    since = batch.finalizing_at or batch.cancelling_at or batch.created_at
    names = {f"{batch.id}_{end}" for end in ("output.jsonl", "errors.jsonl", "report.json")}
    after: str | None = None
    while True:
        page = await store.files.list(batch.department, owner=batch.owner, after=after, limit=_PAGE)
        for file in page:
            if file.created_at < since:
                return
            if file.filename in names and file.id not in kept:
                await _delete(store, file.id)
            else:
                after = file.id
        if len(page) < _PAGE:
            return


async def _delete(store: Store, id: str) -> None:
    try:
        await store.files.delete(id)
    except Conflict:  # somebody made a batch of it meanwhile: it is theirs now
        return
