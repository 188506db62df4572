"""`/keys` over HTTP: an admin makes, rotates and revokes keys; each change is in the log, each secret shown once."""

import json

import httpx
import pytest

from gateway.store import Store

SECRET = bytes(range(32))


@pytest.fixture
async def store(tmp_path):
    opened = await Store.open(f"sqlite:///{tmp_path}/log.sqlite3", secret=SECRET)
    yield opened
    await opened.close()


@pytest.fixture
async def admin(make_runtime, serving, store):
    """A client that signs in with an admin's key; `admin.text` is the key, `admin.id` its id."""
    runtime = make_runtime()
    runtime.store, runtime.authenticate = store, store.keys.authenticate
    key, text = await store.keys.create("radiology", ["admin"])
    async with serving(runtime) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        client.headers["authorization"] = f"Bearer {text}"
        client.text, client.id = text, key.id
        yield client


async def log(store):
    """What the log says of keys, newest first."""
    return [one.record for one in await store.decisions.recent(100, kind="change.v1") if one.record.what[:4] == "key-"]


async def test_a_key_lives_and_ends_over_http(admin, store):
    asked = {
        "department": "radiology",
        "roles": ["officer"],
        "scopes": ["read", "search"],
        "label": "night shift",
        "expires": "90d",
        "person": "ada",
        "application": "pacs",
        "per_minute": 60,
        "per_day": 1000,
        "reason": "a new officer",
    }
    made = await admin.post("/keys", json=asked)
    assert made.status_code == 201
    key = made.json()
    assert {name: key[name] for name in asked if name not in ("expires", "reason")} == {
        name: value for name, value in asked.items() if name not in ("expires", "reason")
    }
    first = key["key"]
    who = {"authorization": f"Bearer {first}"}
    assert (await admin.get("/keys", headers=who)).status_code == 403
    listed = (await admin.get("/keys")).json()["keys"]
    assert [one["id"] for one in listed] == [admin.id, key["id"]]
    assert listed[1] == {name: value for name, value in key.items() if name != "key"}

    rotated = await admin.post(f"/keys/{key['id']}/rotate", json={"overlap": "1h", "reason": "the quarter is over"})
    assert rotated.status_code == 200
    second = rotated.json()["key"]
    assert rotated.json()["id"] == key["id"] and second != first and rotated.json()["old_until"]
    for text in (first, second):
        assert (await admin.get("/keys", headers={"authorization": f"Bearer {text}"})).status_code == 403

    revoked = await admin.post(f"/keys/{key['id']}/revoke", json={"reason": "has left"})
    assert revoked.status_code == 200 and revoked.json()["revoked_at"]
    for text in (first, second):
        assert (await admin.get("/keys", headers={"authorization": f"Bearer {text}"})).status_code == 401
    again = await admin.post(f"/keys/{key['id']}/revoke")
    assert again.status_code == 404 and again.headers["content-type"] == "application/problem+json"

    changes = await log(store)
    assert [one.what for one in changes] == ["key-revoked", "key-rotated", "key-created", "key-created"]
    assert [one.reason for one in changes] == ["has left", "the quarter is over", "a new officer", None]
    assert {one.caller.key for one in changes[:3]} == {admin.id}
    everything = json.dumps(listed) + (await admin.get("/keys")).text + repr(changes)
    assert not any(text[16:] in everything for text in (first, second, admin.text)), "a secret is shown once"


async def test_an_admin_can_not_give_itself_content_silently(admin, store):
    made = await admin.post("/keys", json={"department": "radiology", "roles": ["admin", "officer"]})
    assert made.status_code == 201
    newest = (await log(store))[0]
    assert (newest.what, newest.subject, newest.caller.key) == ("key-created", made.json()["id"], admin.id)
    assert newest.after.startswith("radiology/admin+officer#")


async def test_while_the_log_can_not_be_written_no_key_changes(admin, store):
    await store.decisions.close()
    assert (await admin.post("/keys", json={"department": "radiology"})).status_code == 503
    assert (await admin.post(f"/keys/{admin.id}/rotate", json={})).status_code == 503
    assert (await admin.post(f"/keys/{admin.id}/revoke", json={})).status_code == 503
    listed = (await admin.get("/keys")).json()["keys"]
    assert [(one["id"], one["revoked_at"]) for one in listed] == [(admin.id, None)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "department"),
        ({"department": "nowhere"}, "no policy for the department `nowhere`"),
        ({"department": "radiology", "roles": []}, "roles"),
        ({"department": "radiology", "roles": ["king"]}, "`king` is no role"),
        ({"department": "radiology", "roles": "caller"}, "roles"),
        ({"department": "radiology", "scopes": []}, "scopes"),
        ({"department": "radiology", "scopes": ["keys"]}, "`keys` is nothing that caller may do"),
        ({"department": "*"}, "can not ask models"),
        ({"department": "radiology", "expires": "soon"}, "`expires`: expected a duration"),
        ({"department": "radiology", "expires": "99999999999d"}, "`expires`"),
        ({"department": "radiology", "expires": "4000d"}, "3650 days"),
        ({"department": "radiology", "per_minute": 0}, "per_minute"),
        ({"department": "radiology", "per_minute": "9"}, "per_minute"),
        ({"department": "radiology", "role": ["admin"]}, "role"),
        ({"department": "radiology", "id": "0123456789ab"}, "id"),
        ([], "object"),
        ("x", "object"),
    ],
)
async def test_a_body_that_is_wrong_is_told_and_makes_nothing(admin, store, body, said):
    answer = await admin.post("/keys", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert len(await store.keys.list()) == 1
    assert len(await log(store)) == 1


async def test_what_is_no_json_is_told(admin):
    for raw in (b"{", b"\xff", b"department=radiology"):
        answer = await admin.post("/keys", content=raw, headers={"content-type": "application/json"})
        assert answer.status_code == 400
    assert (await admin.post("/keys", content=b"{}", headers={"content-type": "text/plain"})).status_code == 400


@pytest.mark.parametrize("key_id", ["nothere", "0123456789ab", "..%2f..", "'%20OR%201=1", "x" * 300])
async def test_a_key_that_is_not_there_is_not_changed(admin, store, key_id):
    assert (await admin.post(f"/keys/{key_id}/revoke", json={})).status_code == 404
    assert (await admin.post(f"/keys/{key_id}/rotate", json={})).status_code == 404
    assert len(await log(store)) == 1


async def test_a_rotation_without_overlap_locks_out_the_old_secret(admin):
    answer = await admin.post(f"/keys/{admin.id}/rotate", json={"overlap": "0"})
    assert answer.status_code == 200 and answer.json()["old_until"] is None
    assert (await admin.get("/keys")).status_code == 401
    admin.headers["authorization"] = f"Bearer {answer.json()['key']}"
    assert (await admin.get("/keys")).status_code == 200
    assert (await admin.post(f"/keys/{admin.id}/rotate", json={"overlap": "31d"})).status_code == 400


@pytest.mark.parametrize("role", ["caller", "operator", "platform", "officer", "auditor"])
async def test_nobody_but_an_admin_manages_keys(admin, store, role):
    _, text = await store.keys.create("radiology", [role])
    admin.headers["authorization"] = f"Bearer {text}"
    assert (await admin.get("/keys")).status_code == 403
    for path in ("/keys", f"/keys/{admin.id}/rotate", f"/keys/{admin.id}/revoke"):
        assert (await admin.post(path, json={"department": "radiology"})).status_code == 403
    assert len(await log(store)) == 2
