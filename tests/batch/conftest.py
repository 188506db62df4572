"""Fixtures for batches: a bench over a real store, on SQLite, or once on each database."""

import pytest
from batch.kit import bench
from store.kit import fill_sqlite, postgres_database

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)]


@pytest.fixture(params=BOTH)
async def url(request, tmp_path):
    """The URL of a database that holds the schema and nothing else, once of each kind."""
    if request.param == "sqlite":
        await fill_sqlite(tmp_path / "log.sqlite3")
        yield f"sqlite:///{tmp_path}/log.sqlite3"
        return
    async with postgres_database(schema=True) as made:
        yield made


@pytest.fixture
def open_bench(url, tmp_path):
    """Open a bench with these policies, once on each database."""
    return lambda **policies: bench(url, tmp_path, **policies)


@pytest.fixture
def quick_bench(tmp_path):
    """Open a bench with these policies on SQLite."""
    return lambda **policies: bench(f"sqlite:///{tmp_path}/log.sqlite3", tmp_path, **policies)
