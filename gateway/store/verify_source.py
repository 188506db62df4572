"""Reads the database by its bare driver, for a verification that reads all of it: from any thread or process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import quote

from msgspec import Struct
from sqlalchemy.engine import make_url

from gateway.records import merkle

_NOT_ASYNCPG = ("prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback", "async_creator_fn")


class Source(Struct, frozen=True, kw_only=True):
    """Which database; `url` may hold a password, so it is shown nowhere."""

    url: str

    @property
    def sqlite(self) -> bool:
        """Tell whether it is SQLite."""
        return self.url.startswith("sqlite")

    def open(self) -> Reader:
        """Open a connection that only reads."""
        return _SQLite(self.url) if self.sqlite else _Postgres(self.url)


class Reader(Protocol):
    """A connection. Values stand for the question marks of a query."""

    sqlite: bool

    def rows(self, query: str, *values: object) -> Sequence[Sequence[Any]]:
        """Give all rows of a query. Raises what the driver raises."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class _SQLite:
    sqlite = True

    def __init__(self, url: str) -> None:
        path = quote(str(make_url(url).database))
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=30.0)
        self._connection.execute("PRAGMA mmap_size=1073741824")

    def rows(self, query: str, *values: object) -> Sequence[Sequence[Any]]:
        return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        self._connection.close()


class _Postgres:
    sqlite = False

    def __init__(self, url: str) -> None:
        import asyncpg

        made = make_url(url)
        _, words = made.get_dialect()().create_connect_args(made)
        words = {name: value for name, value in words.items() if name not in _NOT_ASYNCPG}
        self._loop = asyncio.new_event_loop()
        self._connection: Any = self._loop.run_until_complete(asyncpg.connect(timeout=10.0, **words))

    def rows(self, query: str, *values: object) -> Sequence[Sequence[Any]]:
        pieces = query.split("?")
        numbered = "".join(f"{piece}${number}" for number, piece in enumerate(pieces[:-1], 1)) + pieces[-1]
        found: Sequence[Sequence[Any]] = self._loop.run_until_complete(self._connection.fetch(numbered, *values))
        return found

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


def tile_reader(reader: Reader) -> merkle.Read:
    """Give what reads tiles, the ones above the lowest level once each."""
    known: dict[tuple[int, int], bytes] = {}

    def read(level: int, tile: int) -> bytes:
        found = known.get((level, tile))
        if found is None:
            rows = reader.rows("SELECT hashes FROM tree_tiles WHERE level = ? AND tile = ?", level, tile)
            found = bytes(rows[0][0]) if rows else b""
            if level:
                known[level, tile] = found
        return found

    return read
