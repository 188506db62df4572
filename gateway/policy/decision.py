"""Decisions: values with reasons. They are made by `gateway.policy.decide` and carried out by the pipeline."""

from __future__ import annotations

from msgspec import Struct

from gateway.values import Budget


class Reason(Struct, frozen=True, kw_only=True):
    """One reason for a refusal or a withheld answer.

    `code` is one of ``risk``, ``out-of-scope``, ``scope-unknown``, ``stage-failed``, ``stage-missing``,
    ``uninspected``, ``finding``, ``nothing-to-answer``, ``demonstrations-failed``, ``model-failed``. `stage` names the
    stage, `label` the harm category or kind of finding, `part` the part concerned and `cause` a stage's failure; all
    are codes, never content.
    """

    code: str
    stage: str | None = None
    label: str | None = None
    part: str | None = None
    cause: str | None = None


class Admit(Struct, frozen=True, kw_only=True, tag="admit"):
    """The model may be asked, with `budget`. `tier` is the index of the tier that counted, `risk` the worst risk.

    `rule` is the path in the policy file that fired, such as ``tiers[0]``. `excused` names failed stages that the
    policy let pass (``allow_if_unavailable``), `waived` the parts that no stage inspected and the policy let pass.
    """

    budget: Budget
    tier: int
    risk: float
    rule: str
    excused: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()


class Refuse(Struct, frozen=True, kw_only=True, tag="refuse"):
    """The model is not asked.

    Every reason is given, worst first; `risk` is the worst risk seen, None where none is known.
    """

    reasons: tuple[Reason, ...]
    rule: str
    risk: float | None = None


class Redaction(Struct, frozen=True, kw_only=True):
    """A span of an answer to be replaced: `start` and `end` are character offsets into the text with id `part`."""

    choice: int
    part: str
    start: int
    end: int
    replacement: str
    label: str


class Release(Struct, frozen=True, kw_only=True, tag="release"):
    """The answer leaves, after `redactions` (sorted, not overlapping).

    `noted` are kinds of findings that only the record shows.
    """

    rule: str
    redactions: tuple[Redaction, ...] = ()
    noted: tuple[str, ...] = ()
    excused: tuple[str, ...] = ()


class Withhold(Struct, frozen=True, kw_only=True, tag="withhold"):
    """No answer of the model leaves: it was withheld, or the model could not be asked as the policy demands."""

    reasons: tuple[Reason, ...]
    rule: str


class Retry(Struct, frozen=True, kw_only=True, tag="retry"):
    """The model refused a question that the pre-screen called benign: ask once more, with `budget`."""

    budget: Budget
    rule: str


Admission = Admit | Refuse
Verdict = Release | Withhold | Retry
