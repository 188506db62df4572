"""Streams that are opened: on the disk before text leaves, found by their decision, and told where it never came."""

import asyncio
import hashlib
import json

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from store.kit import SECRET, outcomes

from gateway.cli import main
from gateway.errors import NotFound, Unavailable
from gateway.records import Caller, Digester, Streamed, canonical, opened_of
from gateway.store import FileKey, Opened, Store, load_secret, parse_filter
from gateway.store.search_summary import open_to, summary

OFFICER = Caller(key="k-rad", department="radiology", roles=("officer",), person="ada")
OTHER = Caller(key="k-path", department="pathology", roles=("officer",), person="bea")


async def looks(store):
    return [row.record for row in await store.decisions.recent(100, kind="access.v1")][::-1]


async def test_a_stream_is_on_the_disk_once_it_is_opened(store):
    outcome = outcomes.withheld("a question", "an answer")
    opened = await store.decisions.open(outcome, hold_back=64)
    assert (opened.decision, opened.outcome, opened.sequence) == (outcome.request.id, outcome, 1)
    stored = await store.decisions.get(opened.id)
    due = opened_of(outcome, Digester(SECRET), id=opened.id, at=stored.record.at, hold_back=64)
    assert (stored.record, stored.bytes) == (due, canonical(due))
    assert stored.leaf == opened.leaf == hashlib.sha256(b"\x00" + stored.bytes).hexdigest()
    assert opened.id.startswith("opn_")
    logged = await store.decisions.append(replace(outcome, streamed=Streamed(mode="windowed", opened=opened.id)))
    assert (logged.id, logged.sequence) == (opened.decision, 2)
    assert (await store.decisions.get(logged.id)).record.streamed.opened == opened.id
    await store.sequencer.catch_up()
    report = await store.decisions.check()
    assert (report.records, report.problem) == (2, None)


async def test_what_can_not_be_recorded_is_not_opened(sqlite_url):
    store = await Store.open(sqlite_url, secret=SECRET)
    with pytest.raises(Unavailable, match="nothing was answered"):
        await store.decisions.open(outcomes.refused(), hold_back=64)  # it was not admitted
    assert await store.decisions.count() == 0
    await store.decisions.close()
    with pytest.raises(Unavailable, match="stopping"):
        await store.decisions.open(outcomes.withheld("q", "a"), hold_back=64)
    await store.close()


async def test_only_open_makes_an_opened(store):
    with pytest.raises(TypeError, match="an Opened comes only from"):
        Opened(object(), id="a", decision="b", sequence=1, leaf="", outcome=outcomes.refused())
    opened = await store.decisions.open(outcomes.withheld("a secret", "a"), hold_back=64)
    with pytest.raises(AttributeError, match="does not change"):
        opened.decision = "dec_other"
    assert repr(opened) == f"Opened(id='{opened.id}', decision='{opened.decision}', sequence=1)"


async def test_a_stream_is_found_by_its_decision_before_and_after_that_has_a_record(store):
    outcome = outcomes.withheld("a question", "an answer")
    opened = await store.decisions.open(outcome, hold_back=64)
    await store.sequencer.catch_up()
    wanted = parse_filter([("kind", "opened.v1"), ("subject", opened.decision)])

    async def found(caller):
        page = await store.office.search(wanted, caller, "/decisions", limit=5)
        return [summary(row, caller, wanted.subject) for row in page.rows]

    [row] = await found(OFFICER)
    told = {"kind", "department", "action", "model", "policy", "revision", "about", "hold_back", "endpoint"}
    assert {name: row[name] for name in told} == {
        "kind": "opened.v1", "department": "radiology", "action": "opened", "model": "auto", "policy": "radiology",
        "revision": 3, "about": [opened.decision], "hold_back": 64, "endpoint": "/v1/chat/completions",
    }  # fmt: skip
    assert await found(OTHER) == []
    assert [one.stored.id for one in await store.office.about(opened.decision, OFFICER, "x")] == [opened.id]
    with pytest.raises(NotFound):
        await store.office.about(opened.decision, OTHER, "x")
    record = (await store.decisions.get(opened.id)).record
    assert (open_to(record, OFFICER), open_to(record, OTHER)) == (True, False)
    await store.decisions.append(replace(outcome, streamed=Streamed(mode="windowed", opened=opened.id)))
    await store.sequencer.catch_up()
    assert [one["id"] for one in await found(OFFICER)] == [opened.id]
    [decision] = (await store.office.search(parse_filter([("kind", "decision.v1")]), OFFICER, "x", limit=5)).rows
    assert {name: summary(decision, OFFICER)[name] for name in ("streamed", "stream_ended", "left")} == {
        "streamed": "windowed", "stream_ended": "whole", "left": 0,
    }  # fmt: skip


async def test_a_decision_that_never_came_is_read_as_its_stream(store):
    opened = await store.decisions.open(outcomes.withheld("q", "a"), hold_back=64)
    closed = await store.decisions.open(outcome := outcomes.withheld("q", "a"), hold_back=64)
    await store.decisions.append(outcome)
    await store.sequencer.catch_up()

    async def read(id_, caller, **more):
        found = await store.office.read(id_, caller, "explain", **more)
        return None if found is None else (found.id, await store.office.closed(found.record))

    assert await read(opened.decision, OFFICER) is None
    assert await read(opened.decision, OFFICER, opened=True) == (opened.id, False)
    assert await read(opened.decision, OTHER, opened=True) is None
    assert await read(closed.decision, OFFICER, opened=True) == (closed.decision, None)
    assert await read(closed.id, OFFICER, opened=True) == (closed.id, True)
    assert [(one.decisions, one.rows) for one in await looks(store)] == [
        ((opened.decision,), 0),
        ((opened.decision, opened.id), 1),
        ((opened.decision,), 0),
        ((closed.decision,), 1),
        ((closed.id,), 1),
    ]


def test_the_command_line_tells_a_stream_that_was_never_closed(tmp_path):
    secret, url = load_secret(tmp_path, None), f"sqlite:///{tmp_path}/gateway.sqlite3"

    async def fill():
        store = await Store.open(url, secret=secret, log_key=FileKey(tmp_path / "log.key"))
        opened = await store.decisions.open(outcomes.withheld("q", "a"), hold_back=64)
        await store.close()
        return opened

    def log(*words):
        done = CliRunner().invoke(main, ["log", *words, "--data-dir", str(tmp_path), "--database-url", url])
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    opened = asyncio.run(fill())
    for id_ in (opened.decision, opened.id):
        flat = log("explain", id_)
        assert "It was NEVER CLOSED: the process ended meanwhile" in flat
        assert f"This is the record {opened.id}." in flat
    assert json.loads(log("explain", opened.decision, "--json"))["type"] == "opened.v1"
    [row] = json.loads(log("search", "kind=opened.v1", "action=opened", "--json"))["records"]
    assert (row["id"], row["about"]) == (opened.id, [opened.decision])
    assert "each as it was written" in log("verify", "--deep")
