"""The records of the log, versioned in their names; see `gateway.records.shapes` for the rules."""

from __future__ import annotations

from typing import Literal

from gateway.records.events import (
    AccessV1,
    BreakGlassV1,
    CallerV1,
    ChangeV1,
    ErasureV1,
    HoldV1,
    Instant,
    ReviewV1,
)
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


Record = DecisionV1 | AccessV1 | ReviewV1 | HoldV1 | ErasureV1 | ChangeV1 | BreakGlassV1
