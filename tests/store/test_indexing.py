"""The index says of each record what its bytes say, whatever happens to the transaction that writes it."""

import datetime as dt
import random

import msgspec
import pytest
import sqlalchemy as sa
from store.searching import START, decision, records

from bench.samples.bulk import Bulk, checked
from bench.samples.fill import fill_postgres, fill_sqlite
from gateway.records import AccessV1, CallerV1
from gateway.store.check import problem_of
from gateway.store.engine import make_engine, normalise, writer
from gateway.store.indexing import Placed, index, index_problem
from gateway.store.migrate import migrate
from gateway.store.tables import decision_log, entries, entry_blocks, entry_subjects, facet_days, facets, metadata
from gateway.store.writer import row_of

DERIVED = (entries, entry_blocks, entry_subjects, facet_days, facets)


def placed(made, first=0):
    return [Placed(position=i, sequence=i + 1, record=one) for i, one in enumerate(made, first)]


@pytest.fixture
async def engine(url):
    await migrate(url)
    made = make_engine(normalise(url))
    yield made
    await made.dispose()


async def logged(engine, rows):
    """Write the log's rows of `rows`, which the index is about."""
    async with writer(engine).begin() as connection:
        for row in rows:
            await connection.execute(decision_log.insert(), row_of(row.record).values())


async def run(engine, work):
    async with writer(engine).begin() as connection:
        return await connection.run_sync(work)


def contents(connection):
    """Give all that is derived; combinations by what they are, since their numbers are nothing."""
    names = {row.id: bytes(row.digest).hex() for row in connection.execute(sa.select(facets.c.id, facets.c.digest))}
    found = {}
    for table in DERIVED:
        rows = []
        for row in connection.execute(sa.select(table)):
            values = dict(row._mapping)
            if "facet" in values:
                values["facet"] = names[values["facet"]]
            if table is facets:
                values["id"] = 0
            rows.append(tuple(bytes(v).hex() if isinstance(v, bytes | memoryview) else v for v in values.values()))
        found[table.name] = sorted(rows, key=repr)
    return found


async def test_every_record_of_every_kind(engine):
    rows = placed(records(random.Random(1), 300))
    await logged(engine, rows)
    for start in range(0, 300, 64):
        await run(engine, lambda c, s=start: index(c, rows[s : s + 64]))

    def problems(connection):
        return [index_problem(connection, row) for row in rows]

    assert await run(engine, problems) == [None] * 300
    assert {row.record.__struct_config__.tag for row in rows} == {
        "decision.v1", "access.v1", "review.v1", "hold.v1", "erasure.v1", "change.v1", "break-glass.v1",
        "reaudit.v1", "opened.v1",
    }  # fmt: skip
    totals = await run(engine, lambda c: c.execute(sa.select(sa.func.sum(facets.c.total))).scalar())
    days = await run(
        engine,
        lambda c: c.execute(
            sa.select(sa.func.sum(facet_days.c["count"])).where(sa.func.length(facet_days.c.day) == 10)
        ).scalar(),
    )
    assert (totals, days) == (300, 300)


async def test_again_is_nothing_and_a_rollback_leaves_nothing(engine):
    rows = placed(records(random.Random(2), 80))
    await logged(engine, rows)

    def broken(connection):
        index(connection, rows)
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        await run(engine, broken)
    assert all(not rows_ for rows_ in (await run(engine, contents)).values())
    await run(engine, lambda c: index(c, rows[:50]))
    first = await run(engine, contents)
    await run(engine, lambda c: index(c, rows[:50]))
    assert await run(engine, contents) == first
    await run(engine, lambda c: index(c, rows[30:]))  # half of it is there
    assert await run(engine, lambda c: [index_problem(c, row) for row in rows]) == [None] * 80
    again = await run(engine, contents)
    assert len(again["entries"]) == 80


async def test_what_is_wrong_is_named(engine):
    rng = random.Random(3)
    one, other = decision(rng, 1, START), decision(rng, 2, START)
    look = AccessV1.of(
        caller=_caller(), endpoint="/decisions", decisions=(one.id,), at=START + dt.timedelta(microseconds=1)
    )
    rows = placed([one, other, look])
    await logged(engine, rows[:2])
    await run(engine, lambda c: index(c, rows))

    async def problem(number, **changes):
        row = msgspec.structs.replace(rows[number], **changes)
        return await run(engine, lambda c: index_problem(c, row))

    assert await problem(0) is None
    assert "`sequence`" in await problem(0, sequence=9)
    assert "not in the index" in await problem(0, position=7)
    moved = msgspec.structs.replace(one, department="nowhere")
    assert "`department`" in await problem(0, record=moved)
    assert "`at`" in await problem(0, record=msgspec.structs.replace(one, at=START + dt.timedelta(seconds=1)))
    assert "speaks of" in await problem(2, record=msgspec.structs.replace(look, decisions=(other.id,)))


def _caller():
    return CallerV1(key="k", department="radiology", roles=("officer",), person="ada\x00" + "x" * 300)


async def test_what_fits_no_column_is_cut_and_keeps_nothing_out(engine):
    rng = random.Random(4)
    record = msgspec.structs.replace(
        decision(rng, 1, START),
        caller=_caller(),
        gateway="v" * 500,
        policy=msgspec.structs.replace(decision(rng, 1, START).policy, revision=2**40),
    )
    rows = placed([record, decision(rng, 2, START)])
    await logged(engine, rows[1:])
    await run(engine, lambda c: index(c, rows))
    assert await run(engine, lambda c: [index_problem(c, row) for row in rows]) == [None, None]
    found = await run(engine, lambda c: c.execute(sa.select(entries.c.person).where(entries.c.position == 0)).scalar())
    assert found == "ada�" + "x" * 196


async def test_rows_made_in_bulk_have_the_index_that_the_sequencer_writes(url, engine, tmp_path):
    bulk = Bulk(seed=5)
    if engine.dialect.name == "sqlite":
        fill_sqlite(str(engine.url.database), bulk, 3000)
    else:
        await fill_postgres(url, bulk, 3000)
    other = f"sqlite:///{tmp_path}/other.sqlite3"
    await migrate(other)
    real = make_engine(normalise(other))
    made = [one for rows in Bulk(seed=5).rows(3000) for one in rows]
    checking = Bulk(seed=5)
    parsed = [checked(checking, one) for rows in checking.rows(3000) for one in rows]
    assert [one.id for one in made] == [one.id for one in parsed]
    await run(real, lambda c: index(c, placed(parsed)))
    filled, due = await run(engine, contents), await run(real, contents)
    await real.dispose()
    assert filled == due
    async with engine.connect() as connection:
        rows = (await connection.execute(sa.select(decision_log).order_by(decision_log.c.sequence))).all()
    assert [problem_of(row) for row in rows] == [None] * 3000
    assert [bytes(row.body) for row in rows] == [one.body for one in made]


def test_the_derived_tables_are_all_named():
    assert {table.name for table in DERIVED} < set(metadata.tables)
