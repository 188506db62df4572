"""The office: nothing is given without the permission, without the department, or without a record of it."""

import asyncio
import json
import random

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from msgspec.structs import replace
from store import searching
from store.kit import SECRET, outcomes

from gateway.cli import main
from gateway.errors import InvalidRequest, NotFound, NotPermitted, Unavailable
from gateway.records import AccessV1, Caller
from gateway.store import FileKey, Filter, Store, load_secret, parse_filter
from gateway.store.engine import writer
from gateway.store.office import Office
from gateway.store.search_summary import open_to, summary

OFFICER = Caller(key="k-rad", department="radiology", roles=("officer",), person="ada")
OTHER = Caller(key="k-path", department="pathology", roles=("officer",), person="bea")
EVERY = Caller(key="k-all", department="*", roles=("auditor",), person="cy")
ADMIN = Caller(key="k-adm", department="pathology", roles=("admin",), person="dee")


async def decide(store, department="radiology", outcome=None):
    outcome = outcome or outcomes.refused()
    policy = replace(outcome.policy.policy, department=department)
    return (await store.decisions.append(replace(outcome, policy=replace(outcome.policy, policy=policy)))).id


async def looks(store):
    """Give the records of looks, oldest first."""
    return [row.record for row in await store.decisions.recent(1000, kind="access.v1")][::-1]


async def test_reading_is_recorded_and_narrowed(store):
    own, other = await decide(store), await decide(store, "pathology")
    assert (await store.office.read(own, OFFICER, "/decisions", " a complaint ")).id == own
    assert await store.office.read(other, OFFICER, "/decisions") is None
    assert await store.office.read("dec_unknown", OFFICER, "/decisions") is None
    assert (await store.office.read(other, EVERY, "/decisions")).id == other
    assert (await store.office.read(own, ADMIN, "/decisions")).id == own
    made = await looks(store)
    told = [(one.caller.person, one.action, one.decisions, one.why, one.rows) for one in made]
    assert told == [
        ("ada", "read", (own,), "a complaint", 1),
        ("ada", "read", (other,), None, 0),
        ("ada", "read", ("dec_unknown",), None, 0),
        ("cy", "read", (other,), None, 1),
        ("dee", "read", (own,), None, 1),
    ]


@pytest.mark.parametrize("roles", [(), ("caller",), ("operator",), ("platform",)])
async def test_without_the_role_nothing_is_read_and_nothing_recorded(store, roles):
    id_ = await decide(store)
    caller = Caller(key="k", department="*", roles=roles)
    for ask in (
        lambda: store.office.read(id_, caller, "/x"),
        lambda: store.office.about(id_, caller, "/x"),
        lambda: store.office.search(Filter(), caller, "/x", limit=5),
        lambda: store.office.facets(Filter(), caller, "/x", ["outcome"]),
    ):
        with pytest.raises(NotPermitted):
            await ask()
    assert await looks(store) == []
    scoped = Caller(key="k", department="*", roles=("officer",), scopes=("read",))
    with pytest.raises(NotPermitted):
        await store.office.search(Filter(), scoped, "/x", limit=5)


async def test_a_search_shows_a_department_its_own(store):
    for department in ("radiology", "pathology", "radiology"):
        await decide(store, department)
    await store.sequencer.catch_up()
    refused = parse_filter([("outcome", "refused")])
    page = await store.office.search(refused, OFFICER, "/decisions", limit=2, why="an audit", counted=True)
    assert {row.stored.record.department for row in page.rows} == {"radiology"}
    assert (page.tally.total, page.tally.exact) == (2, True)
    elsewhere = parse_filter([("department", "pathology")])
    page_ = await store.office.search(elsewhere, OFFICER, "/decisions", limit=9, facets=("department",))
    assert (page_.rows, page_.tally.total, page_.tally.facets) == ((), 0, {"department": ()})
    every = await store.office.search(refused, EVERY, "/decisions", limit=9, facets=("department",))
    assert every.tally.facets == {"department": (("radiology", 2), ("pathology", 1))}
    counts = await store.office.tally(elsewhere, OFFICER, "/decisions", ["outcome"])
    assert counts.total == 0
    made = await looks(store)
    assert made[0].decisions == tuple(row.stored.id for row in page.rows)
    assert (made[0].filter, made[0].rows, made[0].why) == ("outcome=refused", 2, "an audit")
    assert (made[1].filter, made[1].rows, made[1].decisions) == ("department=pathology", 0, ())
    assert made[3].action == "count"


async def test_a_cursor_of_one_department_is_none_of_another(store):
    for _ in range(3):
        await decide(store)
        await decide(store, "pathology")
    await store.sequencer.catch_up()
    page = await store.office.search(Filter(), OFFICER, "/decisions", limit=1)
    with pytest.raises(InvalidRequest, match="cursor"):
        await store.office.search(Filter(), OTHER, "/decisions", limit=1, cursor=page.next)
    following = await store.office.search(Filter(), OFFICER, "/decisions", limit=1, cursor=page.next)
    assert following.rows[0].position < page.rows[0].position


async def test_a_department_learns_who_looked_from_wherever(store):
    own, other = await decide(store), await decide(store, "pathology")
    await store.sequencer.catch_up()
    for caller in (ADMIN, EVERY, OFFICER):
        await store.office.read(own, caller, "/decisions")
    await store.office.search(Filter(), EVERY, "/decisions", limit=9)
    await store.sequencer.catch_up()
    found = await store.office.about(own, OFFICER, "/about", "who was it")
    assert [row.stored.record.caller.person for row in found] == ["dee", "cy", "ada", "cy"]
    by_subject = parse_filter([("subject", own), ("kind", "access.v1")])
    page = await store.office.search(by_subject, OFFICER, "/decisions", limit=9)
    assert [row.stored.record.caller.person for row in page.rows] == ["cy", "ada", "cy", "dee"]
    # The search showed decisions of two departments: of the other, radiology is told nothing.
    told = summary(page.rows[0], OFFICER, (own,))
    assert told["about"] == [own]
    assert "filter" not in told
    assert not open_to(page.rows[0].stored.record, OFFICER)
    assert set(summary(page.rows[0], EVERY)["about"]) == {own, other}
    assert open_to(page.rows[1].stored.record, OFFICER)
    assert not open_to(page.rows[3].stored.record, OTHER)
    with pytest.raises(NotFound):
        await store.office.about(own, OTHER, "/about")
    page = await store.office.search(by_subject, OTHER, "/decisions", limit=9)
    assert page.rows == ()
    with pytest.raises(NotFound):
        await store.office.about("dec_unknown", OFFICER, "/about")


async def test_what_cannot_be_recorded_is_not_shown(store):
    id_ = await decide(store)
    await store.sequencer.catch_up()

    class Full:
        async def append_event(self, event):
            raise Unavailable("the decision log can not be written; the disk is full")

        def __getattr__(self, name):
            return getattr(store.decisions, name)

    office = Office(Full(), store.search)
    for ask in (
        office.read(id_, OFFICER, "/x"),
        office.about(id_, OFFICER, "/x"),
        office.search(Filter(), OFFICER, "/x", limit=5),
        office.facets(Filter(), OFFICER, "/x", ["outcome"]),
    ):
        with pytest.raises(Unavailable):
            await ask


async def test_on_a_log_that_takes_no_more_nothing_is_shown(sqlite_url):
    store = await Store.open(sqlite_url, secret=SECRET)
    id_ = await decide(store)
    await store.sequencer.catch_up()
    async with writer(store._engine).begin() as connection:
        await connection.execute(
            sa.text(
                "CREATE TRIGGER full BEFORE INSERT ON decision_log BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
            )
        )
    with pytest.raises(Unavailable):
        await store.office.read(id_, OFFICER, "/decisions")
    with pytest.raises(Unavailable):
        await store.office.search(Filter(), OFFICER, "/decisions", limit=5)
    assert await looks(store) == []
    await store.close()


@pytest.mark.parametrize("why", ["x" * 1001, "a\nb", "\x00", "\u202ebackwards"])
async def test_a_reason_is_short_and_printable(sqlite_url, why):
    store = await Store.open(sqlite_url, secret=SECRET)
    id_ = await decide(store)
    with pytest.raises(InvalidRequest, match="a reason has at most 1000"):
        await store.office.read(id_, OFFICER, "/decisions", why)
    assert await looks(store) == []
    for odd in ("", "x" * 65, "a\x00"):
        with pytest.raises(InvalidRequest, match="an id has"):
            await store.office.read(odd, OFFICER, "/decisions")
    await store.close()


async def test_the_index_is_made_again_as_it_was(store):
    rng = random.Random(9)
    for record in searching.records(rng, 120):
        if record.id.startswith("dec_"):
            await decide(store, record.department)
        else:
            await store.decisions.append_event(record)
    await asyncio.gather(*(decide(store) for _ in range(20)))
    await store.sequencer.catch_up()

    async def everything():
        found = [[row async for some in store.search.stream(Filter()) for row in some]]
        fields = ("kind", "department", "outcome", "action")
        found.append(await store.search.tally(Filter(), fields))
        found.append(await store.search.tally(parse_filter([("since", "2026-01-30"), ("until", "2026-02-03")]), fields))
        found.append(await store.search.page(parse_filter([("person", "ada"), ("key", "k1")]), limit=50))
        return found

    before = await everything()
    states = "SELECT * FROM review_states ORDER BY decision"
    async with store._engine.connect() as connection:
        reviews = (await connection.execute(sa.text(states))).all()
    async with writer(store._engine).begin() as connection:
        for table in ("facet_days", "entry_subjects"):
            await connection.execute(sa.text(f"DELETE FROM {table}"))
        await connection.execute(sa.text("UPDATE entries SET person = 'mallory', facet = 1"))
        await connection.execute(sa.text("UPDATE facets SET total = 7, department = 'x' WHERE id > 3"))
    assert await everything() != before
    seen = []
    assert await store.search.reindex(seen.append) == 140 == sum(seen)
    assert await everything() == before
    async with store._engine.connect() as connection:
        assert (await connection.execute(sa.text(states))).all() == reviews
    await decide(store)
    assert await store.sequencer.catch_up() == 141
    assert await store.search.count(Filter()) == 141


async def test_a_look_has_the_id_of_all_that_it_showed(store):
    ids = [await decide(store) for _ in range(7)]
    await store.sequencer.catch_up()
    shown, cursor = [], None
    while True:
        page = await store.office.search(Filter(), OFFICER, "/decisions", limit=3, cursor=cursor)
        shown += [row.stored.id for row in page.rows]
        cursor = page.next
        if cursor is None:
            break
    assert shown == ids[::-1]
    made = await looks(store)
    assert all(isinstance(one, AccessV1) for one in made)
    assert [id_ for one in made for id_ in one.decisions] == shown


@pytest.fixture
def cli(tmp_path):
    """Run `gateway log …` on a log of two refusals and an answer, as people do; give what it prints."""
    secret = load_secret(tmp_path, None)
    ids = []

    async def fill():
        key = FileKey(tmp_path / "log.key")
        store = await Store.open(f"sqlite:///{tmp_path}/gateway.sqlite3", secret=secret, log_key=key)
        ids.extend(
            [await decide(store, outcome=one) for one in (outcomes.refused(), outcomes.released(), outcomes.refused())]
        )
        await store.close()

    asyncio.run(fill())

    def call(*words, code=0):
        where = ["--data-dir", str(tmp_path), "--database-url", f"sqlite:///{tmp_path}/gateway.sqlite3"]
        done = CliRunner().invoke(main, ["log", *words, *where])
        assert done.exit_code == code, done.output
        return done.output

    call.ids = ids
    return call


def test_the_command_line_finds_and_is_recorded(cli):
    refused = [cli.ids[2], cli.ids[0]]
    page = json.loads(cli("search", "outcome=refused", "since=7d", "--limit", "1", "--why", "an audit", "--json"))
    assert [row["id"] for row in page["records"]] == refused[:1]
    assert page["total"] == {"records": 2, "exact": True}
    again = json.loads(cli("search", "outcome=refused", "since=7d", "--limit", "1", "--cursor", page["next"], "--json"))
    assert [row["id"] for row in again["records"]] == refused[1:]
    assert "2 of 2 records" in cli("search", "outcome=refused")
    assert [row["id"] for row in json.loads(cli("list", "--json"))] == cli.ids[::-1]
    counts = json.loads(cli("facets", "--by", "outcome,rule", "--json"))
    assert {"field": "outcome", "value": "refused", "records": 2} in counts
    looks_ = json.loads(cli("search", "kind=access.v1", f"subject={refused[0]}", "--json"))["records"]
    assert [row["filter"].partition("&since")[0] for row in looks_[-1:]] == ["kind=decision.v1&outcome=refused"]
    assert (looks_[-1]["why"], looks_[-1]["action"], looks_[-1]["via"]) == ("an audit", "search", "os")
    assert looks_[-1]["key"].startswith("os-account:")
    assert cli.ids[1] in cli("explain", cli.ids[1], "--why", "a complaint")
    [read] = json.loads(cli("search", f"subject={cli.ids[1]}", "action=read", "--json"))["records"]
    assert read["why"] == "a complaint"


def test_the_command_line_makes_the_index_again(cli):
    cli("list")
    output = cli("reindex")
    assert "3 records are in the index" in output
    assert "3 of 3 records" in cli("search")
    [change] = json.loads(cli("search", "action=reindexed", "--json"))["records"]
    assert (change["kind"], change["about"]) == ("change.v1", ["index"])


def test_the_command_line_says_what_is_wrong(cli):
    assert "did you mean `outcome`" in CliRunner().invoke(main, ["log", "search", "outcomes=x"]).output
    assert "expected `field=value`" in CliRunner().invoke(main, ["log", "search", "refused"]).output
    assert "no decision `dec_x`" in cli("explain", "dec_x", code=1)
