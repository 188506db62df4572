"""Fixtures for the store: each test gets databases of its own."""

import pytest
from store.kit import SECRET, postgres_database

from gateway.store import Store

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)]


@pytest.fixture(params=BOTH)
async def url(request, tmp_path):
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/log.sqlite3"
        return
    async with postgres_database() as made:
        yield made


@pytest.fixture
async def store(url):
    """An open store on an empty database, once of each kind."""
    opened = await Store.open(url, secret=SECRET)
    yield opened
    await opened.close()


@pytest.fixture
def sqlite_url(tmp_path):
    """The URL of an empty SQLite database."""
    return f"sqlite:///{tmp_path}/log.sqlite3"
