"""On PostgreSQL the application's role can not rewrite the log, even where the triggers are gone."""

import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError
from store.batching import CALLER, DAY, begun, finalize, now, opened, work
from store.kit import SECRET, outcomes, server_do

from gateway.errors import ConfigurationError
from gateway.store import Store
from gateway.store.engine import make_engine, normalise
from gateway.store.roles import RIGHTS, migrate_for
from gateway.store.tables import metadata

pytestmark = pytest.mark.service


@pytest.fixture
async def role():
    name = f"app_{uuid.uuid4().hex[:12]}"
    await server_do(f"CREATE ROLE {name} LOGIN")
    yield name
    await server_do(f"DROP ROLE IF EXISTS {name}")


@pytest.fixture
async def application(url, role):
    """The URL by which the application signs in, after the owner has migrated and dropped every trigger."""
    await migrate_for(url, role)
    owner = make_engine(normalise(url))
    async with owner.begin() as connection:
        await connection.execute(sa.text("DROP TRIGGER decision_log_append_only ON decision_log"))
    yield make_url(url).set(username=role).render_as_string(hide_password=False)
    async with owner.begin() as connection:
        await connection.execute(sa.text(f"DROP OWNED BY {role}"))
    await owner.dispose()


async def _refused(url, statement):
    engine = make_engine(normalise(url))
    try:
        with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            async with engine.begin() as connection:
                await connection.execute(sa.text(statement))
    finally:
        await engine.dispose()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_the_application_works_and_can_not_rewrite(application):
    store = await Store.open(application, secret=SECRET)
    try:
        logged = await store.decisions.append(outcomes.refused())
        key, text = await store.keys.create("radiology", ["caller"])
        assert (await store.keys.authenticate(text)).key == key.id
        assert await store.sequencer.catch_up() >= 1
        await store.decisions.healthy()
        for statement in (
            "UPDATE decision_log SET outcome = 'released'",
            "DELETE FROM decision_log",
            "TRUNCATE decision_log",
            "DELETE FROM checkpoints",
            "UPDATE checkpoints SET note = ''",
            "DELETE FROM entries",
            "UPDATE log_keys SET vkey = ''",
            "DELETE FROM vault",
            "UPDATE vault SET until = now()",
            "ALTER TABLE decision_log DISABLE TRIGGER ALL",
            "DROP TABLE decision_log",
        ):
            await _refused(application, statement)
        assert (await store.decisions.get(logged.id)).record.outcome == "refused"
    finally:
        await store.close()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_the_application_works_batches_off(application, tmp_path):
    async with opened(application, tmp_path) as store:
        batch = await begun(store, 3)
        await work(store, await store.jobs.claim("w"))
        await store.jobs.reap(now() + DAY / 2)
        await store.batches.cancel(batch.id, CALLER)
        assert (await finalize(store)).summary.by_outcome == {"released": 1, "cancelled": 2}
        await store.processes.beat("w", "worker", {})
        assert (await store.files.delete(batch.input_file), await store.processes.sweep(now() + DAY)) == (True, 1)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_role_that_no_right_binds_is_refused(url, role):
    with pytest.raises(ConfigurationError, match="there is no role `nobody_here`"):
        await migrate_for(url, "nobody_here")
    with pytest.raises(ConfigurationError, match="superuser or the tables' owner"):
        await migrate_for(url, make_url(url).username or "root")
    with pytest.raises(ConfigurationError, match="is no name of a role"):
        await migrate_for(url, 'x"; DROP TABLE decision_log; --')


async def test_sqlite_has_no_roles(sqlite_url):
    with pytest.raises(ConfigurationError, match="only PostgreSQL has roles"):
        await migrate_for(sqlite_url, "app")


def test_every_table_has_its_rights():
    assert set(RIGHTS) == set(metadata.tables)
