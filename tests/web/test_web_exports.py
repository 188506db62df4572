"""Exports over HTTP: a real store behind a real socket."""

import contextlib
import io
import json
import zipfile

import aiohttp
import pytest
from store.kit import SECRET, outcomes

from gateway.records import AccessV1
from gateway.store import Store
from gateway.web import exports

WHY = "the yearly audit"


@pytest.fixture
async def ask(make_runtime, serving, tmp_path, monkeypatch):
    """A served gateway: `await ask(key, **body)` gives status, headers and bytes; `ask.store` is its store."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(exports.tempfile, "tempdir", str(scratch))
    runtime = make_runtime()
    runtime.store = await Store.open(f"sqlite:///{tmp_path}/log.sqlite3", secret=SECRET)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(runtime.store.close)
        base = await stack.enter_async_context(serving(runtime))
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def call(key="key-officer", **body):
            headers = {"authorization": f"Bearer {key}"}
            async with session.post(base + "/exports", headers=headers, json=body) as answer:
                return answer.status, answer.headers, await answer.read()

        call.store, call.scratch = runtime.store, scratch
        for outcome in (outcomes.refused(), outcomes.released(), outcomes.refused()):
            await runtime.store.decisions.append(outcome)
        yield call


async def looks(store):
    return [row.record for row in await store.decisions.recent(100, kind="access.v1")]


async def test_an_officer_takes_the_refusals_away(ask):
    status, headers, body = await ask(why=WHY, filter={"outcome": "refused"}, formats=["csv", "fhir"])
    assert (status, headers["content-type"]) == (200, "application/zip")
    assert headers["x-gateway-records"] == "2"
    assert headers["cache-control"] == "no-store"
    assert int(headers["content-length"]) == len(body)
    assert headers["x-gateway-access"] in headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        events = archive.read("auditevents.ndjson").splitlines()
        assert len(archive.read("records.ndjson").splitlines()) == len(events) == 2
    assert manifest["count"] == 2
    assert manifest["access"] == headers["x-gateway-access"]
    assert manifest["filter"] == "kind=decision.v1&department=radiology&outcome=refused"
    [look] = await looks(ask.store)
    assert isinstance(look, AccessV1)
    assert (look.action, look.endpoint, look.why, look.rows) == ("export", "/exports", WHY, 2)
    assert list(ask.scratch.iterdir()) == []


async def test_several_values_and_the_auditor(ask):
    status, headers, _ = await ask("key-auditor", why=WHY, filter={"outcome": ["refused", "released"]})
    assert (status, headers["x-gateway-records"]) == (200, "3")
    status, headers, _ = await ask("key-elsewhere", why=WHY)
    assert (status, headers["x-gateway-records"]) == (200, "0")


@pytest.mark.parametrize(
    ("key", "body", "status", "told"),
    [
        ("key-caller", {"why": WHY}, 403, "to export needs a key with the role"),
        ("key-admin", {"why": WHY}, 403, "to export needs a key with the role"),
        ("nobody", {"why": WHY}, 401, "unknown or revoked"),
        ("key-officer", {}, 400, "why"),
        ("key-officer", {"why": "  "}, 400, "`why`: say why"),
        ("key-officer", {"why": 7}, 400, "why"),
        ("key-officer", {"why": WHY, "colour": "red"}, 400, "colour"),
        ("key-officer", {"why": WHY, "formats": ["pdf"]}, 400, "`formats`: expected some of"),
        ("key-officer", {"why": WHY, "redaction": "none"}, 400, "`redaction`: expected one of"),
        ("key-officer", {"why": WHY, "filter": {"colour": "red"}}, 400, "`colour` is no field of a filter"),
        ("key-officer", {"why": WHY, "filter": {"outcome": ""}}, 400, "expected a value for each field"),
        ("key-officer", {"why": WHY, "filter": {"outcome": []}}, 400, "expected a value for each field"),
        ("key-officer", {"why": WHY, "filter": "outcome=refused"}, 400, "filter"),
    ],
)
async def test_what_is_wrong_is_told_and_nothing_is_given_or_recorded(ask, key, body, status, told):
    given, headers, answer = await ask(key, **body)
    assert given == status
    assert headers["content-type"] == "application/problem+json"
    assert told in json.loads(answer)["detail"]
    assert await looks(ask.store) == []
    assert list(ask.scratch.iterdir()) == []


async def test_sql_in_a_filter_is_a_value(ask):
    status, headers, _ = await ask(why=WHY, filter={"outcome": "' OR 1=1 --", "person": "x'; DROP TABLE entries;"})
    assert (status, headers["x-gateway-records"]) == (200, "0")
    status, headers, _ = await ask(why=WHY)
    assert (status, headers["x-gateway-records"]) == (200, "3")


async def test_too_many_records_are_told_without_their_number(ask, monkeypatch):
    monkeypatch.setattr(exports, "MOST", 2)
    status, _, answer = await ask(why=WHY)
    assert status == 400
    assert "more than 2 records meet the filter" in json.loads(answer)["detail"]


async def test_the_place_on_the_disk_is_not_told(ask, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.store.exports.publish", full)
    status, _, answer = await ask(why=WHY)
    detail = json.loads(answer)["detail"]
    assert status == 503
    assert "the disk is full" in detail
    assert str(ask.scratch) not in detail
    assert list(ask.scratch.iterdir()) == []
