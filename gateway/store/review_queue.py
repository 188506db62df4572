"""The queue of reviews: what waits, for whom, since when. Made of `review_states`, which is derived from the log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, get_args

import sqlalchemy as sa
from msgspec import Struct

from gateway.errors import InvalidRequest
from gateway.records import ALL, Caller, covers
from gateway.records.review_figures import Waiting
from gateway.records.review_plan import WITHIN
from gateway.records.reviews import NAME_LONGEST, UNSETTLED, State, who
from gateway.store.tables import review_states

STATES: tuple[State, ...] = get_args(State)
ME = "me"
"""Stands for whoever asks, as an assignee."""


class ReviewFilter(Struct, frozen=True, kw_only=True):
    """Which reviews to list: None, empty and False leave a field open. Without `states`, all that are not settled.

    `assignee` is a key or a person, ``me`` for whoever asks.
    """

    states: tuple[State, ...] = ()
    department: str | None = None
    assignee: str | None = None
    due_by: str | None = None
    overdue: bool = False

    def text(self) -> str:
        """Give the filter as ``field=value`` pairs joined by ``&``, as the record of the look holds it."""
        pairs: list[tuple[str, str]] = [("state", state) for state in self.states or UNSETTLED]
        pairs += [(n, str(v)) for n in ("department", "assignee", "due_by") if (v := getattr(self, n)) is not None]
        return "&".join(f"{name}={value}" for name, value in (*pairs, *([("overdue", "true")] if self.overdue else ())))


def parse_review_filter(pairs: Iterable[tuple[str, str]]) -> ReviewFilter:
    """Read a filter; `state` may be given more than once. Raises InvalidRequest with the field and what it takes."""
    states: list[State] = []
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name == "state":
            state = next((one for one in STATES if one == value), None)
            if state is None:
                raise InvalidRequest(f"`state` takes one of {', '.join(STATES)}", param=name)
            states.append(state)
            continue
        if name not in ("department", "assignee", "due_by", "overdue"):
            fields = "state, department, assignee, due_by, overdue"
            raise InvalidRequest(f"reviews have no such field to filter by; choose from {fields}")
        if name in given:
            raise InvalidRequest(f"`{name}` stands twice; give it once", param=name)
        given[name] = _value(name, value)
    return ReviewFilter(states=tuple(dict.fromkeys(states)), **given)


def _value(name: str, value: str) -> str | bool:
    if name == "overdue":
        if value not in ("true", "false"):
            raise InvalidRequest("`overdue` takes true or false", param=name)
        return value == "true"
    if name == "due_by" and value not in WITHIN:
        raise InvalidRequest(f"`due_by` takes one of {', '.join(WITHIN)}", param=name)
    if not value or len(value) > NAME_LONGEST or not value.isprintable():
        raise InvalidRequest(f"`{name}` takes 1 to {NAME_LONGEST} printable characters", param=name)
    return value


class ReviewItem(Struct, frozen=True, kw_only=True):
    """One review in the queue. `by` is when it is to be settled, `position` its decision's place in the tree."""

    decision: str
    position: int
    department: str
    at: dt.datetime
    due_by: str
    by: dt.datetime
    overdue: bool
    state: State
    assignee: str | None
    verdict: str | None
    judged_by: str | None
    judged_at: dt.datetime | None
    confirms: bool | None


class ReviewPage(Struct, frozen=True, kw_only=True):
    """A page of the queue, oldest first, and the cursor of the next one; None at the end."""

    rows: tuple[ReviewItem, ...]
    next: str | None


def queue_query(
    filter: ReviewFilter,
    caller: Caller,
    now: dt.datetime,
    limit: int,
    cursor: str | None,
) -> sa.Select[Any]:
    """Ask for one row more than a page, of what `caller` may see. Raises InvalidRequest where `cursor` is none."""
    columns = review_states.c
    query = sa.select(review_states).where(columns.state.in_(filter.states or UNSETTLED))
    query = query.where(*narrowed(caller))
    if filter.department is not None:
        query = query.where(columns.department == filter.department)
    if filter.assignee is not None:
        names = _names(caller) if filter.assignee == ME else (filter.assignee,)
        query = query.where(columns.assignee.in_(names))
    if filter.due_by is not None:
        query = query.where(columns.due_by == filter.due_by)
    if filter.overdue:
        query = query.where(_late(now))
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 15):
            raise InvalidRequest("`cursor` is none that was given out; begin without one", param="cursor")
        query = query.where(columns.position > int(cursor))
    return query.order_by(columns.position).limit(limit + 1)


def _names(caller: Caller) -> tuple[str, ...]:
    return tuple(dict.fromkeys((who(caller), caller.key)))


def narrowed(caller: Caller) -> tuple[sa.ColumnElement[bool], ...]:
    """Give the condition that keeps `caller` to their department; none where they look after all."""
    return () if covers(caller, ALL) else (review_states.c.department == caller.department,)


def _late(now: dt.datetime) -> sa.ColumnElement[bool]:
    columns = review_states.c
    late = (sa.and_(columns.due_by == word, columns.at < now - time) for word, time in WITHIN.items())
    return sa.and_(columns.state != "settled", sa.or_(*late))


def page_of(rows: list[sa.Row[Any]], limit: int, now: dt.datetime) -> ReviewPage:
    """Make a page of what `queue_query` found."""
    shown = tuple(_item(row, now) for row in rows[:limit])
    return ReviewPage(rows=shown, next=str(shown[-1].position) if len(rows) > limit else None)


def _item(row: sa.Row[Any], now: dt.datetime) -> ReviewItem:
    by = row.at + WITHIN.get(row.due_by, WITHIN["refused"])
    known = {name: getattr(row, name) for name in ReviewItem.__struct_fields__ if name not in ("by", "overdue")}
    return ReviewItem(by=by, overdue=row.state != "settled" and by < now, **known)


def waiting_queries(caller: Caller, now: dt.datetime) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Ask how many reviews are in each state, and how many are overdue with the oldest's time."""
    columns = review_states.c
    states = sa.select(columns.state, sa.func.count().label("number")).where(*narrowed(caller)).group_by(columns.state)
    unsettled = sa.select(
        sa.func.coalesce(sa.func.sum(sa.case((_late(now), 1), else_=0)), 0).label("overdue"),
        sa.func.min(columns.at).label("oldest"),
    ).where(columns.state.in_(UNSETTLED), *narrowed(caller))
    return states, unsettled


def waiting_of(states: Iterable[sa.Row[Any]], unsettled: sa.Row[Any], now: dt.datetime) -> Waiting:
    """Read what `waiting_queries` found."""
    found = {row.state: int(row.number) for row in states}
    oldest = None if unsettled.oldest is None else max(0.0, (now - unsettled.oldest).total_seconds())
    counts: dict[str, int] = {state: found.get(state, 0) for state in STATES}
    return Waiting(states=counts, overdue=int(unsettled.overdue), oldest=oldest)
