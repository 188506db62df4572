"""Seals content on its way to the log: encrypts it, has its key wrapped, and says until when it is kept."""

from __future__ import annotations

import datetime as dt
import hashlib
import time

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Unavailable
from gateway.records import DecisionV1, Outcome
from gateway.records.record import SealedV1
from gateway.records.sealing import content_of, seal, weight_of
from gateway.stages import in_thread
from gateway.store import faults
from gateway.store.insert import SealedRow
from gateway.store.kek import KeyRing
from gateway.store.migrate import TROUBLE
from gateway.store.tables import decision_log

_HEAVY = 64 * 1024  # bytes of content, above which it is encrypted beside the event loop


class Sealed(Struct, frozen=True, kw_only=True):
    """Sealed content before it is stored. `kept` is what the record says of it."""

    kept: SealedV1
    wrapped: bytes
    sealed: bytes

    def row(self, record: DecisionV1) -> SealedRow:
        """Make the row of the vault that goes with `record`."""
        return SealedRow(
            id=record.id,
            department=record.department,
            patient=None if record.context is None else record.context.patient,
            at=record.at,
            until=self.kept.until,
            kek=self.kept.kek,
            wrapped=self.wrapped,
            sealed=self.sealed,
            digest=bytes.fromhex(self.kept.sha256),
        )


class Sealer:
    """Seals the content of outcomes whose policies keep it. `keyring` is None where the gateway was given none."""

    def __init__(self, engine: AsyncEngine, keyring: KeyRing | None) -> None:
        self._engine = engine
        self._keyring = keyring
        self._anchor: tuple[dt.datetime, float] | None = None

    async def seal(self, outcome: Outcome) -> Sealed | None:
        """Seal the content of `outcome`; None where its policy keeps none, or where the decision had no effect.

        Raises Unavailable where no key can be had.
        """
        spec = outcome.policy.policy.content
        if spec.keep != "sealed" or outcome.mode != "enforced":
            return None
        if self._keyring is None:
            raise Unavailable("the policy keeps content sealed, and this process was given no keys for the vault")
        until = None
        if spec.for_ is not None:
            until = await self._latest(outcome.started) + dt.timedelta(seconds=spec.for_.seconds)
        if weight_of(outcome) > _HEAVY:
            key, sealed, digest = await in_thread(_encrypt, outcome)
        else:
            key, sealed, digest = _encrypt(outcome)
        kek, wrapped = await self._keyring.wrap(key, outcome.request.id)
        kept = SealedV1(sha256=digest, size=len(sealed), kek=kek, until=until)
        return Sealed(kept=kept, wrapped=wrapped, sealed=sealed)

    async def _latest(self, started: dt.datetime) -> dt.datetime:
        """Give the time of a request, or a later one where the clock has jumped back since: nothing may end early.

        It is compared with the time of the newest record that there was at first, and the monotonic clock since.
        """
        if self._anchor is None:
            try:
                async with self._engine.connect() as connection:
                    newest = await connection.scalar(sa.select(sa.func.max(decision_log.c.at)))
            except TROUBLE as exc:
                raise Unavailable(f"the decision log can not be read; {faults.hint(exc)}") from None
            now = dt.datetime.now(dt.UTC)
            self._anchor = (now if newest is None else max(now, newest)), time.monotonic()
        known, then = self._anchor
        return max(started.astimezone(dt.UTC), known + dt.timedelta(seconds=time.monotonic() - then))


def _encrypt(outcome: Outcome) -> tuple[bytes, bytes, str]:
    key, sealed = seal(content_of(outcome))
    return key, sealed, hashlib.sha256(sealed).hexdigest()
