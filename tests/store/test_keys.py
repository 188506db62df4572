"""API keys and the secret."""

import asyncio
import base64
import datetime as dt
import os
import re
import sqlite3
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from store.kit import SECRET

from gateway.errors import ConfigurationError, InvalidRequest, NotAuthenticated, NotFound, Unavailable
from gateway.records import Caller, covers, may
from gateway.store import Store, load_secret
from gateway.store.key_usage import KeyUsage
from gateway.store.tables import api_keys


async def test_a_key_lets_its_holder_in_until_it_is_revoked(store):
    assert await store.keys.any() is False
    key, text = await store.keys.create("radiology", ("caller", "officer"), label="reading room 2")
    assert re.fullmatch(r"gw_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", text)
    due = Caller(key=key.id, department="radiology", roles=("caller", "officer"))
    assert await store.keys.authenticate(text) == due
    other, other_text = await store.keys.create("pathology", ["auditor"])
    assert await store.keys.any() is True
    assert await store.keys.list() == (key, other)
    assert await store.keys.revoke(key.id) is True
    assert await store.keys.authenticate(text) is None
    assert await store.keys.revoke(key.id) is False
    assert await store.keys.revoke("nothere") is False
    assert (await store.keys.authenticate(other_text)).department == "pathology"
    revoked = next(k for k in await store.keys.list() if k.id == key.id)
    assert revoked.revoked_at >= key.created_at


async def test_a_wrong_key_lets_nobody_in(store):
    key, text = await store.keys.create("radiology", ["caller"])
    last = "A" if text[-1] != "A" else "B"
    for wrong in (
        "",
        "gw_",
        text[:-1],
        text + "A",
        text[:-1] + last,
        f"gw_{'0' * 12}_{text[-43:]}",
        " " + text,
        "ä" * 59,
    ):
        assert await store.keys.authenticate(wrong) is None
    assert (await store.keys.authenticate(text)).key == key.id


async def test_the_key_itself_is_stored_nowhere(store):
    key, text = await store.keys.create("radiology", ["caller"])
    async with store._engine.connect() as connection:
        row = (await connection.execute(sa.select(api_keys))).one()
    assert len(row.hash) == 32
    assert text[-43:] not in repr(row)
    assert text not in repr(key)


async def test_a_hash_moved_to_another_key_opens_nothing(store):
    """The hash is over the whole key, its id included: one who can write the table can not make his key another's."""
    mine, text = await store.keys.create("radiology", ["caller"])
    other, _ = await store.keys.create("radiology", ["admin"])
    async with store._engine.connect() as connection:
        hash_ = await connection.scalar(sa.select(api_keys.c.hash).where(api_keys.c.id == mine.id))
    await store.keys._write(api_keys.update().where(api_keys.c.id == other.id).values(hash=hash_))
    assert await store.keys.authenticate(text.replace(mine.id, other.id)) is None


@pytest.mark.parametrize(
    ("department", "roles", "label", "said"),
    [
        ("Radiology!", ["caller"], "", "no department"),
        ("radiology", ["king"], "", "`king` is no role"),
        ("radiology", [], "", "needs a role"),
        ("radiology", ["caller"], "x" * 201, "label"),
        ("radiology", ["caller"], "a\nb", "label"),
    ],
)
async def test_a_key_that_makes_no_sense_is_not_made(sqlite_url, department, roles, label, said):
    store = await Store.open(sqlite_url, secret=SECRET)
    with pytest.raises(InvalidRequest, match=said):
        await store.keys.create(department, roles, label)
    assert await store.keys.any() is False
    await store.close()


def test_the_secret_is_made_once_for_all_who_start_at_once(tmp_path):
    data, found, gate = tmp_path / "data", [], threading.Barrier(16)

    def start():
        gate.wait()
        found.append(load_secret(data))

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert (data / "secret.key").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in data.iterdir()] == ["secret.key"]
    assert load_secret(data) == found[0]


def test_a_given_secret_wins(tmp_path):
    assert load_secret(tmp_path, SECRET.hex()) == SECRET
    assert load_secret(tmp_path, base64.b64encode(SECRET).decode()) == SECRET
    assert load_secret(tmp_path, base64.urlsafe_b64encode(bytes(range(200, 248))).decode()) == bytes(range(200, 248))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("weak", ["short", "ab" * 31, base64.b64encode(bytes(31)).decode(), "pass word " * 9])
def test_a_weak_secret_is_refused_and_not_quoted(tmp_path, weak):
    with pytest.raises(ConfigurationError, match="GATEWAY_SECRET: expected at least 32") as caught:
        load_secret(tmp_path, weak)
    assert weak not in str(caught.value)


def test_a_secret_that_everybody_reads_or_that_is_broken_is_refused(tmp_path):
    path = tmp_path / "secret.key"
    path.write_text(SECRET.hex())
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_secret(tmp_path)
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="secret"):
        load_secret(tmp_path)
    path.write_text("")
    with pytest.raises(ConfigurationError, match="at least 32"):
        load_secret(tmp_path)


async def test_many_may_be_asked_at_once(store):
    _, text = await store.keys.create("radiology", ["caller"])
    callers = await asyncio.gather(*(store.keys.authenticate(text) for _ in range(100)))
    assert {caller.department for caller in callers} == {"radiology"}


async def changes(store):
    """What the log says of keys, oldest first: what, of which key, before, after, by whom and why."""
    found = await store.decisions.recent(100, kind="change.v1")
    records = [one.record for one in reversed(found)]
    return [
        (r.what, r.subject, r.before, r.after, r.caller.key, r.reason) for r in records if r.what.startswith("key-")
    ]


async def put(store, key, **values):
    """Move a key's times, as time itself would."""
    await store.keys._write(api_keys.update().where(api_keys.c.id == key.id).values(**values))


PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
ADMIN = Caller(key="0123456789ab", department="radiology", roles=("admin",))


async def test_a_key_is_all_that_was_said_of_it(store):
    key, text = await store.keys.create(
        "radiology",
        ["officer", "caller"],
        "of the reading room",
        scopes=["read", "ask"],
        lasts=dt.timedelta(days=90),
        person="ada",
        application="pacs",
        per_minute=60,
        per_day=1000,
    )
    assert await store.keys.list() == (key,)
    assert await store.keys.get(key.id) == key
    assert key.expires_at - key.created_at == dt.timedelta(days=90)
    caller = await store.keys.authenticate(text)
    assert caller == Caller(
        key=key.id,
        department="radiology",
        roles=("officer", "caller"),
        person="ada",
        application="pacs",
        scopes=("read", "ask"),
        per_minute=60,
        per_day=1000,
    )
    assert may(caller, "read") and may(caller, "ask")
    assert not may(caller, "reveal") and not may(caller, "search"), "scopes narrow"


async def test_an_expired_key_is_told_so_only_to_who_has_it(store):
    key, text = await store.keys.create("radiology", ["caller"], lasts=dt.timedelta(days=1))
    assert (await store.keys.authenticate(text)).key == key.id
    await put(store, key, expires_at=PAST)
    with pytest.raises(NotAuthenticated, match="expired at 2020") as caught:
        await store.keys.authenticate(text)
    assert caught.value.code == "expired_api_key"
    assert await store.keys.authenticate(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    await store.keys.revoke(key.id)
    assert await store.keys.authenticate(text) is None


async def test_a_rotated_key_never_fails_who_still_has_the_old_secret(store):
    key, first = await store.keys.create("radiology", ["caller"])
    rotated, second = await store.keys.rotate(key.id, dt.timedelta(hours=24))
    assert second[:16] == first[:16] and second != first
    assert rotated.id == key.id and rotated.old_until > dt.datetime.now(dt.UTC)
    for text in (first, second):
        assert (await store.keys.authenticate(text)).key == key.id
    await put(store, key, old_until=PAST)
    with pytest.raises(NotAuthenticated, match="newer secret"):
        await store.keys.authenticate(first)
    assert (await store.keys.authenticate(second)).key == key.id


async def test_a_rotation_without_overlap_ends_every_older_secret_at_once(store):
    key, first = await store.keys.create("radiology", ["caller"])
    _, second = await store.keys.rotate(key.id, dt.timedelta(hours=1))
    with pytest.raises(InvalidRequest, match="there can be two at once"):
        await store.keys.rotate(key.id, dt.timedelta(hours=1))
    _, third = await store.keys.rotate(key.id, dt.timedelta(0))
    assert await store.keys.authenticate(first) is None
    assert await store.keys.authenticate(second) is None
    assert (await store.keys.authenticate(third)).key == key.id


async def test_revoking_ends_both_secrets(store):
    key, first = await store.keys.create("radiology", ["caller"])
    _, second = await store.keys.rotate(key.id, dt.timedelta(hours=1))
    assert await store.keys.revoke(key.id)
    assert await store.keys.authenticate(first) is None
    assert await store.keys.authenticate(second) is None
    with pytest.raises(NotFound, match="not revoked"):
        await store.keys.rotate(key.id, dt.timedelta(0))
    with pytest.raises(NotFound):
        await store.keys.rotate("nothere", dt.timedelta(0))


async def test_an_expired_key_is_rotated_only_to_a_new_end(store):
    key, text = await store.keys.create("radiology", ["caller"], lasts=dt.timedelta(days=1))
    await put(store, key, expires_at=PAST)
    with pytest.raises(InvalidRequest, match="has expired"):
        await store.keys.rotate(key.id, dt.timedelta(0))
    rotated, new = await store.keys.rotate(key.id, dt.timedelta(0), lasts=dt.timedelta(days=2))
    assert rotated.expires_at > dt.datetime.now(dt.UTC)
    assert (await store.keys.authenticate(new)).key == key.id
    assert await store.keys.authenticate(text) is None


async def test_of_two_who_rotate_at_once_one_is_told(store):
    key, _ = await store.keys.create("radiology", ["caller"])
    results = await asyncio.gather(
        *(store.keys.rotate(key.id, dt.timedelta(0)) for _ in range(4)), return_exceptions=True
    )
    won = [result for result in results if not isinstance(result, BaseException)]
    assert all(isinstance(result, InvalidRequest) for result in results if isinstance(result, BaseException))
    assert len(won) >= 1
    good = [await store.keys.authenticate(secret) is not None for _, secret in won]
    assert sum(good) == 1, "of all secrets that were given, one works"


async def test_every_change_of_a_key_is_in_the_log(store):
    key, _ = await store.keys.create("radiology", ["caller"], by=ADMIN, why="a new viewer")
    await store.keys.rotate(key.id, dt.timedelta(0), lasts=dt.timedelta(days=1), by=ADMIN)
    await store.keys.revoke(key.id, by=ADMIN, why="lost")
    assert not await store.keys.revoke(key.id, by=ADMIN)
    assert not await store.keys.revoke("nothere", by=ADMIN)
    created, rotated, revoked = await changes(store)
    assert created[:3] == ("key-created", key.id, None)
    assert re.fullmatch(r"radiology/caller#[0-9a-f]{16}", created[3])
    assert created[4:] == (ADMIN.key, "a new viewer")
    assert rotated[:3] == ("key-rotated", key.id, created[3])
    assert rotated[3] != created[3], "its end has moved"
    assert revoked == ("key-revoked", key.id, rotated[3], None, ADMIN.key, "lost")
    await store.keys.create("radiology", ["officer"], scopes=["read"])
    assert (await changes(store))[-1][3].startswith("radiology/officer/read#")
    assert (await changes(store))[-1][4] == f"os-account:{os.getuid()}"
    assert (await store.decisions.check()).problem is None


async def test_what_can_not_be_recorded_does_not_happen(store):
    key, text = await store.keys.create("radiology", ["caller"])
    await store.decisions.close()
    for change in (
        store.keys.create("radiology", ["admin"]),
        store.keys.rotate(key.id, dt.timedelta(0)),
        store.keys.revoke(key.id),
    ):
        with pytest.raises(Unavailable):
            await change
    assert await store.keys.list() == (key,)
    assert (await store.keys.authenticate(text)).key == key.id


async def test_the_last_use_is_written_together_and_rarely(store):
    keys = [await store.keys.create("radiology", ["caller"]) for _ in range(3)]
    written = []
    watched = store._engine.sync_engine

    def watch(connection, cursor, statement, parameters, context, many):
        if statement.startswith("UPDATE api_keys SET last_used_at"):
            written.append(statement)

    sa.event.listen(watched, "before_cursor_execute", watch)
    for _ in range(20):
        for _, text in keys[:2]:
            await store.keys.authenticate(text)
    assert written == [], "no request waits for it"
    await store.keys.usage.flush()
    await store.keys.usage.flush()
    assert len(written) == 1
    sa.event.remove(watched, "before_cursor_execute", watch)
    used = {key.id: key.last_used_at for key in await store.keys.list()}
    assert used[keys[0][0].id] >= keys[0][0].created_at
    assert used[keys[2][0].id] is None


async def test_the_last_use_is_written_by_itself(store):
    key, _ = await store.keys.create("radiology", ["caller"])
    usage = KeyUsage(store._engine, every=0.05)
    for _ in range(5):
        usage.note(key.id)
    for _ in range(100):
        await asyncio.sleep(0.02)
        first = (await store.keys.get(key.id)).last_used_at
        if first is not None:
            break
    assert key.created_at <= first <= dt.datetime.now(dt.UTC)
    usage.note(key.id)
    await usage.close()
    assert (await store.keys.get(key.id)).last_used_at > first


async def test_a_last_use_that_can_not_be_written_fails_nobody(sqlite_url, caplog):
    store = await Store.open(sqlite_url, secret=SECRET, lock_wait=0.1)
    key, text = await store.keys.create("radiology", ["caller"])
    other = sqlite3.connect(make_url(sqlite_url).database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert (await store.keys.authenticate(text)).key == key.id
    await store.keys.usage.flush()
    assert "can not be written yet" in caplog.text and text not in caplog.text
    assert (await store.keys.authenticate(text)).key == key.id
    other.execute("ROLLBACK")
    other.close()
    await store.keys.usage.flush()
    assert key.created_at <= (await store.keys.get(key.id)).last_used_at <= dt.datetime.now(dt.UTC)
    await store.close()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scopes": ["everything"]}, "`everything` is no scope"),
        ({"scopes": ["reveal"]}, "nothing that caller may do"),
        ({"department": "*"}, "can not ask models"),
        ({"department": "*", "roles": ["admin"]}, "can not ask models"),
        ({"department": "*", "roles": ["officer", "operator"]}, "can not ask models"),
        ({"department": "**"}, "no department"),
        ({"lasts": dt.timedelta(0)}, "at most 3650 days"),
        ({"lasts": dt.timedelta(days=4000)}, "at most 3650 days"),
        ({"person": " "}, "`person`"),
        ({"person": "x" * 201}, "`person`"),
        ({"application": "x" * 65}, "`application`"),
        ({"application": "a\nb"}, "`application`"),
        ({"per_minute": 0}, "`per_minute`"),
        ({"per_day": -1}, "`per_day`"),
        ({"why": " "}, "reason"),
        ({"why": "x" * 1001}, "reason"),
    ],
)
async def test_a_key_that_would_be_wrong_is_not_made(sqlite_url, changed, said):
    store = await Store.open(sqlite_url, secret=SECRET)
    with pytest.raises(InvalidRequest, match=said):
        await store.keys.create(**{"department": "radiology", "roles": ["caller"]} | changed)
    assert await store.keys.any() is False
    assert await changes(store) == []
    await store.close()


@pytest.mark.parametrize(
    ("roles", "scopes"), [(["officer"], []), (["auditor", "platform"], []), (["admin"], ["keys", "read"])]
)
async def test_a_key_for_all_departments_is_for_roles_that_ask_no_model(sqlite_url, roles, scopes):
    store = await Store.open(sqlite_url, secret=SECRET)
    key, text = await store.keys.create("*", roles, scopes=scopes)
    caller = await store.keys.authenticate(text)
    assert caller.department == "*" == key.department
    assert covers(caller, "pathology") and not may(caller, "ask")
    await store.close()
