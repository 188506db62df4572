"""API keys. A key is shown once; the database holds a keyed hash of it, so that a copy of it opens nothing."""

from __future__ import annotations

import datetime as dt
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import InvalidRequest, Unavailable
from gateway.records import ROLES, Caller, Digester
from gateway.store import faults
from gateway.store.engine import writer
from gateway.store.migrate import TROUBLE
from gateway.store.tables import api_keys

_KEY = re.compile(r"gw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_DEPARTMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_LABEL_MAX = 200  # characters


class ApiKey(Struct, frozen=True, kw_only=True):
    """What is known of a key: everything but the key. Times are UTC."""

    id: str
    department: str
    roles: tuple[str, ...]
    label: str
    created_at: dt.datetime
    revoked_at: dt.datetime | None = None


class Keys:
    """The API keys of one database."""

    def __init__(self, engine: AsyncEngine, digester: Digester) -> None:
        self._engine = engine
        self._digester = digester

    async def create(self, department: str, roles: Sequence[str], label: str = "") -> tuple[ApiKey, str]:
        """Make a key; give what is known of it, and the key itself, which can not be had again.

        Raises InvalidRequest where department, roles or label are none, and Unavailable where it can not be stored.
        """
        if not _DEPARTMENT.fullmatch(department):
            raise InvalidRequest(f"`{department}` is no department: use lowercase letters, digits and hyphens")
        unknown = [role for role in roles if role not in ROLES]
        if unknown or not roles:
            named = f"`{unknown[0]}` is no role" if unknown else "a key needs a role"
            raise InvalidRequest(f"{named}; choose from {', '.join(ROLES)}")
        if len(label) > _LABEL_MAX or not label.isprintable():
            raise InvalidRequest(f"a label has at most {_LABEL_MAX} printable characters")
        key = ApiKey(
            id=secrets.token_hex(6),
            department=department,
            roles=tuple(dict.fromkeys(roles)),
            label=label,
            created_at=dt.datetime.now(dt.UTC),
        )
        text = f"gw_{key.id}_{secrets.token_urlsafe(32)}"
        values = {
            "id": key.id,
            "hash": bytes.fromhex(self._hash(text)),
            "department": key.department,
            "roles": list(key.roles),
            "label": key.label,
            "created_at": key.created_at,
        }
        await self._write(api_keys.insert().values(**values))
        return key, text

    async def authenticate(self, text: str) -> Caller | None:
        """Tell who holds the key `text`; None where it is unknown, wrong or revoked.

        Raises Unavailable where the database can not be asked: nobody is let in then.
        """
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        row = await self._first(sa.select(api_keys).where(api_keys.c.id == match[1]))
        due = bytes(row.hash) if row is not None else bytes(32)
        good = hmac.compare_digest(bytes.fromhex(self._hash(text)), due)
        if row is None or not good or row.revoked_at is not None:
            return None
        return Caller(key=row.id, department=row.department, roles=tuple(row.roles))

    async def revoke(self, id: str) -> bool:  # noqa: A002 - the word for it on the command line
        """Revoke a key; False where there is none with this id that is not revoked yet."""
        open_ = api_keys.update().where(api_keys.c.id == id, api_keys.c.revoked_at.is_(None))
        return await self._write(open_.values(revoked_at=dt.datetime.now(dt.UTC))) > 0

    async def list(self) -> tuple[ApiKey, ...]:
        """Give all keys, revoked ones too, oldest first."""
        query = sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        try:
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
        except TROUBLE as exc:
            raise Unavailable(f"the keys can not be read; {faults.hint(exc)}") from None
        return tuple(
            ApiKey(
                id=row.id,
                department=row.department,
                roles=tuple(row.roles),
                label=row.label,
                created_at=row.created_at,
                revoked_at=row.revoked_at,
            )
            for row in rows
        )

    async def any(self) -> bool:
        """Tell whether there is any key, revoked ones too."""
        return await self._first(sa.select(api_keys.c.id).limit(1)) is not None

    def _hash(self, text: str) -> str:
        return self._digester.digest("api-key", text.encode())

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
