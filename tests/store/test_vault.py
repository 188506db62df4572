"""Sealed content: what goes in comes out for who may see it, for a reason and a while; nobody else gets a word."""

import asyncio
import datetime as dt
import json
import os
import stat
import sys

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from store.kit import SECRET, outcomes
from store.sealing import CLINICIAN, ELSEWHERE, OFFICER, OTHER, cells, files, keeping, opened, raw, sealed

from gateway.errors import ConfigurationError, InvalidRequest, LogDamaged, NotFound, NotPermitted, Unavailable
from gateway.records import AccessV1, DecisionV1, Digester, record_of
from gateway.records.sealing import (
    content_of,
    kek_id_of,
    plainly,
    seal,
    unseal,
    unwrap,
    wrap,
)
from gateway.store import Store, load_keyring, rotation
from gateway.store import vault as vault_module
from gateway.store.kms import KeyService
from gateway.store.tables import vault

MARKER = "XYLOPHONEQUARTZ"
PNG = b"\x89PNG\r\n" + MARKER.encode() * 3
WHY = "a complaint by the patient"


@pytest.fixture
async def store(url, tmp_path):
    async with opened(url, tmp_path) as made:
        yield made


async def _accesses(store, id_):
    rows = await store.decisions.recent(100, kind="access.v1")
    return [row.record for row in reversed(rows) if id_ in row.record.decisions]


async def test_what_was_sealed_is_shown_again(store):
    outcome = sealed(f"Is {MARKER} a finding?", f"{MARKER} is none.", image=PNG, stop=("END",))
    logged = await store.decisions.append(outcome)
    shown = await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)
    assert shown.content == content_of(outcome)
    assert [text.text for text in shown.content.texts] == [f"Is {MARKER} a finding?"] * 2
    assert [image.data for image in shown.content.images] == [PNG]
    assert shown.content.found[0].text == f"Is {MARKER} a finding?"
    assert shown.content.stop == ("END",)
    assert [len(attempt.demonstrations) for attempt in shown.content.attempts] == [2, 4]
    assert shown.content.answer == content_of(outcome).answer
    plain = plainly(shown.content)
    assert plain["images"][0]["url"].startswith("data:image/png;base64,")
    assert plain["texts"][0] == {"part": "messages[0].content[0]", "text": f"Is {MARKER} a finding?", "role": "user"}
    record = (await store.decisions.get(logged.id)).record
    assert record.erased == ("demonstrations",)
    assert record.retention == "6y"
    assert record.sealed.until - record.at >= dt.timedelta(hours=1)
    assert (await store.decisions.check()).ok


async def test_content_is_only_kept_where_the_policy_says_so(store, url):
    await store.decisions.append(outcomes.released(MARKER, MARKER, image=PNG))
    shadow = msgspec.structs.replace(sealed(MARKER), mode="shadow")
    logged = await store.decisions.append(shadow)
    assert (await cells(url)).get(("vault", "id")) is None
    with pytest.raises(NotFound, match="was not kept"):
        await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)


async def test_a_marker_is_in_clear_nowhere(store, url):
    outcome = sealed(MARKER, f"So: {MARKER}", image=PNG, stop=(MARKER,))
    logged = await store.decisions.append(outcome)
    await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)
    await store.sequencer.catch_up()
    everything = await cells(url)
    assert everything["vault", "sealed"][0] != b"None"
    assert not [where for where, values in everything.items() if any(MARKER.encode() in value for value in values)]
    assert not any(MARKER.encode() in data for data in files(url))
    async with raw(url) as connection:
        row = (await connection.execute(sa.select(vault))).one()
    assert hasattr(row, "wrapped")
    assert len(row.sealed) > len(PNG) + 4 * len(MARKER), "the content is there, and encrypted"


@pytest.mark.parametrize("change", ["sealed", "wrapped", "digest", "swapped", "missing", "keyless"])
async def test_what_was_changed_is_not_shown(store, url, change):
    first, second = [await store.decisions.append(sealed(word)) for word in ("one", "two")]
    rows = {}
    async with raw(url) as connection:
        for row in (await connection.execute(sa.select(vault))).all():
            rows[row.id] = row
        mine = vault.update().where(vault.c.id == first.id)
        flipped = bytearray(rows[first.id].sealed)
        flipped[-1] ^= 1
        key = bytearray(rows[first.id].wrapped)
        key[20] ^= 1
        other = rows[second.id]
        statement = {
            "sealed": mine.values(sealed=bytes(flipped)),
            "wrapped": mine.values(wrapped=bytes(key)),
            "digest": mine.values(digest=other.digest),
            "swapped": mine.values(sealed=other.sealed, wrapped=other.wrapped, digest=other.digest),
            "missing": vault.delete().where(vault.c.id == first.id),
            "keyless": mine.values(wrapped=None),
        }[change]
        await connection.execute(statement)
    with pytest.raises(LogDamaged, match="gateway log verify"):
        await store.vault.reveal(first.id, OFFICER, "test", WHY, 5)
    assert (await store.vault.reveal(second.id, OFFICER, "test", WHY, 5)).content.texts[0].text == "two"


async def test_a_row_put_under_another_decision_does_not_open(store, url):
    """Even where the record agreed with it (as after a rewritten history) the id that was sealed does not."""
    outcome = sealed("one")
    key, box = seal(content_of(outcome))
    kek = bytes(32)
    for other in ("dec_other", ""):
        with pytest.raises(ValueError, match="belong to another"):
            unseal(box, key, other)
        with pytest.raises(ValueError, match="belong to another"):
            unwrap(wrap(key, kek, "kek-1", outcome.request.id), kek, "kek-1", other)
    with pytest.raises(ValueError, match="belong to another"):
        unwrap(wrap(key, kek, "kek-1", "dec_1"), kek, "kek-2", "dec_1")


async def test_what_verify_is_told(store, url):
    """Each way in which a row can differ from its record has words of its own."""
    logged = await store.decisions.append(sealed(MARKER))
    bare = await store.decisions.append(outcomes.refused())
    record = (await store.decisions.get(logged.id)).record
    async with raw(url) as connection:
        row = (await connection.execute(sa.select(vault))).one()
    problem = vault_module.vault_problem
    other = (await store.decisions.get(bare.id)).record

    class Changed:
        def __init__(self, **changes):
            self.__dict__.update(row._mapping)
            self.__dict__.update(changes)

    assert problem(record, row) is None
    assert problem(other, None) is None
    assert "none was kept" in problem(other, row)
    assert "missing" in problem(record, None)
    assert "`department`" in problem(record, Changed(department="x"))
    assert "`patient`" in problem(record, Changed(patient="0" * 64))
    assert "`until`" in problem(record, Changed(until=row.until + dt.timedelta(days=1)))
    assert "without an erasure" in problem(record, Changed(sealed=None))
    assert "without an erasure" in problem(record, Changed(wrapped=None, sealed=None))
    assert "another digest" in problem(record, Changed(digest=bytes(32)))
    assert "not what was sealed" in problem(record, Changed(sealed=bytes(row.sealed)[:-1] + b"\x00"))
    assert "is there" in problem(record, Changed(erasure="era_1"))
    assert problem(record, Changed(erasure="era_1", sealed=None, wrapped=None, kek="")) is None


async def test_a_reveal_needs_role_department_reason_and_end(store):
    logged = await store.decisions.append(sealed(MARKER))
    bad = [
        (CLINICIAN, WHY, 5, NotPermitted),
        (ELSEWHERE, WHY, 5, NotFound),
        (OFFICER, "why", 5, InvalidRequest),
        (OFFICER, "     \n     ", 5, InvalidRequest),
        (OFFICER, "a" * 1001, 5, InvalidRequest),
        (OFFICER, "line\nbreak", 5, InvalidRequest),
        (OFFICER, WHY, 0, InvalidRequest),
        (OFFICER, WHY, 61, InvalidRequest),
        (OFFICER, WHY, True, InvalidRequest),
    ]
    for caller, why, minutes, error in bad:
        with pytest.raises(error):
            await store.vault.reveal(logged.id, caller, "test", why, minutes)
    assert await _accesses(store, logged.id) == []
    with pytest.raises(NotFound, match="no decision `dec_�x`"):
        await store.vault.reveal("dec_\nx", OFFICER, "test", WHY, 5)
    with pytest.raises(NotFound):
        await store.vault.content("dec_\x00", OFFICER, "test")


async def test_a_look_again_needs_an_open_box_of_the_same_caller(store, url):
    logged = await store.decisions.append(sealed(MARKER))
    with pytest.raises(NotPermitted, match="reveal"):
        await store.vault.content(logged.id, OFFICER, "test")
    shown = await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)
    again = await store.vault.content(logged.id, OFFICER, "test")
    assert (again.content, again.until) == (shown.content, shown.until)
    for caller in (OTHER, msgspec.structs.replace(OFFICER, person="eve"), msgspec.structs.replace(OFFICER, key="k")):
        with pytest.raises(NotPermitted):
            await store.vault.content(logged.id, caller, "test")
    first, second = await _accesses(store, logged.id)
    assert (first.action, first.why, first.caller.person) == ("reveal", WHY, "ada")
    assert first.until - first.at == dt.timedelta(minutes=5)
    assert (second.action, second.why, second.until) == ("look", WHY, first.until)
    assert (first.id, second.id) == (shown.access, again.access)


@pytest.mark.parametrize(
    ("began", "lasts", "later", "is_open"),
    [
        (-10, 5, None, False),  # over
        (-10, 20, None, True),
        (+30, 60, None, False),  # of the future: the clock went back
        (-10, 20, 15, False),  # the log has seen its end: the clock went back since
        (-10, 20, 60 * 30, True),  # a record from another world
    ],
)
async def test_a_box_ends_also_where_the_clock_jumps(store, began, lasts, later, is_open):
    logged = await store.decisions.append(sealed(MARKER))
    now = dt.datetime.now(dt.UTC)
    at = now + dt.timedelta(minutes=began)
    box = AccessV1.of(
        caller=OFFICER,
        endpoint="test",
        decisions=(logged.id,),
        at=at,
        action="reveal",
        why=WHY,
        until=at + dt.timedelta(minutes=lasts),
    )
    await store.decisions.append_event(box)
    if later is not None:
        when = now + dt.timedelta(minutes=later)
        await store.decisions.append_event(AccessV1.of(caller=OTHER, endpoint="test", decisions=(), at=when))
    if is_open:
        assert (await store.vault.content(logged.id, OFFICER, "test")).until == box.until
    else:
        with pytest.raises(NotPermitted):
            await store.vault.content(logged.id, OFFICER, "test")


async def test_nothing_is_shown_that_can_not_be_recorded(url, tmp_path):
    async with opened(url, tmp_path) as store:
        logged = await store.decisions.append(sealed(MARKER))
        await store.decisions.close()
        with pytest.raises(Unavailable):
            await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)


async def test_a_rotation_wraps_every_key_anew(store, url, tmp_path):
    ids = [(await store.decisions.append(sealed(f"question {i}"))).id for i in range(7)]
    await store.vault.ready()
    await store.vault.ready()
    (before,) = await store.vault.keys()
    seen = []
    done = await store.vault.rotate_key(OFFICER, seen.append)
    assert (done.wrapped, done.left, sum(seen)) == (7, {}, 7)
    uses = {use.kek: use for use in await store.vault.keys()}
    assert (uses[before.kek].count, uses[before.kek].here, uses[before.kek].current) == (0, True, False)
    assert (uses[done.kek].count, uses[done.kek].current) == (7, True)
    changes = [row.record for row in await store.decisions.recent(9, kind="change.v1")]
    noted = [(c.before, c.after) for c in changes if c.what == "vault-key"]
    assert noted == [(before.kek, done.kek), (None, before.kek)]
    with pytest.raises(InvalidRequest, match="a moment ago"):
        await store.vault.drop_key(before.kek, OFFICER)
    for id_ in ids:
        assert (await store.vault.reveal(id_, OFFICER, "test", WHY, 1)).content.id == id_
    async with opened(url, tmp_path) as again:  # another process reads the same keys
        assert (await again.vault.reveal(ids[0], OFFICER, "test", WHY, 1)).content.texts[0].text == "question 0"


async def test_a_key_that_wraps_nothing_can_be_destroyed(store, monkeypatch):
    monkeypatch.setattr(rotation, "_SETTLE", dt.timedelta(0))
    id_ = (await store.decisions.append(sealed(MARKER))).id
    (old,) = await store.vault.keys()
    store.vault._keyring.add()
    with pytest.raises(InvalidRequest, match="wraps 1 keys"):
        await store.vault.drop_key(old.kek, OFFICER)
    await store.vault.rotate_key(OFFICER, resume=True)
    with pytest.raises(InvalidRequest, match="no key"):
        await store.vault.drop_key("kek-0", OFFICER)
    await store.vault.drop_key(old.kek, OFFICER)
    assert old.kek not in {use.kek for use in await store.vault.keys()}
    assert (await store.vault.reveal(id_, OFFICER, "test", WHY, 1)).content.id == id_
    latest = (await store.decisions.recent(1, kind="change.v1"))[0].record
    assert (latest.what, latest.subject, latest.after) == ("vault-key-dropped", old.kek, None)


async def test_a_running_gateway_follows_a_rotation_that_was_broken_off(url, tmp_path, monkeypatch):
    monkeypatch.setattr(rotation, "_BATCH", 3)
    async with opened(url, tmp_path) as running, opened(url, tmp_path) as tool:
        ids = [(await running.decisions.append(sealed(f"question {i}"))).id for i in range(8)]
        batches = []

        def stop(number):
            batches.append(number)
            if len(batches) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await tool.vault.rotate_key(OFFICER, stop)
        counts = sorted(use.count for use in await tool.vault.keys())
        assert counts == [2, 6]
        ids.append((await running.decisions.append(sealed("question 8"))).id)  # by the new key: it saw the file change
        assert sorted(use.count for use in await tool.vault.keys()) == [2, 7]
        for number, id_ in enumerate(ids):
            shown = await running.vault.reveal(id_, OFFICER, "test", WHY, 1)
            assert shown.content.texts[0].text == f"question {number}"
        done = await tool.vault.rotate_key(OFFICER, resume=True)
        assert (done.wrapped, done.left) == (2, {})
        assert sorted(use.count for use in await tool.vault.keys()) == [0, 9]


async def test_a_lost_key_is_named_and_breaks_nothing_else(url, tmp_path):
    async with opened(url, tmp_path / "first") as store:
        logged = await store.decisions.append(sealed(MARKER))
        (use,) = await store.vault.keys()
    async with opened(url, tmp_path / "second") as store:
        with pytest.raises(Unavailable, match=use.kek):
            await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)
        assert not (tmp_path / "second" / "vault.key").exists(), "a look makes no key"
        fresh = await store.decisions.append(sealed("new"))
        assert (await store.vault.reveal(fresh.id, OFFICER, "test", WHY, 5)).content.texts[0].text == "new"
        assert {(u.kek == use.kek, u.here) for u in await store.vault.keys()} == {(True, False), (False, True)}
        done = await store.vault.rotate_key(OFFICER)
        assert done.left == {use.kek: 1}
        assert (await store.decisions.check()).ok
    keys = (tmp_path / "first" / "vault.key").read_text() + (tmp_path / "second" / "vault.key").read_text()
    async with opened(url, tmp_path / "third", value=keys.replace("\n", ",")) as store:
        assert (await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)).content.texts[0].text == MARKER


async def test_a_wrong_key_under_the_right_name_opens_nothing(url, tmp_path, monkeypatch):
    async with opened(url, tmp_path) as store:
        logged = await store.decisions.append(sealed(MARKER))
        ring = store.vault._keyring
        (kek,) = ring.ids()
        ring._keys = {kek: os.urandom(32)}
        with pytest.raises(LogDamaged, match="belong to another key"):
            await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)


async def test_without_keys_nothing_that_is_to_be_sealed_is_answered(url):
    store = await Store.open(url, secret=SECRET)
    try:
        with pytest.raises(Unavailable, match="no keys for the vault"):
            await store.decisions.append(sealed(MARKER))
        assert await store.decisions.count() == 0
        await store.decisions.append(outcomes.released())
        with pytest.raises(Unavailable, match="data folder"):
            await store.vault.rotate_key(OFFICER)
    finally:
        await store.close()


async def test_sealed_and_bare_records_share_a_group(store):
    made = [sealed(f"{i}") if i % 3 else outcomes.refused() for i in range(40)]
    done = await asyncio.gather(*(store.decisions.append(outcome) for outcome in made))
    assert sorted(logged.sequence for logged in done) == list(range(1, 41))
    for number, logged in enumerate(done):
        stored = await store.decisions.get(logged.id)
        assert stored.sequence == logged.sequence
        if number % 3:
            shown = await store.vault.reveal(logged.id, OFFICER, "test", WHY, 1)
            assert shown.content.texts[0].text == f"{number}"
    assert (await store.decisions.check()).ok


async def test_a_group_is_bounded_by_its_bytes(sqlite_url, tmp_path, monkeypatch):
    from gateway.store import writer

    monkeypatch.setattr(writer, "_GROUP_BYTES", 500_000)
    async with opened(sqlite_url, tmp_path) as store:
        groups = []
        insert = store.decisions._writer._inserter.insert

        async def watched(rows):
            groups.append(sum(len(row.sealed.sealed) for row in rows if row.sealed is not None))
            return await insert(rows)

        store.decisions._writer._inserter.insert = watched
        big = [sealed("x", image=os.urandom(200_000)) for _ in range(6)]
        huge = sealed("x", image=os.urandom(700_000))
        await asyncio.gather(*(store.decisions.append(outcome) for outcome in (*big, huge)))
        assert sum(groups) > 1_900_000
        assert all(size <= 500_000 or size > 700_000 for size in groups)
        assert len(groups) >= 4


async def test_a_clock_that_goes_back_ends_nothing_early(url, tmp_path):
    future = dt.datetime.now(dt.UTC) + dt.timedelta(days=400)
    async with opened(url, tmp_path) as store:
        await store.decisions.append_event(AccessV1.of(caller=OFFICER, endpoint="test", decisions=(), at=future))
    async with opened(url, tmp_path) as store:  # the clock went back by 400 days while the gateway was down
        outcome = sealed(MARKER)
        logged = await store.decisions.append(outcome)
        assert (await store.decisions.get(logged.id)).record.sealed.until >= future + dt.timedelta(hours=1)
        assert (await store.retention.run(future + dt.timedelta(minutes=59))).erased == 0
        back = msgspec.structs.replace(sealed("old"), started=outcome.started - dt.timedelta(days=30))
        logged = await store.decisions.append(back)  # it went back while it ran
        assert (await store.decisions.get(logged.id)).record.sealed.until >= future + dt.timedelta(hours=1)


def _service(tmp_path, body):
    """Write a key service that answers by `body`, Python over `asked`; give the command."""
    script = tmp_path / "kms.py"
    script.write_text(f"import base64, json, os, sys, time\nasked = json.load(sys.stdin)\n{body}\n")
    return f"{sys.executable} {script}"


XOR = """
key = bytes(b ^ 0x5A for b in base64.b64decode(asked["key"]))
word = "wrapped" if asked["op"] == "wrap" else "key"
answer = {word: base64.b64encode(key).decode()}
if asked["op"] == "wrap": answer["kek"] = "arn:key/7"
assert "GATEWAY_SECRET" not in os.environ and asked["kek"] == ("main" if asked["op"] == "wrap" else "arn:key/7")
print(json.dumps(answer))
"""


async def test_a_key_service_wraps_and_opens(url, tmp_path, monkeypatch):
    monkeypatch.setenv("GATEWAY_SECRET", "not for others")
    async with opened(url, tmp_path, kms=_service(tmp_path, XOR), kms_key="main") as store:
        logged = await store.decisions.append(sealed(MARKER))
        assert (await store.decisions.get(logged.id)).record.sealed.kek == "kms:arn:key/7"
        assert (await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)).content.texts[0].text == MARKER
        assert not (tmp_path / "vault.key").exists()


async def test_moving_from_the_file_to_a_key_service(url, tmp_path):
    async with opened(url, tmp_path) as store:
        logged = await store.decisions.append(sealed(MARKER))
    async with opened(url, tmp_path, kms=_service(tmp_path, XOR), kms_key="main") as store:
        assert (await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)).content.texts[0].text == MARKER
        done = await store.vault.rotate_key(OFFICER)
        assert (done.kek, done.wrapped, done.left) == ("kms:arn:key/7", 1, {})
        (tmp_path / "vault.key").unlink()
        assert (await store.vault.reveal(logged.id, OFFICER, "test", WHY, 5)).content.texts[0].text == MARKER


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("sys.exit(3)", "status 3"),
        ("print('no')", "no JSON object"),
        ("print('[]')", "no JSON object"),
        ("print(json.dumps({'wrapped': ''}))", "no wrapped key"),
        ("print(json.dumps({'wrapped': '%%'}))", "no wrapped key"),
        ("print(json.dumps({'wrapped': 'QUJD', 'kek': 'a b'}))", "no wrapped key"),
        ("time.sleep(60)", "did not answer in"),
    ],
)
async def test_where_the_key_service_fails_no_answer_leaves(sqlite_url, tmp_path, body, told):
    ring = load_keyring(tmp_path, kms=_service(tmp_path, body))
    ring._service._patience = 1.5
    store = await Store.open(sqlite_url, secret=SECRET, keyring=ring)
    try:
        with pytest.raises(Unavailable, match=told) as caught:
            await store.decisions.append(sealed(MARKER))
        assert MARKER not in caught.value.message
        assert await store.decisions.count() == 0
        await store.decisions.append(outcomes.refused())  # what seals nothing needs no key
    finally:
        await store.close()


async def test_a_key_service_that_is_not_there(sqlite_url, tmp_path):
    async with opened(sqlite_url, tmp_path, kms="/no/such/command") as store:
        with pytest.raises(Unavailable, match="can not be started"):
            await store.decisions.append(sealed(MARKER))


@pytest.mark.parametrize(("command", "kek"), [("", "main"), ("'", "main"), ("kms", "a b"), ("kms", "")])
def test_a_key_service_that_can_not_be_meant(command, kek):
    with pytest.raises(ConfigurationError, match="GATEWAY_VAULT_KMS"):
        KeyService(command, kek)


async def test_the_file_of_keys(tmp_path):
    path = tmp_path / "vault.key"
    ring = load_keyring(tmp_path)
    assert ring.ids() == ()
    assert not path.exists(), "no key is made before it is needed"
    first = ring.current()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_keyring(tmp_path).current() == first
    second = ring.add()
    assert load_keyring(tmp_path).ids() == ring.ids() == (second, first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigurationError, match="the one that wraps"):
        ring.drop(second)
    ring.drop(first)
    assert load_keyring(tmp_path).ids() == (second,)
    assert path.read_text().strip() not in repr(ring)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_keyring(tmp_path).current()
    path.chmod(0o600)
    for text in ("", "abc", "00" * 31, "00" * 33):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match="random bytes") as caught:
            load_keyring(tmp_path).current()
        assert "abc" not in str(caught.value)


async def test_keys_from_outside_are_not_written(tmp_path):
    keys = [os.urandom(32) for _ in range(2)]
    given_ = load_keyring(tmp_path, value=f"{keys[0].hex()}, {keys[1].hex()}")
    assert given_.ids() == (kek_id_of(keys[0]), kek_id_of(keys[1]))
    file = tmp_path / "given.key"
    file.write_text(keys[1].hex())
    file.chmod(0o600)
    filed = load_keyring(tmp_path, file=file)
    assert filed.current() == kek_id_of(keys[1])
    for ring in (given_, filed):
        with pytest.raises(ConfigurationError, match="from outside"):
            ring.add()
    file.unlink()
    with pytest.raises(ConfigurationError, match="can not be read"):
        filed.current()
    assert not file.exists()


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.text(max_size=200), st.binary(max_size=500), st.data())
def test_every_bit_counts(prompt, answer, image, data):
    outcome = keeping(outcomes.released(prompt, answer, image=image))
    content = content_of(outcome)
    key, box = seal(content)
    assert unseal(box, key, content.id) == content
    json.dumps(plainly(content))
    place = data.draw(st.integers(0, len(box) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(box)
    changed[place] ^= 1 << bit
    with pytest.raises(ValueError, match="encrypted bytes"):
        unseal(bytes(changed), key, content.id)
    with pytest.raises(ValueError, match="encrypted bytes"):
        unseal(box[:place], key, content.id)


def test_two_seals_of_the_same_words_share_nothing():
    outcome = keeping(outcomes.released(MARKER, MARKER))
    (one, first), (two, second) = seal(content_of(outcome)), seal(content_of(outcome))
    assert one != two
    assert first[1:13] != second[1:13]
    assert first[13:] != second[13:]


def test_a_record_without_sealed_content_has_the_bytes_it_always_had():
    record = record_of(outcomes.released(), Digester(SECRET))
    assert isinstance(record, DecisionV1)
    assert record.sealed is None
    assert b'"sealed"' not in msgspec.json.encode(record)
    assert b'"retention"' not in msgspec.json.encode(record)
