"""A re-audit from its beginning to its end: decisions are searched for, become the lines of a batch, and are judged."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import secrets
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import msgspec

from gateway.batch.engine import Engine, Rhythm
from gateway.batch.reaudit_plan import Options
from gateway.errors import NotFound, Unavailable
from gateway.records import ALL, NOTHING_SAID, AccessV1, Caller, require
from gateway.records.reaudit_report import ReauditReport
from gateway.settings import Settings
from gateway.store import ENDED, Batch, Counts, Filter, Store

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

ENDPOINT = "gateway batch reaudit"
"""By which command it was asked for, as records say it."""

_LOOK = 0.5  # seconds between two looks at how far a batch is
_SLICE = 3600.0  # seconds that an engine works before it is asked again

Progress = Callable[[Counts], object]


async def begin(
    store: Store, settings: Settings, filter_: Filter, caller: Caller, options: Options, *, limit: int | None = None
) -> tuple[Batch | None, int]:
    """Search for the decisions and make the batch that judges them again, oldest first; None where there are none.

    Gives the number of decisions beside. The search is recorded before, and so is the batch. Raises NotPermitted,
    InvalidRequest and Unavailable.
    """
    for permission in ("search", "review", *(("reveal",) if options.content else ())):
        require(caller, permission)
    narrowed = filter_.within(caller)
    found = await store.search.count(narrowed)
    rows = found if limit is None else min(found, limit)
    now = dt.datetime.now(dt.UTC)
    await store.decisions.append_event(
        AccessV1.of(
            caller=caller,
            endpoint=ENDPOINT,
            decisions=(),
            at=now,
            action="search",
            why=options.why,
            filter=narrowed.text(),
            rows=rows,
        )
    )
    if not rows:
        return None, 0
    department = next(iter(options.candidates)) if len(options.candidates) == 1 else ALL
    expires = now + dt.timedelta(days=settings.file_days)
    async with store.files.create(department, caller.key, "reaudit", "reaudit.jsonl", expires) as writer:
        async for chunk in _lines(store, narrowed, rows):
            await writer.write(chunk)
        file = await writer.finish()
    batch = await store.batches.create(
        kind="reaudit",
        caller=caller,
        department=department,
        said=NOTHING_SAID,
        endpoint=ENDPOINT,
        input_file=file.id,
        options=msgspec.structs.replace(options, filter=narrowed.text()).plain(),
    )
    return batch, rows


async def _lines(store: Store, filter_: Filter, rows: int) -> AsyncIterator[bytes]:
    """Give the lines of the input file: the first `rows` decisions that meet the filter, in the order of the log."""
    left = rows
    async for ids in store.search.ids(filter_):
        some = ids[:left]
        yield b"".join(msgspec.json.encode({"custom_id": id_, "decision": id_}) + b"\n" for id_ in some)
        left -= len(some)
        if not left:
            return


async def work_off(runtime: Runtime, batch: Batch, progress: Progress | None = None) -> Batch:
    """Work for this batch alone until it has ended, beside the workers that there may be; give it as it ended."""
    engine = Engine(
        runtime, f"reaudit-{secrets.token_hex(8)}", processes_beat=False, rhythm=Rhythm(poll=0.1), only=batch.id
    )
    over = asyncio.Event()
    watching = asyncio.ensure_future(_watch(runtime.store, batch, over, progress))
    try:
        while not over.is_set():
            await engine.work(seconds=_SLICE, stopped=over.is_set)
            ended = await _now(runtime.store, batch)
            if ended.status in ENDED:
                break
            await asyncio.sleep(_LOOK / 5)  # another worker is at the rest, or it was paused
    finally:
        over.set()
        await watching
        await engine.close()
    return await _now(runtime.store, batch)


async def _now(store: Store, batch: Batch) -> Batch:
    found = await store.batches.get(batch.id)
    if found is None:
        raise NotFound(f"the batch `{batch.id}` is gone; make it anew")
    return found


async def _watch(store: Store, batch: Batch, over: asyncio.Event, progress: Progress | None) -> None:
    """Tell how far a batch is, once more at its end."""
    if progress is None:
        return
    last = False
    while not last:
        last = over.is_set()
        with contextlib.suppress(Unavailable):  # the engine waits for the database, and so does the bar
            progress(await store.batches.counts(await _now(store, batch)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _LOOK)


async def report_of(store: Store, batch: Batch) -> ReauditReport:
    """Read the report of a batch that has ended. Raises NotFound where it has none."""
    if batch.report_file is None:
        raise NotFound(f"the batch `{batch.id}` is {batch.status} and has no report")
    whole = b"".join([piece async for piece in store.files.read(batch.report_file)])
    return msgspec.json.decode(whole, type=ReauditReport)
