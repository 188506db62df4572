"""Which decisions are due for review, and what is reviewed. Pure.

What makes a decision due is found when its record is made, and stands in it: the queue can be made again of the log.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from gateway.policy.decision import Admit, Refuse, Release, Withhold
from gateway.policy.evidence import StageFailed
from gateway.records.digest import Digester
from gateway.records.events import BreakGlassV1, CallerV1
from gateway.records.outcome import Completed, Outcome
from gateway.records.record import DecisionV1, Record

BREAK_GLASS = "break-glass"
CHOSEN = "chosen"
_GONE = "caller-gone"

WITHIN: Mapping[str, dt.timedelta] = MappingProxyType(
    {
        "refused": dt.timedelta(days=7),
        "withheld": dt.timedelta(days=7),
        "excused": dt.timedelta(days=7),
        "released": dt.timedelta(days=30),
        "screened": dt.timedelta(days=30),
        BREAK_GLASS: dt.timedelta(days=1),
        CHOSEN: dt.timedelta(days=7),
    }
)
"""What makes a decision due, and the time in which it is to be settled; later it is overdue."""


def due(outcome: Outcome, digester: Digester) -> str | None:
    """Tell what makes a decision due for review under its policy's `reviews`, None where it is not.

    Whether a share below 1 hits is read off a keyed digest of the decision's id: whoever lacks the gateway's secret can
    not foresee it, and the same decision always comes to the same. The answer stands in the record (`review`). What a
    shadow policy decided had no effect, and is not due. Where nothing but the caller's going stopped an answer, no
    check objected to it, and it is due as a released one.
    """
    if outcome.mode == "shadow":
        return None
    plan = outcome.policy.policy.reviews
    word = "released" if _only_gone(outcome) else outcome.word
    place = int(digester.digest("review", outcome.request.id.encode())[:13], 16) / 16.0**13  # 52 bits: exact, below 1
    kinds = [word, "excused"] if word in ("refused", "withheld") else ["excused", word]
    if not _excused(outcome):
        kinds.remove("excused")
    return next((kind for kind in kinds if place < getattr(plan, kind)), None)


def _only_gone(outcome: Outcome) -> bool:
    """Tell whether every reason of a refusal or withheld answer is that the caller had gone."""
    final = outcome.final
    reasons = final.reasons if isinstance(final, Refuse | Withhold) else ()
    return bool(reasons) and all(_GONE in (reason.code, reason.cause) for reason in reasons)


def _excused(outcome: Outcome) -> bool:
    """Tell whether it went on although a check, or the demonstrations, failed, or a part was not looked at."""
    admitted = outcome.admission
    if isinstance(admitted, Admit) and (admitted.excused or admitted.waived):
        return True
    return any(
        (isinstance(tried.verdict, Release) and tried.verdict.excused)
        or (isinstance(tried.injected, StageFailed) and isinstance(tried.completed, Completed))
        for tried in outcome.attempts
    )


class Subject(Struct, frozen=True, kw_only=True):
    """What is reviewed: a decision, or a break-glass (without `outcome`); who asked or opened it, and why it is due."""

    decision: str
    department: str
    at: dt.datetime
    by: CallerV1
    due_by: str
    outcome: str | None


def subject_of(record: Record) -> Subject | None:
    """Give what there is to review in a record; None for one that is no decision and no break-glass."""
    if isinstance(record, DecisionV1):
        why, outcome = record.review or CHOSEN, record.outcome
    elif isinstance(record, BreakGlassV1):
        why, outcome = BREAK_GLASS, None
    else:
        return None
    return Subject(
        decision=record.id,
        department=record.department,
        at=record.at,
        by=record.caller,
        due_by=why,
        outcome=outcome,
    )


def is_due(record: Record) -> bool:
    """Tell whether a record by itself stands in the queue of reviews."""
    return isinstance(record, BreakGlassV1) or (isinstance(record, DecisionV1) and record.review is not None)
