"""The file that says what is asked of which series: rules in YAML, the first that fits counts."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.policy.nodes import Problems, parse, read_bytes
from gateway.policy.walk import decode


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule: `question` is asked of a series whose modality and description fit.

    `modality` are codes of DICOM (`CT`), `description` patterns of the series' description with `*` and `?`, in which
    case does not count; of each one must fit, and none given fits all. `task` and `images` count before the options.
    """

    question: str
    modality: str | tuple[str, ...] = ()
    description: str | tuple[str, ...] = ()
    task: str | None = None
    images: int | None = None

    def fits(self, modality: str, description: str) -> bool:
        """Tell whether the rule fits a series."""
        codes = _many(self.modality)
        patterns = _many(self.description)
        return (not codes or modality.upper() in {code.upper() for code in codes}) and (
            not patterns or any(fnmatch.fnmatchcase(description.lower(), pattern.lower()) for pattern in patterns)
        )


def _many(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def read_questions(file: Path) -> tuple[Question, ...]:
    """Read the rules of a file.

    Raises:
        ConfigurationError: with every problem of the file, each with its line.
    """
    problems = Problems(file)
    data = read_bytes(file, problems)
    root = None if data is None else parse(data, problems)
    rules = None if root is None else decode(root, tuple[Question, ...], "", problems)
    for place, rule in enumerate(rules or ()):
        if not rule.question.strip():
            problems.add(0, f"[{place}].question", "is empty; write what is asked")
        if rule.images is not None and not 1 <= rule.images <= 16:
            problems.add(0, f"[{place}].images", f"is {rule.images}; expected a number from 1 to 16")
    if not rules and not len(problems):
        problems.add(0, "", "holds no rule; write `- question: …` for each")
    if len(problems) or rules is None:
        raise ConfigurationError(*problems.lines())
    return rules


def pick(rules: tuple[Question, ...], modality: str, description: str) -> Question | None:
    """Give the first rule that fits a series."""
    return next((rule for rule in rules if rule.fits(modality, description)), None)
