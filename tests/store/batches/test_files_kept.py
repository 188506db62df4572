"""Which files there are: listed, deleted with their keys, swept away when their time is over, kept by a rotation."""

import asyncio
import datetime as dt
import os

import pytest
import sqlalchemy as sa
from store.batching import (
    CALLER,
    DAY,
    MARKER,
    OTHER,
    begun,
    finalize,
    folder_of,
    now,
    opened,
    result,
    submit,
    upload,
    whole,
    work,
)
from store.sealing import OFFICER, cells, raw

from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.store import rotation
from gateway.store.batch_tables import files


async def test_files_are_listed_by_time_and_owner(store):
    made = [await upload(store, caller=caller) for caller in (CALLER, OTHER, CALLER, CALLER)]
    mine = [made[0], made[2], made[3]]
    result = await upload(store, caller=CALLER, purpose="batch_output")
    assert await store.files.list("radiology", purpose="batch") == tuple(reversed(mine))
    assert await store.files.list("radiology", order="asc") == (*mine, result)
    assert await store.files.list("*", owner=OTHER.key) == (made[1],)
    assert await store.files.list("radiology", after=mine[2].id, limit=1) == (mine[1],)
    assert await store.files.list("radiology", after=mine[0].id, order="asc", limit=2) == tuple(mine[1:])
    assert await store.files.list("radiology", after=mine[0].id) == ()
    with pytest.raises(NotFound, match="no file `file-x`"):
        await store.files.list("radiology", after="file-x")
    assert await store.files.get("file-\x00") is None


async def test_a_file_goes_with_its_key(store, batch_url, tmp_path):
    stored = await upload(store)
    async with raw(batch_url) as connection:
        row = (await connection.execute(sa.select(files))).one()
    assert await store.files.delete(stored.id) is True
    assert await store.files.delete(stored.id) is False
    assert folder_of(tmp_path) == []
    with pytest.raises(NotFound):
        await whole(store, stored.id)
    assert bytes(row.wrapped) not in (await cells(batch_url)).get(("files", "wrapped"), [])


async def test_a_file_stays_while_a_batch_reads_it(store):
    batch = await begun(store, 2)
    with pytest.raises(Conflict, match=batch.id):
        await store.files.delete(batch.input_file)
    assert await store.files.sweep(now() + 99 * DAY) == 0
    job = await store.jobs.claim("w", kinds=("lines",))
    await store.batches.cancel(batch.id, CALLER)
    await store.jobs.give_back(job)
    job = await store.jobs.claim("w")
    await store.batches.finish(job, output_file=None, error_file=None)
    assert await store.files.delete(batch.input_file) is True


async def test_a_file_is_deleted_or_read_by_a_batch_and_not_both(store):
    for _ in range(5):
        stored = await upload(store)
        made, deleted = await asyncio.gather(
            submit(store, input_file=stored.id), store.files.delete(stored.id), return_exceptions=True
        )
        assert made.status == "validating"
        if isinstance(deleted, Conflict):
            assert await whole(store, stored.id) == b"{}\n"
        else:
            assert deleted is True


async def test_a_sweep_takes_what_is_over(store, tmp_path):
    stays = await upload(store, expires_at=now() + DAY)
    over = await upload(store, expires_at=now() + dt.timedelta(hours=1))
    at = now() + dt.timedelta(hours=2)
    assert await store.files.sweep(at) == 1
    assert folder_of(tmp_path) == [stays.id]
    assert await store.files.get(over.id) is None
    late = await upload(store, b"late", expires_at=now() - DAY)
    assert await store.files.get(late.id) is None
    assert late not in await store.files.list("radiology")
    assert await whole(store, late.id) == b"late", "a batch that is at it reads on until it is swept away"


async def test_a_sweep_takes_what_a_crash_has_left(sqlite, tmp_path):
    stored = await upload(sqlite)
    folder = tmp_path / "files"
    names = [f"file-{digit * 32}{end}" for digit, end in (("a", ""), ("b", ".part"), ("c", ""), ("d", ".part"))]
    for name in (*names, "notes.txt"):
        (folder / name).write_bytes(b"x")
    before = (now() - 2 * DAY).timestamp()
    for name in (*names[:2], stored.id, "notes.txt"):
        os.utime(folder / name, (before, before))
    assert await sqlite.files.sweep(now()) == 2
    assert folder_of(tmp_path) == sorted([*names[2:], stored.id, "notes.txt"])


async def test_a_rotation_keeps_files_and_batches(store, batch_url, tmp_path, monkeypatch):
    monkeypatch.setattr(rotation, "_SETTLE", dt.timedelta(0))
    stored = await upload(store, MARKER)
    batch = await begun(store, 1)
    (before,) = await store.vault.keys()
    assert before.count == 3
    async with store.files.create("radiology", "k", "batch", "x", None) as slow:
        await slow.write(b"slow")
        with pytest.raises(InvalidRequest, match="wraps 3 keys"):
            await store.vault.drop_key(before.kek, OFFICER)
        done = await store.vault.rotate_key(OFFICER)
        await store.vault.drop_key(before.kek, OFFICER)
        late = await slow.finish()
    assert (done.wrapped, done.left) == (3, {})
    assert {use.kek: use.count for use in await store.vault.keys()} == {done.kek: 4}
    async with opened(batch_url, tmp_path) as again:
        assert await whole(again, stored.id) == MARKER
        assert await whole(again, late.id) == b"slow"
        job = await again.jobs.claim("w")
        await work(again, job)
        assert [body async for body in again.batches.results(batch, ok=True)] == [result(batch, 1).body]
        assert (await finalize(again)).status == "completed"
        assert {use.kek: use.count for use in await again.vault.keys()} == {done.kek: 3}
