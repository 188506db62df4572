"""A record as one flat row, for tables (CSV, Parquet): who, what, when, which rule, which outcome, by which proof.

What has a row of its own nowhere (each stage's scores, each span) is not here; the record and its FHIR event have all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, assert_never

from gateway.records.events import AccessV1, BreakGlassV1, ChangeV1, ErasureV1, HoldV1, ReauditV1, ReviewV1
from gateway.records.record import DecisionV1, OpenedV1, Record
from gateway.records.shapes import AdmitV1, CompletedV1, FailedV1, InjectedV1, RefuseV1, WithholdV1

Cell = str | int | float | bool | dt.datetime | None
Kind = Literal["text", "int", "float", "bool", "time"]

COLUMNS: Mapping[str, Kind] = MappingProxyType(
    {
        "position": "int",
        "sequence": "int",
        "id": "text",
        "kind": "text",
        "at": "time",
        "department": "text",
        "outcome": "text",
        "action": "text",
        "endpoint": "text",
        "key": "text",
        "person": "text",
        "application": "text",
        "via": "text",
        "roles": "text",
        "grant": "text",
        "on_behalf_of": "text",
        "purpose": "text",
        "patient": "text",
        "study": "text",
        "task": "text",
        "modality": "text",
        "model": "text",
        "stream": "bool",
        "streamed": "text",
        "stream_ended": "text",
        "mode": "text",
        "policy": "text",
        "revision": "int",
        "policy_digest": "text",
        "gateway": "text",
        "tier": "int",
        "risk": "float",
        "admission_rule": "text",
        "rule": "text",
        "reasons": "text",
        "stages": "text",
        "failed_stages": "text",
        "uninspected": "int",
        "attempts": "int",
        "demonstrations": "int",
        "demonstrations_digest": "text",
        "model_answered": "text",
        "prompt_tokens": "int",
        "completion_tokens": "int",
        "redactions": "int",
        "left": "int",
        "ms": "float",
        "erased": "text",
        "batch": "text",
        "line": "int",
        "subjects": "text",
        "verdict": "text",
        "confirms": "bool",
        "assignee": "text",
        "filter": "text",
        "rows": "int",
        "until": "time",
        "before": "text",
        "after": "text",
        "why": "text",
        "leaf": "text",
    }
)
"""The columns of a row, in their order, and what they hold. Lists are joined by one space; times are UTC."""


def flat(record: Record, *, position: int, sequence: int, leaf: str) -> dict[str, Cell]:
    """Give `record` as a row of `COLUMNS`; what does not apply to its kind is None."""
    caller = record.caller
    row: dict[str, Cell] = dict.fromkeys(COLUMNS)
    row |= {
        "position": position,
        "sequence": sequence,
        "leaf": leaf,
        "id": record.id,
        "kind": record.__struct_config__.tag,
        "at": record.at,
        "department": caller.department,
        "key": caller.key,
        "person": caller.person,
        "application": caller.application,
        "via": caller.via,
        "roles": " ".join(caller.roles),
        "grant": caller.grant,
    }
    return row | _own(record)


def _own(record: Record) -> dict[str, Cell]:
    """Give the cells that differ by kind."""
    match record:
        case DecisionV1():
            return _decision(record)
        case OpenedV1():
            return _opened(record)
        case AccessV1():
            return {
                "action": record.action,
                "endpoint": record.endpoint,
                "subjects": " ".join(record.decisions),
                "filter": record.filter,
                "rows": record.rows,
                "until": record.until,
                "why": record.why,
            }
        case ReviewV1():
            return {
                "action": record.action,
                "department": record.department,
                "subjects": " ".join(filter(None, (record.decision, record.refers))),
                "verdict": record.verdict,
                "confirms": record.confirms,
                "assignee": record.assignee,
                "why": record.reason,
            }
        case HoldV1():
            return {
                "action": record.action,
                "subjects": " ".join((record.hold, *(() if record.scope is None else record.scope.decisions))),
                "patient": None if record.scope is None else record.scope.patient,
                "until": None if record.scope is None else record.scope.until,
                "why": record.reason,
            }
        case ErasureV1():
            return {"action": record.cause, "subjects": " ".join(record.decisions), "why": record.reason}
        case ChangeV1():
            changed: dict[str, Cell] = {"before": record.before, "after": record.after, "why": record.reason}
            return changed | {"action": record.what, "subjects": record.subject}
        case BreakGlassV1():
            return {"department": record.department, "until": record.until, "why": record.reason}
        case ReauditV1():
            return {
                "action": record.source,
                "department": record.department,
                "policy": record.department,
                "policy_digest": record.policy,
                "rule": record.rule,
                "reasons": " ".join(record.reasons) or None,
                "batch": record.batch,
                "line": record.line,
                "subjects": record.decision,
                "before": record.before,
                "after": record.after,
            }
        case _:
            assert_never(record)


def _decision(record: DecisionV1) -> dict[str, Cell]:
    context, policy, final, admission = record.context, record.policy, record.final, record.admission
    reasons = final.reasons if isinstance(final, RefuseV1 | WithholdV1) else ()
    stages = [one.stage for one in record.screening]
    failed = [f"{one.stage}:{one.cause}" for one in record.screening if isinstance(one, FailedV1)]
    row: dict[str, Cell] = {
        "department": record.department,
        "outcome": record.outcome,
        "endpoint": record.endpoint,
        "model": record.model,
        "stream": record.stream,
        "streamed": None if record.streamed is None else record.streamed.mode,
        "stream_ended": None if record.streamed is None else record.streamed.ended,
        "mode": record.mode,
        "policy": policy.department,
        "revision": policy.revision,
        "policy_digest": policy.digest,
        "gateway": record.gateway,
        "modality": " ".join(sorted({image.modality for image in record.images if image.modality})) or None,
        "tier": admission.tier if isinstance(admission, AdmitV1) else None,
        "risk": admission.risk,
        "admission_rule": admission.rule,
        "rule": final.rule,
        "reasons": " ".join(dict.fromkeys(one.code for one in reasons)) or None,
        "uninspected": sum(not part.by for part in record.coverage),
        "attempts": len(record.attempts),
        "redactions": len(getattr(final, "redactions", ())),
        "left": record.left,
        "ms": record.ms,
        "erased": " ".join(record.erased) or None,
        "batch": None if record.batch is None else record.batch.batch,
        "line": None if record.batch is None else record.batch.line,
    }
    for attempt in record.attempts:  # the last asking is what counted
        stages += [one.stage for one in (attempt.injected, attempt.completed, *attempt.audits) if one is not None]
        failed += [
            f"{one.stage}:{one.cause}"
            for one in (attempt.injected, attempt.completed, *attempt.audits)
            if isinstance(one, FailedV1)
        ]
        if isinstance(attempt.injected, InjectedV1):
            row["demonstrations"] = len(attempt.injected.demonstrations)
            row["demonstrations_digest"] = attempt.injected.digest
        if isinstance(attempt.completed, CompletedV1):
            row["model_answered"] = attempt.completed.model
            row["prompt_tokens"] = attempt.completed.prompt_tokens
            row["completion_tokens"] = attempt.completed.completion_tokens
    row["stages"] = " ".join(dict.fromkeys(stages)) or None
    row["failed_stages"] = " ".join(dict.fromkeys(failed)) or None
    if context is not None:
        row |= {
            "on_behalf_of": context.on_behalf_of,
            "purpose": context.purpose,
            "patient": context.patient,
            "study": context.study,
            "task": context.task,
        }
    return row


def _opened(record: OpenedV1) -> dict[str, Cell]:
    policy, admission = record.policy, record.admission
    return {
        "action": "opened",
        "department": record.department,
        "endpoint": record.endpoint,
        "model": record.model,
        "stream": True,
        "streamed": "windowed",
        "policy": policy.department,
        "revision": policy.revision,
        "policy_digest": policy.digest,
        "gateway": record.gateway,
        "tier": admission.tier,
        "risk": admission.risk,
        "admission_rule": admission.rule,
        "subjects": record.decision,
    }


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_cell(value: Cell) -> str | int | float:
    """Give a cell for a CSV file that people open in a spreadsheet.

    Text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, CSV injection), also where
    spaces stand before; so does text that begins with one, so that the first apostrophe can be taken off again.
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dt.datetime():
            return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
        case str():
            # Full-width signs are taken for a formula by some spreadsheets as well.
            first = value.lstrip(" \u00a0\ufeff\u200b")[:1]
            risky = value[:1] in (*_FORMULA, "'") or first in (*_FORMULA, "＝", "＋", "－", "＠")
            return ("'" + value if risky else value).replace("\x00", "\N{REPLACEMENT CHARACTER}")
        case _:
            return value
