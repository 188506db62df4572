"""Legal holds, read off their records: a pure fold. A hold ends only where two people have ended it.

The rule is in the fold, and not only where records are made: a release without another person's request before it does
not count, whoever wrote it. In doubt the hold stands.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping

from msgspec import Struct

from gateway.records.events import CallerV1, HoldScopeV1, HoldV1
from gateway.records.outcome import Caller


class Held(Struct, frozen=True, kw_only=True):
    """What tells whether sealed content is held. `patient` is a pseudonym, `at` the time of the record."""

    id: str
    department: str
    patient: str | None
    at: dt.datetime


class Hold(Struct, frozen=True, kw_only=True):
    """A hold as its records leave it: who placed it and why, the requests for its release, and who released it."""

    id: str
    scope: HoldScopeV1
    placed: HoldV1
    requests: tuple[HoldV1, ...] = ()
    released: HoldV1 | None = None

    @property
    def open(self) -> bool:
        """Tell whether it still holds."""
        return self.released is None

    @property
    def state(self) -> str:
        """Say it in a word: ``open``, ``release-requested`` or ``released``."""
        if self.released is not None:
            return "released"
        return "release-requested" if self.requests else "open"


def same_person(one: Caller | CallerV1, other: Caller | CallerV1) -> bool:
    """Tell whether two callers are the same: by person where both are known, else by key."""
    if one.person is not None and other.person is not None:
        return one.person == other.person
    return one.key == other.key


def fold(records: Iterable[HoldV1]) -> Mapping[str, Hold]:
    """Give the holds by their ids, from their records in the order of the log.

    Left out of account: a step of an unknown or released hold, a second placing, and a release by nobody but those who
    requested it.
    """
    holds: dict[str, Hold] = {}
    for record in records:
        hold = holds.get(record.hold)
        if record.action == "placed":
            if hold is None and record.scope is not None and record.hold == record.id:
                holds[record.id] = Hold(id=record.id, scope=record.scope, placed=record)
        elif hold is None or not hold.open:
            continue
        elif record.action == "requested":
            holds[hold.id] = Hold(id=hold.id, scope=hold.scope, placed=hold.placed, requests=(*hold.requests, record))
        elif may_release(hold, record.caller):
            holds[hold.id] = Hold(
                id=hold.id, scope=hold.scope, placed=hold.placed, requests=hold.requests, released=record
            )
    return holds


def may_release(hold: Hold, caller: Caller | CallerV1) -> bool:
    """Tell whether `caller` may release `hold`: where another has requested it."""
    return hold.open and any(not same_person(request.caller, caller) for request in hold.requests)


def covers_content(scope: HoldScopeV1, content: Held) -> bool:
    """Tell whether a hold's scope covers `content`: where it meets all that the scope says. `until` is excluded."""
    return (
        (not scope.decisions or content.id in scope.decisions)
        and (scope.department is None or scope.department == content.department)
        and (scope.patient is None or scope.patient == content.patient)
        and (scope.since is None or scope.since <= content.at)
        and (scope.until is None or content.at < scope.until)
    )


def held_by(holds: Iterable[Hold], content: Held) -> Hold | None:
    """Give an open hold that covers `content`, None where there is none."""
    return next((hold for hold in holds if hold.open and covers_content(hold.scope, content)), None)
