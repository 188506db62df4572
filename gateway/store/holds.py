"""Legal holds: what they cover is not erased, by retention or by request, until two people have released them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import Conflict, InvalidRequest, NotFound, NotPermitted, Unavailable
from gateway.records import ALL, AccessV1, Caller, HoldScopeV1, HoldV1, covers, new_id, require
from gateway.records.events import CallerV1
from gateway.records.holds import Hold, fold, may_release
from gateway.store import faults
from gateway.store.locked import events, locked, record
from gateway.store.log import DecisionLog
from gateway.store.migrate import TROUBLE
from gateway.store.reasons import check_reason, is_id, shown

DECISIONS_MOST = 1000
"""Decisions that one hold names at most."""

_PSEUDONYM = re.compile(r"[0-9a-f]{64}")
_DEPARTMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


async def read_holds(connection: AsyncConnection) -> Mapping[str, Hold]:
    """Read the holds off the log, by their ids, as they stand in the transaction of `connection`."""
    return fold(step for _, step in await events(connection, HoldV1))


class Holds:
    """The legal holds of one database."""

    def __init__(self, engine: AsyncEngine, decisions: DecisionLog) -> None:
        self._engine = engine
        self._decisions = decisions

    async def place(
        self,
        caller: Caller,
        reason: str,
        *,
        decisions: Sequence[str] = (),
        department: str | None = None,
        patient: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
    ) -> Hold:
        """Place a hold on what meets all that is given; `patient` is a pseudonym, as records bear it.

        A caller of one department holds what is that department's. From when this returns nothing it covers is erased.
        Raises NotPermitted, InvalidRequest, and Unavailable where it can not be recorded.
        """
        require(caller, "hold")
        reason = check_reason(reason)
        if not (decisions or department or patient or since or until):
            raise InvalidRequest("say what is held: decisions, a department, a patient, or a span of time")
        scope = _scope(tuple(dict.fromkeys(decisions)), _own(caller, department), patient, since, until)
        id_ = new_id("hold")
        await self._write(placed := _step(caller, "placed", id_, reason, scope))
        return Hold(id=id_, scope=scope, placed=placed)

    async def request_release(self, id: str, caller: Caller, reason: str) -> Hold:
        """Ask that a hold be released; it holds until another person releases it.

        Raises NotPermitted, InvalidRequest, NotFound, Conflict where that was asked already or it is released, and
        Unavailable.
        """
        require(caller, "hold")
        reason = check_reason(reason)
        async with locked(self._engine) as connection:
            hold = await self._open(connection, id, caller)
            if hold.requests:
                raise Conflict(
                    f"the release of `{hold.id}` was requested already, on {hold.requests[0].at:%d %B %Y}; "
                    "another person releases it"
                )
            await record(connection, _step(caller, "requested", hold.id, reason))
            return (await read_holds(connection))[hold.id]

    async def release(self, id: str, caller: Caller, reason: str) -> Hold:
        """Release a hold whose release another person has requested.

        Raises NotPermitted where nobody else has, and otherwise as `request_release`.
        """
        require(caller, "hold")
        reason = check_reason(reason)
        async with locked(self._engine) as connection:
            hold = await self._open(connection, id, caller)
            if not hold.requests:
                raise Conflict(f"nobody has requested the release of `{hold.id}`; one person does, another releases it")
            if not may_release(hold, caller):
                raise NotPermitted(
                    f"you requested the release of `{hold.id}` yourself; another person must release it",
                    code="second_person_needed",
                )
            await record(connection, _step(caller, "released", hold.id, reason))
            return (await read_holds(connection))[hold.id]

    async def list(self, caller: Caller, endpoint: str, *, released: bool = False) -> tuple[Hold, ...]:
        """List the open holds, oldest first, and those that are released where `released`; the look is recorded first.

        A caller of one department sees that department's holds and those that name none. Raises NotPermitted or
        Unavailable.
        """
        require(caller, "hold")
        holds = tuple(hold for hold in (await self.all()).values() if (hold.open or released) and _sees(caller, hold))
        access = AccessV1.of(
            caller=caller,
            endpoint=endpoint,
            decisions=(),
            at=dt.datetime.now(dt.UTC),
            action="holds",
            rows=len(holds),
        )
        await self._decisions.append_event(access)
        return holds

    async def all(self) -> Mapping[str, Hold]:
        """Read all holds off the log, by their ids; nothing is recorded. Raises Unavailable."""
        try:
            async with self._engine.connect() as connection:
                return await read_holds(connection)
        except TROUBLE as exc:
            raise Unavailable(f"the decision log can not be read; {faults.hint(exc)}") from None

    async def _open(self, connection: AsyncConnection, id: str, caller: Caller) -> Hold:
        hold = (await read_holds(connection)).get(id)
        if hold is None or not _sees(caller, hold):
            raise NotFound(f"there is no hold `{shown(id)}` for this key")
        if hold.scope.department is None and caller.department != ALL and "admin" not in caller.roles:
            raise NotPermitted(f"the hold `{hold.id}` covers every department; so must whoever releases it")
        if not hold.open:
            raise Conflict(f"the hold `{hold.id}` is released already")
        return hold

    async def _write(self, step: HoldV1) -> None:
        async with locked(self._engine) as connection:
            await record(connection, step)


def _sees(caller: Caller, hold: Hold) -> bool:
    return hold.scope.department is None or covers(caller, hold.scope.department)


def _own(caller: Caller, department: str | None) -> str | None:
    """Give the department of a hold: the caller's own, where the caller does not look after all."""
    if department is not None and not _DEPARTMENT.fullmatch(department):
        raise InvalidRequest("a department has lowercase letters, digits and hyphens", param="department")
    if caller.department == ALL or "admin" in caller.roles:
        return department
    if department is not None and not covers(caller, department):
        raise NotPermitted(f"this key places holds in `{caller.department}` alone", code="insufficient_permissions")
    return caller.department


def _scope(
    decisions: tuple[str, ...],
    department: str | None,
    patient: str | None,
    since: dt.datetime | None,
    until: dt.datetime | None,
) -> HoldScopeV1:
    if len(decisions) > DECISIONS_MOST or not all(map(is_id, decisions)):
        raise InvalidRequest(f"`decisions` names at most {DECISIONS_MOST} decisions by their ids", param="decisions")
    if patient is not None and not _PSEUDONYM.fullmatch(patient):
        raise InvalidRequest("`patient` is the pseudonym that records bear: 64 hex characters", param="patient")
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise InvalidRequest(f"`{name}` is a time with its zone, such as `2026-01-31T08:00:00Z`", param=name)
    if since is not None and until is not None and since >= until:
        raise InvalidRequest("`since` is before `until`", param="since")
    return HoldScopeV1(
        decisions=decisions,
        department=department,
        patient=patient,
        since=None if since is None else since.astimezone(dt.UTC),
        until=None if until is None else until.astimezone(dt.UTC),
    )


def _step(caller: Caller, action: str, hold: str, reason: str, scope: HoldScopeV1 | None = None) -> HoldV1:
    return HoldV1(
        id=hold if action == "placed" else new_id("hold"),
        at=dt.datetime.now(dt.UTC),
        caller=CallerV1.of(caller),
        action=action,  # type: ignore[arg-type] # given by this module alone
        hold=hold,
        scope=scope,
        reason=reason,
    )
