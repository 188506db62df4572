"""The values of batches: files, batches, jobs, and what a line came to."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from msgspec import Struct

from gateway.records import Caller, Context

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
"""The states of a batch, as OpenAI names them."""

ENDED: frozenset[Status] = frozenset({"failed", "completed", "expired", "cancelled"})
"""The states after which nothing happens to a batch any more."""

Kind = Literal["answer", "screen", "reaudit"]
"""What is done with each line: it is answered, it is only screened, or a past decision is judged again."""

JobKind = Literal["validate", "lines", "finalize", "webhook"]
"""What is to be done: read the input file, work off lines, write the output files, tell whoever waits."""

LineOutcome = Literal[
    "released", "refused", "withheld", "screened", "failed", "invalid", "expired", "cancelled", "judged"
]
"""What a line came to. The first four are decisions; ``failed``: the model or a check failed for good, which is a
decision as well; ``invalid``: it could not be read as a request; ``expired`` and ``cancelled``: it was not tried in
time, or not any more; ``judged``: a re-audit has judged it."""


class StoredFile(Struct, frozen=True, kw_only=True):
    """A file of a department. `owner` is the key that uploaded it, or whose batch it came from; `bytes` its size."""

    id: str
    department: str
    owner: str
    purpose: str
    filename: str
    bytes: int
    created_at: dt.datetime
    expires_at: dt.datetime | None


class BatchError(Struct, frozen=True, kw_only=True):
    """Why a batch failed as a whole. `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Counts(Struct, frozen=True, kw_only=True):
    """How far a batch is: `by_outcome` counts lines; `completed` are in the output file, `failed` in the error file.

    `reasons` counts the first reasons of lines that were not released or screened, the most frequent ones first.
    """

    total: int
    completed: int
    failed: int
    by_outcome: dict[str, int] = {}
    reasons: dict[str, int] = {}


class Batch(Struct, frozen=True, kw_only=True):
    """A batch as it stands. `said` was said of all its lines; `options` are those of its kind.

    `summary` are the final counts, None until it has ended.
    """

    id: str
    kind: Kind
    department: str
    owner: str
    caller: Caller
    said: Context
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    priority: int
    options: dict[str, Any]
    status: Status
    paused: bool
    total: int | None
    input_file: str
    output_file: str | None
    error_file: str | None
    report_file: str | None
    summary: Counts | None
    errors: tuple[BatchError, ...]
    created_at: dt.datetime
    expires_at: dt.datetime
    in_progress_at: dt.datetime | None
    finalizing_at: dt.datetime | None
    completed_at: dt.datetime | None
    failed_at: dt.datetime | None
    expired_at: dt.datetime | None
    cancelling_at: dt.datetime | None
    cancelled_at: dt.datetime | None


class Job(Struct, frozen=True, kw_only=True):
    """A job as a worker holds it; see `gateway.store.tables.jobs`."""

    id: int
    batch: str
    kind: JobKind
    department: str
    first: int
    count: int
    start: int
    size: int
    attempts: int
    owner: str
    lease_until: dt.datetime


class Chunk(Struct, frozen=True, kw_only=True):
    """Lines of the input file that become one job: `count` from line `first`, in `size` bytes from byte `start`."""

    first: int
    count: int
    start: int
    size: int


class LineResult(Struct, frozen=True, kw_only=True):
    """What a line came to, before it is stored. `body` is its line of the output or error file, without a newline.

    `ok` lines go to the output file. `reason` is the code of the first reason, with its label: ``risk:H06``.
    """

    batch: str
    line: int
    outcome: LineOutcome
    ok: bool
    decision: str | None
    reason: str | None
    tries: int
    body: bytes
