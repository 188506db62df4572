"""The vault: content that a policy keeps sealed, shown for a reason and for a while, to whoever may see it."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import LogDamaged, NotFound, NotPermitted, Unavailable
from gateway.records import AccessV1, Caller, DecisionV1, ErasureV1, covers, require
from gateway.records.sealing import ContentV1, unseal
from gateway.stages import in_thread
from gateway.store import faults, rotation
from gateway.store.kek import KeyRing
from gateway.store.locked import events
from gateway.store.log import DecisionLog
from gateway.store.migrate import TROUBLE
from gateway.store.reasons import check_minutes, check_reason, is_id, shown
from gateway.store.tables import vault
from gateway.store.timebox import is_open

LONGEST_MINUTES = 60
"""The longest time box of a reveal, in minutes."""


class Revealed(Struct, frozen=True, kw_only=True):
    """Content as it is shown, until when it may be looked at again, and the id of the record of this look."""

    content: ContentV1
    until: dt.datetime
    access: str


class Vault:
    """The sealed content of one database. `keyring` is None where this process was given no keys."""

    def __init__(self, engine: AsyncEngine, decisions: DecisionLog, keyring: KeyRing | None) -> None:
        self._engine = engine
        self._decisions = decisions
        self._keyring = keyring

    async def reveal(self, id: str, caller: Caller, endpoint: str, why: str, minutes: int) -> Revealed:
        """Show the content of a decision, and let the caller look again for `minutes`; recorded before it is shown.

        Raises NotPermitted, InvalidRequest, NotFound where there is no such decision for this caller, its content was
        not kept or is erased, Unavailable where the key or the log can not be had, and LogDamaged.
        """
        require(caller, "reveal")
        why = check_reason(why)
        check_minutes(minutes, LONGEST_MINUTES)
        decision = await self._decision(id, caller)
        now = dt.datetime.now(dt.UTC)
        return await self._show(
            decision, caller, endpoint, "reveal", why=why, now=now, until=now + dt.timedelta(minutes=minutes)
        )

    async def content(self, id: str, caller: Caller, endpoint: str) -> Revealed:
        """Show the content again inside a time box that the same caller has opened; recorded before it is shown.

        Raises NotPermitted where none is open, and otherwise as `reveal`.
        """
        require(caller, "reveal")
        decision = await self._decision(id, caller)
        now = dt.datetime.now(dt.UTC)
        box = await self._box(decision.id, caller, now)
        if box is None or box.until is None:
            raise NotPermitted(
                f"no look at the content of `{decision.id}` is open for this key; say why and for how long with "
                f"POST /decisions/{decision.id}/reveal",
                code="reveal_needed",
            )
        return await self._show(decision, caller, endpoint, "look", why=box.why, now=now, until=box.until)

    async def reaudit(self, decision: DecisionV1, caller: Caller, endpoint: str, why: str, batch: str) -> ContentV1:
        """Open the content of a decision, to be judged again in a batch; recorded before it is opened.

        What is erased is told of first, without a record: nothing is looked at. Raises as `reveal` does.
        """
        require(caller, "reveal")
        why = check_reason(why)
        if not covers(caller, decision.department) or decision.sealed is None:
            await self._decision(decision.id, caller)
        row = await self._row(decision.id)
        if row is not None and row.erasure is not None:
            raise NotFound(await self._erased(decision.id, row.erasure), code="content_erased")
        access = AccessV1.of(
            caller=caller,
            endpoint=endpoint,
            decisions=(decision.id,),
            at=dt.datetime.now(dt.UTC),
            action="reaudit",
            why=why,
            filter=f"batch={batch}",
            rows=1,
        )
        await self._decisions.append_event(access)
        return await self._open(decision)

    async def ready(self) -> None:
        """Have the key that wraps, and note it in the log where it is new. Raises ConfigurationError or Unavailable."""
        if self._keyring is not None:
            await rotation.note(self._engine, self._decisions, self._keyring.current(), _gateway())

    async def keys(self) -> tuple[rotation.KeyUse, ...]:
        """Tell which keys wrap content, how much, and whether they are here."""
        return await rotation.uses(self._engine, self._keyring)

    async def rotate_key(
        self, caller: Caller, progress: Callable[[int], object] | None = None, *, resume: bool = False
    ) -> rotation.Rotation:
        """Wrap all keys of content with a new key-encryption key; see `gateway.store.rotation.rotate`."""
        return await rotation.rotate(
            self._engine, self._decisions, self._ring(), caller, progress=progress, resume=resume
        )

    async def drop_key(self, kek: str, caller: Caller) -> None:
        """Destroy a key-encryption key that wraps nothing any more; see `gateway.store.rotation.drop`."""
        await rotation.drop(self._engine, self._decisions, self._ring(), kek, caller)

    def _ring(self) -> KeyRing:
        if self._keyring is None:
            raise Unavailable("this process was given no keys for the vault; start it with the gateway's data folder")
        return self._keyring

    async def _decision(self, id: str, caller: Caller) -> DecisionV1:
        stored = await self._decisions.get(id) if is_id(id) else None
        record = stored.record if stored is not None else None
        if not isinstance(record, DecisionV1) or not covers(caller, record.department):
            raise NotFound(
                f"there is no decision `{shown(id)}` for this key; "
                "the `x-gateway-decision` header of an answer names it"
            )
        if record.sealed is None:
            raise NotFound(
                f"the content of `{record.id}` was not kept: the policy of its time keeps none", code="content_not_kept"
            )
        return record

    async def _show(
        self,
        decision: DecisionV1,
        caller: Caller,
        endpoint: str,
        action: str,
        *,
        why: str | None,
        now: dt.datetime,
        until: dt.datetime,
    ) -> Revealed:
        access = AccessV1.of(
            caller=caller,
            endpoint=endpoint,
            decisions=(decision.id,),
            at=now,
            action=action,
            why=why,
            rows=1,
            until=until,
        )
        await self._decisions.append_event(access)
        return Revealed(content=await self._open(decision), until=until, access=access.id)

    async def _box(self, id: str, caller: Caller, now: dt.datetime) -> AccessV1 | None:
        """Give the reveal of `id` by this caller that is open `now`, the last one where there are several."""
        since = now - dt.timedelta(minutes=LONGEST_MINUTES)
        try:
            async with self._engine.connect() as connection:
                found = await events(connection, AccessV1, since=since, mention=id)
                for sequence, access in reversed(found):
                    same = (access.caller.key, access.caller.person) == (caller.key, caller.person)
                    if access.action != "reveal" or access.until is None or id not in access.decisions or not same:
                        continue
                    if await is_open(connection, sequence, access.at, access.until, now):
                        return access
        except TROUBLE as exc:
            raise Unavailable(f"the decision log can not be read; {faults.hint(exc)}") from None
        return None

    async def _row(self, id: str) -> Any | None:
        try:
            async with self._engine.connect() as connection:
                return (await connection.execute(sa.select(vault).where(vault.c.id == id))).first()
        except TROUBLE as exc:
            raise Unavailable(f"the vault can not be read; {faults.hint(exc)}") from None

    async def _open(self, decision: DecisionV1) -> ContentV1:
        row = await self._row(decision.id)
        if row is not None and row.erasure is not None:
            raise NotFound(await self._erased(decision.id, row.erasure), code="content_erased")
        problem = vault_problem(decision, row)
        if problem is not None or row is None:
            raise LogDamaged(f"decision `{decision.id}`: {problem}; run `gateway log verify`")
        try:
            key = await self._ring().unwrap(bytes(row.wrapped), row.kek, decision.id)
            return await in_thread(unseal, bytes(row.sealed), key, decision.id)
        except ValueError as exc:
            raise LogDamaged(f"decision `{decision.id}`: {exc}; run `gateway log verify`") from None

    async def _erased(self, id: str, erasure: str) -> str:
        stored = await self._decisions.get(erasure)
        record = stored.record if stored is not None else None
        when = f" on {record.at:%d %B %Y}, because of `{record.cause}`" if isinstance(record, ErasureV1) else ""
        return f"the content of `{id}` was erased{when}; see the record `{erasure}`"


def vault_problem(record: DecisionV1, row: Any | None) -> str | None:
    """Tell what is wrong between a record and its row of the table `vault`, None where there is no row or nothing is.

    Only what these two show: whether the erasure that a row names is in the log is for whoever reads all of it.
    """
    kept = record.sealed
    if row is None or kept is None:
        if row is not None:
            return "the vault holds content of it, and its record says that none was kept"
        return None if kept is None else "its sealed content is missing from the vault"
    patient = None if record.context is None else record.context.patient
    due = {
        "id": record.id,
        "department": record.department,
        "patient": patient,
        "at": record.at,
        "until": kept.until,
    }
    for name, value in due.items():
        if getattr(row, name) != value:
            return f"the column `{name}` of its sealed content does not say what its record says"
    if bytes(row.digest).hex() != kept.sha256:
        return "its sealed content has another digest than its record says"
    if row.erasure is not None:
        left = row.sealed is not None or row.wrapped is not None
        return "its content was erased, and is there" if left else None
    if row.sealed is None or row.wrapped is None:
        return "its sealed content is gone without an erasure"
    if len(row.sealed) != kept.size or hashlib.sha256(row.sealed).hexdigest() != kept.sha256:
        return "its sealed content is not what was sealed"
    return None


def _gateway() -> Caller:
    return Caller(key="gateway", department="*", roles=("operator",), via="os")
