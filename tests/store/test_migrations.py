"""The schema goes forward and back, is what the code thinks it is, and is made by one process at a time."""

import asyncio
import logging

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from store.kit import ROOT, SECRET, outcomes, start_child

from gateway.errors import ConfigurationError
from gateway.records import Digester, record_of
from gateway.store import Store, head_problem, migrate
from gateway.store.engine import make_engine, normalise, writer
from gateway.store.migrate import alembic_config, alembic_run
from gateway.store.tables import decision_log, metadata
from gateway.store.writer import row_of


@pytest.fixture
async def engine(url):
    made = make_engine(normalise(url))
    yield made
    await made.dispose()


async def _tables(engine):
    async with engine.connect() as connection:
        return set(await connection.run_sync(lambda c: sa.inspect(c).get_table_names())) - {"alembic_version"}


async def _downgrade(engine):
    await alembic_run(engine, lambda connection: command.downgrade(alembic_config(connection), "base"))


async def test_forward_back_and_forward_again(url, engine):
    assert "not there yet" in await head_problem(url)
    await migrate(url)
    assert await head_problem(url) is None
    assert await _tables(engine) == {*metadata.tables}
    await _downgrade(engine)
    assert await _tables(engine) == set()
    assert "gateway migrate" in await head_problem(url)
    store = await Store.open(url, secret=SECRET)
    await store.decisions.append(outcomes.refused())
    await store.close()


async def test_going_back_never_destroys_records(url, engine):
    store = await Store.open(url, secret=SECRET)
    await store.decisions.append(outcomes.refused())
    with pytest.raises(RuntimeError, match="would destroy them"):
        await _downgrade(engine)
    assert await store.decisions.count() == 1
    await store.keys.create("radiology", ["caller"])
    await store.close()


async def test_the_schema_is_what_the_code_says(url, engine):
    await migrate(url)

    def differences(connection):
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_failed_migration_leaves_nothing(url, engine):
    def half(connection):
        command.upgrade(alembic_config(connection), "head")
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        await alembic_run(engine, half)
    assert await _tables(engine) == set()


async def test_five_processes_at_once(url, engine):
    children = [start_child("migrate", url) for _ in range(5)]
    outs = [(await asyncio.to_thread(child.communicate, timeout=120))[0] for child in children]
    assert [child.returncode for child in children] == [0] * 5, outs
    assert await head_problem(url) is None


async def test_a_newer_schema_is_not_touched(url, engine):
    await migrate(url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer gateway"):
        await Store.open(url, secret=SECRET)
    with pytest.raises(ConfigurationError, match="newer gateway"):
        await head_problem(url)


async def test_every_step_goes_forward_and_back_under_load(url, engine):
    """A gateway of before goes on appending while the schema changes under it, step by step, forward and back."""
    await alembic_run(engine, lambda connection: command.upgrade(alembic_config(connection), "0001"))
    appended, stop = [], asyncio.Event()

    async def old_gateway():
        while not stop.is_set():
            row = row_of(record_of(outcomes.refused(), Digester(SECRET)))
            async with writer(engine).begin() as connection:
                await connection.execute(decision_log.insert(), row.values())
            appended.append(row.id)
            await asyncio.sleep(0.002)

    load = asyncio.create_task(old_gateway())
    steps = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()][::-1]
    assert steps[0] == "0001" and len(steps) > 1
    for move, revision in [(command.upgrade, step) for step in steps] + [(command.downgrade, s) for s in steps[-2::-1]]:
        before = len(appended)
        while len(appended) < before + 5:
            await asyncio.sleep(0.005)
            assert not load.done()
        await alembic_run(engine, lambda connection, m=move, r=revision: m(alembic_config(connection), r))
    stop.set()
    await load
    async with engine.connect() as connection:
        kept = set((await connection.execute(sa.select(decision_log.c.id))).scalars())
    assert kept == set(appended)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        async with writer(engine).begin() as connection:
            await connection.execute(sa.text("UPDATE decision_log SET outcome = 'released'"))
    store = await Store.open(url, secret=SECRET)
    try:
        assert (await store.decisions.check()).problem is None
    finally:
        await store.close()


async def test_it_is_quiet_and_leaves_the_logs_alone(sqlite_url, capfd, caplog):
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    await migrate(sqlite_url)
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == (handlers, level)
    assert not logging.getLogger("gateway.store").disabled
    assert capfd.readouterr() == ("", "")


async def test_migrations_are_found_elsewhere(sqlite_url, monkeypatch, tmp_path):
    monkeypatch.setenv("GATEWAY_MIGRATIONS_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="GATEWAY_MIGRATIONS_DIR"):
        await migrate(sqlite_url)
    elsewhere = tmp_path / "100% elsewhere"
    elsewhere.symlink_to(ROOT / "migrations")
    monkeypatch.setenv("GATEWAY_MIGRATIONS_DIR", str(elsewhere))
    await migrate(sqlite_url)
    assert await head_problem(sqlite_url) is None


async def test_sqlite_is_as_durable_as_it_can_be(sqlite_url):
    store = await Store.open(sqlite_url, secret=SECRET)
    asked = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    async with store._engine.connect() as connection:
        for name, due in asked.items():
            assert await connection.scalar(sa.text(f"PRAGMA {name}")) == due
    with store.decisions._writer._inserter._engine.connect() as connection:
        for name, due in asked.items():
            assert connection.scalar(sa.text(f"PRAGMA {name}")) == due
    await store.close()
