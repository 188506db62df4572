"""Begin a job of lines: read its bytes, and leave out the lines that are answered already."""

from __future__ import annotations

from gateway.batch.answering import without_response
from gateway.batch.reading import lines_in
from gateway.errors import NotFound
from gateway.store import Batch, FileDamaged, Job, LeaseLost, Store


async def open_lines(store: Store, job: Job) -> tuple[Batch, dict[int, bytes]]:
    """Give the batch of a job and what is left of its lines, by number.

    Where the file is gone or damaged its lines fail, since no later try could read them. Raises LeaseLost and
    Unavailable.
    """
    batch = await store.batches.get(job.batch)
    if batch is None:
        raise LeaseLost
    there = await store.batches.answered(batch.id, job.first, job.count)
    try:
        chunk = await store.files.range(batch.input_file, job.start, job.size)
    except (NotFound, FileDamaged):
        code, message = "unreadable_file", "the input file is gone or damaged; upload it again, and submit this line"
        left = [number for number in range(job.first, job.first + job.count) if number not in there]
        lost = [without_response(batch, number, "failed", None, code, message) for number in left]
        await store.batches.store_lines(batch, lost, job)
        return batch, {}
    return batch, {number: raw for number, raw in lines_in(chunk, job.first, job.count).items() if number not in there}
