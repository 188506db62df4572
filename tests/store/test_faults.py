"""Killed processes, full disks, locks, lost connections: nothing that was answered is lost, and it is said clearly."""

import asyncio
import sqlite3

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from store.kit import SECRET, outcomes, run_child, server_do, start_child

from gateway.errors import ConfigurationError, Unavailable
from gateway.store import Store, migrate


async def test_kill_nine_twenty_times(url):
    await migrate(url)
    rounds = (await asyncio.to_thread(run_child, "kill", url, "20"))["rounds"]
    assert len(rounds) == 20
    said = [id_ for ids in rounds for id_ in ids]
    assert len(said) > 100, "the load was real"
    store = await Store.open(url, secret=SECRET)
    try:
        report = await store.decisions.check()
        assert report.problem is None
        held = {row.id for row in await store.decisions.recent(1_000_000)}
        assert set(said) <= held
        await store.decisions.append(outcomes.refused())
    finally:
        await store.close()


async def test_two_processes_append_at_once(url):
    children = [start_child("append", url, "150") for _ in range(2)]  # on an empty database: they migrate at once too
    outs = [(await asyncio.to_thread(child.communicate, timeout=120))[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], outs
    store = await Store.open(url, secret=SECRET)
    try:
        report = await store.decisions.check()
        assert (report.records, report.problem) == (300, None)
    finally:
        await store.close()


async def test_a_start_waits_for_another_that_is_changing_the_file(sqlite_url):
    other = sqlite3.connect(make_url(sqlite_url).database, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        opening = asyncio.create_task(Store.open(sqlite_url, secret=SECRET, lock_wait=0.05))
        await asyncio.wait({opening}, timeout=0.5)
        assert not opening.done(), "it neither failed nor went on"
        other.execute("ROLLBACK")
        store = await asyncio.wait_for(opening, 30)
    finally:
        other.close()
    assert (await store.decisions.append(outcomes.refused())).sequence == 1
    await store.close()


async def test_disk_full_refuses_and_recovers(sqlite_url):
    told = await asyncio.to_thread(run_child, "disk_full", sqlite_url)
    assert told["others"] == []
    assert len(told["messages"]) == 1
    assert "nothing was answered" in told["messages"][0]
    assert "disk" in told["messages"][0]
    assert told["health"] == "unavailable"
    assert told["problem"] is None
    said = told["before"] + told["written"] + told["after"]
    assert told["count"] == len(said)
    with sqlite3.connect(make_url(sqlite_url).database) as connection:
        held = {row[0] for row in connection.execute("SELECT id FROM decision_log")}
    assert held == set(said)


async def test_a_locked_file_is_unavailable_until_it_is_free(sqlite_url):
    store = await Store.open(sqlite_url, secret=SECRET, lock_wait=0.1)
    other = sqlite3.connect(make_url(sqlite_url).database, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another process holds the database file"):
            await store.decisions.append(outcomes.refused())
        with pytest.raises(Unavailable, match="another process"):
            await store.keys.create("radiology", ["caller"])
        assert await store.decisions.count() == 0  # readers do not wait
        other.execute("ROLLBACK")
        await store.decisions.append(outcomes.refused())
        assert await store.decisions.count() == 1
    finally:
        other.close()
        await store.close()


@pytest.mark.service
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_lost_connection_is_made_again(url):
    store = await Store.open(url, secret=SECRET)
    try:
        await store.decisions.append(outcomes.refused())
        name = make_url(url).database
        await server_do(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        await store.decisions.append(outcomes.refused())
        assert await store.decisions.count() == 2
    finally:
        await store.close()


@pytest.mark.service
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_read_only_database_is_unavailable_until_it_is_not(url):
    store = await Store.open(url, secret=SECRET)
    name = make_url(url).database
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    try:
        await server_do(f"ALTER DATABASE {name} SET default_transaction_read_only = on", cut)
        results = await asyncio.gather(
            *(store.decisions.append(outcomes.refused()) for _ in range(10)), return_exceptions=True
        )
        assert all(isinstance(r, Unavailable) for r in results)
        assert "read-only" in results[0].message
        with pytest.raises(Unavailable, match="read-only"):
            await store.decisions.healthy()
        await server_do(f"ALTER DATABASE {name} RESET default_transaction_read_only", cut)
        await store.decisions.healthy()
        await store.decisions.append(outcomes.refused())
        assert await store.decisions.count() == 1
    finally:
        await store.close()


@pytest.mark.service
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_commits_are_durable_where_the_server_says_otherwise(url):
    name = make_url(url).database
    await server_do(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = await Store.open(url, secret=SECRET)
    try:
        async with store._engine.connect() as connection:
            assert await connection.scalar(sa.text("SHOW synchronous_commit")) == "on"
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("sqlite://", "memory"),
        ("sqlite:///:memory:", "memory"),
        ("mysql://root:hunter2@db/x", "not known"),
        ("hunter2", "can not be read"),
        ("postgresql://gateway:hunter2@127.0.0.1:1/x", "can not be reached"),
        ("postgresql://gateway:hunter2@no-such-host.invalid/x", "can not be reached"),
        ("sqlite:////dev/null/x/log.sqlite3", "folder can not be made"),
    ],
)
async def test_a_bad_url_says_what_to_do_and_no_password(bad, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        await Store.open(bad, secret=SECRET)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.service
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_no_such_database(url):
    with pytest.raises(ConfigurationError, match="no such database"):
        await Store.open(url + "x", secret=SECRET)


async def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "log.sqlite3"
    path.write_bytes(b"this is not a database, it is a letter" * 100)
    with pytest.raises(ConfigurationError, match="no SQLite database"):
        await Store.open(f"sqlite:///{path}", secret=SECRET)


async def test_another_secret_is_refused(url):
    store = await Store.open(url, secret=SECRET)
    await store.close()
    with pytest.raises(ConfigurationError, match="another secret"):
        await Store.open(url, secret=bytes(32))
    again = await Store.open(url, secret=SECRET)
    await again.close()
