"""Reviews: who takes a decision, what they judge, who confirms it. Each step is a record of the log, and no more.

A step is appended first, then put in the tree's order, and only then is it told whether it had an effect: of two people
who take the same decision at once, the first in the log has it, and the other one is told who.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import InvalidRequest, NotFound, Unavailable
from gateway.records import AccessV1, Caller, CallerV1, ReviewV1, covers, new_id, require
from gateway.records.events import REASON_LONGEST, Verdict
from gateway.records.review_figures import Reviewed, ReviewFigures, figures, reviewed
from gateway.records.reviews import (
    MEANING_LONGEST,
    NAME_LONGEST,
    REASON_SHORTEST,
    obstacle,
    who,
)
from gateway.store import faults
from gateway.store.log import DecisionLog
from gateway.store.migrate import TROUBLE
from gateway.store.reasons import is_id
from gateway.store.review_queue import (
    ReviewFilter,
    ReviewPage,
    narrowed,
    page_of,
    queue_query,
    waiting_of,
    waiting_queries,
)
from gateway.store.review_read import Known, read_reviews
from gateway.store.review_steps import (
    REVIEW_MEANING,
    SECOND_MEANING,
    History,
    Stepped,
    printable,
    reason_if_given,
    refuse,
)
from gateway.store.tables import review_states

PAGE_LONGEST = 500
"""Reviews on one page of the queue."""

_CHUNK = 200  # reviews read at once for figures


class Reviews:
    """The reviews of one database. `catch_up` puts what was appended in the order of the tree."""

    def __init__(self, engine: AsyncEngine, decisions: DecisionLog, catch_up: Callable[[], Awaitable[object]]) -> None:
        self._engine = engine
        self._decisions = decisions
        self._catch_up = catch_up

    async def queue(
        self,
        caller: Caller,
        filter: ReviewFilter | None = None,
        *,
        endpoint: str = "/reviews",
        limit: int = 50,
        cursor: str | None = None,
        why: str | None = None,
    ) -> ReviewPage:
        """Give a page of the queue, oldest decision first, of what `caller` may see; the look is recorded before.

        Raises NotPermitted, InvalidRequest where the filter, limit or cursor is none, and Unavailable.
        """
        require(caller, "review")
        if not 1 <= limit <= PAGE_LONGEST:
            raise InvalidRequest(f"`limit` takes 1 to {PAGE_LONGEST}", param="limit")
        wanted, now = filter or ReviewFilter(), _now()
        rows = await self._read(queue_query(wanted, caller, now, limit, cursor))
        page = page_of(rows, limit, now)
        access = AccessV1.of(
            caller=caller,
            endpoint=endpoint,
            decisions=tuple(row.decision for row in page.rows),
            at=now,
            action="search",
            why=why,
            filter=wanted.text(),
            rows=len(page.rows),
        )
        await self._decisions.append_event(access)
        return page

    async def assign(
        self, decision: str, caller: Caller, assignee: str | None = None, *, reason: str | None = None
    ) -> Stepped:
        """Give a decision to `assignee` to judge, a key or a person; None: to the caller.

        Any decision of the caller's department can be taken, also one that no plan put in the queue. Raises Conflict
        with the name of who has it, NotPermitted where the assignee asked the decision or has judged it already,
        NotFound, InvalidRequest and Unavailable.
        """
        name = printable("assignee", who(caller) if assignee is None else assignee, 1, NAME_LONGEST)
        return await self._step(decision, caller, "assigned", assignee=name, reason=reason_if_given(reason))

    async def release(self, decision: str, caller: Caller, *, reason: str | None = None) -> Stepped:
        """Give a decision back to the queue. To take it from somebody else needs a `reason`.

        Raises Conflict where nobody has it, NotFound, InvalidRequest and Unavailable.
        """
        return await self._step(decision, caller, "released", reason=reason_if_given(reason))

    async def judge(
        self, decision: str, caller: Caller, verdict: Verdict, reason: str, meaning: str = REVIEW_MEANING
    ) -> Stepped:
        """Sign a verdict on a decision, with its reason; `meaning` says what the signature stands for.

        `agree` settles it; any other verdict waits for a second reader. Raises NotPermitted where the caller asked the
        decision or has judged it already, Conflict where somebody else has it or it is judged, NotFound,
        InvalidRequest and Unavailable.
        """
        return await self._step(
            decision,
            caller,
            "verdict",
            verdict=verdict,
            reason=printable("reason", reason, REASON_SHORTEST, REASON_LONGEST),
            meaning=printable("meaning", meaning, 1, MEANING_LONGEST),
        )

    async def second(
        self,
        decision: str,
        review_id: str,
        caller: Caller,
        confirms: bool,
        reason: str,
        meaning: str = SECOND_MEANING,
        *,
        verdict: Verdict | None = None,
    ) -> Stepped:
        """Sign as second reader that the verdict of the record `review_id` is right or not, with the reason.

        `verdict` is what the second reader would say instead, where they do not confirm. Raises as `judge` does.
        """
        return await self._step(
            decision,
            caller,
            "seconded",
            confirms=confirms,
            refers=printable("review", review_id, 1, 64),
            verdict=verdict,
            reason=printable("reason", reason, REASON_SHORTEST, REASON_LONGEST),
            meaning=printable("meaning", meaning, 1, MEANING_LONGEST),
        )

    async def history(self, decision: str, caller: Caller, *, endpoint: str = "/decisions/{id}/reviews") -> History:
        """Give the state of a decision's review and all its records; the look is recorded before.

        Raises NotPermitted, NotFound and Unavailable.
        """
        require(caller, "read")
        known = await self._known(decision, caller)
        access = AccessV1.of(caller=caller, endpoint=endpoint, decisions=(decision,), at=_now(), rows=1)
        await self._decisions.append_event(access)
        return History(review=known.review, steps=known.told)

    async def figures(
        self, caller: Caller, *, since: dt.datetime | None = None, until: dt.datetime | None = None
    ) -> ReviewFigures:
        """Make the figures of the reviews whose standing verdict was given from `since` until before `until`.

        They name no decision, so that to see them is no look at one. Raises NotPermitted and Unavailable.
        """
        require(caller, "figures")
        now = _now()
        states, unsettled = [await self._read(query) for query in waiting_queries(caller, now)]
        queue = waiting_of(states, unsettled[0], now)
        rows = [row async for row in self._judged(caller, since, until)]
        return figures(rows, queue, since=since, until=until)

    async def _judged(
        self, caller: Caller, since: dt.datetime | None, until: dt.datetime | None
    ) -> AsyncIterator[Reviewed]:
        columns = review_states.c
        query = sa.select(columns.decision, columns.position).where(columns.judged_at.is_not(None), *narrowed(caller))
        if since is not None:
            query = query.where(columns.judged_at >= since)
        if until is not None:
            query = query.where(columns.judged_at < until)
        last = -1
        while True:
            chunk = query.where(columns.position > last).order_by(columns.position).limit(_CHUNK)
            found = await self._read(chunk)
            for known in await self._told([row.decision for row in found]):
                yield reviewed(known.case.record, known.review)
            if len(found) < _CHUNK:
                return
            last = found[-1].position

    async def _step(
        self,
        decision: str,
        caller: Caller,
        action: Literal["assigned", "released", "verdict", "seconded"],
        *,
        assignee: str | None = None,
        verdict: Verdict | None = None,
        confirms: bool | None = None,
        reason: str | None = None,
        meaning: str | None = None,
        refers: str | None = None,
    ) -> Stepped:
        require(caller, "review")
        known = await self._known(decision, caller)
        subject = known.case.subject
        step = ReviewV1(
            id=new_id("rev"),
            at=_now(),
            caller=CallerV1.of(caller),
            decision=subject.decision,
            department=subject.department,
            action=action,
            assignee=assignee,
            verdict=verdict,
            confirms=confirms,
            reason=reason,
            meaning=meaning,
            refers=refers,
        )
        refuse(obstacle(known.review, step))
        await self._decisions.append_event(step)
        await self._catch_up()
        known = await self._known(decision, caller)
        mine = next((one for one in known.told if one.step.id == step.id), None)
        if mine is None:
            raise Unavailable("the step is recorded and not in order yet; look at the review again in a moment")
        refuse(mine.obstacle)
        return Stepped(step=step, review=known.review)

    async def _known(self, decision: str, caller: Caller) -> Known:
        """Read a review. Another department's decision is told as none at all."""
        found = await self._told([decision]) if is_id(decision) else ()
        if not found and is_id(decision):  # it may have been appended just now
            await self._catch_up()
            found = await self._told([decision])
        if not found or not covers(caller, found[0].case.subject.department):
            raise NotFound("there is no such decision to review for this key; `GET /reviews` lists those that are due")
        return found[0]

    async def _told(self, decisions: Sequence[str]) -> tuple[Known, ...]:
        try:
            async with self._engine.connect() as connection:
                return await read_reviews(connection, decisions)
        except TROUBLE as exc:
            raise Unavailable(f"the reviews can not be read; {faults.hint(exc)}") from None

    async def _read(self, query: sa.Select[Any]) -> list[Any]:
        try:
            async with self._engine.connect() as connection:
                return list((await connection.execute(query)).all())
        except TROUBLE as exc:
            raise Unavailable(f"the reviews can not be read; {faults.hint(exc)}") from None


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
