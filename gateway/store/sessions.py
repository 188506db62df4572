"""Signed-in sessions of the console. The cookie is nowhere in the database: a keyed digest of it is."""

from __future__ import annotations

import datetime as dt
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Unavailable
from gateway.records import Caller, Digester
from gateway.store import faults
from gateway.store.engine import writer
from gateway.store.key_shape import ApiKey
from gateway.store.migrate import TROUBLE
from gateway.store.tables import api_keys, console_sessions

IDLE = dt.timedelta(minutes=30)
"""A session that is not used for so long is over."""

LONGEST = dt.timedelta(hours=8)
"""No session lasts longer, however busy it is."""

_TOUCH = dt.timedelta(minutes=1)  # a session is written anew at most this often
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_API_KEY = re.compile(r"gw_[0-9a-f]{12}_", re.ASCII)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Session(Struct, frozen=True, kw_only=True):
    """A signed-in session: who it is, the token that its forms must send back, and when it ends (UTC).

    `ends_at` is the end whatever happens, `idle_at` the end if nothing does.
    """

    caller: Caller
    csrf: str
    ends_at: dt.datetime
    idle_at: dt.datetime

    def fits(self, token: str) -> bool:
        """Tell whether `token` is this session's, in constant time."""
        return hmac.compare_digest(self.csrf.encode(), token.encode(errors="replace"))


class _Kept(Struct, frozen=True, kw_only=True):
    """What the column `caller` holds. `secret` is the keyed hash of the API key that was used, None of a token."""

    caller: Caller
    ends_at: dt.datetime
    secret: str | None


class Sessions:
    """The sessions of one database. `now` tells the time, UTC."""

    def __init__(self, engine: AsyncEngine, digester: Digester, now: Callable[[], dt.datetime] = _now) -> None:
        self._engine = engine
        self._digester = digester
        self.now = now

    async def open(self, caller: Caller, token: str, ends_at: dt.datetime | None = None) -> tuple[str, Session]:
        """Begin a session for `caller`, who signed in with `token`; give the cookie, and the session.

        `ends_at` is when the token ends, None where it does not. The cookie is always a new one, so that nobody can
        plant theirs, and can not be had again. Raises Unavailable.
        """
        now = self.now()
        cookie = secrets.token_urlsafe(32)
        ends = now + LONGEST if ends_at is None else min(now + LONGEST, ends_at)
        # what break-glass lends ends by itself, so it is asked for anew at each request
        kept = _Kept(
            caller=msgspec.structs.replace(caller, via="session", grant=None),
            ends_at=ends,
            secret=self._digester.digest("api-key", token.encode()) if _API_KEY.match(token) else None,
        )
        idle = min(now + IDLE, ends)
        values = {
            "id": self._id(cookie),
            "caller": msgspec.json.encode(kept),
            "created_at": now,
            "expires_at": idle,
        }
        over = console_sessions.delete().where(console_sessions.c.expires_at < now)
        await self._write(over, console_sessions.insert().values(**values))
        return cookie, self._session(cookie, kept, kept.caller, idle)

    async def find(self, cookie: str) -> Session | None:
        """Give the session of `cookie` and put off its idle end; None where it is unknown or over.

        It is over as well where the key it was begun with has been revoked, replaced or has expired since; what the key
        may do is read anew each time. Raises Unavailable where the database can not be asked: nobody is let in then.
        """
        if not _COOKIE.fullmatch(cookie):
            return None
        now, id_ = self.now(), self._id(cookie)
        row, kept, key = await self._rows(id_)
        if row is None or kept is None or row.expires_at <= now:
            return None
        caller = _as_of(kept, key, now)
        if caller is None or kept.ends_at <= now:
            await self.close(cookie)
            return None
        idle = min(now + IDLE, kept.ends_at)
        if idle - row.expires_at > _TOUCH:
            put_off = console_sessions.update().where(console_sessions.c.id == id_)
            await self._write(put_off.values(expires_at=idle))
        return self._session(cookie, kept, caller, idle)

    async def close(self, cookie: str) -> None:
        """End the session of `cookie`, where there is one. Raises Unavailable."""
        await self._write(console_sessions.delete().where(console_sessions.c.id == self._id(cookie)))

    def _id(self, cookie: str) -> bytes:
        return bytes.fromhex(self._digester.digest("console-session", cookie.encode()))

    def _session(self, cookie: str, kept: _Kept, caller: Caller, idle: dt.datetime) -> Session:
        csrf = self._digester.digest("console-csrf", cookie.encode())
        return Session(caller=caller, csrf=csrf, ends_at=kept.ends_at, idle_at=idle)

    async def _rows(self, id_: bytes) -> tuple[Any, _Kept | None, Any]:
        """Give the session's row, what it holds, and the row of its key; None for what is not there."""
        try:
            async with self._engine.connect() as connection:
                query = sa.select(console_sessions).where(console_sessions.c.id == id_)
                row = (await connection.execute(query)).first()
                kept = None if row is None else _read(row.caller)
                if kept is None:
                    return None, None, None
                key = sa.select(api_keys).where(api_keys.c.id == kept.caller.key)
                return row, kept, (await connection.execute(key)).first()
        except TROUBLE as exc:
            raise Unavailable(f"the sessions can not be read; {faults.hint(exc)}") from None

    async def _write(self, *statements: Any) -> None:
        try:
            async with writer(self._engine).begin() as connection:
                for statement in statements:
                    await connection.execute(statement)
        except TROUBLE as exc:
            raise Unavailable(f"the session can not be stored; {faults.hint(exc)}") from None


def _read(held: bytes) -> _Kept | None:
    try:
        return msgspec.json.decode(held, type=_Kept)
    except msgspec.DecodeError:  # of another version of the gateway: whoever it is signs in once more
        return None


def _as_of(kept: _Kept, row: Any, now: dt.datetime) -> Caller | None:
    """Give the caller with what their key may do now; None where the key they signed in with is no longer good."""
    if kept.secret is None:
        return kept.caller
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        return None
    used = bytes.fromhex(kept.secret)
    late = (
        row.old_hash is not None and bytes(row.old_hash) == used and row.old_until is not None and row.old_until > now
    )
    if bytes(row.hash) != used and not late:
        return None
    return msgspec.structs.replace(ApiKey.of(row).caller(), via="session")
