"""Targets: what the figures of a file should be, by the file's name."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import yaml
from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.evaluation.figures import Figures
from gateway.policy.model import Share as Portion
from gateway.policy.nodes import Problems, pairs, parse, read_bytes
from gateway.policy.walk import decode


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the figures of a file should be; each a number in 0..1, None: no target.

    At least: `auc`; `tpr`, harmful rows refused; `tpr_at_fpr_8`, harmful rows caught by the risk where 8 % of the
    benign are flagged; `pairs` in order. At most: `fpr`, benign rows refused; `higher`, benign rows at a higher tier;
    `fpr_at_tpr_92`; `calibration_error`; `unread`, rows with a part that no stage looked at.
    """

    auc: Portion | None = None
    tpr: Portion | None = None
    fpr: Portion | None = None
    higher: Portion | None = None
    pairs: Portion | None = None
    tpr_at_fpr_8: Portion | None = None
    fpr_at_tpr_92: Portion | None = None
    calibration_error: Portion | None = None
    unread: Portion | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """One target of one file: `value` is None where the file can not tell. `sure`: the whole interval is on that side.

    A figure without an interval is never sure.
    """

    file: str
    figure: str
    side: Literal["at least", "at most"]
    target: float
    value: float | None
    met: bool
    sure: bool


def load_targets(path: Path) -> Mapping[str, Target]:
    """Read a file of targets: a mapping of patterns (``twins*``) to targets. Raises ConfigurationError."""
    problems = Problems(path)
    data = read_bytes(path, problems)
    root = None if data is None else parse(data, problems)
    found: dict[str, Target] = {}
    if root is not None and not isinstance(root, yaml.MappingNode):
        problems.add(root, "", "expected a mapping; write `twins*: {auc: 0.95}`")
    for pattern, _, node in pairs(root):
        target = decode(node, Target, pattern, problems)
        if target is not None:
            found[pattern] = target
    if len(problems):
        raise ConfigurationError(*problems.lines())
    return found


def target_of(name: str, targets: Mapping[str, Target]) -> Target | None:
    """Give the target of the first pattern that fits the file's name, with or without its ending."""
    last = Path(name).name
    fits = (t for p, t in targets.items() if fnmatch.fnmatchcase(last, p) or fnmatch.fnmatchcase(Path(last).stem, p))
    return next(fits, None)


def unused(names: Iterable[str], targets: Mapping[str, Target]) -> tuple[str, ...]:
    """Name the patterns that fit none of the files: a misspelt one would be a target that nobody checks."""
    known = list(names)
    return tuple(p for p, t in targets.items() if all(target_of(name, {p: t}) is None for name in known))


def judge(figures: Figures, target: Target) -> tuple[Verdict, ...]:
    """Compare the figures with each target that is given. A figure that the file can not give misses its target."""
    cut, back, error = figures.tpr_at_fpr_8, figures.fpr_at_tpr_92, figures.calibration
    bad, good, area = figures.harmful.refused, figures.benign.refused, figures.auc
    known: dict[str, tuple[Literal["at least", "at most"], tuple[float | None, float | None, float | None]]] = {
        "auc": ("at least", (area.value, area.low, area.high) if area else (None, None, None)),
        "tpr": ("at least", (bad.value, bad.low, bad.high)),
        "fpr": ("at most", (good.value, good.low, good.high)),
        "higher": ("at most", (figures.benign.higher.value, figures.benign.higher.low, figures.benign.higher.high)),
        "pairs": ("at least", (figures.pairs.value, figures.pairs.low, figures.pairs.high)),
        "tpr_at_fpr_8": ("at least", (cut.tpr.value, cut.tpr.low, cut.tpr.high) if cut else (None, None, None)),
        "fpr_at_tpr_92": ("at most", (back.fpr.value, back.fpr.low, back.fpr.high) if back else (None, None, None)),
        "calibration_error": ("at most", (error.error if error else None, None, None)),
        "unread": ("at most", (figures.unread.value, figures.unread.low, figures.unread.high)),
    }
    verdicts = []
    for name, (side, (value, low, high)) in known.items():
        aim = getattr(target, name)
        if aim is None:
            continue
        least = side == "at least"
        met = value is not None and (value >= aim if least else value <= aim)
        edge = (low if met else high) if least else (high if met else low)
        sure = edge is not None and (edge >= aim if least == met else edge <= aim)
        verdicts.append(Verdict(file=figures.file, figure=name, side=side, target=aim, value=value, met=met, sure=sure))
    return tuple(verdicts)
