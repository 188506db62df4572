"""When keys were last used: kept in memory, and written together once a minute.

Nothing waits for it and nothing fails by it: what can not be written is tried again a minute later.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import describe
from gateway.store.engine import writer
from gateway.store.migrate import TROUBLE
from gateway.store.tables import api_keys

EVERY = 60.0
"""Seconds between two writes; each key is written at most once in it."""

_log = logging.getLogger("gateway.store")


class KeyUsage:
    """Notes the uses of keys. `every` is the time between two writes, in seconds."""

    def __init__(self, engine: AsyncEngine, *, every: float = EVERY) -> None:
        self._engine = engine
        self._every = every
        self._used: dict[str, dt.datetime] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def note(self, key: str) -> None:
        """Note that a key was used now."""
        self._used[key] = dt.datetime.now(dt.UTC)
        self._arm()

    async def close(self) -> None:
        """Write what is noted, and no more after."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
        await self.flush()

    async def flush(self) -> None:
        """Write what is noted; trouble is logged and not raised."""
        used, self._used = self._used, {}
        if not used:
            return
        column = api_keys.c.last_used_at
        later = sa.or_(column.is_(None), column < sa.bindparam("used", type_=column.type))
        statement = (
            api_keys.update()
            .where(api_keys.c.id == sa.bindparam("key"), later)
            .values(last_used_at=sa.bindparam("used", type_=column.type))
        )
        try:
            async with writer(self._engine).begin() as connection:
                await connection.execute(statement, [{"key": key, "used": at} for key, at in sorted(used.items())])
        except TROUBLE as exc:
            _log.warning("the last use of %d keys can not be written yet: %s", len(used), describe(exc))
            self._used = used | self._used
            self._arm()

    def _arm(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._due)

    def _due(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self.flush(), name="last use of keys")
