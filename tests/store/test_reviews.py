"""Reviews in the store, on SQLite and PostgreSQL: the queue follows the log, and each step is a record of it."""

import asyncio
import contextlib
import datetime as dt
import json

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from msgspec.structs import replace
from store.kit import SECRET, outcomes

from gateway.cli import main
from gateway.errors import Conflict, InvalidRequest, NotFound, NotPermitted
from gateway.policy.model import ReviewsSpec
from gateway.records import AccessV1, BreakGlassV1, Caller, CallerV1, ReviewV1, new_id
from gateway.store import FileKey, Store, load_secret
from gateway.store.indexing import Placed
from gateway.store.review_index import index_reviews, review_problem
from gateway.store.review_queue import ReviewFilter, parse_review_filter
from gateway.store.tables import decision_log, entries, review_states


def now():
    """The time of the call: a module is imported long before its tests run."""
    return dt.datetime.now(dt.UTC)


def officer(name, department="radiology", roles=("officer",), person=None):
    return Caller(key=f"k-{name}", department=department, roles=roles, person=person)


ANN, BOB, CAT = map(officer, ("ann", "bob", "cat"))
EVERYWHERE = officer("eve", department="*")


@pytest.fixture
async def open_store():
    """Open stores that are closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(url):
            made = await Store.open(url, secret=SECRET)
            stack.push_async_callback(made.close)
            return made

        yield opened


async def decide(store, outcome=None, *, department=None, **plan):
    """Append a decision and give its id."""
    outcome = outcome or outcomes.refused()
    policy = outcome.policy.policy
    policy = replace(policy, department=department or policy.department, reviews=ReviewsSpec(**plan))
    logged = await store.decisions.append(replace(outcome, policy=replace(outcome.policy, policy=policy)))
    return logged.id


async def break_glass(store, caller, department="radiology"):
    glass = BreakGlassV1(
        id=new_id("brk"),
        at=now(),
        caller=CallerV1.of(caller),
        department=department,
        reason="a patient bleeds",
        until=now() + dt.timedelta(hours=1),
    )
    await store.decisions.append_event(glass)
    return glass.id


async def listed(store, caller=ANN, **fields):
    await store.sequencer.catch_up()
    page = await store.reviews.queue(caller, ReviewFilter(**fields))
    return {row.decision: row for row in page.rows}


async def problems(store, rows):
    async with store._engine.connect() as connection:
        found = [await connection.run_sync(review_problem, row) for row in rows]
    return [problem for problem in found if problem is not None]


async def states(store):
    async with store._engine.connect() as connection:
        rows = await connection.execute(sa.select(review_states).order_by(review_states.c.position))
        return [row._asdict() for row in rows]


async def test_what_the_plan_asks_for_is_in_the_queue(store):
    refused = await decide(store)
    withheld = await decide(store, outcomes.withheld("q", "a"))
    await decide(store, outcomes.released(), released=0.0)
    drawn = await decide(store, outcomes.released(), released=1.0)
    glass = await break_glass(store, officer("doc", roles=("caller",)))
    found = await listed(store)
    assert [(row.decision, row.due_by) for row in found.values()] == [
        (refused, "refused"),
        (withheld, "withheld"),
        (drawn, "released"),
        (glass, "break-glass"),
    ]
    assert {row.state for row in found.values()} == {"open"}
    assert found[refused].by - found[refused].at == dt.timedelta(days=7)
    assert found[glass].by - found[glass].at == dt.timedelta(days=1)
    assert not any(row.overdue for row in found.values())


async def test_a_review_from_taking_it_to_the_second_reader(store):
    decision = await decide(store)
    taken = await store.reviews.assign(decision, ANN)
    assert (taken.review.state, taken.review.assignee) == ("assigned", "k-ann")
    assert (await listed(store, assignee="me"))[decision].state == "assigned"
    first = await store.reviews.judge(decision, ANN, "false_positive", "  it asks how to bill  ")
    assert first.review.state == "second"
    assert (await listed(store))[decision].judged_by == "k-ann"
    second = await store.reviews.second(decision, first.step.id, BOB, True, "so do I read it")
    assert (second.review.state, second.review.verdict) == ("settled", "false_positive")
    assert await listed(store) == {}
    row = (await listed(store, states=("settled",)))[decision]
    assert (row.verdict, row.confirms, row.assignee) == ("false_positive", True, None)
    # Each signature has its name, time and meaning, in the log.
    kept = [(await store.decisions.get(one.step.id)).record for one in (taken, first, second)]
    assert [record.action for record in kept] == ["assigned", "verdict", "seconded"]
    assert (kept[1].reason, kept[1].meaning) == ("it asks how to bill", "review")
    assert (kept[2].refers, kept[2].meaning) == (first.step.id, "second review")
    assert kept[1].caller == CallerV1.of(ANN)
    assert kept[1].at <= kept[2].at


async def test_the_queue_and_the_history_are_looks_that_are_recorded(store):
    decision = await decide(store)
    await listed(store, due_by="refused", overdue=False)
    await store.reviews.history(decision, ANN)
    await store.sequencer.catch_up()
    looks = [s.record for s in await store.decisions.recent(5, kind="access.v1")]
    assert [(x.action, x.endpoint, x.decisions) for x in looks] == [
        ("read", "/decisions/{id}/reviews", (decision,)),
        ("search", "/reviews", (decision,)),
    ]
    assert all(isinstance(x, AccessV1) and x.rows == 1 and x.caller.key == "k-ann" for x in looks)
    assert "state=open" in looks[1].filter
    assert "due_by=refused" in looks[1].filter


async def test_nobody_reviews_what_they_asked_or_opened_or_have_judged(store):
    asker = Caller(key=outcomes.CALLER.key, department="radiology", roles=("officer",))
    decision = await decide(store)
    glass = await break_glass(store, officer("doc", roles=("caller",), person="dr doc"))
    for caller, what in ((asker, decision), (officer("doc-2", person="dr doc"), glass)):
        before = await store.decisions.count()
        with pytest.raises(NotPermitted, match="may not review"):
            await store.reviews.judge(what, caller, "agree", "looks right to me")
        with pytest.raises(NotPermitted, match="may not review"):
            await store.reviews.assign(what, caller)
        assert await store.decisions.count() == before
    first = await store.reviews.judge(decision, ANN, "escalate", "others must look")
    with pytest.raises(NotPermitted, match="judged it already"):
        await store.reviews.second(decision, first.step.id, ANN, True, "I still think so")
    assert (await store.reviews.judge(glass, ANN, "agree", "he was bleeding")).review.state == "settled"


async def test_an_item_that_is_taken_is_told_with_its_holder(store):
    decision = await decide(store)
    await store.reviews.assign(decision, ANN, "k-bob")
    with pytest.raises(Conflict, match="k-bob has it"):
        await store.reviews.assign(decision, CAT)
    with pytest.raises(Conflict, match="k-bob has it"):
        await store.reviews.judge(decision, CAT, "agree", "looks right to me")
    with pytest.raises(InvalidRequest, match="give a reason"):
        await store.reviews.release(decision, CAT)
    away = await store.reviews.release(decision, CAT, reason="bob is on leave")
    assert away.review.state == "open"
    with pytest.raises(Conflict, match="nobody has it"):
        await store.reviews.release(decision, CAT)


async def test_of_two_who_take_it_at_once_one_has_it(url, open_store):
    one, other = await open_store(url), await open_store(url)
    decision = await decide(one)
    await one.sequencer.catch_up()
    tries = await asyncio.gather(
        *(s.reviews.assign(decision, c) for s, c in ((one, ANN), (other, BOB), (one, CAT), (other, EVERYWHERE))),
        return_exceptions=True,
    )
    won = [t for t in tries if not isinstance(t, BaseException)]
    assert len(won) == 1
    winner = won[0].step.assignee
    lost = [t for t in tries if isinstance(t, BaseException)]
    assert all(isinstance(t, Conflict) and t.message.startswith(f"{winner} has it") for t in lost)
    assert (await listed(one))[decision].assignee == winner


async def test_of_two_verdicts_at_once_one_counts(url, open_store):
    one, other = await open_store(url), await open_store(url)
    decision = await decide(one)
    await one.sequencer.catch_up()
    tries = await asyncio.gather(
        one.reviews.judge(decision, ANN, "agree", "looks right to me"),
        other.reviews.judge(decision, BOB, "false_positive", "it asks how to bill"),
        return_exceptions=True,
    )
    [lost] = [t for t in tries if isinstance(t, BaseException)]
    [won] = [t for t in tries if not isinstance(t, BaseException)]
    assert isinstance(lost, Conflict)
    assert won.step.caller.key in lost.message
    history = await one.reviews.history(decision, CAT)
    assert [reading.review for reading in history.review.readings] == [won.step.id]


async def test_a_verdict_that_came_too_late_is_kept_and_has_no_effect(store):
    decision = await decide(store)
    first = await store.reviews.judge(decision, ANN, "agree", "looks right to me")
    late = replace(first.step, id="rev_late", caller=CallerV1.of(BOB), verdict="escalate")
    await store.decisions.append_event(late)
    await store.sequencer.catch_up()
    history = await store.reviews.history(decision, CAT)
    assert [told.step.id for told in history.steps] == [first.step.id, "rev_late"]
    assert history.steps[0].obstacle is None
    assert "settled" in history.steps[1].obstacle.text
    assert history.review.verdict == "agree"
    assert (await listed(store, states=("settled",)))[decision].verdict == "agree"


async def test_a_decision_that_no_plan_chose_can_be_reviewed(store):
    decision = await decide(store, outcomes.released(), released=0.0)
    assert await listed(store) == {}
    await store.reviews.judge(decision, ANN, "false_negative", "it tells a dose")
    assert (await listed(store))[decision].due_by == "chosen"


async def test_another_department_sees_nothing_and_can_do_nothing(store):
    decision = await decide(store)
    there = await decide(store, department="pathology")
    stranger = officer("sam", department="pathology")
    assert set(await listed(store)) == {decision}
    assert set(await listed(store, stranger)) == {there}
    assert set(await listed(store, EVERYWHERE)) == {decision, there}
    assert await listed(store, stranger, department="radiology") == {}
    for attempt in (
        store.reviews.assign(decision, stranger),
        store.reviews.judge(decision, stranger, "agree", "looks right to me"),
        store.reviews.history(decision, stranger),
        store.reviews.assign("dec_that_is_not", ANN),
        store.reviews.assign((await store.decisions.recent(1, kind="access.v1"))[0].id, ANN),
    ):
        with pytest.raises(NotFound, match="no such decision"):
            await attempt


async def test_only_officers_review(store):
    decision = await decide(store)
    for role in ("caller", "operator", "platform", "auditor", "admin"):
        caller = officer("x", roles=(role,))
        for attempt in (
            store.reviews.queue(caller),
            store.reviews.assign(decision, caller),
            store.reviews.judge(decision, caller, "agree", "looks right to me"),
        ):
            with pytest.raises(NotPermitted, match="to review"):
                await attempt
    assert await store.decisions.count() == 1


async def test_a_judgement_has_a_reason_and_a_meaning_and_makes_sense(store):
    decision = await decide(store)
    for reason in ("", "no", "    x    ", "two\nlines of text", "y" * 1001, "bell\x07 rings here"):
        with pytest.raises(InvalidRequest, match="`reason` takes 5 to 1000 printable"):
            await store.reviews.judge(decision, ANN, "agree", reason)
    with pytest.raises(InvalidRequest, match="`meaning`"):
        await store.reviews.judge(decision, ANN, "agree", "looks right to me", meaning=" ")
    with pytest.raises(InvalidRequest, match="makes no sense here"):
        await store.reviews.judge(decision, ANN, "false_negative", "looks right to me")
    assert await store.decisions.count() == 1


async def test_the_queue_is_paged_oldest_first(store):
    ids = [await decide(store) for _ in range(7)]
    await store.sequencer.catch_up()
    seen, cursor = [], None
    while True:
        page = await store.reviews.queue(ANN, limit=3, cursor=cursor)
        seen += [row.decision for row in page.rows]
        cursor = page.next
        if cursor is None:
            break
    assert seen == ids
    for bad in ("", "-1", "x", "1; DROP TABLE review_states", "9" * 40, "\u0661"):
        with pytest.raises(InvalidRequest, match="`cursor`"):
            await store.reviews.queue(ANN, cursor=bad)
    for limit in (0, 501, -1):
        with pytest.raises(InvalidRequest, match="`limit`"):
            await store.reviews.queue(ANN, limit=limit)


async def test_what_is_overdue(store):
    young = await decide(store)
    old = await decide(store, replace(outcomes.refused(), started=now() - dt.timedelta(days=8)))
    sampled = await decide(store, replace(outcomes.released(), started=now() - dt.timedelta(days=8)), released=1.0)
    done = await decide(store, replace(outcomes.refused(), started=now() - dt.timedelta(days=8)))
    await store.reviews.judge(done, ANN, "agree", "looks right to me")
    found = await listed(store)
    assert {d: row.overdue for d, row in found.items()} == {young: False, old: True, sampled: False}
    assert set(await listed(store, overdue=True)) == {old}
    queue = (await store.reviews.figures(ANN)).queue
    assert (queue.states["open"], queue.states["settled"], queue.overdue) == (3, 1, 1)
    assert queue.oldest == pytest.approx(8 * 86400, abs=120)


async def test_figures_over_a_window(store):
    decisions = [await decide(store) for _ in range(3)]
    elsewhere = await decide(store, department="pathology")
    await store.reviews.judge(decisions[0], ANN, "agree", "looks right to me")
    first = await store.reviews.judge(decisions[1], ANN, "false_positive", "it asks how to bill")
    await store.reviews.second(decisions[1], first.step.id, BOB, True, "so do I read it")
    await store.reviews.judge(elsewhere, EVERYWHERE, "agree", "looks right to me")
    found = await store.reviews.figures(officer("ops", roles=("platform",)))
    assert (found.judged, found.settled) == (2, 2)
    assert (found.agreement.hits, found.agreement.of) == (1, 2)
    assert (found.false_positives.hits, found.false_positives.of) == (1, 2)
    assert found.by["policy"]["radiology@3"].of == 2
    assert found.by["stage"]["intent"].of == 2
    assert (await store.reviews.figures(EVERYWHERE)).settled == 3
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    assert (await store.reviews.figures(ANN, since=later)).judged == 0
    assert (await store.reviews.figures(ANN, until=later)).judged == 2
    assert (await store.reviews.figures(ANN, until=now() - dt.timedelta(days=1))).judged == 0
    with pytest.raises(NotPermitted):
        await store.reviews.figures(officer("x", roles=("caller",)))


async def test_the_table_is_made_again_of_the_log_alone(store):
    """In batches of any size, and whether or not what finds the reviews holds later ones already."""
    decisions = [await decide(store) for _ in range(4)]
    chosen = await decide(store, outcomes.released(), released=0.0)
    await store.reviews.assign(decisions[0], ANN)
    await store.reviews.judge(decisions[1], ANN, "false_positive", "it asks how to bill")
    await store.reviews.judge(decisions[2], BOB, "agree", "looks right to me")
    await store.reviews.judge(chosen, CAT, "escalate", "others must look")
    await break_glass(store, officer("doc", roles=("caller",)))
    await store.sequencer.catch_up()
    due = await states(store)
    assert len(due) == 6
    async with store._engine.connect() as connection:
        query = sa.select(entries.c.position, decision_log.c.sequence, decision_log.c.id)
        query = query.join_from(entries, decision_log, entries.c.sequence == decision_log.c.sequence)
        places = (await connection.execute(query.order_by(entries.c.position))).all()
    rows = [Placed(position=p, sequence=s, record=(await store.decisions.get(i)).record) for p, s, i in places]
    for size in (1, 3, len(rows)):
        async with store._engine.begin() as connection:
            await connection.execute(review_states.delete())
            for start in range(0, len(rows), size):
                await connection.run_sync(index_reviews, rows[start : start + size])
        assert await states(store) == due
        assert await problems(store, rows) == []
    # Once more changes nothing, and takes back what was changed by hand.
    for batch in (rows, rows[:2]):
        async with store._engine.begin() as connection:
            await connection.run_sync(index_reviews, batch)
        assert await states(store) == due
    hidden = review_states.c.decision == decisions[1]
    async with store._engine.begin() as connection:
        await connection.execute(review_states.update().where(hidden).values(state="settled"))
        await connection.execute(review_states.delete().where(review_states.c.decision == decisions[3]))
    told = await problems(store, rows)
    assert len(told) == 3  # the decision and the review of the changed row, and the decision without one
    assert all(decisions[1] in t or decisions[3] in t for t in told)
    async with store._engine.begin() as connection:
        await connection.run_sync(index_reviews, rows)
    assert await states(store) == due


async def test_a_review_of_nothing_is_passed_over(store):
    ghost = ReviewV1(
        id="rev_ghost",
        at=now(),
        caller=CallerV1.of(ANN),
        decision="dec_that_is_not",
        department="radiology",
        action="assigned",
        assignee="k" * 300,
        verdict=None,
        confirms=None,
        reason=None,
        meaning=None,
        refers=None,
    )
    decision = await decide(store)
    await store.decisions.append_event(ghost)
    await store.decisions.append_event(replace(ghost, id="rev_long", decision=decision))
    found = await listed(store)
    assert found[decision].assignee == "k" * 200


@pytest.mark.parametrize(
    "pair",
    [("state", "done"), ("due_by", "x"), ("overdue", "yes"), ("department", ""), ("assignee", "a\nb"), ("who", "ann")],
)
def test_a_filter_that_is_none_is_told_with_its_field(pair):
    with pytest.raises(InvalidRequest, match=pair[0] if pair[0] != "who" else "no such field"):
        parse_review_filter([pair])


def test_a_filter_is_read_and_written():
    read = parse_review_filter([("state", "open"), ("state", "second"), ("assignee", "me"), ("overdue", "true")])
    assert read.text() == "state=open&state=second&assignee=me&overdue=true"
    with pytest.raises(InvalidRequest, match="stands twice"):
        parse_review_filter([("due_by", "refused"), ("due_by", "released")])


def test_the_command_line_walks_a_review(tmp_path):
    """One account can take and judge; a second reader is another person."""
    runner = CliRunner()

    def gateway(*words, code=0):
        done = runner.invoke(main, ["reviews", *words, "--data-dir", str(tmp_path)])
        assert done.exit_code == code, done.output
        return done.output

    assert json.loads(gateway("list", "--json")) == {"reviews": [], "next": None}  # makes the database

    async def fill():
        store = await Store.open(
            f"sqlite:///{tmp_path}/gateway.sqlite3", secret=load_secret(tmp_path), log_key=FileKey(tmp_path / "log.key")
        )
        ids = [await decide(store), await decide(store)]
        await store.close()
        return ids

    one, other = asyncio.run(fill())
    page = json.loads(gateway("list", "--json", "--limit", "1"))
    assert [row["decision"] for row in page["reviews"]] == [one]
    assert other in gateway("list", "--cursor", page["next"])
    assert "is with os-account:" in gateway("take", one)
    first = json.loads(gateway("judge", one, "false_positive", "--reason", "it asks how to bill", "--json"))
    assert (first["state"], first["verdict"]) == ("second", "false_positive")
    told = gateway("second", one, first["step"], "--confirm", "--reason", "so do I read it", code=2)
    assert "has judged it already; another person must" in told
    assert "is settled: `agree`" in gateway("judge", other, "agree", "--reason", "looks right to me")
    assert "nobody has it" in gateway("release", one, code=2)
    assert [row["action"] for row in json.loads(gateway("history", one, "--json"))] == ["assigned", "verdict"]
    assert "is second" in gateway("history", one)
    figures = json.loads(gateway("figures", "--json", "--since", "2026-01-01"))
    assert (figures["judged"], figures["settled"], figures["agreement"]["hits"]) == (2, 1, 1)
    assert "1 of 1: 100.0% (20.7% to 100.0%)" in gateway("figures")
