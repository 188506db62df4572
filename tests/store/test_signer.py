"""The log's key: made once, the database's own, handed over by itself, and missed where it is lost."""

import asyncio

import pytest
import sqlalchemy as sa
from store.kit import SECRET, outcomes

from gateway.errors import ConfigurationError, InvalidRequest, Unavailable
from gateway.records import Caller
from gateway.records.note import parse_note, parse_vkey
from gateway.store import FileKey, Store, VerifyOptions
from gateway.store.tables import log_keys

OFFICER = Caller(key="os-account:0", department="*", roles=("officer",), via="os")


async def append(store, number):
    return [(await store.decisions.append(outcomes.refused())).id for _ in range(number)]


async def test_the_key_is_made_once_and_is_the_databases_own(url, tmp_path):
    path = tmp_path / "data" / "log.key"
    store = await Store.open(url, secret=SECRET, log_key=FileKey(path), log_name="clinic.example/log")
    assert store.signer.name == "clinic.example/log"
    vkey = store.signer.vkey
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    await store.close()
    store = await Store.open(url, secret=SECRET, log_key=FileKey(path))
    assert store.signer.vkey == vkey
    await store.close()
    with pytest.raises(ConfigurationError, match=r"named `clinic\.example/log` since its first start"):
        await Store.open(url, secret=SECRET, log_key=FileKey(path), log_name="other")
    with pytest.raises(ConfigurationError, match="`a b` is no name"):
        await Store.open(url, secret=SECRET, log_key=FileKey(path), log_name="a b")
    with pytest.raises(ConfigurationError, match="not the one that signs this log"):
        await Store.open(url, secret=SECRET)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        await Store.open(url, secret=SECRET, log_key=FileKey(path))
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(ConfigurationError, match="no Ed25519 key"):
        await Store.open(url, secret=SECRET, log_key=FileKey(path))


async def test_a_rotated_key_is_vouched_for_by_the_old_one(url, tmp_path):
    path = tmp_path / "log.key"
    store = await Store.open(url, secret=SECRET, log_key=FileKey(path))
    other = await Store.open(url, secret=SECRET, log_key=FileKey(path))
    old = store.signer.vkey
    await append(store, 3)
    for bad in ("", " ", "x" * 1001):
        with pytest.raises(InvalidRequest, match="needs a reason"):
            await store.handover.rotate(by=OFFICER, reason=bad)
    with pytest.raises(InvalidRequest, match="is not lost"):
        await store.handover.rotate(by=OFFICER, reason="as planned", lost=True)
    made = await store.handover.rotate(by=OFFICER, reason="as planned")
    assert (made.number, made.size, made.vkey) == (2, 4, store.signer.vkey)
    assert store.signer.vkey != old
    (change,) = await store.decisions.recent(1, kind="change.v1")
    assert (change.record.what, change.record.before, change.record.after) == ("log-key", old, made.vkey)
    assert change.record.reason == "as planned"
    await append(other, 2)  # another process, which still has the old key in memory
    await other.sequencer.catch_up()
    assert other.signer.vkey == made.vkey
    assert parse_note((await store.tree.checkpoint()).note).signed_by(parse_vkey(made.vkey))
    report = await store.decisions.check()
    assert (report.problem, report.size) == (None, 6)
    assert [key.vkey for key in await store.tree.keys()] == [old, made.vkey]
    await other.close()
    await store.close()
    again = await Store.open(url, secret=SECRET, log_key=FileKey(path))
    assert again.signer.vkey == made.vkey
    await again.close()


async def test_a_rotation_that_was_cut_short_is_finished(url, tmp_path, monkeypatch):
    path = tmp_path / "log.key"
    store = await Store.open(url, secret=SECRET, log_key=FileKey(path))

    def cut(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(FileKey, "take_next", cut)
    with pytest.raises(KeyboardInterrupt):
        await store.handover.rotate(by=OFFICER, reason="as planned")
    monkeypatch.undo()
    await store.close()
    again = await Store.open(url, secret=SECRET, log_key=FileKey(path))
    assert again.signer.vkey == (await again.tree.keys())[-1].vkey
    assert not path.with_name("log.key.next").exists()
    await append(again, 1)
    await again.sequencer.catch_up()
    assert (await again.decisions.check()).ok
    await again.close()


async def test_a_lost_key_stops_the_start_and_is_replaced_with_a_break_for_all_to_see(url, tmp_path):
    path = tmp_path / "log.key"
    store = await Store.open(url, secret=SECRET, log_key=FileKey(path))
    await append(store, 2)
    await store.sequencer.catch_up()
    await store.close()
    path.unlink()
    with pytest.raises(ConfigurationError, match=r"log's key is not in .*--lost-key"):
        await Store.open(url, secret=SECRET, log_key=FileKey(path))
    store = await Store.open(url, secret=SECRET, log_key=FileKey(path), must_sign=False)
    with pytest.raises(Unavailable, match="nothing can be signed"):
        store.signer.sign("text\n")
    await append(store, 1)
    with pytest.raises(Unavailable, match="nothing can be signed"):
        await store.sequencer.catch_up()
    with pytest.raises(Unavailable, match="nothing can be signed"):
        await store.handover.rotate(by=OFFICER, reason="gone")
    made = await store.handover.rotate(by=OFFICER, reason="the disk burnt", lost=True)
    await store.sequencer.catch_up()
    report = await store.decisions.check()
    assert "key 2 of the log" in report.problem and "was not put in its place by the key before it" in report.problem
    first = (await store.tree.keys())[0].vkey
    trusted = await store.decisions.check(wanted=VerifyOptions(trusted=(first, made.vkey)))
    assert (trusted.problem, trusted.records) == (None, 4)
    assert "none that you trust" in (await store.decisions.check(wanted=VerifyOptions(trusted=(made.vkey,)))).problem
    await store.close()


async def test_without_a_file_the_key_can_not_be_rotated(store):
    with pytest.raises(ConfigurationError, match="derived from the secret"):
        await store.handover.rotate(by=OFFICER, reason="as planned")


async def count_keys(store):
    async with store._engine.connect() as connection:
        return await connection.scalar(sa.select(sa.func.count()).select_from(log_keys))


async def test_two_first_starts_at_once_make_one_key(url, tmp_path):
    opened = await asyncio.gather(
        *(Store.open(url, secret=SECRET, log_key=FileKey(tmp_path / "log.key")) for _ in range(4))
    )
    assert len({store.signer.vkey for store in opened}) == 1
    assert await count_keys(opened[0]) == 1
    for store in opened:
        await store.close()


async def test_a_log_that_was_never_started_is_verified_without_a_key(url, tmp_path):
    store = await Store.open(url, secret=SECRET, log_key=FileKey(tmp_path / "log.key"), must_sign=False)
    assert (await store.decisions.check()).ok
    assert not (tmp_path / "log.key").exists()
    with pytest.raises(Unavailable, match="no key yet"):
        _ = store.signer.vkey
    await store.close()
