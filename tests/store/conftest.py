"""Fixtures for the store: each test gets databases of its own."""

import pytest
from store.kit import SECRET, fill_sqlite, postgres_database

from gateway.store import Store

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)]


@pytest.fixture(params=BOTH)
async def url(request, tmp_path):
    """The URL of a database, once of each kind: empty, or with the schema where the test asks for a store besides."""
    schema = "store" in request.fixturenames
    if request.param == "sqlite":
        if schema:
            await fill_sqlite(tmp_path / "log.sqlite3")
        yield f"sqlite:///{tmp_path}/log.sqlite3"
        return
    async with postgres_database(schema=schema) as made:
        yield made


@pytest.fixture
async def store(url):
    """An open store without a record, once of each kind."""
    opened = await Store.open(url, secret=SECRET)
    yield opened
    await opened.close()


@pytest.fixture
def sqlite_url(tmp_path):
    """The URL of an empty SQLite database."""
    return f"sqlite:///{tmp_path}/log.sqlite3"
