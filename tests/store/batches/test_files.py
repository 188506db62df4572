"""Files of batches: what went in comes out, by any range; what was changed is found out; what failed leaves nothing."""

import asyncio
import os
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store.batching import MARKER, folder_of, now, opened, upload, whole
from store.kit import SECRET
from store.sealing import cells, raw

from gateway.errors import TooLarge, Unavailable
from gateway.store import FileDamaged, Store, load_keyring
from gateway.store.batch_tables import files
from gateway.store.file_blocks import BLOCK, TAG, stored_size


async def test_what_went_in_comes_out(sqlite, tmp_path):
    for size in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 25 * BLOCK + 7):
        data = os.urandom(size)
        stored = await upload(sqlite, data, step=40_000)
        assert stored.bytes == size
        assert await sqlite.files.get(stored.id) == stored
        assert await whole(sqlite, stored.id) == data
        assert (tmp_path / "files" / stored.id).stat().st_size == stored_size(size)
        assert max([len(piece) async for piece in sqlite.files.read(stored.id)], default=0) <= 8 * BLOCK


@given(size=st.integers(0, 3 * BLOCK), start=st.integers(0, 3 * BLOCK), length=st.integers(0, 3 * BLOCK))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range_is_the_slice(tmp_path_factory, size, start, length):
    async def run():
        folder = tmp_path_factory.getbasetemp() / "ranges"
        async with opened(f"sqlite:///{folder}/log.sqlite3", folder) as store:
            data = os.urandom(size)
            stored = await upload(store, data, step=max(1, size // 3))
            assert await store.files.range(stored.id, start, length) == data[start : start + length]

    asyncio.run(run())


async def test_a_file_is_private_and_in_clear_nowhere(store, batch_url, tmp_path):
    stored = await upload(store, MARKER * 10_000)
    place = tmp_path / "files" / stored.id
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert MARKER not in place.read_bytes()
    assert not [where for where, values in (await cells(batch_url)).items() if any(MARKER in value for value in values)]
    assert (await whole(store, stored.id)).startswith(MARKER)


def flipped(data):
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


_CHANGES = {
    "a bit": flipped,
    "a block less": lambda data: data[: -BLOCK - TAG],
    "a byte less": lambda data: data[:-1],
    "a byte more": lambda data: data + b"x",
    "swapped": lambda data: data[BLOCK + TAG : 2 * (BLOCK + TAG)] + data[: BLOCK + TAG] + data[2 * (BLOCK + TAG) :],
    "repeated": lambda data: data[: BLOCK + TAG] * 2 + data[2 * (BLOCK + TAG) :],
    "empty": lambda data: b"",
    "gone": lambda data: None,
}


async def test_a_changed_file_is_found_out(sqlite, tmp_path):
    for how, change in _CHANGES.items():
        stored = await upload(sqlite, os.urandom(3 * BLOCK))
        place = tmp_path / "files" / stored.id
        changed = change(place.read_bytes())
        place.unlink()
        if changed is not None:
            place.write_bytes(changed)
        with pytest.raises(FileDamaged, match="bytes were changed or are gone") as found:
            await whole(sqlite, stored.id)
        assert stored.id in found.value.message, how


async def test_the_bytes_of_another_file_are_found_out(sqlite, sqlite_url, tmp_path):
    first, second = [await upload(sqlite, os.urandom(100)) for _ in range(2)]
    (tmp_path / "files" / first.id).replace(tmp_path / "files" / second.id)
    with pytest.raises(FileDamaged):
        await whole(sqlite, second.id)
    async with raw(sqlite_url) as connection:  # nor does it help to bring its key along
        row = (await connection.execute(sa.select(files).where(files.c.id == first.id))).one()
        moved = files.update().where(files.c.id == second.id).values(wrapped=row.wrapped, kek=row.kek)
        await connection.execute(moved)
    async with opened(sqlite_url, tmp_path) as again:
        with pytest.raises(FileDamaged):
            await whole(again, second.id)


async def test_a_shortened_row_does_not_shorten_a_file(sqlite, sqlite_url):
    stored = await upload(sqlite, os.urandom(2 * BLOCK))
    async with raw(sqlite_url) as connection:
        await connection.execute(files.update().values(bytes=BLOCK))
    with pytest.raises(FileDamaged):
        await whole(sqlite, stored.id)


async def test_what_is_not_finished_leaves_nothing(sqlite, tmp_path):
    async with sqlite.files.create("radiology", "k", "batch", "x", None) as writer:
        await writer.write(b"x" * 3_000_000)
        assert folder_of(tmp_path) == [f"{writer.id}.part"]
    assert folder_of(tmp_path) == []
    assert await sqlite.files.get(writer.id) is None
    async with sqlite.files.create("radiology", "k", "batch", "x", None, limit=10) as writer:
        await writer.write(b"x" * 10)
        with pytest.raises(TooLarge, match="larger than 10 bytes"):
            await writer.write(b"x")
    assert folder_of(tmp_path) == []
    with pytest.raises(KeyError):
        async with sqlite.files.create("radiology", "k", "batch", "x", None) as writer:
            raise KeyError
    assert folder_of(tmp_path) == []


async def test_an_upload_that_is_given_up_in_the_middle_of_a_write_leaves_nothing(sqlite, tmp_path):
    async def send(there):
        async with sqlite.files.create("radiology", "k", "batch", "x", None) as writer:
            while True:
                await writer.write(b"x" * 1_100_000)
                there.set()

    for _ in range(5):
        there = asyncio.Event()
        task = asyncio.create_task(send(there))
        await there.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert folder_of(tmp_path) == []


async def test_a_disk_that_fills_up_while_a_file_comes(sqlite, tmp_path):
    if not Path("/dev/full").exists():  # noqa: ASYNC240 - nothing else runs
        pytest.skip("this system has no /dev/full")
    async with sqlite.files.create("radiology", "k", "batch", "x", None) as writer:
        writer._file.close()
        writer._file = Path("/dev/full").open("wb", buffering=0)  # noqa: ASYNC230, SIM115 - the writer closes it
        with pytest.raises(Unavailable, match="the disk is full; free some space and upload again; nothing was kept"):
            await writer.write(b"x" * 3_000_000)
        with pytest.raises(RuntimeError):
            await writer.finish()
    assert folder_of(tmp_path) == []


async def test_a_row_that_can_not_be_stored_takes_its_bytes_along(sqlite, sqlite_url, tmp_path):
    async with raw(sqlite_url) as connection:
        await connection.execute(
            sa.text("CREATE TRIGGER no BEFORE INSERT ON files BEGIN SELECT RAISE(ABORT, 'x'); END")
        )
    with pytest.raises(Unavailable):
        await upload(sqlite)
    assert folder_of(tmp_path) == []


@pytest.mark.parametrize("lacks", ["keys for the vault", "folder of files"])
async def test_without_a_folder_or_keys_there_are_no_files(sqlite_url, tmp_path, lacks):
    more = {"files_dir": tmp_path / "files"} if lacks.startswith("keys") else {"keyring": load_keyring(tmp_path)}
    store = await Store.open(sqlite_url, secret=SECRET, **more)
    try:
        with pytest.raises(Unavailable, match=f"was given no {lacks}"):
            await upload(store)
        assert await store.files.sweep(now()) == 0
    finally:
        await store.close()


async def test_the_folder_may_not_be_writable(sqlite, tmp_path):
    (tmp_path / "files").write_text("no folder")
    with pytest.raises(Unavailable, match="can not be written"):
        await upload(sqlite)
