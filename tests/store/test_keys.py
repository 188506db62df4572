"""API keys and the secret."""

import asyncio
import base64
import re
import threading

import pytest
import sqlalchemy as sa
from store.kit import SECRET

from gateway.errors import ConfigurationError, InvalidRequest
from gateway.records import Caller
from gateway.store import Store, load_secret
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
