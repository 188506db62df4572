"""Search agrees with plain Python over all records, in pages, counts, facets and streams, on both databases."""

import asyncio
import base64
import collections
import datetime as dt
import random

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from store import searching
from store.kit import SECRET, outcomes
from store.searching import START, meets, random_filter, records, said

from gateway.errors import InvalidRequest, LogDamaged
from gateway.records import Caller
from gateway.store import Store, indexing, search_counts, search_plan, search_source, search_spans
from gateway.store.engine import writer
from gateway.store.filters import Filter, parse_filter
from gateway.store.indexing import Placed, index
from gateway.store.search_counts import tally
from gateway.store.search_plan import find
from gateway.store.search_spans import NEWEST, OLDEST, Span
from gateway.store.tables import decision_log, metadata
from gateway.store.writer import row_of

OFFICER = Caller(key="k2", department="radiology", roles=("officer",))
FACETS = ("kind", "outcome", "rule", "department", "revision", "purpose")


def filter_of(pairs, since=None, until=None):
    times = [(name, at.isoformat()) for name, at in (("since", since), ("until", until)) if at is not None]
    return parse_filter([*pairs, *times])


def naive_facets(found, fields):
    counts = {name: collections.Counter(said(record, name) for record in found) for name in fields}
    return {name: dict(one) for name, one in counts.items()}


@pytest.fixture(scope="module")
def small():
    """Make every way of finding records be taken, on a few of them."""
    patch = pytest.MonkeyPatch()
    for module, name, value in (
        (search_plan, "_WALK", 6),
        (search_plan, "_GROUP", 2),
        (search_source, "_RARE", 5),
        (search_spans, "_RUNS", 2),
        (search_spans, "BLOCK", 8),
        (search_counts, "_TOGETHER", 2),
        (indexing, "BLOCK", 8),
    ):
        patch.setattr(module, name, value)
    yield
    patch.undo()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    number=st.integers(1, 60),
    limit=st.integers(1, 7),
    order=st.sampled_from([NEWEST, OLDEST]),
)
def test_pages_and_counts_are_those_of_plain_python(small, seed, number, limit, order):
    rng = random.Random(seed)
    made = records(rng, number, minutes=rng.choice((2, 40, 900)))
    span = max(*(one.at for one in made), START + dt.timedelta(minutes=1)) - START
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        rows = [Placed(position=i, sequence=i + 1, record=one) for i, one in enumerate(made)]
        for start in range(0, number, 13):
            index(connection, rows[start : start + 13])
        for _ in range(15):
            pairs, since, until = random_filter(rng, span)
            due = [i for i, one in enumerate(made) if meets(one, pairs, since, until)]
            filter_ = filter_of(pairs, since, until)
            whole = Span(0, number)
            if order.newest_first:
                due.reverse()
            found = []
            while True:
                some = find(connection, filter_, whole, limit, order)
                found += some
                if len(some) < limit:
                    break
                whole = order.after(whole, some[-1])
            assert found == due, filter_.text()
            counted = tally(connection, filter_, FACETS)
            assert (counted.total, counted.exact) == (len(due), True), filter_.text()
            facets = {name: dict(values) for name, values in counted.facets.items()}
            assert facets == naive_facets([made[i] for i in due], FACETS)
            bounded = tally(connection, filter_, most=3)
            assert bounded.total == (len(due) if bounded.exact else 3)
            assert bounded.exact or len(due) > 3
    engine.dispose()


@pytest.fixture
async def full(store):
    """A log of 500 random records, in the tree, and the records."""
    made = records(random.Random(11), 500)
    async with writer(store._engine).begin() as connection:
        for one in made:
            await connection.execute(decision_log.insert(), row_of(one).values())
    await store.sequencer.catch_up()
    return store, made


async def _pages(search, filter_, limit):
    found, cursor = [], None
    while True:
        page = await search.page(filter_, limit=limit, cursor=cursor)
        found += [row.position for row in page.rows]
        cursor = page.next
        if cursor is None:
            return found


async def test_a_database_answers_as_plain_python_does(full):
    store, made = full
    rng = random.Random(12)
    span = max(*(one.at for one in made), START + dt.timedelta(minutes=1)) - START
    for _ in range(120):
        pairs, since, until = random_filter(rng, span)
        filter_ = filter_of(pairs, since, until)
        due = [i for i, one in enumerate(made) if meets(one, pairs, since, until)]
        assert await _pages(store.search, filter_, 40) == due[::-1], filter_.text()
        assert await store.search.count(filter_) == len(due), filter_.text()
        facets = await store.search.facets(filter_, FACETS)
        assert {name: dict(values) for name, values in facets.items()} == naive_facets([made[i] for i in due], FACETS)
    rows = [row async for some in store.search.stream(Filter(outcomes=("refused",)), chunk=17) for row in some]
    assert [row.stored.record for row in rows] == [one for one in made if said(one, "outcome") == "refused"]
    complete = await store.search.complete()
    assert (complete.size, complete.sequence, complete.at) == (500, 500, made[-1].at)


async def test_deep_pages_give_each_row_once_while_others_are_appended(full):
    store, _ = full
    filter_ = parse_filter([("outcome", "refused"), ("outcome", "released")])
    due = [row.position async for some in store.search.stream(filter_) for row in some][::-1]
    found, cursor, added = [], None, 0
    while True:
        page = await store.search.page(filter_, limit=23, cursor=cursor)
        found += [row.position for row in page.rows]
        if page.next is None:
            break
        cursor = page.next
        await asyncio.gather(*(store.decisions.append(outcomes.refused()) for _ in range(3)))
        assert await store.sequencer.catch_up() > 500
        added += 3
    assert found == due
    assert added > 20
    assert (await store.search.count(filter_)) == len(due) + added


async def test_a_cursor_is_of_its_filter_and_cannot_be_made(full):
    store, _ = full
    refused = parse_filter([("outcome", "refused")])
    page = await store.search.page(refused, limit=3)
    again = parse_filter([("outcome", "refused"), ("since", "9999d")])
    assert (await store.search.page(again, limit=3, cursor=page.next)).rows, "another time is the same search, later"
    raw = bytearray(base64.urlsafe_b64decode(page.next + "=="))
    raw[7] ^= 1
    forged = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    for cursor in (forged, "", "x", "é", "=" * 50, "A" * 10_000, "1 OR 1=1", page.next + "A", page.next[:-1], "\x00"):
        with pytest.raises(InvalidRequest, match="cursor"):
            await store.search.page(refused, cursor=cursor)
    with pytest.raises(InvalidRequest, match="cursor"):
        await store.search.page(parse_filter([("outcome", "released")]), cursor=page.next)
    for limit in (0, -1, 1001):
        with pytest.raises(InvalidRequest, match="limit"):
            await store.search.page(refused, limit=limit)
    with pytest.raises(InvalidRequest, match="can not be counted"):
        await store.search.facets(refused, ["person"])
    with pytest.raises(InvalidRequest, match="can not be counted"):
        await store.search.facets(refused, ["rule); DROP TABLE entries; --"])


async def test_an_empty_log(store):
    page = await store.search.page(Filter())
    assert (page.rows, page.next, page.complete.size, page.complete.at) == ((), None, 0, None)
    assert await store.search.count(parse_filter([("since", "7d")])) == 0
    assert [some async for some in store.search.stream(Filter())] == []
    assert await store.search.about("dec_unknown") == ()


async def test_what_speaks_of_a_decision(full):
    store, made = full
    for one in [record for record in made if record.id.startswith("dec_")][:60:3]:
        due = [record for record in made if one.id in searching.subjects(record)]
        assert [row.stored.record for row in await store.search.about(one.id)] == due


async def test_a_release_of_a_hold_speaks_of_its_decisions(store):
    rng = random.Random(5)
    one = searching.decision(rng, 1, START)
    scope = searching.HoldScopeV1(decisions=(one.id,), department=None, patient=None, since=None, until=None)
    head = {"at": START, "caller": searching.caller(rng, grant=None), "reason": "a claim", "hold": "hold_1"}
    placed = searching.HoldV1(id="hold_1", action="placed", scope=scope, **head)
    released = searching.HoldV1(id="hold_2", action="released", scope=None, **head)
    for record in (placed, released):
        await store.decisions.append_event(record)
    await store.sequencer.catch_up()
    assert [row.stored.id for row in await store.search.about(one.id)] == ["hold_1", "hold_2"]


async def test_a_changed_record_is_shown_to_nobody(sqlite_url):
    store = await Store.open(sqlite_url, secret=SECRET)
    logged = await store.decisions.append(outcomes.refused())
    await store.sequencer.catch_up()
    async with writer(store._engine).begin() as connection:
        await connection.execute(sa.text("DROP TRIGGER decision_log_no_update"))
        await connection.execute(
            sa.text("UPDATE decision_log SET body = CAST(replace(body, 'refused', 'reduced') AS BLOB)")
        )
    with pytest.raises(LogDamaged, match="gateway log verify"):
        await store.search.page(Filter())
    assert logged.id
    await store.close()


async def test_a_day_counts_whole_and_in_part(full):
    store, made = full
    days = sorted({one.at.date() for one in made})
    assert len(days) > 3
    for first in (dt.datetime.combine(days[1], dt.time(), dt.UTC), START + dt.timedelta(hours=30, microseconds=1)):
        for hours in (0.01, 24, 24 * 3, 24 * 40, 24 * 400):
            filter_ = Filter(since=first, until=first + dt.timedelta(hours=hours))
            due = [one for one in made if meets(one, (), filter_.since, filter_.until)]
            assert await store.search.count(filter_) == len(due)
