"""What happens to the log after a decision, as records of the log itself: looks, reviews, holds, erasures, changes.

State is never stored: who holds what, and what a review came to, is read off these records in their order.
See `gateway.records.shapes` for the rules of versions.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Literal

from msgspec import Meta

from gateway.records.outcome import Caller
from gateway.records.shapes import Kept

Instant = Annotated[dt.datetime, Meta(tz=True)]
"""A point in time, with its zone; always UTC, written as RFC 3339."""

REASON_LONGEST = 1000
"""Characters of a reason that a person gives."""

Verdict = Literal["agree", "false_positive", "false_negative", "escalate"]
"""A reviewer's word: the decision was right, it refused what was to be answered, the reverse, or others must look."""


class CallerV1(Kept, frozen=True, kw_only=True):
    """Who called: the id of the API key (never the key), its department and roles.

    `person` and `application` are who used it, where that is known; `via` is how they signed in (``key``, ``oidc``,
    ``session``, ``os``), and `grant` the break-glass record that lent them a role.
    """

    key: str
    department: str
    roles: tuple[str, ...]
    person: str | None = None
    application: str | None = None
    via: str = "key"
    grant: str | None = None

    @classmethod
    def of(cls, caller: Caller) -> CallerV1:
        """Copy what is kept of `caller`."""
        return cls(
            key=caller.key,
            department=caller.department,
            roles=caller.roles,
            person=caller.person,
            application=caller.application,
            via=caller.via,
            grant=caller.grant,
        )


def new_id(prefix: str) -> str:
    """Make an id for a record that is no decision: the prefix, and 122 random bits in hex."""
    return f"{prefix}_{uuid.uuid4().hex}"


class AccessV1(Kept, frozen=True, kw_only=True, tag="access.v1"):
    """Someone looked at the log: who, when, by which endpoint, what they did (`action`), at which decisions, and why.

    `action` is a short code such as ``read``, ``search``, ``reveal``, ``export`` or ``verify``; `why` is the reason
    given, None where none was. `filter` is what was searched for, as ``field=value`` pairs joined by ``&``; `rows` how
    many records were shown (`decisions` names at most a page of them). `until` is the end of a reveal's time box.
    """

    id: str
    at: Instant
    caller: CallerV1
    endpoint: str
    action: str
    decisions: tuple[str, ...]
    why: str | None
    filter: str | None = None
    rows: int | None = None
    until: Instant | None = None

    @classmethod
    def of(
        cls,
        *,
        caller: Caller,
        endpoint: str,
        decisions: tuple[str, ...],
        at: dt.datetime,
        action: str = "read",
        why: str | None = None,
        filter: str | None = None,
        rows: int | None = None,
        until: dt.datetime | None = None,
    ) -> AccessV1:
        """Make the record of one look at the log, with an id of its own. `at` and `until` must have a zone."""
        return cls(
            id=new_id("acc"),
            at=at.astimezone(dt.UTC),
            caller=CallerV1.of(caller),
            endpoint=endpoint,
            action=action,
            decisions=decisions,
            why=why,
            filter=filter,
            rows=rows,
            until=None if until is None else until.astimezone(dt.UTC),
        )


class ReviewV1(Kept, frozen=True, kw_only=True, tag="review.v1"):
    """A step of a decision's review: it was `assigned`, given up (`released`), judged (`verdict`), or `seconded`.

    `assignee` is the key or person who is to judge. `reason` is mandatory with a verdict; `meaning` says what the
    signature stands for. A second reader names in `refers` the review that they confirm or not (`confirms`).
    """

    id: str
    at: Instant
    caller: CallerV1
    decision: str
    department: str
    action: Literal["assigned", "released", "verdict", "seconded"]
    assignee: str | None
    verdict: Verdict | None
    confirms: bool | None
    reason: str | None
    meaning: str | None
    refers: str | None


class HoldScopeV1(Kept, frozen=True, kw_only=True):
    """What a legal hold covers: what meets all that is given. `patient` is a pseudonym; times bound a record's `at`."""

    decisions: tuple[str, ...]
    department: str | None
    patient: str | None
    since: Instant | None
    until: Instant | None


class HoldV1(Kept, frozen=True, kw_only=True, tag="hold.v1"):
    """A step of a legal hold: `placed`, its release `requested` by one person, and `released` by another.

    `hold` is the id of the record that placed it (its own id, there); `scope` stands in that record alone.
    """

    id: str
    at: Instant
    caller: CallerV1
    action: Literal["placed", "requested", "released"]
    hold: str
    scope: HoldScopeV1 | None
    reason: str


class ErasureV1(Kept, frozen=True, kw_only=True, tag="erasure.v1"):
    """The keys of sealed content were destroyed: of which decisions, because of `retention` or on `request`, and why.

    It is written in the transaction that destroys the keys: no key goes without it. Where it stands and a key is there
    (a table was restored from a copy), the erasure is done again.
    """

    id: str
    at: Instant
    caller: CallerV1
    cause: Literal["retention", "request"]
    decisions: tuple[str, ...]
    reason: str | None


class ChangeV1(Kept, frozen=True, kw_only=True, tag="change.v1"):
    """Something that decisions or access rest on was changed: `what` (a code), of which `subject`, and the two states.

    `what` is such as ``key-created``, ``key-rotated``, ``key-revoked``, ``policy-loaded``, ``log-key``, ``vault-key``
    or ``review-plan``; `before` and `after` are digests or codes, never secrets.
    """

    id: str
    at: Instant
    caller: CallerV1
    what: str
    subject: str
    before: str | None
    after: str | None
    reason: str | None


class BreakGlassV1(Kept, frozen=True, kw_only=True, tag="break-glass.v1"):
    """A named person took the right to read decisions of `department` in an emergency; it ends, and is reviewed.

    `claimed` is the name that was given where the sign-in knows of no person: nothing shows that it is true.
    """

    id: str
    at: Instant
    caller: CallerV1
    department: str
    reason: str
    until: Instant
    claimed: str | None = None


class ReauditV1(Kept, frozen=True, kw_only=True, tag="reaudit.v1"):
    """A past decision was judged again under another policy, as part of a batch; what was decided then stays.

    `before` is the word of its outcome, `after` what it would have been: ``released``, ``refused``, ``withheld``,
    ``screened``, ``asked`` (the model would have been asked, and nobody knows what it would have said) or ``unknown``
    (what is kept does not tell). `policy` is the digest of the candidate, `source` what was judged: ``evidence`` of the
    record, or sealed ``content``. `rule` and `reasons` are the candidate's, codes alone.
    """

    id: str
    at: Instant
    caller: CallerV1
    batch: str
    line: int
    decision: str
    department: str
    policy: str
    source: Literal["evidence", "content"]
    before: str
    after: str
    rule: str | None
    reasons: tuple[str, ...]


Event = AccessV1 | ReviewV1 | HoldV1 | ErasureV1 | ChangeV1 | BreakGlassV1 | ReauditV1
