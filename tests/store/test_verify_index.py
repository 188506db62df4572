"""A deep verification finds an index that hides a record, or says what the record does not."""

import datetime as dt
import re

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from store.kit import outcomes

from gateway.policy.model import ReviewsSpec
from gateway.records import AccessV1, Caller
from gateway.store import VerifyOptions
from gateway.store.engine import writer

OFFICER = Caller(key="k2", department="radiology", roles=("officer",), person="m.smit")
DEEP = VerifyOptions(deep=True)


def _due(outcome):
    policy = replace(outcome.policy.policy, reviews=ReviewsSpec())
    return replace(outcome, policy=replace(outcome.policy, policy=policy))


@pytest.fixture
async def log(store):
    """A log with decisions, one of them judged, and a look; every attack is made on what finds them."""
    ids = [(await store.decisions.append(_due(outcomes.refused()))).id for _ in range(4)]
    ids += [(await store.decisions.append(outcomes.released())).id for _ in range(2)]
    await store.sequencer.catch_up()
    await store.reviews.judge(ids[0], OFFICER, "agree", "it was to be refused")
    look = AccessV1.of(caller=OFFICER, endpoint="/decisions", decisions=(ids[1],), at=dt.datetime.now(dt.UTC))
    await store.decisions.append_event(look)
    await store.sequencer.catch_up()
    assert (await store.decisions.check(wanted=DEEP)).problem is None
    return store


ATTACKS = {
    "UPDATE entries SET person = 'nobody' WHERE position = 1": r"record 2 .*another `person`",
    "UPDATE entries SET at = (SELECT at FROM entries WHERE position = 0) WHERE position = 2": r"record 3 .*(time|`at`)",
    "UPDATE entries SET facet = (SELECT max(facet) FROM entries WHERE position < 6) WHERE position = 0": r"record 1 .*",
    "UPDATE facets SET outcome = 'released' WHERE outcome = 'refused'": r"record 1 .*another `outcome`",
    "DELETE FROM facets WHERE outcome = 'refused'": r"record 1 .*another `kind`",
    "UPDATE facets SET total = total + 1 WHERE outcome = 'refused'": "the index counts 5 records",
    "DELETE FROM entry_subjects WHERE position = 7": r"does not say that position \d+ speaks of `dec_",
    "INSERT INTO entry_subjects (subject, position) VALUES ('dec_other', 0)": "names other decisions",
    "DELETE FROM review_states": r"record \d .*is not in the queue's table",
    "UPDATE review_states SET state = 'settled'": r"record \d .*what the log does not",
    "INSERT INTO review_states SELECT 'dec_other', position, department, at, due_by, state, assignee, verdict,"
    " judged_by, judged_at, confirms FROM review_states LIMIT 1": "holds other decisions than are due",
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_changed_index_is_found(log, attack):
    async with writer(log._engine).begin() as connection:
        await connection.execute(sa.text(attack))
    report = await log.decisions.check(wanted=DEEP)
    assert not report.ok
    assert report.problem == (await log.decisions.check(wanted=DEEP)).problem, "it is told the same each time"
    assert re.search(ATTACKS[attack], report.problem), report.problem


async def test_what_is_appended_meanwhile_is_no_damage(log):
    for _ in range(3):
        await log.decisions.append(_due(outcomes.refused()))
    assert (await log.decisions.check(wanted=DEEP)).ok
    await log.sequencer.catch_up()
    assert (await log.decisions.check(wanted=DEEP)).ok
