"""The report of a day: counts of decisions, batches and reviews, as a file. It holds no text and names no decision."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from gateway.batch.jobs import GATEWAY
from gateway.errors import GatewayError
from gateway.opening import open_store
from gateway.settings import Settings
from gateway.store import Batch, Filter, Store

_log = logging.getLogger("gateway.batch")

_PAGE = 100
_LONGEST = dt.timedelta(days=31)  # no batch is open for longer
_BACK = 14  # days whose report is made later where no worker ran


async def daily_reports(settings: Settings, today: dt.date | None = None) -> tuple[Path, ...]:
    """Write the report of yesterday, and those of up to 14 days before it that are missing since the first report.

    Days are those of UTC. Gives the files, ``reports/YYYY-MM-DD.json`` in the data folder. Raises Unavailable, and
    ConfigurationError.
    """
    today = today or dt.datetime.now(dt.UTC).date()
    folder = settings.data_dir / "reports"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    first = min((place.stem for place in folder.glob("????-??-??.json")), default=None)
    days = [today - dt.timedelta(days=back) for back in range(_BACK, 0, -1)]
    wanted = [
        day
        for day in days
        if not _place(folder, day).exists() and (day == days[-1] or (first is not None and day.isoformat() > first))
    ]
    if not wanted:
        return ()
    store = await open_store(settings, must_sign=False)
    try:
        with contextlib.suppress(GatewayError):  # counts are of the index; without the log's key, as far as it goes
            await store.sequencer.catch_up()
        return tuple([await _report(store, folder, day) for day in wanted])
    finally:
        await store.close()


async def _report(store: Store, folder: Path, day: dt.date) -> Path:
    since = dt.datetime.combine(day, dt.time(), dt.UTC)
    until = since + dt.timedelta(days=1)
    decisions = await _decisions(store, since, until)
    batches = await _batches(store, since, until)
    figures = await store.reviews.figures(GATEWAY, since=since, until=until)
    total = sum(sum(of.values()) for of in decisions.values())
    ended = sum(sum(of.values()) for of in batches.values())
    made: dict[str, Any] = {
        "day": day.isoformat(),
        "made_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "decisions": {"total": total, "by_department": decisions},
        "batches": {"ended": ended, "by_department": batches},
        "reviews": {
            "judged": figures.judged,
            "waiting": {state: n for state, n in sorted(figures.queue.states.items()) if state != "settled"},
            "overdue": figures.queue.overdue,
        },
    }
    place = _place(folder, day)
    _write(place, json.dumps(made, indent=2) + "\n")
    _log.info(
        "report of %s: %d decisions, %d batches ended, %d reviews overdue; `%s`",
        day, total, ended, figures.queue.overdue, place,
    )  # fmt: skip
    return place


async def _decisions(store: Store, since: dt.datetime, until: dt.datetime) -> dict[str, dict[str, int]]:
    """Count the decisions of a time by department and outcome."""
    whole = Filter(kinds=("decision.v1",), since=since, until=until)
    found = {}
    for department, _ in (await store.search.tally(whole, ("department",))).facets["department"]:
        of = Filter(kinds=("decision.v1",), departments=(str(department),), since=since, until=until)
        outcomes = (await store.search.tally(of, ("outcome",))).facets["outcome"]
        found[str(department)] = {str(outcome): number for outcome, number in outcomes}
    return dict(sorted(found.items()))


async def _batches(store: Store, since: dt.datetime, until: dt.datetime) -> dict[str, dict[str, int]]:
    """Count the batches that ended in a time by department and how they ended."""
    found: dict[str, Counter[str]] = {}
    after = None
    while page := await store.batches.list("*", after=after, limit=_PAGE):
        for batch in page:
            at = _ended(batch)
            if at is not None and since <= at < until:
                found.setdefault(batch.department, Counter())[batch.status] += 1
        after = page[-1].id
        if page[-1].created_at < since - _LONGEST:
            break
    return {department: dict(sorted(counts.items())) for department, counts in sorted(found.items())}


def _ended(batch: Batch) -> dt.datetime | None:
    times = {
        "completed": batch.completed_at,
        "failed": batch.failed_at,
        "expired": batch.expired_at,
        "cancelled": batch.cancelled_at,
    }
    return times.get(batch.status)


def _place(folder: Path, day: dt.date) -> Path:
    return folder / f"{day.isoformat()}.json"


def _write(place: Path, text: str) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
