"""Identifiers of persons in a text, by the rules of `gateway_review.rules`. Pure, linear."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from gateway_review.rules import RULES, Rule


class Identifier(Struct, frozen=True, kw_only=True):
    """A span that identifies a person. `score` is in 0..1, `kind` a short code such as ``MRN``."""

    kind: str
    start: int
    end: int
    score: float


_NEVER_NAMES = re.compile(
    r"^(?:History|Findings?|Impression|Technique|Comparison|Indication|Clinical"
    r"|Presents?|Presenting|Positioning|Consent|Safety|Care|Education"
    r"|Information|Preparation|Selection|Factors?|Age|Male|Female|Unknown|None"
    r"|Anonymous|Redacted|Not|Yes|The|A|An|No|N/?A|Doe)\b"
)


def identifiers(text: str) -> Iterator[Identifier]:
    """Give the identifiers in `text`; spans may overlap."""
    low = text.lower()
    digits = any(c.isdigit() for c in text)
    needed: dict[re.Pattern[str] | None, bool] = {None: True}
    for rule in RULES:
        if rule.hints and not any(hint in low for hint in rule.hints):
            continue
        if not digits and rule.kind not in ("EMAIL", "URL", "NAME", "ADDRESS", "IP"):
            continue
        if rule.need is not None and rule.need not in needed:
            needed[rule.need] = rule.need.search(text) is not None
        if not needed[rule.need]:
            continue
        for start, end in _matches(rule, text):
            value = text[start:end]
            if rule.check is not None and not rule.check(value):
                continue
            if rule.kind == "NAME" and _NEVER_NAMES.match(value):
                continue
            yield Identifier(kind=rule.kind, start=start, end=end, score=rule.score)


def _matches(rule: Rule, text: str) -> Iterator[tuple[int, int]]:
    """Give the spans of the values. What a tail covers is not searched again."""
    group = "value" if "value" in rule.pattern.groupindex else 0
    if rule.tail is None:
        for match in rule.pattern.finditer(text):
            yield match.span(group)
        return
    found = rule.pattern.search(text)
    while found is not None:
        more = rule.tail.match(text, found.end())
        end = found.end() if more is None else more.end()
        yield found.start(group), end
        found = rule.pattern.search(text, end)
