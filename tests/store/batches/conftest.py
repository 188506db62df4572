"""Fixtures for files, batches and jobs: stores with keys and a folder of files."""

import asyncio
import threading

import pytest
import sqlalchemy as sa
from store.batching import opened
from store.kit import postgres_database
from store.sealing import raw

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)]


@pytest.fixture(scope="session")
def shared_database():
    """The URL of a PostgreSQL database that tests share, one after the other: to make one for each takes a while."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    made = postgres_database()
    try:
        yield asyncio.run_coroutine_threadsafe(made.__aenter__(), loop).result()
        asyncio.run_coroutine_threadsafe(made.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(params=BOTH)
def batch_url(request, tmp_path):
    """The URL of a database for batches, once of each kind; its log may hold records of other tests."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.sqlite3"
    return request.getfixturevalue("shared_database")


@pytest.fixture
async def store(batch_url, tmp_path):
    """An open store without any batch or file, with keys and a folder of files in `tmp_path`, once of each kind."""
    async with opened(batch_url, tmp_path) as store:
        if batch_url.startswith("postgresql"):
            async with raw(batch_url) as connection:
                await connection.execute(sa.text("TRUNCATE files, batches, jobs, batch_lines, processes"))
        yield store


@pytest.fixture
async def sqlite(sqlite_url, tmp_path):
    """An open store on SQLite alone, with keys and a folder of files in `tmp_path`."""
    async with opened(sqlite_url, tmp_path) as made:
        yield made
