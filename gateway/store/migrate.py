"""The schema, brought up to date by Alembic from inside the process: quietly, and by one process at a time."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

import gateway
from gateway.errors import ConfigurationError
from gateway.store import faults
from gateway.store.engine import make_engine, normalise, place, writer

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = 0x6D65_6476_6C6D  # names the lock that migrations of this gateway take on PostgreSQL
_PATIENCE = 60.0  # seconds that one process waits while another migrates
TROUBLE = (SQLAlchemyError, OSError, TimeoutError)
"""What a database raises that can not be reached or used."""


def _folder() -> Path:
    given = os.environ.get("GATEWAY_MIGRATIONS_DIR")
    folder = Path(given) if given else Path(gateway.__file__).resolve().parent.parent / "migrations"
    if not (folder / "env.py").is_file():
        raise ConfigurationError(
            f"no migrations in `{folder}`; point GATEWAY_MIGRATIONS_DIR at the folder `migrations` of the gateway"
        )
    return folder


def alembic_config(connection: Connection | None = None) -> Config:
    """Give Alembic its settings: silent, with the gateway's own migrations, on `connection` where it is given."""
    from alembic.config import Config  # imported here: only a start needs it

    config = Config(stdout=io.StringIO(), output_buffer=io.StringIO())
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def _state(connection: Connection) -> str | None:
    """Compare the schema with what this version needs: None where it is that, else what is wrong."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(alembic_config())
    head = scripts.get_current_head()
    if not sa.inspect(connection).has_table("alembic_version"):
        return "the schema is not there yet; run `gateway migrate`"
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    if found == head:
        return None
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise ConfigurationError(
            f"the database's schema `{found}` is of a newer gateway than this one; install that, or restore a backup"
        )
    return f"the schema is at `{found}` and this gateway needs `{head}`; run `gateway migrate`"


async def head_problem(url: str) -> str | None:
    """Tell what is wrong with the schema, None where it is up to date.

    Raises ConfigurationError where the database can not be reached, or is of a newer gateway.
    """
    engine = make_engine(normalise(url))
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_state)
    except TROUBLE as exc:
        raise ConfigurationError(f"{place(engine.url)}: {faults.hint(exc)}") from None
    finally:
        await engine.dispose()


async def migrate(url: str) -> None:
    """Bring the schema of the database up to date; others that try at the same time wait and find it done.

    Raises ConfigurationError where it can not be done.
    """
    engine = make_engine(normalise(url))
    try:
        await upgrade(engine)
    finally:
        await engine.dispose()


async def upgrade(engine: AsyncEngine) -> None:
    """Bring the schema up to date, as `migrate`, by an engine."""

    def run(connection: Connection) -> None:
        from alembic import command

        command.upgrade(alembic_config(connection), "head")

    await alembic_run(engine, run, unless_current=True)


async def alembic_run(engine: AsyncEngine, run: Callable[[Connection], None], *, unless_current: bool = False) -> None:
    """Run `run` in one transaction that no other migration shares; all or nothing of it happens."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            if engine.dialect.name == "sqlite":
                await _wal(engine)
            if unless_current and await _current(engine):
                return
            async with writer(engine).begin() as connection:
                if engine.dialect.name == "postgresql":
                    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                await connection.run_sync(run)
        except TROUBLE as exc:
            code = faults.code(exc)
            busy = code is not None and code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
            if busy and time.monotonic() < until:  # SQLite does not wait by itself where the mode of the file changes
                await asyncio.sleep(0.02)
                continue
            raise ConfigurationError(f"{place(engine.url)}: {faults.hint(exc)}") from None
        else:
            return


async def _current(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        return await connection.run_sync(_state) is None


async def _wal(engine: AsyncEngine) -> None:
    """Let readers and the writer not wait for each other; the mode stays with the file."""
    async with engine.connect() as connection:  # no transaction: the engine begins one only where it writes
        await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
