"""Stretches of an answer that still grows: made for auditors, and what they find placed in the whole. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.policy.decision import Reason, Withhold
from gateway.policy.evidence import Audited, AuditEvidence
from gateway.policy.model import Policy
from gateway.values import Choice, Completion, Finding, Prompt, Text

LATE = "late"
"""The cause of a finding in text that has left already."""


def one_of(prompt: Prompt, choice: int, text: str) -> Completion:
    """Make an answer of one choice that is not whole yet."""
    words = Text(id=f"choices[{choice}].content", text=text)
    return Completion(model=prompt.request.model, choices=(Choice(index=choice, text=words),))


def saying(completion: Completion, said: list[str]) -> Completion:
    """Give a completion whose texts are what has left."""
    texts = zip(completion.choices, said, strict=True)
    return replace(completion, choices=tuple(replace(c, text=replace(c.text, text=text)) for c, text in texts))


def shifted(finding: Finding, by: int, length: int, *, whole: bool) -> Finding:
    """Place a finding of a stretch in the whole text; one without a span is about all of it."""
    if finding.start is None or finding.end is None or whole:
        return finding
    return replace(finding, start=finding.start + by, end=min(finding.end + by, length))


def late_finding(words: tuple[AuditEvidence, ...], choice: int, left: int, policy: Policy) -> Withhold:
    """Give the reasons of a span that is to be replaced and has left: the first one that begins there."""
    part = f"choices[{choice}].content"
    for place, spec in enumerate(policy.audit):
        for word in words:
            if not isinstance(word, Audited) or (word.stage, word.choice) != (spec.stage, choice):
                continue
            for finding in word.findings:
                if finding.part == part and finding.start is not None and finding.start < left:
                    reason = Reason(code="finding", stage=word.stage, label=finding.kind, part=part, cause=LATE)
                    return Withhold(reasons=(reason,), rule=f"audit[{place}]")
    return Withhold(reasons=(Reason(code="finding", part=part, cause=LATE),), rule="audit")
