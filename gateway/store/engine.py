"""Engines: SQLite by aiosqlite, PostgreSQL by asyncpg; durable commits on both."""

from __future__ import annotations

import importlib
import logging
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import ConfigurationError

LOCK_WAIT = 5.0
"""Seconds to wait for another process that writes to the same SQLite file."""

_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "postgres": "asyncpg"}
_guard = threading.Lock()
_turns: dict[str, threading.Lock] = {}
_EXPECTED = "expected `sqlite:///file` or `postgresql://user@host/name`"


def normalise(url: str) -> URL:
    """Read a database URL and give it its async driver.

    Raises ConfigurationError, without quoting the URL, which may hold a password.
    """
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise ConfigurationError(f"GATEWAY_DATABASE_URL: can not be read; {_EXPECTED}") from None
    backend = parsed.drivername.partition("+")[0]
    if backend not in _DRIVERS:
        raise ConfigurationError(f"GATEWAY_DATABASE_URL: this kind of database is not known; {_EXPECTED}")
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
            raise ConfigurationError("GATEWAY_DATABASE_URL: a log in memory is no log; give `sqlite:///file`")
        return parsed.set(drivername="sqlite+aiosqlite")
    query = dict(parsed.query)
    if "sslmode" in query:  # libpq's word for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    return parsed.set(drivername="postgresql+asyncpg", query=query)


def place(url: URL) -> str:
    """Name a database for people: never its user, its password or its options."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    return f"postgresql://{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"


def make_engine(url: URL, *, lock_wait: float = LOCK_WAIT) -> AsyncEngine:
    """Make the engine. Nothing is opened yet; a missing folder of a SQLite file is made, for its owner alone."""
    if url.get_backend_name() == "sqlite":
        try:
            Path(str(url.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigurationError(
                f"{place(url)}: its folder can not be made ({exc.strerror}); choose another"
            ) from None
        engine = create_async_engine(
            url, hide_parameters=True, connect_args={"timeout": lock_wait, "isolation_level": None}
        )
        logging.getLogger("aiosqlite").setLevel(logging.INFO)  # at debug it prints every statement with its values
        event.listen(engine.sync_engine, "connect", sqlite_connect)
        event.listen(engine.sync_engine, "begin", sqlite_begin)
        return engine
    importlib.import_module("asyncpg")  # a missing driver is found at start, not at the first request
    engine = create_async_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        connect_args={"timeout": 10.0, "server_settings": {"application_name": "medvlm-gateway"}},
    )
    event.listen(engine.sync_engine, "connect", _postgres_connect)
    return engine


def writer(engine: AsyncEngine) -> AsyncEngine:
    """Give the same engine for transactions that write: on SQLite they take the write lock when they begin.

    One that takes it only at its first write may fail at once where another has written since it began to read.
    """
    return engine.execution_options(gateway_writes=True)


def sqlite_turn(url: URL) -> threading.Lock:
    """Give the lock that threads of this process take before they write to a SQLite file.

    SQLite itself waits for a writer by sleeping, up to a tenth of a second at a time; a lock is handed over at once.
    """
    with _guard:
        return _turns.setdefault(str(url.database), threading.Lock())


def sqlite_connect(connection: Any, entry: ConnectionPoolEntry) -> None:  # noqa: ARG001 - SQLAlchemy's event
    """Set what SQLite keeps for each connection."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")  # a commit is on the disk when it returns, also in WAL
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA recursive_triggers=ON")  # so that REPLACE fires the triggers against DELETE
    cursor.close()


def sqlite_begin(connection: Connection) -> None:
    """Begin a transaction that writes; one that reads is a single statement and needs none."""
    if connection.get_execution_options().get("gateway_writes", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _postgres_connect(connection: Any, entry: ConnectionPoolEntry) -> None:  # noqa: ARG001 - SQLAlchemy's event
    cursor = connection.cursor()
    # A server may be set to answer before a commit is on its disk; ours never is. Stronger settings stay.
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.close()
    connection.commit()
