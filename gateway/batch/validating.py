"""Read the input file of a batch: what is no good is told line by line, the rest becomes jobs. Memory stays flat."""

from __future__ import annotations

import asyncio
import hashlib

from gateway.batch.answering import without_response
from gateway.batch.reading import LineError, RawLine, lines_of, read_id
from gateway.settings import Settings
from gateway.stages import in_thread
from gateway.store import Batch, BatchError, Chunk, Job, LineResult, Store

MAX_LINES = 1_000_000
"""Lines in one batch."""

CHUNK = 32
"""Lines in one job."""

JUDGED_CHUNK = 256
"""Lines in one job of a re-audit from evidence alone: each takes less time than what a job costs the database."""

CHUNK_BYTES = 4 * 1024 * 1024
"""Bytes of lines in one job, or one line."""

_PORTION = 64  # jobs that are stored at a time
_INVALID = 256  # or so many lines that are none
_HEAVY = 256 * 1024  # bytes of a line, above which it is read beside the event loop
_BREATH = 50  # lines that are read before others get a turn


class _Portion:
    """What was read and is not stored yet: jobs, the one that is being filled, and lines that are no good."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.chunks: list[Chunk] = []
        self.invalid: list[LineResult] = []
        self._open: Chunk | None = None

    def add(self, line: RawLine, *, good: bool) -> None:
        """Put a line into the job that is being filled; a good one begins the next job where it does not fit.

        Lines that are no good are answered already, and only keep the others together.
        """
        chunk = self._open
        if chunk is not None and chunk.count < self._most and chunk.size + line.size <= CHUNK_BYTES:
            self._open = Chunk(first=chunk.first, count=chunk.count + 1, start=chunk.start, size=chunk.size + line.size)
            return
        self.cut()
        if good:
            self._open = Chunk(first=line.number, count=1, start=line.start, size=line.size)

    def cut(self) -> None:
        """End the job that is being filled: what comes does not follow it line by line."""
        if self._open is not None:
            self.chunks.append(self._open)
            self._open = None

    @property
    def full(self) -> bool:
        """Tell whether it is time to store it."""
        return len(self.chunks) >= _PORTION or len(self.invalid) >= _INVALID


async def validate(store: Store, settings: Settings, job: Job, batch: Batch, *, webhook: bool) -> None:
    """Read the input file of `batch` from its beginning, and let its lines be worked on.

    A batch of which nothing can be read as a line, or of too many lines, fails as a whole; with `webhook` that is told.
    Raises LeaseLost, Unavailable where the file can not be read now (FileDamaged where it never can), and NotFound
    where it is gone.
    """
    await store.batches.begin_validation(job)
    seen: dict[bytes, int] = {}
    judged = batch.kind == "reaudit" and not batch.options.get("content")
    portion, total = _Portion(JUDGED_CHUNK if judged else CHUNK), 0
    async for line in lines_of(store.files.read(batch.input_file), longest=settings.max_body_bytes):
        if line.blank:
            portion.cut()  # a job covers lines that follow each other, and a blank line is none
            continue
        total += 1
        if total > MAX_LINES:
            message = f"there are more than {MAX_LINES} lines; send several batches"
            await store.batches.fail(job, [BatchError(code="too_many_lines", message=message)], webhook=webhook)
            return
        wrong = await _wrong(line, batch, seen, settings.max_body_bytes)
        portion.add(line, good=wrong is None)
        if wrong is not None:
            portion.invalid.append(wrong)
        if portion.full:
            await store.batches.add_chunks(job, portion.chunks, portion.invalid)
            portion.chunks, portion.invalid = [], []
        if total % _BREATH == 0:
            await asyncio.sleep(0)
    if not total:
        message = "the file holds no line; give one JSON object on each line"
        await store.batches.fail(job, [BatchError(code="empty_file", message=message)], webhook=webhook)
        return
    portion.cut()
    if portion.chunks or portion.invalid:
        await store.batches.add_chunks(job, portion.chunks, portion.invalid)
    await store.batches.validated(job, total)


async def _wrong(line: RawLine, batch: Batch, seen: dict[bytes, int], longest: int) -> LineResult | None:
    """Tell what is wrong with a line; None where it can be tried. `seen` are the lines by digests of their ids."""
    custom_id, error = None, None
    if line.raw is None:
        error = LineError("invalid_line", f"it is longer than {longest} bytes; send smaller images, or fewer")
    else:
        try:
            heavy = len(line.raw) > _HEAVY
            custom_id = await in_thread(read_id, line.raw, batch) if heavy else read_id(line.raw, batch)
        except LineError as exc:
            custom_id, error = exc.custom_id, exc
    if custom_id is not None:
        # 128 bits stand for an id, so that a million of them take no more room than they must.
        digest = hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
        first = seen.setdefault(digest, line.number)
        if first != line.number:
            message = f"its `custom_id` is that of line {first}; lines {first} and {line.number} need ids of their own"
            custom_id, error = None, LineError("duplicate_custom_id", message)
    if error is None:
        return None
    return without_response(batch, line.number, "invalid", custom_id, error.code, error.message)
