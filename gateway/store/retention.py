"""Erasure of sealed content: the key is destroyed, and the sealed bytes with it; the record and its leaf stay.

The holds are looked at, the erasure is recorded and the keys are destroyed in one transaction, which no hold can come
into. A process that is killed leaves all of it or nothing.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import Conflict, InvalidRequest, NotFound, Unavailable
from gateway.records import Caller, ErasureV1, covers, new_id, require
from gateway.records.events import CallerV1
from gateway.records.holds import Held, Hold, held_by
from gateway.store import faults
from gateway.store.holds import read_holds
from gateway.store.locked import events, locked, record
from gateway.store.migrate import TROUBLE
from gateway.store.reasons import check_reason, is_id, shown
from gateway.store.tables import KEPT, store_facts, vault

REQUEST_MOST = 200
"""Decisions that one request for erasure names at most."""

_BATCH = 200  # decisions in one transaction
_BATCH_BYTES = 32 * 1024 * 1024  # of sealed content in one transaction: other writers wait for it
_TOGETHER = 50  # erasures that are looked at in one transaction
_DONE = "vault-erasures"  # the fact that tells up to which record all erasures are known to be finished
_COLUMNS = (vault.c.id, vault.c.department, vault.c.patient, vault.c.at, vault.c.until, vault.c.erasure)
_SIZE = sa.func.length(vault.c.sealed).label("size")


class Erased(Struct, frozen=True, kw_only=True):
    """What a request for erasure came to: the decisions whose content is gone, those where it was before, the record.

    `erasure` is None where there was nothing left to erase.
    """

    decisions: tuple[str, ...]
    already: tuple[str, ...]
    erasure: str | None


class Run(Struct, frozen=True, kw_only=True):
    """What a run of retention did: how much content it erased, how much a hold kept, and how much it finished.

    `finished` counts content that an erasure on record had left behind.
    """

    erased: int
    held: int
    finished: int


class Retention:
    """Erases the sealed content of one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def erase(self, ids: Sequence[str], caller: Caller, reason: str) -> Erased:
        """Erase the content of these decisions, all or none; what is erased already stays so.

        Raises NotPermitted, InvalidRequest, NotFound where one of them has no content in the vault that this caller
        covers, Conflict where a legal hold covers one, and Unavailable.
        """
        require(caller, "erase")
        reason = check_reason(reason)
        wanted = tuple(dict.fromkeys(ids))
        if not 0 < len(wanted) <= REQUEST_MOST:
            raise InvalidRequest(f"name 1 to {REQUEST_MOST} decisions", param="decisions")
        async with locked(self._engine) as connection:
            rows = {row.id: row for row in await _rows(connection, vault.c.id.in_(filter(is_id, wanted)))}
            for id_ in wanted:
                if id_ not in rows or not covers(caller, rows[id_].department):
                    raise NotFound(f"there is no sealed content of `{shown(id_)}` for this key")
            there = [rows[id_] for id_ in wanted if rows[id_].erasure is None]
            holds = (await read_holds(connection)).values()
            for row in there:
                hold = held_by(holds, _held(row))
                if hold is not None:
                    raise Conflict(
                        f"the content of `{row.id}` is under the legal hold `{hold.id}` of {hold.placed.at:%d %B %Y}; "
                        "it can be erased once that is released",
                        code="legal_hold",
                    )
            erasure = await _shred(connection, [row.id for row in there], caller, "request", reason)
        await self._flush()
        return Erased(
            decisions=tuple(row.id for row in there),
            already=tuple(id_ for id_ in wanted if rows[id_].erasure is not None),
            erasure=erasure,
        )

    async def due(self, now: dt.datetime) -> int:
        """Count the content whose time is over, held or not. Raises Unavailable."""
        query = sa.select(sa.func.count()).select_from(vault).where(sa.text(KEPT), vault.c.until <= now)
        try:
            async with self._engine.connect() as connection:
                return int((await connection.execute(query)).scalar_one())
        except TROUBLE as exc:
            raise Unavailable(f"the vault can not be read; {faults.hint(exc)}") from None

    async def run(
        self,
        now: dt.datetime,
        caller: Caller | None = None,
        progress: Callable[[int], object] | None = None,
        *,
        again: bool = False,
    ) -> Run:
        """Erase all content whose `until` has passed and that no legal hold covers; finish what was left.

        It can be run again and by several at once. `progress` is told how much it looked at after each batch; with
        `again` every erasure on record is looked at once more. Raises Unavailable; what was erased until then stays so.
        """
        who = caller or Caller(key="gateway", department="*", roles=("operator",), via="os")
        finished = await self.finish(again=again)
        erased = kept = 0
        last: tuple[dt.datetime, str] | None = None
        while True:
            async with locked(self._engine) as connection:
                rows = await _due(connection, now, last)
                if not rows:
                    break
                holds: Iterable[Hold] = (await read_holds(connection)).values()
                free = [row.id for row in rows if held_by(holds, _held(row)) is None]
                await _shred(connection, free, who, "retention", None)
            last = (rows[-1].until, rows[-1].id)
            erased, kept = erased + len(free), kept + len(rows) - len(free)
            if progress is not None:
                progress(len(rows))
        await self._flush()
        return Run(erased=erased, held=kept, finished=finished)

    async def finish(self, *, again: bool = False) -> int:
        """Destroy what an erasure on record has left behind, where a table was restored from a copy; give how much.

        Erasures that are known to be finished are looked at only with `again`. What a legal hold covers meanwhile
        stays. Raises Unavailable.
        """
        try:
            async with self._engine.connect() as connection:
                done = await connection.scalar(sa.select(store_facts.c.value).where(store_facts.c.name == _DONE))
                found = await events(connection, ErasureV1, after=0 if again else int(done or 0))
        except TROUBLE as exc:
            raise Unavailable(f"the decision log can not be read; {faults.hint(exc)}") from None
        finished = 0
        for start in range(0, len(found), _TOGETHER):
            some = found[start : start + _TOGETHER]
            async with locked(self._engine) as connection:
                holds = (await read_holds(connection)).values()
                for _, erasure in some:
                    left = await _rows(connection, vault.c.id.in_(erasure.decisions) & vault.c.erasure.is_(None))
                    free = [row.id for row in left if held_by(holds, _held(row)) is None]
                    if free:
                        await connection.execute(_destroy(erasure.id).where(vault.c.id.in_(free)))
                    finished += len(free)
                await connection.execute(sa.delete(store_facts).where(store_facts.c.name == _DONE))
                await connection.execute(sa.insert(store_facts), {"name": _DONE, "value": str(some[-1][0])})
        return finished

    async def _flush(self) -> None:
        """Let SQLite write the zeros over what was erased, and empty the journal that still holds it."""
        if self._engine.dialect.name != "sqlite":
            return
        with contextlib.suppress(*TROUBLE):  # readers may be in its way: the next checkpoint does it
            async with self._engine.connect() as connection:
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _held(row: Any) -> Held:
    return Held(id=row.id, department=row.department, patient=row.patient, at=row.at)


async def _rows(connection: AsyncConnection, condition: sa.ColumnElement[bool]) -> Sequence[Any]:
    return (await connection.execute(sa.select(*_COLUMNS).where(condition))).all()


async def _due(connection: AsyncConnection, now: dt.datetime, last: tuple[dt.datetime, str] | None) -> list[Any]:
    """Give the next content whose time is over, in the order of its end: one at least where there is any."""
    query = sa.select(*_COLUMNS, _SIZE).where(sa.text(KEPT), vault.c.until <= now)
    if last is not None:
        until, id_ = last
        query = query.where((vault.c.until > until) | ((vault.c.until == until) & (vault.c.id > id_)))
    rows: list[Any] = []
    size = 0
    for row in (await connection.execute(query.order_by(vault.c.until, vault.c.id).limit(_BATCH))).all():
        size += row.size or 0
        if rows and size > _BATCH_BYTES:
            break
        rows.append(row)
    return rows


def _destroy(erasure: str) -> sa.Update:
    return vault.update().values(wrapped=None, sealed=None, kek="", erasure=erasure)


async def _shred(
    connection: AsyncConnection,
    ids: Sequence[str],
    caller: Caller,
    cause: Literal["retention", "request"],
    reason: str | None,
) -> str | None:
    """Record an erasure, then destroy keys and bytes, all in the transaction of `connection`; None for nothing."""
    if not ids:
        return None
    erasure = ErasureV1(
        id=new_id("era"),
        at=dt.datetime.now(dt.UTC),
        caller=CallerV1.of(caller),
        cause=cause,
        decisions=tuple(ids),
        reason=reason,
    )
    await record(connection, erasure)
    await connection.execute(_destroy(erasure.id).where(vault.c.id.in_(ids)))
    return erasure.id
