"""What is kept of the steps of a request: evidence, decisions, and the askings of the model.

These shapes copy no type of the request's way, so that those may change while bytes written years ago still parse.
The rules:

- No field of a version has a default. A field that is added later has one, and `omit_defaults` leaves it out while it
  is at that default; so the bytes of every old record encode to themselves for ever. (What a caller rarely says may be
  None from the first version on, for short bytes: a default that stands in the log never changes.)
- What can not be said that way is a new version with a new tag; old bytes are never rewritten.
- No field holds content: words of a prompt, of an answer, of an image, or what a redaction put in their place.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
"""A number in 0..1."""


class Kept(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all that is kept: strict when read."""


class ScoreV1(Kept, frozen=True, kw_only=True):
    """A label with its score."""

    label: str
    value: Share


class FindingV1(Kept, frozen=True, kw_only=True):
    """What a pre-screener or an auditor found and where (character offsets), never the words."""

    kind: str
    score: Share
    part: str
    start: int | None
    end: int | None
    label: str | None


class SkippedV1(Kept, frozen=True, kw_only=True, tag="skipped"):
    """A second opinion that was not asked, because the risk lay outside its band.

    `config` is the SHA-256 of the stage's configuration in hex, here and in all other words of stages: of its JSON with
    sorted keys, with what the policy left at the stage's defaults written out.
    """

    stage: str
    version: str
    config: str | None = None


class ScreenedV1(Kept, frozen=True, kw_only=True, tag="screened"):
    """A pre-screener's word. `found` are the ids of text found in images; in the round ``found`` it judged those.

    `threshold` is the score from which on the policy lets its findings count.
    """

    stage: str
    version: str
    round: Literal["request", "found"]
    ms: float
    risk: Share
    scores: tuple[ScoreV1, ...]
    inspected: tuple[str, ...]
    found: tuple[str, ...]
    part: str | None
    view: str | None
    notes: tuple[str, ...]
    findings: tuple[FindingV1, ...] = ()
    clinical: Share | None = None
    config: str | None = None
    threshold: Share | None = None


class AuditedV1(Kept, frozen=True, kw_only=True, tag="audited"):
    """An auditor's word on one choice. `threshold` is the score from which on the policy lets its findings count."""

    stage: str
    version: str
    choice: int
    ms: float
    findings: tuple[FindingV1, ...]
    config: str | None = None
    threshold: Share | None = None


class FailedV1(Kept, frozen=True, kw_only=True, tag="failed"):
    """A stage that gave no usable word, and the code of its cause."""

    stage: str
    version: str
    kind: Literal["prescreener", "injector", "backend", "auditor"]
    cause: str
    ms: float
    round: Literal["request", "found"]
    choice: int | None
    config: str | None = None


class CoveredV1(Kept, frozen=True, kw_only=True):
    """A part that a model could read, and the stages that looked at it; none: it was not inspected."""

    part: str
    kind: Literal["text", "image"]
    by: tuple[str, ...]


class BudgetV1(Kept, frozen=True, kw_only=True):
    """What might be spent on demonstrations: number, refusing share, caps of tokens and images."""

    demonstrations: int
    mix: Share
    tokens: int | None
    images: int | None


class ReasonV1(Kept, frozen=True, kw_only=True):
    """One reason of a refusal or a withheld answer, in codes."""

    code: str
    stage: str | None
    label: str | None
    part: str | None
    cause: str | None


class AdmitV1(Kept, frozen=True, kw_only=True, tag="admit"):
    """The model might be asked: the tier that counted, the worst risk, what the policy excused and waived.

    `bounds` are the thresholds in force: the risk below which each tier holds, in order. `clinical_at_least` is the
    least probability that the request is about clinical work, None where the policy asks for none.
    """

    budget: BudgetV1
    tier: int
    risk: Share
    rule: str
    excused: tuple[str, ...]
    waived: tuple[str, ...]
    bounds: tuple[Share, ...] = ()
    clinical_at_least: Share | None = None


class RefuseV1(Kept, frozen=True, kw_only=True, tag="refuse"):
    """The model was not asked. `bounds` and `clinical_at_least` are the thresholds in force, as in `AdmitV1`."""

    reasons: tuple[ReasonV1, ...]
    rule: str
    risk: Share | None
    bounds: tuple[Share, ...] = ()
    clinical_at_least: Share | None = None


class RedactionV1(Kept, frozen=True, kw_only=True):
    """A span that was replaced: character offsets into the model's own text."""

    choice: int
    part: str
    start: int
    end: int
    label: str


class ReleaseV1(Kept, frozen=True, kw_only=True, tag="release"):
    """The answer might leave, after the redactions."""

    rule: str
    redactions: tuple[RedactionV1, ...]
    noted: tuple[str, ...]
    excused: tuple[str, ...]


class WithholdV1(Kept, frozen=True, kw_only=True, tag="withhold"):
    """The answer did not leave."""

    reasons: tuple[ReasonV1, ...]
    rule: str


class RetryV1(Kept, frozen=True, kw_only=True, tag="retry"):
    """The model was to be asked once more, with another budget. `below` is the risk that counts as benign."""

    budget: BudgetV1
    rule: str
    below: Share | None = None


class InjectedV1(Kept, frozen=True, kw_only=True, tag="injected"):
    """The demonstrations that were shown: their ids in order, how many refuse, and a SHA-256 over them in hex."""

    stage: str
    version: str
    ms: float
    demonstrations: tuple[str, ...]
    refusing: int
    digest: str
    config: str | None = None


class ChoiceV1(Kept, frozen=True, kw_only=True):
    """One answer of the model: why it ended, its length in characters, and how many tools it called."""

    finish_reason: str
    characters: int
    tool_calls: int


class CompletedV1(Kept, frozen=True, kw_only=True, tag="completed"):
    """What the model gave. `answer` is a keyed digest of it before redaction; `blind`: it has not seen the images.

    `revision` is the model's, where its server or its weights tell one.
    """

    stage: str
    version: str
    ms: float
    model: str
    choices: tuple[ChoiceV1, ...]
    prompt_tokens: int
    completion_tokens: int
    blind: bool
    answer: str
    config: str | None = None
    revision: str | None = None


class AttemptV1(Kept, frozen=True, kw_only=True):
    """One asking of the model; None where that step was not taken.

    `trimmed` is the budget as it was cut to fit the model's context, None where it fitted.
    """

    budget: BudgetV1
    injected: InjectedV1 | FailedV1 | None
    completed: CompletedV1 | FailedV1 | None
    audits: tuple[AuditedV1 | FailedV1, ...]
    verdict: ReleaseV1 | WithholdV1 | RetryV1
    trimmed: BudgetV1 | None = None
