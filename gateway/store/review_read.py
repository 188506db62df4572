"""Reads reviews off the log: a decision, its place in the tree, and the records of its review in the tree's order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records import Record, ReviewV1, parse
from gateway.records.review_plan import Subject, subject_of
from gateway.records.reviews import Review, Told, tell
from gateway.store.tables import decision_log, entries, entry_subjects

_KIND = "review.v1"


class Case(Struct, frozen=True, kw_only=True):
    """What is reviewed, its record, and its place in the tree."""

    subject: Subject
    record: Record
    position: int


def subjects_query(decisions: Sequence[str]) -> sa.Select[Any]:
    """Ask for the records of decisions and their places in the tree."""
    joined = decision_log.join(entries, entries.c.sequence == decision_log.c.sequence)
    query = sa.select(decision_log.c.body, entries.c.position).select_from(joined)
    return query.where(decision_log.c.id.in_(decisions)).order_by(entries.c.position)


def steps_query(decisions: Sequence[str]) -> sa.Select[Any]:
    """Ask for the reviews of decisions, in the order of the tree."""
    joined = entry_subjects.join(entries, entries.c.position == entry_subjects.c.position).join(
        decision_log, decision_log.c.sequence == entries.c.sequence
    )
    query = sa.select(decision_log.c.body, entries.c.position).select_from(joined)
    query = query.where(entry_subjects.c.subject.in_(decisions), decision_log.c.kind == _KIND)
    return query.order_by(entries.c.position)


def case_of(row: sa.Row[Any] | None) -> Case | None:
    """Read what `subjects_query` found; None where that is nothing that is reviewed, or its bytes are damaged."""
    record = None if row is None else read_record(row.body)
    subject = None if record is None else subject_of(record)
    if row is None or record is None or subject is None:
        return None
    return Case(subject=subject, record=record, position=row.position)


def read_record(body: bytes) -> Record | None:
    """Read a record; None where its bytes are damaged.

    That is for `gateway log verify` to name: here it must not stop the sequencer for ever.
    """
    try:
        return parse(bytes(body))
    except ValueError:
        return None


class Known(Struct, frozen=True, kw_only=True):
    """A review as the log tells it: what it is of, what each of its records did, and the state they come to."""

    case: Case
    told: tuple[Told, ...]
    review: Review


async def read_reviews(connection: AsyncConnection, decisions: Sequence[str]) -> tuple[Known, ...]:
    """Read the reviews of decisions, in the order of the tree; those that are not in the tree are left out."""
    found = (await connection.execute(subjects_query(decisions))).all()
    steps = [(read_record(row.body), row.position) for row in await connection.execute(steps_query(decisions))]
    return tuple(_known(case, steps) for case in map(case_of, found) if case is not None)


def _known(case: Case, steps: Iterable[tuple[Record | None, int]]) -> Known:
    own = (step for step, position in steps if isinstance(step, ReviewV1) and position > case.position)
    review, told = tell(case.subject, (step for step in own if step.decision == case.subject.decision))
    return Known(case=case, told=told, review=review)
