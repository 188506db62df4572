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
    ReauditV1,
    ReviewV1,
)
from gateway.records.outcome import ClockState
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
    logprobs: int | None = None


class ImageV1(Kept, frozen=True, kw_only=True):
    """An image of the request: its place, keyed digest, size in pixels, format on arrival, and modality by DICOM."""

    part: str
    digest: str
    source: str
    modality: str | None
    width: int
    height: int


class ContextV1(Kept, frozen=True, kw_only=True):
    """What the caller said of the request; what was not said is None, and left out of the bytes.

    `purpose` is a code of HL7's PurposeOfUse (``TREAT``, ``HPAYMT``, …), `task` the application's code for what it
    does, `on_behalf_of` the id of the person for whom it is done. `patient`, `study` and `user` are pseudonyms, keyed
    (see `Digester`): the same number gives the same one. `claimed_person` and `claimed_application` are the caller's
    word alone; whom the key or token names stands in `caller`.
    """

    purpose: str | None = None
    on_behalf_of: str | None = None
    patient: str | None = None
    study: str | None = None
    task: str | None = None
    user: str | None = None
    claimed_person: str | None = None
    claimed_application: str | None = None


class WhereV1(Kept, frozen=True, kw_only=True):
    """Where it was decided: `instance` is drawn once for each data folder, `process` at each start.

    `host` is a keyed digest of the host's name.
    """

    instance: str
    host: str
    process: str


class SealedV1(Kept, frozen=True, kw_only=True):
    """The sealed content of a decision, which lies in the vault: the SHA-256 in hex and the size of its sealed bytes.

    `kek` is the id of the key that wrapped its key at first (keys are wrapped anew when that one is replaced), `until`
    when it is to be erased, None where no end was set.
    """

    sha256: str
    size: int
    kek: str
    until: Instant | None


class BatchLineV1(Kept, frozen=True, kw_only=True):
    """The line of a batch that was decided: the batch's id, the line's number in its file (from 1), and the tries.

    `patience` is by what the stages' deadlines were multiplied: nobody waits for a batch.
    """

    batch: str
    line: int
    tries: int
    patience: float


class StreamedV1(Kept, frozen=True, kw_only=True):
    """How an answer was streamed under a policy that says ``stream: windowed``.

    `mode` is what was done: ``windowed``, or ``held`` where the whole answer was audited before its first byte. Then
    `why` says what needed it whole: ``auditor:`` or ``backend:`` with the stage's name, ``logprobs``, or ``retry``;
    None where it was whole before anything could leave. `hold_back` is how many characters were held back at the end
    of the growing text, `opened` the id of the record made before the first of it left, `first_ms` when that was after
    the request came. `ended`: ``whole``; ``finding`` where something was found late; ``check-failed``;
    ``model-failed``; ``caller-gone``. After all but the first only a part of the answer left, and `left` counts it.
    """

    mode: Literal["held", "windowed"]
    why: str | None
    hold_back: int | None
    opened: str | None
    first_ms: float | None
    ended: Literal["whole", "finding", "check-failed", "model-failed", "caller-gone"]


class OpenedV1(Kept, frozen=True, kw_only=True, tag="opened.v1"):
    """A stream was opened: the first audited text of an answer was about to leave.

    `decision` is the id of the decision, whose own record is made when the stream is closed; where there is none, the
    process ended meanwhile, and what left is not known beyond this. The rest is as in `DecisionV1`.
    """

    id: str
    at: Instant
    decision: str
    gateway: str
    department: str
    caller: CallerV1
    endpoint: str
    model: str
    policy: PolicyV1
    prompt: str
    admission: AdmitV1
    hold_back: int


class DecisionV1(Kept, frozen=True, kw_only=True, tag="decision.v1"):
    """A decision: who, what, when, where, why, outcome.

    Of a screening alone `final` is the admission, and `outcome` ``screened`` or ``refused``. `at` is when the request
    came, `ms` how long it took to the outcome, `gateway` the version that decided. `prompt` and `answer` are keyed
    digests (see `Digester`) of all text of the request and of the answer that left. `erased` names what there was and
    is not kept. `defused` counts the control tokens of chat templates that were broken in what the model was given.
    `mode` is ``shadow`` where the decision had no effect. `clock` says what was known of the wall clock behind `at`:
    ``synchronised``, ``unsynchronised``, ``unknown``, or ``jumped`` where it had just moved against the monotonic
    clock, by which all times in ms are measured. `left` counts the characters of the model's answer that were handed
    over, after redaction, with the names and arguments of tool calls: whole or 0, unless a stream ended early
    (`streamed`, None where the policy holds answers until they are judged). Where a record of an older version says
    nothing of these, they are None. `retention` is the class of the record: how long it is to be kept at least.
    `sealed` says what lies of it in the vault. `review` says what makes it due for review (see
    `gateway.records.review_plan`), None where it is not. `batch` names the line of a batch that was
    decided, None for a live request.
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
    context: ContextV1 | None = None
    where: WhereV1 | None = None
    clock: ClockState | None = None
    mode: Literal["enforced", "shadow"] = "enforced"
    left: int | None = None
    retention: Literal["6y", "10y", "6mo"] = "6y"
    sealed: SealedV1 | None = None
    review: str | None = None
    batch: BatchLineV1 | None = None
    streamed: StreamedV1 | None = None


Record = DecisionV1 | OpenedV1 | AccessV1 | ReviewV1 | HoldV1 | ErasureV1 | ChangeV1 | BreakGlassV1 | ReauditV1
