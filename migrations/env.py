"""Alembic's way in. The gateway passes its own connection; by hand, the URL comes from GATEWAY_DATABASE_URL."""

from __future__ import annotations

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

from gateway.errors import ConfigurationError
from gateway.store.engine import make_engine, normalise, writer
from gateway.store.tables import metadata


def _run(connection: Connection) -> None:
    # No migration may alter decision_log by `batch_alter_table` on SQLite: that makes a new table without its triggers.
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


async def _by_hand() -> None:
    url = os.environ.get("GATEWAY_DATABASE_URL")
    if not url:
        raise ConfigurationError("set GATEWAY_DATABASE_URL to the database that alembic shall look at")
    engine = make_engine(normalise(url))
    try:
        async with writer(engine).begin() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    raise ConfigurationError("migrations need a database: `--sql` is not supported")
given = context.config.attributes.get("connection")
if given is None:
    asyncio.run(_by_hand())
else:
    _run(given)
