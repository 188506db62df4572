"""Evidence: what the stages said, stamped by the pipeline, and what no stage looked at.

Policies decide over these alone.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gateway.stages import Kind
from gateway.values import Finding, Screening


class Screened(Struct, frozen=True, kw_only=True, tag="screened"):
    """A pre-screener's word.

    `round` is ``found`` where it judged text that was found inside an image. `ms` is its time.
    """

    stage: str
    version: str
    ms: float
    screening: Screening
    round: Literal["request", "found"] = "request"


class Skipped(Struct, frozen=True, kw_only=True, tag="skipped"):
    """A second opinion that was not asked: the risk of the other pre-screeners lies outside its `between`."""

    stage: str
    version: str


class Audited(Struct, frozen=True, kw_only=True, tag="audited"):
    """An auditor's word on one choice of one attempt (0: the first answer, 1: the one after a retry)."""

    stage: str
    version: str
    ms: float
    choice: int
    findings: tuple[Finding, ...]
    attempt: int = 0


class StageFailed(Struct, frozen=True, kw_only=True, tag="failed"):
    """A stage that gave no usable word.

    `cause` is a short code, never an exception's message: ``deadline`` (late or hung), ``raised:ValueError`` (the
    type's name), ``nothing`` (it returned None), ``nonsense:risk`` (a value out of its range, or of a wrong type),
    ``exited``.
    """

    stage: str
    version: str
    kind: Kind
    cause: str
    ms: float
    round: Literal["request", "found"] = "request"
    choice: int | None = None
    attempt: int = 0


class Inspected(Struct, frozen=True, kw_only=True):
    """A part that a model could read, and the stages that looked at it; an empty `by` means that none did."""

    part: str
    kind: Literal["text", "image"]
    by: tuple[str, ...] = ()


ScreenEvidence = Screened | Skipped | StageFailed
AuditEvidence = Audited | StageFailed
