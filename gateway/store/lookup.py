"""From a number to its pseudonym, for those who search by a patient, study or user. Each look-up is recorded."""

from __future__ import annotations

import datetime as dt

from gateway.errors import InvalidRequest
from gateway.records import AccessV1, Caller, Pseudonymised, require
from gateway.records.context import NUMBER_LONGEST
from gateway.store.log import DecisionLog


async def look_up(
    log: DecisionLog, kind: Pseudonymised, number: str, *, caller: Caller, endpoint: str, why: str | None = None
) -> str:
    """Give the pseudonym of `number`, 64 hex characters, and record who asked; the number itself is kept nowhere.

    It is recorded because numbers are few: who looks up many can tell whose pseudonyms they read. Raises NotPermitted
    without the permission to search, InvalidRequest for what is no number, and Unavailable where the log can not be
    written.
    """
    require(caller, "search")
    if not number.strip() or len(number) > NUMBER_LONGEST or not number.isprintable():
        raise InvalidRequest(
            f"the number of the {kind} is empty, too long or not printable; give 1 to {NUMBER_LONGEST} characters",
            param="number",
        )
    found = log.pseudonym(kind, number)
    now = dt.datetime.now(dt.UTC)
    access = AccessV1.of(
        caller=caller, endpoint=endpoint, decisions=(), at=now, action="pseudonym", why=why, filter=f"{kind}={found}"
    )
    await log.append_event(access)
    return found
