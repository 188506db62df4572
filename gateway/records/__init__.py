"""What is kept of a decision: the outcome of a request, and the record that is made of it. Pure.

`Outcome` holds everything that happened, content included, and lives as long as the request. The record (`DecisionV1`)
keeps evidence, decisions and keyed digests, never content; its `canonical` bytes are what the log stores.
"""

from gateway.records.canonical import canonical, parse
from gateway.records.digest import Digester
from gateway.records.explain import explain
from gateway.records.make import record_of
from gateway.records.outcome import Attempt, Caller, Completed, Injected, Outcome
from gateway.records.record import AccessV1, DecisionV1, Record

__all__ = [
    "AccessV1",
    "Attempt",
    "Caller",
    "Completed",
    "DecisionV1",
    "Digester",
    "Injected",
    "Outcome",
    "Record",
    "canonical",
    "explain",
    "parse",
    "record_of",
]
