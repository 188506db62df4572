"""Reviews over HTTP: a real store behind a real socket."""

import contextlib
import datetime as dt

import aiohttp
import pytest
from msgspec.structs import replace
from store.kit import SECRET, outcomes

from gateway.records import Caller
from gateway.store import Store

BOB = Caller(key="k-bob", department="radiology", roles=("officer",), person="Dr. Bob")
OPS = Caller(key="k-ops", department="radiology", roles=("platform",))
REASON = "it asks how to bill"


@pytest.fixture
async def ask(make_runtime, serving, tmp_path):
    """A served gateway: `await ask(method, path, key, **body)` gives status and JSON; `ask.store` is its store."""
    runtime = make_runtime()
    runtime.store = await Store.open(f"sqlite:///{tmp_path}/log.sqlite3", secret=SECRET)
    own = {"key-bob": BOB, "key-ops": OPS}
    known = runtime.authenticate

    async def authenticate(token):
        return own.get(token) or await known(token)

    runtime.authenticate = authenticate
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(runtime.store.close)
        base = await stack.enter_async_context(serving(runtime))
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def call(method, path, key="key-officer", **body):
            headers = {"authorization": f"Bearer {key}"}
            async with session.request(method, base + path, headers=headers, json=body or None) as answer:
                return answer.status, await answer.json(content_type=None)

        call.store, call.session, call.base = runtime.store, session, base
        yield call


async def decide(ask, outcome=None):
    logged = await ask.store.decisions.append(outcome or outcomes.refused())
    await ask.store.sequencer.catch_up()
    return logged.id


async def test_an_officer_walks_a_review(ask):
    decision = await decide(ask)
    status, body = await ask("GET", "/reviews")
    assert (status, body["next"]) == (200, None)
    [item] = body["reviews"]
    assert (item["decision"], item["due_by"], item["state"], item["overdue"]) == (decision, "refused", "open", False)

    path = f"/decisions/{decision}/reviews"
    status, body = await ask("POST", path, action="assign")
    assert (status, body["review"]["state"], body["review"]["assignee"]) == (201, "assigned", "k2")
    status, body = await ask("POST", path, "key-bob", action="assign")
    assert (status, body["code"]) == (409, "conflict")
    assert "k2 has it" in body["detail"]
    status, body = await ask("POST", path, action="verdict", verdict="false_positive", reason=REASON)
    assert (status, body["review"]["state"]) == (201, "second")
    first = body["step"]
    status, body = await ask("POST", path, action="second", review=first, confirms=True, reason="so do I read it")
    assert (status, body["code"]) == (403, "another_person")
    second = {"review": first, "confirms": True, "reason": "so do I read it", "meaning": "approval"}
    status, body = await ask("POST", path, "key-bob", action="second", **second)
    assert (status, body["review"]["state"], body["review"]["verdict"]) == (201, "settled", "false_positive")
    signed = body["review"]["signatures"]
    assert [(s["name"], s["meaning"], s["reason"]) for s in signed] == [
        ("k2", "review", REASON),
        ("Dr. Bob", "approval", "so do I read it"),
    ]
    assert dt.datetime.fromisoformat(signed[1]["at"]).tzinfo is not None

    assert (await ask("GET", "/reviews"))[1]["reviews"] == []
    status, body = await ask("GET", "/reviews?state=settled&due_by=refused")
    assert [row["verdict"] for row in body["reviews"]] == ["false_positive"]
    status, body = await ask("GET", path, "key-auditor")
    assert status == 200
    assert [(s["action"], s["no_effect"]) for s in body["steps"]] == [
        ("assigned", None),
        ("verdict", None),
        ("seconded", None),
    ]
    status, body = await ask("GET", "/reviews/figures?since=2026-01-01", "key-ops")
    assert (status, body["settled"], body["agreement"]["hits"]) == (200, 1, 0)
    assert body["false_positives"]["of"] == 1
    assert body["queue"]["states"]["settled"] == 1


async def test_a_look_at_the_queue_is_in_the_log(ask):
    decision = await decide(ask)
    await ask("GET", "/reviews?assignee=me&state=assigned")
    await ask("GET", "/reviews?limit=1")
    last, before = [s.record for s in await ask.store.decisions.recent(2, kind="access.v1")]
    assert (last.action, last.endpoint, last.decisions, last.rows) == ("search", "/reviews", (decision,), 1)
    assert (before.filter, before.rows) == ("state=assigned&assignee=me", 0)


async def test_who_does_not_review_is_kept_out(ask):
    decision = await decide(ask)
    for key in ("key-caller", "key-auditor", "key-admin", "key-ops"):
        assert (await ask("GET", "/reviews", key))[0] == 403
        assert (await ask("POST", f"/decisions/{decision}/reviews", key, action="assign"))[0] == 403
    assert await ask.store.decisions.count() == 1


async def test_another_department_is_told_of_nothing(ask):
    decision = await decide(ask)
    assert (await ask("GET", "/reviews", "key-elsewhere"))[1]["reviews"] == []
    for method, body in (("GET", {}), ("POST", {"action": "assign"})):
        status, answer = await ask(method, f"/decisions/{decision}/reviews", "key-elsewhere", **body)
        assert (status, answer["code"]) == (404, "not_found")
        assert decision not in answer["detail"]
        assert (await ask(method, "/decisions/dec_none/reviews", "key-elsewhere", **body))[1] == answer


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"action": "erase"}, "erase"),
        ({"verdict": "agree"}, "action"),
        ({"action": "verdict", "verdict": "agree"}, "reason"),
        ({"action": "verdict", "verdict": "fine", "reason": REASON}, "verdict"),
        ({"action": "verdict", "verdict": "agree", "reason": "ok"}, "5 to 1000"),
        ({"action": "verdict", "verdict": "agree", "reason": 5}, "reason"),
        ({"action": "verdict", "verdict": "agree", "reason": REASON, "as": "bob"}, "as"),
        ({"action": "verdict", "verdict": "agree", "reason": "line\nline", "meaning": "x"}, "printable"),
        ({"action": "verdict", "verdict": "false_negative", "reason": REASON}, "makes no sense here"),
        ({"action": "second", "review": "rev_1", "confirms": "yes", "reason": REASON}, "confirms"),
        ({"action": "assign", "assignee": ""}, "assignee"),
    ],
)
async def test_a_body_that_is_wrong_is_told_by_its_field(ask, body, told):
    decision = await decide(ask)
    status, answer = await ask("POST", f"/decisions/{decision}/reviews", **body)
    assert status == 400
    assert told in answer["detail"]
    assert await ask.store.decisions.count() == 1


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=1&limit=2",
        "cursor=x",
        "state=done",
        "state=open%27%20OR%201=1",
        "who=ann",
        "overdue=1",
        "department=%00",
    ],
)
async def test_a_query_that_is_wrong_is_told(ask, query):
    status, answer = await ask("GET", f"/reviews?{query}")
    assert (status, answer["title"]) == (400, "Bad Request")
    assert await ask.store.decisions.count() == 0


@pytest.mark.parametrize("query", ["since=yesterday", "since=2026-01-31T08:00:00", "until=9999-12-31", "state=open"])
async def test_figures_want_times_with_a_zone(ask, query):
    assert (await ask("GET", f"/reviews/figures?{query}"))[0] == 400


async def test_strange_ids_and_large_bodies(ask):
    for name in ("%00", "dec_" + "x" * 200, "%27%3B--", "dec_none"):
        assert (await ask("POST", f"/decisions/{name}/reviews", action="assign"))[0] == 404
    decision = await decide(ask)
    big = {"action": "verdict", "verdict": "agree", "reason": "x" * 70_000}
    status, answer = await ask("POST", f"/decisions/{decision}/reviews", **big)
    assert (status, answer["code"]) == (413, "request_too_large")
    headers = {"authorization": "Bearer key-officer", "content-type": "text/plain"}
    async with ask.session.post(f"{ask.base}/decisions/{decision}/reviews", data=b"{}", headers=headers) as answer:
        assert answer.status == 400


async def test_old_decisions_are_overdue(ask):
    old = replace(outcomes.refused(), started=dt.datetime.now(dt.UTC) - dt.timedelta(days=10))
    decision = await decide(ask, old)
    await decide(ask)
    _, body = await ask("GET", "/reviews?overdue=true")
    assert [row["decision"] for row in body["reviews"]] == [decision]
