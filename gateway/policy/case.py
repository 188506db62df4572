"""The types of a file of cases, and how it is read. `gateway.policy.cases` runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gateway.errors import ConfigurationError
from gateway.policy.model import Policy, Share
from gateway.policy.nodes import Problems, parse, read_bytes
from gateway.policy.walk import closest, decode

_Text = Annotated[str, Meta(min_length=1)]
_Count = Annotated[int, Meta(ge=0)]

FOUND_PART = "image#ocr"
"""The id, in cases, of text that was found in the image."""


class _Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all that is decoded from a file of cases."""


class Word(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pre-screener's word: it `failed` with this cause, or found `risk`, with a `label`, and looked at `inspected`.

    Without `inspected` it looked at every part. `findings` are kinds with their scores, in the first part; `clinical`
    is how surely the request is about clinical work.
    """

    failed: _Text | None = None
    risk: Share = 0.0
    label: str | None = None
    inspected: tuple[str, ...] | None = None
    findings: dict[str, Share] = {}
    clinical: Share = 1.0


class Failed(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An auditor that failed with this cause."""

    failed: _Text


class Found(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An auditor's finding in the text of an answer; `kind` is the stage's name unless written.

    `span` is start and end in characters, `replacement` what a policy that redacts puts there.
    """

    score: Share
    kind: str | None = None
    choice: _Count = 0
    span: tuple[int, int] | None = None
    replacement: str | None = None


class Admitted(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expected admission; only what is written is compared."""

    tier: _Count | None = None
    demonstrations: _Count | None = None
    mix: Share | None = None
    excused: tuple[str, ...] | None = None
    waived: tuple[str, ...] | None = None


class Released(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expected release; only what is written is compared. `redacted` counts the redactions."""

    redacted: _Count | None = None
    noted: tuple[str, ...] | None = None
    excused: tuple[str, ...] | None = None


class Retried(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expected retry; only what is written is compared."""

    demonstrations: _Count | None = None
    mix: Share | None = None


class Because(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expected reason; only what is written is compared."""

    code: _Text
    stage: str | None = None
    label: str | None = None
    part: str | None = None
    cause: str | None = None


Reasons = Annotated[tuple[str | Because, ...], Meta(min_length=1)]
"""The reasons expected: each must be among the decision's, and each of the decision's must be named."""


class Expected(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The expected decision: exactly one of these."""

    admit: Admitted | None = None
    refuse: Reasons | None = None
    release: Released | None = None
    withhold: Reasons | None = None
    retry: Retried | None = None


class Case(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case. A stage that `screen` or `audit` does not name found nothing amiss; ``missing`` is one without a word.

    `parts` are the request's. `found` holds the words on text that the pre-screeners it does not name found in the
    image. `uninspected` names parts that no stage looked at. `audit` holds findings in an answer of `choices` texts,
    each `answer`; `attempt` 1 is the one after a retry. `model` is the name of one of the policy's further models.
    """

    name: _Text
    expect: Expected
    screen: dict[str, Share | Literal["missing"] | Word] = {}
    found: dict[str, Share | Literal["missing"] | Word] | None = None
    parts: dict[str, Literal["text", "image"]] = field(default_factory=lambda: {"text": "text", "image": "image"})
    uninspected: tuple[str, ...] = ()
    audit: dict[str, Literal["missing"] | Failed | tuple[Found, ...]] | None = None
    answer: _Text = "There is a nodule in the left upper lobe. No pleural effusion is seen."
    choices: Annotated[int, Meta(ge=1, le=16)] = 1
    attempt: Annotated[int, Meta(ge=0, le=1)] = 0
    model: str | None = None


def works(word: float | str | Word) -> bool:
    """Tell whether a pre-screener gave a screening."""
    return not isinstance(word, str) and not (isinstance(word, Word) and word.failed is not None)


def load_cases(file: Path, policy: Policy) -> tuple[Case, ...]:
    """Read a policy's cases. Raises ConfigurationError with every mistake, each with its line and path."""
    problems = Problems(file)
    data = read_bytes(file, problems)
    root = None if data is None else parse(data, problems)
    cases = None if root is None else decode(root, tuple[Case, ...], "", problems)
    names: set[str] = set()
    for place, case in enumerate(cases or ()):
        path, where = f"[{place}]", root.value[place] if root is not None else 0
        for text in _mistakes(case, policy):
            problems.add(where, path, text)
        if case.name in names:
            problems.add(where, f"{path}.name", f"`{case.name}` stands twice; give each case its own name")
        names.add(case.name)
    if len(problems) or cases is None:
        raise ConfigurationError(*problems.lines())
    return cases


def _mistakes(case: Case, policy: Policy) -> list[str]:
    """Find what the types can not tell: stages and parts that are not there, and an expectation that is not one."""
    screens = {spec.stage for spec in policy.prescreen}
    audits = {spec.stage for spec in policy.audit}
    told = [f"`{s}` is no pre-screener of this policy; {closest(s, screens)}" for s in case.screen if s not in screens]
    told += [
        f"`{s}` is no pre-screener of this policy; {closest(s, screens)}" for s in case.found or {} if s not in screens
    ]
    told += [f"`{s}` is no auditor of this policy; {closest(s, audits)}" for s in case.audit or {} if s not in audits]
    if case.model is not None and case.model not in policy.models:
        hint = f"leave `model` out for the default; {closest(case.model, policy.models)}"
        told.append(f"`{case.model}` is none of this policy's `models`; {hint}")
    words = [*case.screen.values(), *(case.found or {}).values()]
    named = [*case.uninspected, *(p for word in words if isinstance(word, Word) for p in word.inspected or ())]
    known = {*case.parts, FOUND_PART}
    told += [f"`{part}` is no part of this request; {closest(part, known)}" for part in named if part not in known]
    expected = [name for name in case.expect.__struct_fields__ if getattr(case.expect, name) is not None]
    if len(expected) != 1:
        told.append("`expect` takes exactly one of `admit`, `refuse`, `release`, `withhold`, `retry`")
    elif case.audit is not None and expected[0] in ("admit", "refuse"):
        told.append(f"`audit` is about an answer, and `{expected[0]}` is decided before there is one; remove one")
    if case.found is not None and all(s in case.found or not works(case.screen.get(s, 0.0)) for s in screens):
        told.append("`found` leaves no working pre-screener that found the text; do not name it there")
    findings = [f for word in (case.audit or {}).values() if isinstance(word, tuple) for f in word]
    if any(finding.choice >= case.choices for finding in findings):
        told.append("a finding names a choice that the answer does not have; set `choices`")
    return told
