"""What the gateway runs by (policies, identity) is noted in the log whenever it is another than before."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Unavailable
from gateway.records import Caller, ChangeV1
from gateway.records.events import CallerV1, new_id
from gateway.store import faults
from gateway.store.engine import writer
from gateway.store.log import DecisionLog
from gateway.store.migrate import TROUBLE
from gateway.store.tables import store_facts

SYSTEM = Caller(key="system", department="*", roles=(), via="system")
"""Stands as the caller for what the gateway does by itself."""


def _name(what: str, subject: str) -> str:
    return hashlib.sha256(f"{what}\x00{subject}".encode()).hexdigest()[:32]  # a fact's name has 32 characters


class Configured:
    """Remembers the digest of each thing the gateway runs by, so that only a change is noted.

    The record is the truth; the remembered digest only spares a look through the log. A crash between the two notes the
    same change twice, never not at all.
    """

    def __init__(self, engine: AsyncEngine, decisions: DecisionLog) -> None:
        self._engine = engine
        self._decisions = decisions

    async def note(self, what: str, digests: Mapping[str, str], caller: Caller = SYSTEM) -> tuple[str, ...]:
        """Append a `ChangeV1` for each subject whose digest is another than at the last start; name those subjects.

        Raises Unavailable where it can not be noted: nothing may run by rules that are in no record.
        """
        changed = []
        for subject, digest in sorted(digests.items()):
            name = _name(what, subject)
            before = await self._remembered(name)
            if before == digest:
                continue
            change = ChangeV1(
                id=new_id("chg"),
                at=dt.datetime.now(dt.UTC),
                caller=CallerV1.of(caller),
                what=what,
                subject=subject,
                before=before,
                after=digest,
                reason=None,
            )
            await self._decisions.append_event(change)
            await self._remember(name, digest)
            changed.append(subject)
        return tuple(changed)

    async def _remembered(self, name: str) -> str | None:
        try:
            async with self._engine.connect() as connection:
                found = await connection.scalar(sa.select(store_facts.c.value).where(store_facts.c.name == name))
        except TROUBLE as exc:
            raise Unavailable(f"what was in force before can not be read; {faults.hint(exc)}") from None
        return None if found is None else str(found)

    async def _remember(self, name: str, value: str) -> None:
        try:
            async with writer(self._engine).begin() as connection:
                # Deleted and inserted rather than updated: the application has no right to update facts.
                await connection.execute(sa.delete(store_facts).where(store_facts.c.name == name))
                await connection.execute(sa.insert(store_facts), {"name": name, "value": value})
        except sa.exc.IntegrityError:  # another process that starts at the same time was first
            return
        except TROUBLE as exc:
            raise Unavailable(f"what is in force can not be remembered; {faults.hint(exc)}") from None
