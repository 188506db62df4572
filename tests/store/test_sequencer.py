"""The sequencer on real databases: every record once, in an order that stays, whatever happens on the way."""

import asyncio
import datetime as dt
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from store.kit import ROOT, SECRET, outcomes

from gateway.errors import LogDamaged, Unavailable
from gateway.records import Digester, merkle, record_of
from gateway.records.note import parse_head, parse_note, parse_vkey
from gateway.store import Store
from gateway.store.engine import writer
from gateway.store.placing import Marks, find, put
from gateway.store.sequencer import Sequencer
from gateway.store.tables import checkpoints, decision_log, entries, tree_state, tree_tiles
from gateway.store.writer import row_of

CHILD = Path(__file__).with_name("child_tree.py")


def start(*words):
    words = [sys.executable, str(CHILD), *words]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)


async def append(store, number):
    return [(await store.decisions.append(outcomes.refused())).id for _ in range(number)]


async def all_of(store, query):
    async with store._engine.connect() as connection:
        return (await connection.execute(query)).all()


async def do(store, *statements):
    async with writer(store._engine).begin() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement) if isinstance(statement, str) else statement)


async def places(store):
    return [
        tuple(row)
        for row in await all_of(store, sa.select(entries.c.position, entries.c.id).order_by(entries.c.position))
    ]


async def test_records_get_places_in_their_order_and_are_signed(store):
    first = await append(store, 3)
    assert await store.sequencer.catch_up() == 3
    second = await append(store, 2)
    assert await store.sequencer.catch_up() == 5
    assert await store.sequencer.catch_up() == 5
    assert await places(store) == list(enumerate(first + second))
    heads = await all_of(store, sa.select(checkpoints).order_by(checkpoints.c.size))
    assert [head.size for head in heads] == [3, 5]
    key = parse_vkey(store.signer.vkey)
    leaves = [bytes.fromhex((await store.decisions.get(one)).leaf) for one in first + second]
    for head in heads:
        tiles = merkle.grow(lambda level, tile: b"", 0, leaves[: head.size])
        read = parse_head(parse_note(head.note).text)
        due = merkle.root(lambda level, tile, tiles=tiles: tiles.get((level, tile), b""), head.size)
        assert parse_note(head.note).signed_by(key)
        assert (read.origin, read.size, read.root) == (key.name, head.size, due)
        assert bytes(head.root) == due


async def test_many_in_small_batches_and_every_one_is_proved(store):
    ids = await append(store, 300)
    store.sequencer._batch = 70
    assert await store.sequencer.catch_up() == 300
    head = await store.tree.checkpoint()
    assert head.size == await store.tree.size() == 300
    for place in (0, 69, 70, 255, 256, 299):
        proof = await store.tree.prove(ids[place])
        path = [bytes.fromhex(one) for one in proof.path]
        assert (proof.position, proof.size, proof.checkpoint) == (place, 300, head.note)
        assert proof.leaf == (await store.decisions.get(ids[place])).leaf
        assert merkle.verify_inclusion(bytes.fromhex(proof.leaf), place, 300, path, head.root)
    many = await store.tree.proofs(range(0, 280, 7), 280)
    root = (await store.tree.checkpoint(280)).root
    for place, path in zip(range(0, 280, 7), many, strict=True):
        (leaf,) = await store.tree.leaves(place, place + 1)
        assert merkle.verify_inclusion(leaf, place, 280, path, root)
    assert await store.tree.prove("dec_none") is None
    (unplaced,) = await append(store, 1)
    assert await store.tree.prove(unplaced) is None


async def test_two_sequencers_in_one_process_do_the_work_once(store):
    await append(store, 40)
    others = [Sequencer(store._engine, store.signer, batch=7) for _ in range(4)]
    sizes = await asyncio.gather(*(one.catch_up() for one in others))
    assert sizes == [40] * 4
    assert [place for place, _ in await places(store)] == list(range(40))
    for one in others:
        await one.close()
    report = await store.decisions.check()
    assert (report.problem, report.size) == (None, 40)


async def test_it_runs_in_the_background_and_catches_up_at_the_end(url):
    store = await Store.open(url, secret=SECRET)
    store.sequencer._interval = 0.01
    store.sequencer.start()
    store.sequencer.start()
    await append(store, 3)
    async with asyncio.timeout(20):
        while await store.tree.size() < 3:  # noqa: ASYNC110 - another task's work in the database has no event
            await asyncio.sleep(0.01)
    store.sequencer._interval = 100.0
    await append(store, 2)
    await store.close()
    again = await Store.open(url, secret=SECRET)
    assert await again.tree.size() == 5
    await again.close()


async def test_a_clock_that_jumps_back_changes_nothing(store, monkeypatch):
    await append(store, 2)
    await store.sequencer.catch_up()
    long_ago = dt.datetime(1999, 1, 1, tzinfo=dt.UTC)
    monkeypatch.setattr("gateway.store.sequencer._now", lambda: long_ago)
    await append(store, 2)
    await store.sequencer.catch_up()
    head = await store.tree.checkpoint()
    assert (head.size, head.at) == (4, long_ago)
    assert (await store.decisions.check()).ok


async def test_a_damaged_record_is_not_signed_and_those_before_it_are(store):
    await append(store, 5)
    if store._engine.dialect.name == "postgresql":
        await do(store, "ALTER TABLE decision_log DISABLE TRIGGER USER")
    else:
        await do(store, "DROP TRIGGER decision_log_no_update")
    await do(store, decision_log.update().where(decision_log.c.sequence == 4).values(body=b"{}"))
    with pytest.raises(LogDamaged, match=r"record 4 .*nothing is signed over it"):
        await store.sequencer.catch_up()
    assert await store.tree.size() == 3
    assert not await store.sequencer._try()
    assert "record 4" in store.sequencer.trouble
    await store.decisions.append(outcomes.refused())  # the log itself goes on
    report = await store.decisions.check()
    assert (report.sequence, report.size) == (4, 3)


async def test_a_damaged_tree_is_not_grown(store):
    await append(store, 3)
    await store.sequencer.catch_up()
    await do(store, tree_tiles.update().values(hashes=bytes(32)))
    await append(store, 1)
    with pytest.raises(LogDamaged, match="the tree is damaged"):
        await store.sequencer.catch_up()
    await do(store, "DELETE FROM tree_state")
    with pytest.raises(LogDamaged, match="tree_state"):
        await store.sequencer.catch_up()


async def test_an_error_in_the_middle_of_a_batch_leaves_nothing_of_it(store, monkeypatch):
    await append(store, 3)

    def broken(connection, rows):
        connection.execute(sa.text("INSERT INTO no_such_table VALUES (1)"))

    monkeypatch.setattr("gateway.store.placing.index", broken)
    with pytest.raises(Unavailable, match="the tree can not be grown"):
        await store.sequencer.catch_up()
    assert await store.tree.size() == 0
    assert await all_of(store, sa.select(tree_tiles)) == []
    monkeypatch.undo()
    assert await store.sequencer.catch_up() == 3
    assert (await store.decisions.check()).ok


async def test_what_is_in_the_index_already_stops_it(store):
    await append(store, 2)
    await do(
        store,
        "INSERT INTO entries (position, sequence, id, at, facet) SELECT 900, sequence, id, at, 1 FROM decision_log"
        " WHERE sequence = 2",
        tree_state.update().values(low=0),
    )
    if store._engine.dialect.name == "sqlite":
        with pytest.raises(Unavailable, match="the index holds what is not its own"):
            await store.sequencer.catch_up()
    else:  # there a record with an entry has its place
        assert await store.sequencer.catch_up() == 1
    assert not (await store.decisions.check()).ok


@pytest.mark.service
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_records_that_commit_late_are_not_passed_over(store):
    """On PostgreSQL a number is given before the commit: a lower one may come after a higher one."""
    rows = [row_of(record_of(outcomes.refused(), Digester(SECRET))).values() for _ in range(6)]
    clock = 1000.0
    marks = Marks(late=30.0)

    async def step():
        async with writer(store._engine).begin() as connection:

            def work(sync):
                found = find(sync, 1000, marks, clock)
                return put(sync, found, store.signer, dt.datetime.now(dt.UTC)), found.low

            return await connection.run_sync(work)

    async def until(due):
        """Step until low is there: what others do on this server may be open still."""
        async with asyncio.timeout(60):
            while True:
                done, low = await step()
                if low == due:
                    return done.size
                await asyncio.sleep(0.05)

    engine = store._engine
    async with engine.connect() as slow, engine.connect() as rolled:
        await slow.execute(decision_log.insert().values(**rows[0]))  # takes number 1
        await rolled.execute(decision_log.insert().values(**rows[1]))  # takes number 2, and gives it up
        await do(store, decision_log.insert().values(**rows[2]), decision_log.insert().values(**rows[3]))
        done, low = await step()
        assert (done.size, low) == (2, 0), "low waits at the gap"
        await rolled.rollback()
        clock += 60.0
        done, low = await step()
        assert (done.size, low) == (2, 0), "a transaction of that time is open still, however long it takes"
        await slow.commit()
    assert await until(4) == 3, "nothing of that time can come any more"
    async with engine.connect() as rolled:
        await rolled.execute(decision_log.insert().values(**rows[1]))  # takes number 5, and gives it up
        await rolled.rollback()
    await do(store, decision_log.insert().values(**rows[4]))
    for later in (1.0, 29.0):
        clock += later
        done, low = await step()
        assert (done.size, low) == (4, 4)
    clock += 2.0
    assert await until(6) == 4
    assert [name for _, name in await places(store)] == [rows[i]["id"] for i in (2, 3, 0, 4)]
    report = await store.decisions.check()
    assert (report.problem, report.records, report.gaps) == (None, 4, 2)


async def test_two_processes_sequence_at_once(url):
    children = [start("sequence", url, "60") for _ in range(2)]
    outs = [(await asyncio.to_thread(child.communicate, timeout=120))[0] for child in children]
    assert [json.loads(out)["trouble"] for out in outs] == [None, None]
    store = await Store.open(url, secret=SECRET)
    try:
        report = await store.decisions.check()
        assert (report.problem, report.size, report.waiting) == (None, 120, 0)
    finally:
        await store.close()


async def test_kill_nine_in_the_middle_of_sequencing(url):
    for _ in range(3):
        child = start("for_ever", url)
        for _ in range(3):
            await asyncio.to_thread(child.stdout.readline)
        os.killpg(child.pid, signal.SIGKILL)
        await asyncio.to_thread(child.wait)
        child.stdout.close()
    store = await Store.open(url, secret=SECRET)
    try:
        size = await store.sequencer.catch_up()
        report = await store.decisions.check()
        assert (report.problem, report.size, report.waiting) == (None, size, 0)
        assert size == await store.decisions.count() > 50
    finally:
        await store.close()
