"""`review_states` kept up to date by the sequencer: which decisions are due for review, and how far that is.

It is made of the log's records in the order of the tree, and of nothing else, so it can be made again of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.records import Record, ReviewV1
from gateway.records.review_plan import is_due, subject_of
from gateway.records.reviews import NAME_LONGEST, Review, fold, who
from gateway.store.review_read import Case, case_of, read_record, steps_query, subjects_query
from gateway.store.tables import review_states

if TYPE_CHECKING:
    from gateway.store.indexing import Placed

_TOGETHER = 500  # ids in one IN list


def index_reviews(connection: sa.Connection, rows: Sequence[Placed]) -> None:
    """Bring `review_states` up to date with more records, in the sequencer's transaction.

    A decision that is due is opened; one of which a review speaks, or that has a row already, is folded anew from all
    records of its review that are in the tree: whatever its row said before, it says what the log says.
    """
    opened = {
        subject.decision: _values(Review(subject=subject), row.position)
        for row in rows
        if is_due(row.record) and (subject := subject_of(row.record)) is not None
    }
    there = _there(connection, tuple(opened))
    new = [values for decision, values in opened.items() if decision not in there]
    if new:
        connection.execute(review_states.insert(), new)
    touched = dict.fromkeys((*there, *(row.record.decision for row in rows if isinstance(row.record, ReviewV1))))
    for decision in touched:
        found = _folded(connection, decision, rows)
        if found is not None:  # else it speaks of nothing that is in the tree
            statement = _insert(connection).values(**found)
            connection.execute(statement.on_conflict_do_update(index_elements=["decision"], set_=found))


def review_problem(connection: sa.Connection, placed: Placed) -> str | None:
    """Tell where `review_states` does not say what the log says of a record; None where it does.

    A row that was changed by hand could hide from the queue what is due. Raises what SQLAlchemy raises.
    """
    record = placed.record
    if not isinstance(record, ReviewV1) and not is_due(record):
        return None
    decision = record.decision if isinstance(record, ReviewV1) else record.id
    due = _folded(connection, decision, ())
    found = connection.execute(sa.select(review_states).where(review_states.c.decision == decision)).first()
    if due is None and found is None:
        return None
    if found is None:
        return f"the review of `{decision}` is not in the queue's table; run `gateway log reindex`"
    if due is None or found._asdict() != due:
        return f"the queue's table says of the review of `{decision}` what the log does not; run `gateway log reindex`"
    return None


def _there(connection: sa.Connection, decisions: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for start in range(0, len(decisions), _TOGETHER):
        some = decisions[start : start + _TOGETHER]
        query = sa.select(review_states.c.decision).where(review_states.c.decision.in_(some))
        found += connection.execute(query).scalars()
    return tuple(found)


def _folded(connection: sa.Connection, decision: str, rows: Sequence[Placed]) -> dict[str, object] | None:
    """Give what the row of a decision is to hold, by the tree and by `rows`, which may be in it or not yet."""
    case = case_of(connection.execute(subjects_query([decision])).first()) or _here(decision, rows)
    if case is None:
        return None
    found: dict[int, Record | None] = {row.position: row.record for row in rows}
    for row in connection.execute(steps_query([decision])):
        found.setdefault(row.position, read_record(row.body))
    steps = (record for position, record in sorted(found.items(), key=lambda one: one[0]) if position > case.position)
    own = (one for one in steps if isinstance(one, ReviewV1) and one.decision == decision)
    return _values(fold(case.subject, own), case.position)


def _here(decision: str, rows: Sequence[Placed]) -> Case | None:
    for row in rows:
        if row.record.id == decision:
            subject = subject_of(row.record)
            return None if subject is None else Case(subject=subject, record=row.record, position=row.position)
    return None


def _insert(connection: sa.Connection) -> postgresql.Insert | sqlite.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(review_states)
    return sqlite.insert(review_states)


def _values(review: Review, position: int) -> dict[str, object]:
    standing, subject = review.standing, review.subject
    return {
        "decision": subject.decision,
        "position": position,
        "department": subject.department,
        "at": subject.at,
        "due_by": subject.due_by,
        "state": review.state,
        "assignee": _name(review.assignee),
        "verdict": review.verdict,
        "judged_by": None if standing is None else _name(who(standing.by)),
        "judged_at": None if standing is None else standing.at,
        "confirms": review.confirms,
    }


def _name(text: str | None) -> str | None:
    return None if text is None else text[:NAME_LONGEST]
