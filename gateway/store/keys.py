"""API keys. A key is shown once; the database holds a keyed hash of it, so that a copy of it opens nothing.

Every request asks the database: nothing is remembered of a key that was right, so a revocation holds for the very next
request, in every process. What changes a key stands in the log before it takes effect.
"""

from __future__ import annotations

import datetime as dt
import hmac
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import InvalidRequest, NotAuthenticated, NotFound, Unavailable
from gateway.records import Caller, ChangeV1, Digester
from gateway.records.events import CallerV1, Event, new_id
from gateway.store import faults
from gateway.store.engine import writer
from gateway.store.key_shape import ApiKey, check, check_life, check_reason
from gateway.store.key_usage import EVERY, KeyUsage
from gateway.store.migrate import TROUBLE
from gateway.store.tables import api_keys

__all__ = ["ApiKey", "Keys"]

_KEY = re.compile(r"gw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_LONGEST_OVERLAP = dt.timedelta(days=30)


class Keys:
    """The API keys of one database. `record` appends to its log; `usage_every` is in seconds."""

    def __init__(
        self,
        engine: AsyncEngine,
        digester: Digester,
        record: Callable[[Event], Awaitable[None]],
        *,
        usage_every: float = EVERY,
    ) -> None:
        self._engine = engine
        self._digester = digester
        self._record = record
        self.usage = KeyUsage(engine, every=usage_every)

    async def create(
        self,
        department: str,
        roles: Sequence[str],
        label: str = "",
        *,
        scopes: Sequence[str] = (),
        lasts: dt.timedelta | None = None,
        person: str | None = None,
        application: str | None = None,
        per_minute: int | None = None,
        per_day: int | None = None,
        by: Caller | None = None,
        why: str | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; give what is known of it, and the key itself, which can not be had again.

        `lasts` is for how long it works, for ever where it is None. `by` is who makes it: the account that runs this
        process where it is None. Raises InvalidRequest where there can be no such key, and Unavailable where it can not
        be recorded or stored.
        """
        now = dt.datetime.now(dt.UTC)
        check_reason(why)
        if lasts is not None:
            check_life(lasts)
        key = ApiKey(
            id=secrets.token_hex(6),
            department=department,
            roles=tuple(dict.fromkeys(roles)),
            label=label,
            created_at=now,
            expires_at=None if lasts is None else now + lasts,
            scopes=tuple(dict.fromkeys(scopes)),
            person=person,
            application=application,
            per_minute=per_minute,
            per_day=per_day,
        )
        check(key)
        text = _new(key.id)
        await self._changed("key-created", by, why, now, before=None, after=key)
        await self._write(api_keys.insert().values(**key.values(), hash=self._hash(text)))
        return key, text

    async def rotate(
        self,
        id: str,
        overlap: dt.timedelta,
        *,
        lasts: dt.timedelta | None = None,
        by: Caller | None = None,
        why: str | None = None,
    ) -> tuple[ApiKey, str]:
        """Give a key a new secret under the same id; the one before works for `overlap` longer, at most 30 days.

        `lasts` moves the end of the key to that long from now. With no overlap every older secret ends at once. Raises
        NotFound where there is no such key, InvalidRequest where it can not be rotated, and Unavailable as `create`.
        """
        now = dt.datetime.now(dt.UTC)
        check_reason(why)
        if lasts is not None:
            check_life(lasts)
        if not dt.timedelta(0) <= overlap <= _LONGEST_OVERLAP:
            raise InvalidRequest(
                f"two secrets work side by side for at most {_LONGEST_OVERLAP.days} days", param="overlap"
            )
        row = await self._first(sa.select(api_keys).where(api_keys.c.id == id, api_keys.c.revoked_at.is_(None)))
        if row is None:
            raise NotFound(f"no key `{id[:64]}` that is not revoked; see `gateway keys list`")
        before = ApiKey.of(row)
        if lasts is None and before.expires_at is not None and before.expires_at <= now:
            raise InvalidRequest(f"the key `{before.id}` has expired; say how long it shall last", param="expires")
        if overlap and before.old_until is not None and before.old_until > now:
            until = before.old_until.isoformat(timespec="minutes")
            raise InvalidRequest(
                f"an older secret of `{before.id}` works until {until}, and there can be two at once; rotate after "
                "that, or without overlap, which ends both",
                param="overlap",
            )
        after = replace(
            before,
            expires_at=before.expires_at if lasts is None else now + lasts,
            old_until=now + overlap if overlap else None,
        )
        text = _new(after.id)
        await self._changed("key-rotated", by, why, now, before=before, after=after)
        # Only the secret that was there a moment ago is replaced: of two who rotate at once, one is told.
        same = api_keys.update().where(
            api_keys.c.id == after.id, api_keys.c.hash == bytes(row.hash), api_keys.c.revoked_at.is_(None)
        )
        values = {"hash": self._hash(text), "expires_at": after.expires_at, "old_until": after.old_until}
        old = bytes(row.hash) if overlap else None
        if not await self._write(same.values(**values, old_hash=old)):
            raise InvalidRequest(f"the key `{after.id}` was rotated or revoked by somebody else meanwhile; look again")
        return after, text

    async def authenticate(self, text: str) -> Caller | None:
        """Tell who holds the key `text`; None where it is unknown, wrong or revoked.

        Raises NotAuthenticated where the secret is right and its time is over, and Unavailable where the database can
        not be asked: nobody is let in then.
        """
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        row = await self._first(sa.select(api_keys).where(api_keys.c.id == match[1]))
        given = self._hash(text)
        new = hmac.compare_digest(given, bytes(row.hash) if row is not None else bytes(32))
        old = hmac.compare_digest(given, bytes(row.old_hash) if row is not None and row.old_hash else bytes(32))
        if row is None or not (new or old) or row.revoked_at is not None:
            return None
        key, now = ApiKey.of(row), dt.datetime.now(dt.UTC)
        if key.expires_at is not None and key.expires_at <= now:
            raise _over(f"expired at {key.expires_at.isoformat(timespec='minutes')}")
        if not new and (key.old_until is None or key.old_until <= now):
            raise _over("has a newer secret, and the overlap is over")
        self.usage.note(key.id)
        return key.caller()

    async def revoke(
        self,
        id: str,
        *,
        by: Caller | None = None,
        why: str | None = None,
    ) -> bool:
        """Revoke a key; False where there is none with this id that is not revoked yet."""
        check_reason(why)
        now = dt.datetime.now(dt.UTC)
        before = await self.get(id)
        if before is None or before.revoked_at is not None:
            return False
        await self._changed("key-revoked", by, why, now, before=before, after=None)
        open_ = api_keys.update().where(api_keys.c.id == id, api_keys.c.revoked_at.is_(None))
        return await self._write(open_.values(revoked_at=now, old_hash=None, old_until=None)) > 0

    async def get(self, id: str) -> ApiKey | None:
        """Give what is known of a key, None where there is none."""
        row = await self._first(sa.select(api_keys).where(api_keys.c.id == id))
        return None if row is None else ApiKey.of(row)

    async def list(self) -> tuple[ApiKey, ...]:
        """Give all keys, revoked ones too, oldest first."""
        query = sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        try:
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
        except TROUBLE as exc:
            raise Unavailable(f"the keys can not be read; {faults.hint(exc)}") from None
        return tuple(map(ApiKey.of, rows))

    async def any(self) -> bool:
        """Tell whether there is any key, revoked ones too."""
        return await self._first(sa.select(api_keys.c.id).limit(1)) is not None

    async def close(self) -> None:
        """Write when keys were last used."""
        await self.usage.close()

    def _hash(self, text: str) -> bytes:
        return bytes.fromhex(self._digester.digest("api-key", text.encode()))

    async def _changed(
        self,
        what: str,
        by: Caller | None,
        why: str | None,
        at: dt.datetime,
        *,
        before: ApiKey | None,
        after: ApiKey | None,
    ) -> None:
        """Record a change before it takes effect: should the process end between the two, the log says too much."""
        subject = after or before
        await self._record(
            ChangeV1(
                id=new_id("chg"),
                at=at,
                caller=CallerV1.of(by or _account()),
                what=what,
                subject=subject.id if subject is not None else "",
                before=None if before is None else before.code(self._digester),
                after=None if after is None else after.code(self._digester),
                reason=why,
            )
        )

    async def _first(self, query: Any) -> Any:
        try:
            async with self._engine.connect() as connection:
                return (await connection.execute(query)).first()
        except TROUBLE as exc:
            raise Unavailable(f"the keys can not be read; {faults.hint(exc)}") from None

    async def _write(self, statement: Any) -> int:
        try:
            async with writer(self._engine).begin() as connection:
                return int((await connection.execute(statement)).rowcount)
        except TROUBLE as exc:
            raise Unavailable(f"the key can not be stored; {faults.hint(exc)}") from None


def _new(key: str) -> str:
    return f"gw_{key}_{secrets.token_urlsafe(32)}"


def _over(why: str) -> NotAuthenticated:
    return NotAuthenticated(f"the API key {why}; ask the gateway's operator for a new one", code="expired_api_key")


def _account() -> Caller:
    """Tell who acts where no key is used: the account of the operating system."""
    return Caller(key=f"os-account:{os.getuid()}", department="*", roles=("operator",), via="os")
