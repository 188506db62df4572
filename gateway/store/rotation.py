"""Replacing the key-encryption key: each key of content is wrapped anew, the content itself is not touched.

Content is what the vault holds of decisions, the files of batches, and the answers of batches that have not ended. Both
keys open while it runs, and it can be broken off and taken up again at any point.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Mapping

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import InvalidRequest, Unavailable
from gateway.records import Caller, ChangeV1, new_id
from gateway.records.events import CallerV1
from gateway.records.sealing import KEY_BYTES
from gateway.store import faults
from gateway.store.batch_tables import batches, files
from gateway.store.engine import writer
from gateway.store.kek import KeyRing
from gateway.store.locked import events
from gateway.store.log import DecisionLog
from gateway.store.migrate import TROUBLE
from gateway.store.tables import vault

_TABLES: tuple[sa.Table, ...] = (vault, files, batches)  # what has keys in it, each by its id
_BATCH = 500  # keys in one transaction
_SETTLE = dt.timedelta(minutes=10)  # in which what was wrapped by the old key has reached the database


class KeyUse(Struct, frozen=True, kw_only=True):
    """A key-encryption key: how much content it wraps, whether it is here, and whether it is the one that wraps."""

    kek: str
    count: int
    here: bool
    current: bool


class Rotation(Struct, frozen=True, kw_only=True):
    """What a rotation did: the key that wraps now, and how many keys of content it wrapped anew.

    `left` counts those that it could not open, by the key that had wrapped them.
    """

    kek: str
    wrapped: int
    left: Mapping[str, int]


async def uses(engine: AsyncEngine, keyring: KeyRing | None) -> tuple[KeyUse, ...]:
    """List the keys that wrap content or are here. Raises Unavailable or ConfigurationError."""
    here = () if keyring is None else keyring.ids()
    current = here[0] if here else None
    counts = await _counts(engine)
    return tuple(
        KeyUse(
            kek=kek,
            count=counts.get(kek, 0),
            here=keyring is not None and keyring.opens(kek),
            current=kek == current,
        )
        for kek in dict.fromkeys((*here, *sorted(counts)))
    )


async def note(engine: AsyncEngine, decisions: DecisionLog, kek: str, caller: Caller) -> None:
    """Record that `kek` wraps from now on, where the log does not say so yet."""
    try:
        async with engine.connect() as connection:
            found = [change for _, change in await events(connection, ChangeV1) if change.what == "vault-key"]
    except TROUBLE as exc:
        raise Unavailable(f"the decision log can not be read; {faults.hint(exc)}") from None
    before = found[-1].after if found else None
    if before != kek:
        await decisions.append_event(_change(caller, kek, before, kek))


async def rotate(
    engine: AsyncEngine,
    decisions: DecisionLog,
    keyring: KeyRing,
    caller: Caller,
    *,
    progress: Callable[[int], object] | None = None,
    resume: bool = False,
) -> Rotation:
    """Wrap all keys of content with the key that is first now; where the file is the gateway's own, make a new one.

    With `resume` no key is made: what an earlier rotation left is wrapped by the key that it made. The change is
    recorded before the first key is wrapped anew. `progress` is told the number of keys after each batch. Raises
    Unavailable or ConfigurationError; what was wrapped until then stays so.
    """
    if keyring.managed and not resume:
        keyring.add()
    kek, _ = await keyring.wrap(secrets.token_bytes(KEY_BYTES), "probe")
    await note(engine, decisions, keyring.current(), caller)
    done = 0
    left: dict[str, int] = {}
    for old in sorted(await _counts(engine)):
        if old == kek:
            continue
        for table in _TABLES:
            wrapped, lost = await _rewrap(engine, table, keyring, old, progress)
            done += wrapped
            if lost:
                left[old] = left.get(old, 0) + lost
    return Rotation(kek=kek, wrapped=done, left=left)


async def drop(engine: AsyncEngine, decisions: DecisionLog, keyring: KeyRing, kek: str, caller: Caller) -> None:
    """Take a key out of the file for ever, once it wraps nothing.

    Then what it wrapped opens nowhere, not in an old copy of the database either. Raises InvalidRequest where it is
    not here, still wraps something, or another has begun to wrap only a moment ago.
    """
    if kek not in keyring.ids():
        raise InvalidRequest(f"no key `{kek[:64]}` is here; see `gateway vault keys`")
    count = (await _counts(engine)).get(kek, 0)
    if count:
        raise InvalidRequest(f"the key `{kek}` wraps {count} keys of content; run `gateway vault rotate-key` first")
    try:
        async with engine.connect() as connection:
            found = [change for _, change in await events(connection, ChangeV1) if change.what == "vault-key"]
    except TROUBLE as exc:
        raise Unavailable(f"the decision log can not be read; {faults.hint(exc)}") from None
    now = dt.datetime.now(dt.UTC)
    if any(change.at > now - _SETTLE for change in found):
        raise InvalidRequest(
            f"the key that wraps has changed a moment ago, and `{kek}` may be in use still; wait "
            f"{_SETTLE.seconds // 60} minutes"
        )
    await decisions.append_event(_change(caller, kek, kek, None, what="vault-key-dropped"))
    keyring.drop(kek)


def _change(caller: Caller, kek: str, before: str | None, after: str | None, what: str = "vault-key") -> ChangeV1:
    return ChangeV1(
        id=new_id("chg"),
        at=dt.datetime.now(dt.UTC),
        caller=CallerV1.of(caller),
        what=what,
        subject=kek,
        before=before,
        after=after,
        reason=None,
    )


async def _counts(engine: AsyncEngine) -> dict[str, int]:
    counts: dict[str, int] = {}
    try:
        async with engine.connect() as connection:
            for table in _TABLES:
                query = sa.select(table.c.kek, sa.func.count()).where(table.c.kek != "").group_by(table.c.kek)
                for kek, count in (await connection.execute(query)).all():
                    counts[str(kek)] = counts.get(str(kek), 0) + int(count)
            return counts
    except TROUBLE as exc:
        raise Unavailable(f"the vault can not be read; {faults.hint(exc)}") from None


async def _rewrap(
    engine: AsyncEngine, table: sa.Table, keyring: KeyRing, old: str, progress: Callable[[int], object] | None
) -> tuple[int, int]:
    """Wrap anew what the key `old` has wrapped in a table; give how many were, and how many could not be opened."""
    done, lost, last = 0, 0, ""
    statement = (
        table.update()
        .where(table.c.id == sa.bindparam("of"), table.c.kek == old, table.c.wrapped.is_not(None))
        .values(kek=sa.bindparam("by"), wrapped=sa.bindparam("key"))
    )
    while True:
        query = sa.select(table.c.id, table.c.wrapped).where(table.c.kek == old, table.c.id > last)
        try:
            async with engine.connect() as connection:
                rows = (await connection.execute(query.order_by(table.c.id).limit(_BATCH))).all()
            if not rows:
                return done, lost
            last = str(rows[-1].id)
            fresh = []
            for row in rows:
                try:
                    key = await keyring.unwrap(bytes(row.wrapped), old, row.id)
                except (ValueError, Unavailable):
                    lost += 1
                    continue
                kek, wrapped = await keyring.wrap(key, row.id)
                fresh.append({"of": row.id, "by": kek, "key": wrapped})
            if fresh:
                async with writer(engine).begin() as connection:
                    if engine.dialect.name == "sqlite":
                        await connection.exec_driver_sql("PRAGMA secure_delete=ON")
                    await connection.execute(statement, fresh)
        except TROUBLE as exc:
            raise Unavailable(f"the vault can not be written; {faults.hint(exc)}; run it again with --resume") from None
        done += len(fresh)
        if progress is not None:
            progress(len(rows))
