"""Whether a right that ends has ended, by a clock that may jump back."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.tables import decision_log

_AHEAD = dt.timedelta(minutes=1)  # by which the clocks of two machines may differ
_NEAR = dt.timedelta(days=1)


async def is_open(
    connection: AsyncConnection, sequence: int, at: dt.datetime, until: dt.datetime, now: dt.datetime
) -> bool:
    """Tell whether what the record `sequence` opened `at` a time `until` another is open `now`.

    A clock that went back opens nothing again: a box of the future is shut, and one is shut for good once a later
    record bears a time at or after its end. (Times over a day after it are a clock that was wrong, and do not count.)
    """
    if now >= until or at > now + _AHEAD:
        return False
    later = sa.exists().where(
        decision_log.c.at >= until, decision_log.c.at < until + _NEAR, decision_log.c.sequence > sequence
    )
    return not await connection.scalar(sa.select(later))
