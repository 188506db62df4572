"""Sealed content over HTTP: real keys and a real store behind a real socket."""

import base64
import contextlib
import datetime as dt

import aiohttp
import pytest
from store.kit import SECRET, outcomes
from store.sealing import DAY, about, sealed

from gateway.bootstrap import Runtime
from gateway.settings import read_settings
from gateway.store import Store, load_keyring

WHY = "a complaint by the patient"
PNG = b"\x89PNG\r\n\x1a\n picture"


@pytest.fixture
async def ask(serving, tmp_path):
    """A served gateway: `await ask(method, path, who, **body)` gives status and JSON; `ask.store` is its store."""
    settings = read_settings({"GATEWAY_DATA_DIR": str(tmp_path)})
    store = await Store.open(settings.database_url, secret=SECRET, keyring=load_keyring(tmp_path))
    runtime = Runtime(settings=settings, registry=None, store=store, pipelines={}, stages=())
    keys = {}
    for name, department, roles, person in (
        ("officer", "radiology", ["officer"], "ada"),
        ("second", "radiology", ["officer"], "grace"),
        ("elsewhere", "pathology", ["officer"], "emil"),
        ("clinician", "radiology", ["caller"], "mary"),
        ("machine", "radiology", ["caller"], None),
        ("auditor", "radiology", ["auditor"], "otto"),
    ):
        keys[name] = (await store.keys.create(department, roles, person=person))[1]
    async with contextlib.AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(runtime))
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def call(method, path, who="officer", **body):
            headers = {"authorization": f"Bearer {keys[who]}"}
            async with session.request(method, base + path, headers=headers, json=body or None) as answer:
                if answer.status >= 400:
                    assert answer.content_type == "application/problem+json"
                assert answer.headers["cache-control"] == "no-store"
                return answer.status, await answer.json(content_type=None)

        call.store = store
        yield call


async def test_an_officer_reveals_and_looks_again(ask):
    logged = await ask.store.decisions.append(sealed("Is this a fracture?", "It is none.", image=PNG))
    path = f"/decisions/{logged.id}"
    status, body = await ask("GET", f"{path}/content")
    assert (status, body["code"]) == (403, "reveal_needed")
    status, body = await ask("POST", f"{path}/reveal", reason=WHY, minutes=10)
    assert status == 200
    assert body["texts"][0] == {"part": "messages[0].content[0]", "text": "Is this a fracture?", "role": "user"}
    assert body["answer"] == [{"part": "choices[0].content", "text": "It is none."}]
    assert [len(attempt["demonstrations"]) for attempt in body["attempts"]] == [2, 4]
    media, _, data = body["images"][0]["url"].partition(",")
    assert (media, base64.b64decode(data)) == ("data:image/png;base64", PNG)
    record = (await ask.store.decisions.get(body["access"])).record
    assert (record.action, record.why, record.caller.person) == ("reveal", WHY, "ada")
    status, again = await ask("GET", f"{path}/content")
    assert (status, again["texts"], again["until"]) == (200, body["texts"], body["until"])
    for who, due in (("second", 403), ("elsewhere", 404), ("clinician", 403), ("auditor", 403)):
        assert (await ask("GET", f"{path}/content", who))[0] == due
        assert (await ask("POST", f"{path}/reveal", who, reason=WHY, minutes=5))[0] == (200 if who == "second" else due)


@pytest.mark.parametrize(
    "body",
    [
        {"reason": WHY},
        {"minutes": 5},
        {"reason": "no", "minutes": 5},
        {"reason": WHY, "minutes": 0},
        {"reason": WHY, "minutes": 61},
        {"reason": WHY, "minutes": "5"},
        {"reason": WHY, "minutes": 5, "for": "ever"},
        {"reason": None, "minutes": 5},
    ],
)
async def test_a_reveal_that_is_none(ask, body):
    logged = await ask.store.decisions.append(sealed())
    status, told = await ask("POST", f"/decisions/{logged.id}/reveal", **body)
    assert (status, told["status"]) == (400, 400)
    assert await ask.store.decisions.recent(9, kind="access.v1") == ()


async def test_content_that_was_not_kept(ask):
    logged = await ask.store.decisions.append(outcomes.released())
    status, body = await ask("POST", f"/decisions/{logged.id}/reveal", reason=WHY, minutes=5)
    assert (status, body["code"]) == (404, "content_not_kept")
    status, body = await ask("POST", "/decisions/dec_none/reveal", reason=WHY, minutes=5)
    assert (status, body["code"]) == (404, "not_found")


async def test_a_hold_is_placed_wins_and_is_released_by_two(ask):
    logged = await ask.store.decisions.append(about(sealed(), "4711"))
    status, hold = await ask("POST", "/holds", reason="Doe against Hospital", patient_number="4711")
    assert status == 201
    assert hold["scope"]["patient"] == ask.store.decisions.pseudonym("patient", "4711")
    assert (hold["state"], hold["placed"]["by"]) == ("open", "ada")
    status, body = await ask("POST", "/erasures", decisions=[logged.id], reason=WHY)
    assert (status, body["code"]) == (409, "legal_hold")
    assert hold["id"] in body["detail"]
    path = f"/holds/{hold['id']}"
    assert (await ask("POST", f"{path}/release", "second", reason="it is over"))[0] == 409
    status, body = await ask("POST", f"{path}/request-release", reason="it is over")
    assert (status, body["state"]) == (200, "release-requested")
    status, body = await ask("POST", f"{path}/release", reason="it is over")
    assert (status, body["code"]) == (403, "second_person_needed")
    status, body = await ask("GET", "/holds")
    assert [one["id"] for one in body["holds"]] == [hold["id"]]
    status, body = await ask("POST", f"{path}/release", "second", reason="it is over")
    assert (status, body["state"], body["released"]["by"]) == (200, "released", "grace")
    assert (await ask("GET", "/holds"))[1] == {"holds": []}
    assert len((await ask("GET", "/holds?released=true"))[1]["holds"]) == 1
    status, body = await ask("POST", "/erasures", decisions=[logged.id], reason=WHY)
    assert (status, body["decisions"], body["already"]) == (200, [logged.id], [])
    status, body = await ask("POST", f"/decisions/{logged.id}/reveal", reason=WHY, minutes=5)
    assert (status, body["code"]) == (404, "content_erased")


async def test_who_may_hold_and_erase(ask):
    logged = await ask.store.decisions.append(sealed())
    for who in ("clinician", "auditor", "machine"):
        assert (await ask("GET", "/holds", who))[0] == 403
        assert (await ask("POST", "/holds", who, reason=WHY, decisions=[logged.id]))[0] == 403
        assert (await ask("POST", "/erasures", who, reason=WHY, decisions=[logged.id]))[0] == 403
    assert (await ask("POST", "/erasures", "elsewhere", reason=WHY, decisions=[logged.id]))[0] == 404
    for path in ("/holds?released=maybe", "/holds?released=true&released=true", "/holds?x=1"):
        assert (await ask("GET", path))[0] == 400
    for body in (
        {"reason": WHY},
        {"reason": WHY, "since": "yesterday"},
        {"reason": WHY, "patient": "4711"},
        {"reason": WHY, "patient": "a" * 64, "patient_number": "4711"},
        {"reason": WHY, "decisions": "dec_1"},
    ):
        assert (await ask("POST", "/holds", **body))[0] == 400


async def test_break_glass_lets_a_clinician_read_and_says_so(ask):
    logged = await ask.store.decisions.append(sealed("Is this a fracture?", seconds=DAY.total_seconds()))
    path = f"/decisions/{logged.id}/reveal"
    assert (await ask("POST", path, "clinician", reason=WHY, minutes=5))[0] == 403
    status, body = await ask("POST", "/break-glass", "clinician", reason="an emergency in room 3", minutes=30)
    assert (status, body["department"], body["person"], body["claimed"]) == (201, "radiology", "mary", None)
    assert dt.datetime.fromisoformat(body["until"]) > dt.datetime.now(dt.UTC) + dt.timedelta(minutes=29)
    status, shown = await ask("POST", path, "clinician", reason=WHY, minutes=5)
    assert (status, shown["texts"][0]["text"]) == (200, "Is this a fracture?")
    access = (await ask.store.decisions.get(shown["access"])).record
    assert (access.caller.grant, access.caller.person) == (body["grant"], "mary")
    for who in ("machine", "auditor"):
        assert (await ask("POST", path, who, reason=WHY, minutes=5))[0] == 403
    assert (await ask("POST", "/erasures", "clinician", reason=WHY, decisions=[logged.id]))[0] == 403


async def test_break_glass_needs_a_name_and_an_end(ask):
    emergency = "an emergency in room 3"
    for who, body, due in (
        ("machine", {"reason": emergency, "minutes": 30}, 400),
        ("machine", {"reason": emergency, "minutes": 241, "person": "mary"}, 400),
        ("machine", {"reason": emergency, "minutes": 30, "person": "mary", "department": "pathology"}, 400),
        ("officer", {"reason": emergency, "minutes": 30}, 403),
        ("machine", {"reason": emergency, "minutes": 30, "person": "mary"}, 201),
    ):
        status, told = await ask("POST", "/break-glass", who, **body)
        assert status == due, told
    assert (told["person"], told["claimed"]) == (None, "mary")
