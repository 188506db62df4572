"""Break-glass: a named person takes the right to read the decisions of the own department, for a reason and a while.

The grant is its record, and nothing else: it stands in the log before it has effect, and is put in the queue of
reviews. What is read under it is recorded like anything else, with the grant's id.
"""

from __future__ import annotations

import datetime as dt
import time

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import InvalidRequest, Unavailable
from gateway.records import BreakGlassV1, Caller, new_id, require
from gateway.records.context import PERSON_LONGEST, is_id
from gateway.records.events import CallerV1
from gateway.store import faults
from gateway.store.locked import events
from gateway.store.log import DecisionLog
from gateway.store.migrate import TROUBLE
from gateway.store.reasons import check_minutes, check_reason
from gateway.store.timebox import is_open

LONGEST_MINUTES = 240
"""The longest time for which the glass is broken, in minutes."""

_REMEMBERED = 1.0  # seconds for which the open grants are remembered: another process may have made one


class Grants:
    """The break-glass grants of one database."""

    def __init__(self, engine: AsyncEngine, decisions: DecisionLog) -> None:
        self._engine = engine
        self._decisions = decisions
        self._known: tuple[BreakGlassV1, ...] = ()
        self._fresh_until = 0.0  # by the monotonic clock

    async def break_glass(
        self, caller: Caller, reason: str, minutes: int, *, department: str | None = None, person: str | None = None
    ) -> BreakGlassV1:
        """Lend `caller` the right to read, search and reveal in the own department for `minutes`.

        `person` is the name that is recorded as claimed where the sign-in tells none. Raises NotPermitted,
        InvalidRequest, and Unavailable where it can not be recorded: then nothing is lent.
        """
        require(caller, "break-glass")
        reason = check_reason(reason)
        check_minutes(minutes, LONGEST_MINUTES)
        if department is not None and department != caller.department:
            raise InvalidRequest(
                f"break-glass opens the department of the key, `{caller.department}`, and no other", param="department"
            )
        claimed = None
        if caller.person is None:
            if person is None or not is_id(person, PERSON_LONGEST):
                raise InvalidRequest(
                    "break-glass needs a named person, and this key names none; give `person`, an id of at most "
                    f"{PERSON_LONGEST} characters",
                    param="person",
                )
            claimed = person
        now = dt.datetime.now(dt.UTC)
        grant = BreakGlassV1(
            id=new_id("brk"),
            at=now,
            caller=CallerV1.of(caller),
            department=caller.department,
            reason=reason,
            until=now + dt.timedelta(minutes=minutes),
            claimed=claimed,
        )
        await self._decisions.append_event(grant)
        self._fresh_until = 0.0
        return grant

    async def active(self, caller: Caller) -> Caller:
        """Give `caller` with the grant that is open for the same key and person, as it is where none is.

        A grant that another process has made counts within a second. Raises Unavailable where the log can not be read.
        """
        now = dt.datetime.now(dt.UTC)
        if time.monotonic() >= self._fresh_until:
            await self._read(now)
        for grant in reversed(self._known):
            same = (grant.caller.key, grant.caller.person) == (caller.key, caller.person)
            if same and grant.department == caller.department and now < grant.until:
                return replace(caller, grant=grant.id)
        return caller

    async def _read(self, now: dt.datetime) -> None:
        since = now - dt.timedelta(minutes=LONGEST_MINUTES)
        try:
            async with self._engine.connect() as connection:
                self._known = tuple(
                    [
                        grant
                        for sequence, grant in await events(connection, BreakGlassV1, since=since)
                        if await is_open(connection, sequence, grant.at, grant.until, now)
                    ]
                )
        except TROUBLE as exc:
            raise Unavailable(f"the decision log can not be read; {faults.hint(exc)}") from None
        self._fresh_until = time.monotonic() + _REMEMBERED
