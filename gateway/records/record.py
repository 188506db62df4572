"""The records of the log, versioned in their names; see `gateway.records.shapes` for the rules."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Literal

from msgspec import Meta

from gateway.records.outcome import Caller
from gateway.records.shapes import (
    AdmitV1,
    AttemptV1,
    CoveredV1,
    FailedV1,
    Kept,
    RefuseV1,
    ReleaseV1,
    ScreenedV1,
    SkippedV1,
    WithholdV1,
)

Instant = Annotated[dt.datetime, Meta(tz=True)]
"""A point in time, with its zone; always UTC, written as RFC 3339."""


class CallerV1(Kept, frozen=True, kw_only=True):
    """Who called: the id of the API key (never the key), its department and roles."""

    key: str
    department: str
    roles: tuple[str, ...]


class PolicyV1(Kept, frozen=True, kw_only=True):
    """The policy in force: department, revision, and the SHA-256 of its file in hex."""

    department: str
    revision: int
    digest: str


class SamplingV1(Kept, frozen=True, kw_only=True):
    """How the model was asked to sample. `stops` counts the stop sequences, which are the caller's words."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    seed: int | None
    n: int
    stops: int


class ImageV1(Kept, frozen=True, kw_only=True):
    """An image of the request: its place, keyed digest, size in pixels, format on arrival, and modality by DICOM."""

    part: str
    digest: str
    source: str
    modality: str | None
    width: int
    height: int


class DecisionV1(Kept, frozen=True, kw_only=True, tag="decision.v1"):
    """A decision: who, what, when, where, why, outcome.

    Of a screening alone `final` is the admission, and `outcome` ``screened`` or ``refused``. `at` is when the request
    came, `ms` how long it took to the outcome, `gateway` the version that decided. `prompt` and `answer` are keyed
    digests (see `Digester`) of all text of the request and of the answer that left. `erased` names what there was and
    is not kept. `defused` counts the control tokens of chat templates that were broken in what the model was given.
    """

    id: str
    at: Instant
    gateway: str
    department: str
    caller: CallerV1
    endpoint: str
    model: str
    stream: bool
    sampling: SamplingV1
    policy: PolicyV1
    prompt: str
    images: tuple[ImageV1, ...]
    screening: tuple[ScreenedV1 | SkippedV1 | FailedV1, ...]
    coverage: tuple[CoveredV1, ...]
    admission: AdmitV1 | RefuseV1
    attempts: tuple[AttemptV1, ...]
    final: RefuseV1 | WithholdV1 | ReleaseV1 | AdmitV1
    outcome: Literal["released", "refused", "withheld", "screened"]
    answer: str | None
    ms: float
    erased: tuple[str, ...]
    defused: int = 0


class AccessV1(Kept, frozen=True, kw_only=True, tag="access.v1"):
    """Someone looked at the log: who, when, by which endpoint, what they did (`action`), at which decisions, and why.

    `action` is a short code such as ``read``, ``list`` or ``export``; `why` is the reason given, None where none was.
    """

    id: str
    at: Instant
    caller: CallerV1
    endpoint: str
    action: str
    decisions: tuple[str, ...]
    why: str | None

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
    ) -> AccessV1:
        """Make the record of one look at the log, with an id of its own. `at` must have a zone."""
        return cls(
            id=f"acc_{uuid.uuid4().hex}",
            at=at.astimezone(dt.UTC),
            caller=CallerV1(key=caller.key, department=caller.department, roles=caller.roles),
            endpoint=endpoint,
            action=action,
            decisions=decisions,
            why=why,
        )


Record = DecisionV1 | AccessV1
