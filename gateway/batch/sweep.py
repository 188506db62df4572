"""What is done every few seconds for all workers: what the dead held goes on, and what is over goes."""

from __future__ import annotations

import datetime as dt

from gateway.store import Store


async def sweep(store: Store, now: dt.datetime) -> dict[str, int]:
    """Take back the jobs of dead workers, end batches whose time is over, delete files whose time is over.

    Gives how many jobs, files and processes it was. Raises Unavailable.
    """
    return {
        "jobs": await store.jobs.reap(now),
        "files": await store.files.sweep(now),
        "processes": await store.processes.sweep(now),
    }
