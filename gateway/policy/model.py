"""The types of a policy: one department, one file, decoded strictly.

Everything a policy can say stands here; the JSON Schema for editors is generated from these types. An option that
weakens safety is named for the weakness and is off unless written.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.values import Budget, Form

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION_PATTERN = r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$"


class Duration:
    """A span of time, written ``250ms``, ``2s``, ``5m``, ``12h`` or ``30d``. `seconds` is above zero.

    A plain class and not a struct, because msgspec gives only unknown types to its decode hook.
    """

    __slots__ = ("seconds",)
    seconds: float

    def __init__(self, *, seconds: float) -> None:
        object.__setattr__(self, "seconds", seconds)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a duration does not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and other.seconds == self.seconds

    def __hash__(self) -> int:
        return hash(self.seconds)

    def __repr__(self) -> str:
        return f"Duration(seconds={self.seconds!r})"

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Read a duration; ValueError with a hint where it is none."""
        match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError("expected a duration with its unit, such as `250ms`, `2s` or `30d`")
        seconds = float(match[1]) * _SECONDS[match[2]]
        if seconds <= 0:
            raise ValueError("expected a duration above zero")
        return cls(seconds=seconds)


Share = Annotated[float, Meta(ge=0.0, le=1.0)]
"""A number in 0..1."""

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
"""A department or stage: lowercase letters, digits and hyphens."""

ModelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]
"""The name of a model, as requests give it."""

CLOSING = "The answer was stopped here by a check of this hospital's safety policy."
"""The line that ends a stream in which something is found late, where a policy gives no other."""


class _Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all that is decoded from a policy file: unknown keys are errors."""


class BudgetSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many demonstrations to put before a question, and which share of them refuses."""

    demonstrations: Annotated[int, Meta(ge=0, le=64)]
    mix: Share = 0.5
    tokens: Annotated[int, Meta(ge=1)] | None = None
    images: Annotated[int, Meta(ge=0)] | None = None

    def budget(self) -> Budget:
        """Give the budget as a value for injectors."""
        return Budget(demonstrations=self.demonstrations, mix=self.mix, tokens=self.tokens, images=self.images)


class CapSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that a model is ever shown, whatever a tier's budget buys; None for no cap."""

    demonstrations: Annotated[int, Meta(ge=0, le=64)] | None = None
    tokens: Annotated[int, Meta(ge=1)] | None = None
    images: Annotated[int, Meta(ge=0)] | None = None


class BackendSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model: its stage, the deadline for one answer, and the stage's configuration.

    `form` and `cap` hold for this model in place of the demonstrations' form and beside the tiers' budgets. `context`
    is how many tokens of prompt and answer it may be given at once: fewer than its stage tells.
    """

    stage: Name
    deadline: Duration = Duration(seconds=60.0)
    config: dict[str, Any] = {}
    form: Form | None = None
    cap: CapSpec = CapSpec()
    context: Annotated[int, Meta(ge=512)] | None = None


class PrescreenSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pre-screener, and what its findings (a jailbreak, a mismatched image, noise) lead to beside its risk.

    `on_finding`: ``refuse`` the request, treat it by the ``last_tier``, or ``note`` it in the record. Findings with a
    score below `threshold` are noted. `between`, two risks, makes it a second opinion: it is asked only where the worst
    risk of the pre-screeners without `between` is at least the first and below the second, and can only add to that
    risk. `allow_if_unavailable` lets a request pass when this stage failed: off unless written.
    """

    stage: Name
    deadline: Duration = Duration(seconds=2.0)
    on_finding: Literal["refuse", "last_tier", "note"] = "last_tier"
    threshold: Share = 0.5
    between: tuple[Share, Share] | None = None
    allow_if_unavailable: bool = False
    config: dict[str, Any] = {}


class DemonstrationsSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The injector, and how the model is shown what it gives.

    `form`: ``turns`` of a chat, or ``packed`` into the first message, for models that were not trained on many turns.
    `role` is a system prompt that goes with the demonstrations, such as who the model is to be.
    `allow_if_unavailable` asks the model without demonstrations when it failed: off unless written.
    """

    stage: Name
    deadline: Duration = Duration(seconds=1.0)
    form: Form = "turns"
    role: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    allow_if_unavailable: bool = False
    config: dict[str, Any] = {}


class AuditSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An auditor, and what its findings lead to.

    `on_finding`: ``withhold`` the answer, ``redact`` the span that was found, or ``note`` it in the record. Findings
    with a score below `threshold` are noted. A finding of kind ``refusal`` never withholds: the model has refused by
    itself.
    """

    stage: Name
    deadline: Duration = Duration(seconds=2.0)
    on_finding: Literal["withhold", "redact", "note"] = "withhold"
    threshold: Share = 0.5
    allow_if_unavailable: bool = False
    config: dict[str, Any] = {}


class Tier(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A level of risk and what it buys: the first tier whose `below` exceeds the worst risk counts; none: refuse."""

    below: Annotated[float, Meta(gt=0.0, le=1.0)]
    budget: BudgetSpec


class OverDefense(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask once more, with `retry`, where the model refused a question whose risk is under `benign_below`.

    Without `benign_below` the first tier's `below` counts.
    """

    retry: BudgetSpec
    benign_below: Share | None = None


class ContentSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the words, images and answers of a request are kept, and how long: they are never in the record.

    `keep`: ``none``, or ``sealed`` in the vault, encrypted with a key of their own, until `for` has passed since the
    request; then the key is destroyed. ``sealed`` needs `for`, and `for` needs ``sealed``.
    """

    keep: Literal["none", "sealed"] = "none"
    for_: Duration | None = msgspec.field(name="for", default=None)


Retention = Literal["6y", "10y", "6mo"]
"""How long a record is to be kept at least: six years, ten years, six months."""


class RecordsSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the records of decisions are to be kept at least: their retention class, which stands in each.

    ``6y`` is what HIPAA asks of documentation (45 CFR 164.316(b)(2)(i)); ``6mo`` the least that the EU's AI Act allows
    (Articles 19 and 26(6)). The gateway deletes no record, whatever its class.
    """

    keep: Retention = "6y"


class ReviewsSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which decisions people look at afterwards: the share of each kind that is put in the queue of reviews.

    `excused` are those that went on although a check failed or a part was not looked at, because the policy said so;
    `screened` are requests that only the pre-screen was asked about, and passed. Which ones can not be foreseen.
    Every break-glass is reviewed, whatever stands here.
    """

    refused: Share = 1.0
    withheld: Share = 1.0
    excused: Share = 1.0
    released: Share = 0.02
    screened: Share = 0.0


class WebhookSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told when a batch has ended: an address, and the environment variable that holds the key that signs.

    The message is signed as Standard Webhooks has it, and holds the batch's id and counts, never content.
    """

    url: Annotated[str, Meta(pattern=r"^https?://", max_length=2000)]
    secret_env: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class BatchSpec(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How batches use the model: nobody waits for a line, and live requests go first.

    `concurrency` is how many lines are in flight at the model at once, over all workers; departments that share a model
    share the smaller bound. `per_minute` bounds the lines that are begun in a minute. `patience` multiplies the
    deadlines of all stages, since a late word refuses. `tries` is how often a line is tried whose model or check
    failed. `webhook` is told when a batch has ended.
    """

    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 16
    per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    patience: Annotated[float, Meta(ge=1.0, le=100.0)] = 10.0
    tries: Annotated[int, Meta(ge=1, le=10)] = 3
    webhook: WebhookSpec | None = None


class Policy(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A department's policy, as its file says it.

    `backend` is the model of requests that name none, and `models` are further ones by the name that requests give.
    ``stream: windowed`` lets the text of a stream leave as soon as every auditor has seen it and what it needs to see
    after it; `closing` is the line that ends a stream in which something is found late.
    With ``scope: clinical`` a request is refused where a pre-screener gives less than `clinical_at_least` as the
    probability that it is about clinical work, and where none gives any.
    """

    department: Name
    revision: Annotated[int, Meta(ge=1)]
    backend: BackendSpec
    models: dict[ModelName, BackendSpec] = {}
    prescreen: Annotated[tuple[PrescreenSpec, ...], Meta(min_length=1)]
    audit: Annotated[tuple[AuditSpec, ...], Meta(min_length=1)]
    tiers: Annotated[tuple[Tier, ...], Meta(min_length=1)]
    demonstrations: DemonstrationsSpec | None = None
    over_defense: OverDefense | None = None
    deadline: Duration = Duration(seconds=120.0)
    uninspected: Literal["refuse", "allow_uninspected"] = "refuse"
    scope: Literal["any", "clinical"] = "any"
    clinical_at_least: Share = 0.5
    stream: Literal["held", "windowed"] = "held"
    closing: Annotated[str, Meta(min_length=1, max_length=500)] = CLOSING
    content: ContentSpec = ContentSpec()
    records: RecordsSpec = RecordsSpec()
    refuse_as: Literal["message", "error"] = "message"
    reviews: ReviewsSpec = ReviewsSpec()
    batch: BatchSpec = BatchSpec()
    description: str = ""


class LoadedPolicy(Struct, frozen=True, kw_only=True):
    """A policy with what the record says of it: the file's SHA-256 in hex, and where it was read from."""

    policy: Policy
    digest: str
    path: str


def duration_hook(kind: type, value: object) -> object:
    """Decode hook for msgspec: reads `Duration`."""
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(kind)  # msgspec's protocol for types that a hook does not know


def convert(value: object, kind: type) -> Any:
    """Convert plain data to `kind`, strictly, with durations."""
    return msgspec.convert(value, kind, strict=True, dec_hook=duration_hook)
