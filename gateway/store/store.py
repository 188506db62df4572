"""The store: one database, the log and the keys in it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import ConfigurationError
from gateway.records import Digester
from gateway.store import faults
from gateway.store.engine import LOCK_WAIT, make_engine, normalise, place, writer
from gateway.store.insert import AsyncInserter, Inserter, SQLiteInserter
from gateway.store.keys import Keys
from gateway.store.log import DecisionLog
from gateway.store.migrate import TROUBLE, upgrade
from gateway.store.tables import store_facts


class Store:
    """One open database. `decisions` is its log, `keys` its API keys."""

    def __init__(self, engine: AsyncEngine, digester: Digester, inserter: Inserter) -> None:
        self._engine = engine
        self.decisions = DecisionLog(engine, digester, inserter)
        self.keys = Keys(engine, digester)

    @classmethod
    async def open(cls, url: str, *, secret: bytes, lock_wait: float = LOCK_WAIT) -> Store:
        """Open the database at `url` and bring its schema up to date.

        `secret` keys digests and hashes, and must be the same for all who share the database. `lock_wait` is how many
        seconds to wait for another process that writes to the same SQLite file. Raises ConfigurationError with what to
        do, never with the password in `url`.
        """
        digester = Digester(secret)
        engine = make_engine(normalise(url), lock_wait=lock_wait)
        try:
            await upgrade(engine)
            await _same_secret(engine, digester)
        except BaseException:
            await engine.dispose()
            raise
        sqlite = engine.dialect.name == "sqlite"
        inserter = SQLiteInserter(engine.url, lock_wait=lock_wait) if sqlite else AsyncInserter(engine)
        return cls(engine, digester, inserter)

    async def close(self) -> None:
        """Write what waits, then close."""
        await self.decisions.close()
        await self._engine.dispose()


async def _same_secret(engine: AsyncEngine, digester: Digester) -> None:
    """Refuse a secret other than the one the database was begun with: no digest would compare, no key would work."""
    fact = {"name": "secret", "value": digester.digest("secret", b"")[:32]}
    query = sa.select(store_facts.c.value).where(store_facts.c.name == fact["name"])
    try:
        async with engine.connect() as connection:
            found = await connection.scalar(query)
        if found is None:
            try:
                async with writer(engine).begin() as connection:
                    await connection.execute(sa.insert(store_facts), fact)
            except IntegrityError:  # another process was first
                pass
            async with engine.connect() as connection:
                found = await connection.scalar(query)
    except TROUBLE as exc:
        raise ConfigurationError(f"{place(engine.url)}: {faults.hint(exc)}") from None
    if found != fact["value"]:
        raise ConfigurationError(
            f"{place(engine.url)}: this database was begun with another secret; give that one as GATEWAY_SECRET, or as "
            "`secret.key` in the data folder"
        )
