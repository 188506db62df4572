"""What is kept of a decision: the outcome of a request, and the record that is made of it. Pure.

`Outcome` holds everything that happened, content included, and lives as long as the request. The record (`DecisionV1`)
keeps evidence, decisions and keyed digests, never content; its `canonical` bytes are what the log stores.
"""

from gateway.records.canonical import canonical, parse
from gateway.records.context import PURPOSES, Pseudonymised, pseudonym
from gateway.records.digest import Digester
from gateway.records.events import (
    AccessV1,
    BreakGlassV1,
    CallerV1,
    ChangeV1,
    ErasureV1,
    Event,
    HoldScopeV1,
    HoldV1,
    ReauditV1,
    ReviewV1,
    new_id,
)
from gateway.records.explain import explain
from gateway.records.make import opened_of, record_of
from gateway.records.outcome import (
    NOTHING_SAID,
    Attempt,
    BatchLine,
    Caller,
    Completed,
    Context,
    Injected,
    Outcome,
    Streamed,
)
from gateway.records.permissions import ALL, ROLES, Permission, covers, may, require
from gateway.records.record import BatchLineV1, ContextV1, DecisionV1, OpenedV1, Record, StreamedV1

__all__ = [
    "ALL",
    "NOTHING_SAID",
    "PURPOSES",
    "ROLES",
    "AccessV1",
    "Attempt",
    "BatchLine",
    "BatchLineV1",
    "BreakGlassV1",
    "Caller",
    "CallerV1",
    "ChangeV1",
    "Completed",
    "Context",
    "ContextV1",
    "DecisionV1",
    "Digester",
    "ErasureV1",
    "Event",
    "HoldScopeV1",
    "HoldV1",
    "Injected",
    "OpenedV1",
    "Outcome",
    "Permission",
    "Pseudonymised",
    "ReauditV1",
    "Record",
    "ReviewV1",
    "Streamed",
    "StreamedV1",
    "canonical",
    "covers",
    "explain",
    "may",
    "new_id",
    "opened_of",
    "parse",
    "pseudonym",
    "record_of",
    "require",
]
