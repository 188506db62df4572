"""The lines of batches: stored once with their record, sealed, counted, and given back in their order."""

import pytest
import sqlalchemy as sa
from store.batching import MARKER, begun, bodies, missing, opened, result, submit
from store.kit import outcomes
from store.sealing import cells, raw

from gateway.errors import Unavailable
from gateway.store import Chunk, LineTaken, batch_lines
from gateway.store.batch_tables import batch_lines as lines_table
from gateway.store.batch_tables import batches


async def test_a_line_and_its_record_are_stored_once(store):
    batch = await begun(store, 2)
    outcome = outcomes.released("What is this?", "A fracture.")
    row = await store.batches.line_row(batch, result(batch, 1, decision=outcome.request.id))
    await store.decisions.append_line([outcome], row)
    count = await store.decisions.count()
    zombie = outcomes.released("What is this?", "Another fracture.")
    again = await store.batches.line_row(batch, result(batch, 1, decision=zombie.request.id))
    with pytest.raises(LineTaken):
        await store.decisions.append_line([zombie], again)
    await store.batches.store_lines(batch, [result(batch, 1, "expired"), result(batch, 2, "expired")])
    assert await store.decisions.count() == count
    assert await store.batches.answered(batch.id, 1, 2) == {1, 2}
    counts = await store.batches.counts(batch)
    assert counts.by_outcome == {"released": 1, "expired": 1}
    assert (await store.decisions.get(outcome.request.id)).record.outcome == "released"


async def test_what_lines_say_is_in_clear_nowhere_and_bound_to_its_place(store, batch_url):
    batch = await begun(store, 3)
    await store.batches.store_lines(batch, [result(batch, line, body=MARKER + bytes([line])) for line in (1, 2)])
    assert not [where for where, values in (await cells(batch_url)).items() if any(MARKER in value for value in values)]
    assert await bodies(store, batch, ok=True) == [MARKER + b"\x01", MARKER + b"\x02"]
    async with raw(batch_url) as connection:
        first = await connection.scalar(sa.select(lines_table.c.sealed).where(lines_table.c.line == 1))
        await connection.execute(lines_table.update().where(lines_table.c.line == 2).values(sealed=bytes(first)))
    with pytest.raises(Unavailable, match="were changed in the database"):
        await bodies(store, batch, ok=True)


async def test_results_come_in_order_and_in_small_pages(sqlite, monkeypatch):
    monkeypatch.setattr(batch_lines, "_LOOK", 7)
    monkeypatch.setattr(batch_lines, "_PAGE", 300)
    batch = await begun(sqlite, 40, chunk=8)
    wanted = [result(batch, line, ok=line % 3 > 0, body=bytes([line]) * (line * 10)) for line in range(1, 41)]
    await sqlite.batches.store_lines(batch, wanted[::-1])
    for ok in (True, False):
        assert await bodies(sqlite, batch, ok=ok) == [each.body for each in wanted if each.ok == ok]


async def test_lines_without_an_answer_are_found_in_their_jobs_alone(sqlite, monkeypatch):
    monkeypatch.setattr(batch_lines, "_CHUNKS", 2)
    monkeypatch.setattr(batch_lines, "_SPAN", 60)
    batch = await submit(sqlite)
    job = await sqlite.jobs.claim("w")
    spans = [(2, 4), (8, 2), (50, 3), (53, 1), (1000, 4)]  # blank lines between them are no lines
    chunks = [Chunk(first=first, count=number, start=0, size=0) for first, number in spans]
    await sqlite.batches.add_chunks(job, chunks[::-1], [result(batch, 1, "invalid"), result(batch, 7, "invalid")])
    await sqlite.batches.validated(job, 16)
    await sqlite.batches.store_lines(batch, [result(batch, line) for line in (3, 8, 9, 52, 1003)])
    found = [range(2, 3), range(4, 6), range(50, 52), range(53, 54), range(1000, 1003)]
    assert await missing(sqlite, batch) == found


async def test_counts_name_outcomes_and_the_most_frequent_reasons(store):
    batch = await begun(store, 9)
    came_to = [("released", None)] * 3 + [("refused", "risk:H06")] * 2 + [("refused", "risk:H01")]
    came_to += [("withheld", "audit:H02")] * 2 + [("screened", "ignored")]
    await store.batches.store_lines(
        batch,
        [
            result(batch, line, outcome, ok=outcome != "withheld", reason=reason)
            for line, (outcome, reason) in enumerate(came_to, 1)
        ],
    )
    counts = await store.batches.counts(batch)
    assert (counts.total, counts.completed, counts.failed) == (9, 7, 2)
    assert counts.by_outcome == {"released": 3, "refused": 3, "withheld": 2, "screened": 1}
    assert list(counts.reasons.items()) == [("audit:H02", 2), ("risk:H06", 2), ("risk:H01", 1)]


async def test_a_large_count_is_remembered_for_a_while(sqlite, monkeypatch):
    batch = await begun(sqlite, 3)
    await sqlite.batches.store_lines(batch, [result(batch, 1)])
    assert (await sqlite.batches.counts(batch)).completed == 1
    monkeypatch.setattr(batch_lines, "_MANY", 1)
    monkeypatch.setattr(batch_lines, "_REST", 1e9)
    assert (await sqlite.batches.counts(batch)).completed == 1
    await sqlite.batches.store_lines(batch, [result(batch, 2)])
    assert (await sqlite.batches.counts(batch)).completed == 1
    other = await begun(sqlite, 3)
    assert (await sqlite.batches.counts(other)).completed == 0


async def test_a_batch_whose_key_was_changed_seals_nothing(sqlite, sqlite_url, tmp_path):
    batch, other = await begun(sqlite, 1), await begun(sqlite, 1)
    async with raw(sqlite_url) as connection:
        theirs = await connection.scalar(sa.select(batches.c.wrapped).where(batches.c.id == other.id))
        await connection.execute(batches.update().where(batches.c.id == batch.id).values(wrapped=bytes(theirs)))
    async with opened(sqlite_url, tmp_path) as again:
        with pytest.raises(Unavailable, match=f"the key of the batch `{batch.id}` was changed"):
            await again.batches.line_row(batch, result(batch, 1))
        good = result(other, 1)
        assert len((await again.batches.line_row(other, good)).sealed) > len(good.body), "the other one goes on"
