"""The decisions over HTTP, with a real store: what an officer asks, and what each question leaves in the log."""

import asyncio
import datetime as dt
import json
import os
import re
import subprocess

import httpx
import pytest
from msgspec.structs import replace
from store.kit import ROOT, SECRET, outcomes

from gateway.policy.model import ReviewsSpec
from gateway.records import AccessV1, ReviewV1
from gateway.store import Store
from gateway.wire.ids import new_decision_id

WHY = "x-gateway-why"


def as_(key):
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
async def store(tmp_path):
    opened = await Store.open(f"sqlite:///{tmp_path}/log.sqlite3", secret=SECRET)
    yield opened
    await opened.close()


@pytest.fixture
async def client(runtime, serving, store):
    """A client of the application on a real socket, over a real store."""
    runtime.store = store
    async with serving(runtime) as base, httpx.AsyncClient(base_url=base) as found:
        found.headers["authorization"] = "Bearer key-officer"
        yield found


async def decide(store, make=outcomes.refused, department="radiology", days=0):
    outcome = make("a question", "an answer") if make is outcomes.withheld else make()
    outcome = replace(
        outcome,
        request=replace(outcome.request, id=new_decision_id()),
        started=outcome.started - dt.timedelta(days=days),
        policy=replace(
            outcome.policy, policy=replace(outcome.policy.policy, department=department, reviews=ReviewsSpec())
        ),
    )
    return (await store.decisions.append(outcome)).id


async def looks(store):
    return [row.record for row in await store.decisions.recent(1000, kind="access.v1")][::-1]


async def test_who_was_refused_last_week_in_radiology_and_all_about_it(client, store):
    """The five questions of an officer: who, why, by which version of which rule, who reviewed it, who has read it."""
    refused = [await decide(store, days=days) for days in (1, 3)]
    await decide(store, days=9)
    await decide(store, outcomes.released, days=2)
    await decide(store, department="pathology", days=2)
    await store.sequencer.catch_up()

    query = "/decisions?department=radiology&outcome=refused&since=7d&facets=rule,reason"
    answer = await client.get(query, headers={WHY: "quarterly audit"})
    assert answer.status_code == 200
    found = answer.json()
    assert [row["id"] for row in found["decisions"]] == refused[::-1]
    assert (found["total"], found["total_is_exact"], found["next"]) == (2, True, None)
    assert found["facets"] == {"rule": [{"value": "tiers", "count": 2}], "reason": [{"value": "risk", "count": 2}]}
    assert found["complete_to"]["size"] == 5
    row = found["decisions"][0]
    assert (row["key"], row["reasons"], row["rule"]) == ("0123456789ab", ["risk", "stage-failed"], "tiers")
    assert (row["policy"], row["revision"], row["policy_digest"]) == ("radiology", 3, "5f" * 32)

    # A reviewer judges one, an auditor and an admin of another department read it.
    review = {"action": "verdict", "verdict": "agree", "reason": "a bill for a scan that never was"}
    judged = await client.post(f"/decisions/{row['id']}/reviews", json=review)
    assert judged.status_code in (200, 201), judged.text
    for key in ("key-auditor", "key-admin"):
        read = await client.get(f"/decisions/{row['id']}", headers=as_(key) | {WHY: "ü: a complaint".encode()})
        assert read.status_code == 200
    await store.sequencer.catch_up()

    about = (await client.get(f"/decisions/{row['id']}/about")).json()
    told = [(one["kind"], one.get("action"), one["key"], one.get("why")) for one in about["records"]]
    assert told[0] == ("access.v1", "search", "k2", "quarterly audit")
    assert ("review.v1", "verdict", "k2", "a bill for a scan that never was") in told
    assert told[-2:] == [("access.v1", "read", "k3", "ü: a complaint"), ("access.v1", "read", "k4", "ü: a complaint")]
    [verdict] = [one for one in about["records"] if one["kind"] == "review.v1"]
    assert (verdict["verdict"], verdict["department"]) == ("agree", "radiology")

    readers = await client.get(f"/decisions?kind=access.v1&action=read&subject={row['id']}")
    assert [one["key"] for one in readers.json()["decisions"]] == ["k4", "k3"]


async def test_a_decision_is_given_byte_for_byte(client, store):
    id_ = await decide(store)
    answer = await client.get(f"/decisions/{id_}", headers={WHY: "a complaint"})
    stored = await store.decisions.get(id_)
    assert answer.content == stored.bytes
    assert answer.headers["content-type"] == "application/json"
    [look] = await looks(store)
    assert (look.decisions, look.why, look.caller.key, look.endpoint) == ((id_,), "a complaint", "k2", "/decisions")
    for key in ("key-caller", "key-none"):
        assert (await client.get(f"/decisions/{id_}", headers=as_(key))).status_code == 403
    for path in (f"/decisions/{id_}", f"/decisions/{id_}/about"):
        elsewhere = await client.get(path, headers=as_("key-elsewhere"))
        assert elsewhere.status_code == 404
        absent = await client.get(path.replace(id_, new_decision_id()), headers=as_("key-elsewhere"))
        assert {**absent.json(), "detail": ""} == {**elsewhere.json(), "detail": ""}
    assert (await client.get(f"/decisions/{look.id}")).status_code == 404, "a look is no decision"
    assert (await client.get("/decisions/x/about")).status_code == 404


async def test_pages_and_whole_records(client, store):
    ids = [await decide(store) for _ in range(7)]
    await store.sequencer.catch_up()
    shown, path = [], "/decisions?limit=3&view=full"
    while path:
        body = (await client.get(path)).json()
        assert ("total" in body) == ("cursor" not in path)
        for row in body["decisions"]:
            stored = await store.decisions.get(row["id"])
            assert row["record"] == json.loads(stored.bytes)
            assert (row["sequence"], row["leaf"]) == (stored.sequence, stored.leaf)
            shown.append(row["id"])
        path = f"/decisions?limit=3&view=full&cursor={body['next']}" if body["next"] else None
    assert shown == ids[::-1]
    made = await looks(store)
    assert [one.rows for one in made] == [3, 3, 1]
    assert {one.filter for one in made} == {"kind=decision.v1"}
    assert [id_ for one in made for id_ in one.decisions] == shown


async def test_a_department_sees_of_a_look_what_is_its_own(client, store):
    own, other = await decide(store), await decide(store, department="pathology")
    await store.sequencer.catch_up()
    everything = await client.get("/decisions?view=full", headers=as_("key-admin"))
    assert len(everything.json()["decisions"]) == 2
    await store.sequencer.catch_up()
    [row] = (await client.get(f"/decisions?kind=access.v1&subject={own}")).json()["decisions"]
    assert (row["key"], row["about"], row["rows"]) == ("k4", [own], 2)
    assert other not in json.dumps(row)
    [whole] = (await client.get(f"/decisions?kind=access.v1&subject={own}&view=full")).json()["decisions"]
    assert whole["record"] is None
    admins = (await client.get(f"/decisions?kind=access.v1&subject={own}&view=full", headers=as_("key-admin"))).json()
    assert set(admins["decisions"][-1]["record"]["decisions"]) == {own, other}
    assert (await client.get(f"/decisions?subject={other}")).json()["decisions"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("outcomes=refused", "outcomes"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=1%20OR%201=1", "limit"),
        ("limit=5&limit=5", "limit"),
        ("view=raw", "view"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("facets=person", "person"),
        ("facets=outcome);--", "outcome);--"),
        ("since=yesterday", "since"),
        ("min_risk=2", "min_risk"),
        ("rule=%00", "rule"),
        ("revision=1;DROP%20TABLE%20entries", "revision"),
    ],
)
async def test_what_is_no_query_is_a_problem_that_names_it(client, store, query, field):
    answer = await client.get(f"/decisions?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"`{field}`" in answer.json()["detail"]
    assert await looks(store) == []


@pytest.mark.parametrize("value", ["' OR 1=1 --", "refused' UNION SELECT * FROM api_keys --", "%", "_", "\\", '"', ";"])
async def test_a_filter_that_is_sql_is_a_value_that_nothing_has(client, store, value):
    await decide(store)
    await store.sequencer.catch_up()
    for field in ("outcome", "rule", "person", "patient", "subject", "department", "model"):
        answer = await client.get("/decisions", params={field: value})
        assert (answer.status_code, answer.json()["decisions"]) == (200, [])
    assert (await client.get("/decisions")).json()["total"] == 1


async def test_who_may_not_search_learns_nothing(client, store):
    await decide(store)
    await store.sequencer.catch_up()
    for key in ("key-caller", "key-none", "key-orphan"):
        assert (await client.get("/decisions", headers=as_(key))).status_code == 403
    assert await looks(store) == []
    assert (await client.get("/decisions", headers=as_("key-elsewhere"))).json()["decisions"] == []


async def test_a_reason_in_a_header(client, store):
    id_ = await decide(store)
    for bad in ("x" * 1001, "a\tb"):
        assert (await client.get(f"/decisions/{id_}", headers={WHY: bad})).status_code == 400
    answer = await client.get(f"/decisions/{id_}", headers=[(WHY, "one"), (WHY, "two")])
    assert answer.status_code == 400
    assert (await client.get(f"/decisions/{id_}", headers={WHY: b"\xff\xfe"})).status_code == 400
    assert await looks(store) == []
    assert (await client.get(f"/decisions/{id_}", headers={WHY: "x" * 1000})).status_code == 200
    [look] = await looks(store)
    assert isinstance(look, AccessV1)
    assert look.why == "x" * 1000


async def test_looks_at_once_are_all_recorded(client, store):
    id_ = await decide(store)
    answers = await asyncio.gather(*(client.get(f"/decisions/{id_}") for _ in range(8)))
    assert [one.status_code for one in answers] == [200] * 8
    assert len(await looks(store)) == 8
    assert not [
        row for row in await store.decisions.recent(9, kind="review.v1") if not isinstance(row.record, ReviewV1)
    ]


async def test_the_examples_of_the_docs_run(runtime, serving, store):
    """Run the commands of docs/search.md as they stand."""
    commands = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs" / "search.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(commands) == 5
    id_ = await decide(store, days=1)
    await decide(store, outcomes.released)
    await store.sequencer.catch_up()
    runtime.store = store
    async with serving(runtime) as base:
        env = {**os.environ, "GATEWAY": base, "KEY": "key-officer", "ID": id_}

        async def run(command):
            process = await asyncio.create_subprocess_exec("bash", "-c", command, env=env, stdout=subprocess.PIPE)
            out, _ = await process.communicate()
            assert process.returncode == 0
            await store.sequencer.catch_up()
            return json.loads(out)

        search, record, reviews, readers, about = [await run(command) for command in commands]
    assert [row["id"] for row in search["decisions"]] == [id_]
    assert record == json.loads((await store.decisions.get(id_)).bytes)
    assert reviews["decisions"] == []
    assert [(row["action"], row.get("why")) for row in readers["decisions"]] == [
        ("read", None),
        ("search", "weekly report"),
    ]
    assert [row["action"] for row in about["records"]] == ["search", "read"]


async def test_the_streams_that_were_opened_are_found_over_http(client, store):
    outcome = outcomes.withheld("a question", "an answer", id=new_decision_id())
    opened = await store.decisions.open(outcome, hold_back=64)
    await store.sequencer.catch_up()
    found = (await client.get(f"/decisions?kind=opened.v1&subject={opened.decision}&view=full")).json()["decisions"]
    assert [(row["id"], row["leaf"], row["record"]["decision"]) for row in found] == [
        (opened.id, opened.leaf, opened.decision)
    ]
    about = await client.get(f"/decisions/{opened.decision}/about")
    assert [(row["id"], row["action"]) for row in about.json()["records"]] == [(opened.id, "opened")]
    elsewhere = {"authorization": "Bearer key-elsewhere"}
    assert (await client.get(f"/decisions/{opened.decision}/about", headers=elsewhere)).status_code == 404
    assert (await client.get(f"/decisions/{opened.decision}")).status_code == 404  # a decision there is not, yet
    await store.decisions.append(outcome)
    assert (await client.get(f"/decisions/{opened.decision}")).json()["outcome"] == "withheld"
