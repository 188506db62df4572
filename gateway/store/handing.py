"""Handing the log over to another signing key: the old key signs who follows it, and is destroyed."""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import ConfigurationError, InvalidRequest, Unavailable
from gateway.records import Caller, ChangeV1, new_id
from gateway.records.events import REASON_LONGEST, CallerV1
from gateway.records.handover import handover_text
from gateway.records.note import Signer, parse_vkey, sign
from gateway.store import faults
from gateway.store.engine import writer
from gateway.store.log import DecisionLog
from gateway.store.migrate import TROUBLE
from gateway.store.placing import LOCK, state_of
from gateway.store.sequencer import Sequencer
from gateway.store.signer import FileKey, LogSigner
from gateway.store.tables import log_keys
from gateway.store.tree import SigningKey


class Handover:
    """Rotates the key of one log."""

    def __init__(self, engine: AsyncEngine, decisions: DecisionLog, sequencer: Sequencer, signer: LogSigner) -> None:
        self._engine = engine
        self._decisions = decisions
        self._sequencer = sequencer
        self._signer = signer

    async def rotate(self, *, by: Caller, reason: str, lost: bool = False) -> SigningKey:
        """Make a new key and let it sign from here on; give it.

        The change stands in the log first, and what is there is signed by the old key. With `lost` there is no old key
        to sign who follows it: a verification tells that for ever. Raises InvalidRequest where the reason is none or
        `lost` is not what is so, ConfigurationError where the key is in no file, Unavailable where the log can not be
        written.
        """
        if not reason.strip() or len(reason) > REASON_LONGEST:
            raise InvalidRequest(f"a change of the log's key needs a reason, of at most {REASON_LONGEST} characters")
        source = self._signer.source
        if not isinstance(source, FileKey):
            raise ConfigurationError("the log's key is derived from the secret, and can not be rotated; give a file")
        old = parse_vkey(self._signer.vkey)
        if lost and self._signer.trouble is None:
            raise InvalidRequest(f"the log's key is not lost, it is in {source.where}; leave out --lost-key")
        before = None if lost else self._signer.signer()
        new = Signer(old.name, source.create_next())
        change = ChangeV1(
            id=new_id("chg"),
            at=dt.datetime.now(dt.UTC),
            caller=CallerV1.of(by),
            what="log-key",
            subject=old.name,
            before=old.vkey,
            after=new.verifier.vkey,
            reason=reason,
        )
        await self._decisions.append_event(change)
        if before is not None:
            await self._sequencer.catch_up()
        made = await self._store(before, new, old.vkey)
        if lost and source.path.exists():  # another log's key, perhaps
            with contextlib.suppress(OSError):
                source.path.rename(source.path.with_name(f"{source.path.name}.other-{secrets.token_hex(4)}"))
        source.take_next()
        self._signer.follow(made.vkey)
        return made

    async def _store(self, before: Signer | None, new: Signer, due: str) -> SigningKey:
        try:
            async with writer(self._engine).begin() as connection:
                if connection.dialect.name == "postgresql":  # no sequencer signs meanwhile
                    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
                last = (await connection.execute(sa.select(log_keys).order_by(log_keys.c.number.desc()).limit(1))).one()
                if last.vkey != due:
                    raise Unavailable("the log's key was just changed by another; look at it, and try again")
                size = (await connection.run_sync(state_of)).size
                old = parse_vkey(last.vkey)
                text = handover_text(last.number + 1, size, old, new.verifier)
                values = {
                    "number": last.number + 1,
                    "vkey": new.verifier.vkey,
                    "size": size,
                    "at": dt.datetime.now(dt.UTC),
                    "note": sign(text, new) if before is None else sign(text, before, new),
                }
                await connection.execute(log_keys.insert().values(**values))
        except TROUBLE as exc:
            raise Unavailable(f"the log's key can not be changed; {faults.hint(exc)}") from None
        return SigningKey(**values)
