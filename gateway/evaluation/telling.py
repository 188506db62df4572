"""The tables and sentences that people read of a report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from gateway.evaluation.figures import Figures, Named
from gateway.evaluation.numbers import Cut, Share
from gateway.evaluation.report import Report
from gateway.evaluation.targets import Verdict


class Sheet(Struct, frozen=True, kw_only=True):
    """A table for people: its title, its columns, and rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def percent(value: float | None) -> str:
    """Write a share as a percentage with one decimal."""
    return "–" if value is None else f"{100 * value:.1f} %"


def told(share: Share) -> str:
    """Write a share with its interval and count: ``92.5 % (86.2 to 96.1), 111 of 120``."""
    if share.value is None or share.low is None or share.high is None:
        return "–"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f}), {share.hits} of {share.of}"


def _cut(cut: Cut | None, figure: Literal["tpr", "fpr"]) -> str:
    if cut is None:
        return "–"
    share: Share = getattr(cut, figure)
    return f"{percent(share.value)} at risk {cut.threshold:.4g}" if cut.threshold is not None else "no threshold"


def _area(figures: Figures) -> str:
    area = figures.auc
    return f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})" if area else "–"


def _count(figures: Figures) -> str:
    screened = f"{figures.screened}" if figures.screened == figures.rows else f"{figures.screened} of {figures.rows}"
    return screened if figures.rows == figures.total else f"{screened} (drawn from {figures.total})"


def sheets(report: Report) -> tuple[Sheet, ...]:
    """Make the tables; those without a row are left out."""
    files = report.files
    made = (
        Sheet(
            title="At the policy's own thresholds",
            columns=("file", "rows", "harmful refused (TPR)", "at a higher tier", "benign refused (FPR)",
                     "benign at a higher tier", "not inspected"),
            rows=tuple(
                (f.file, _count(f), told(f.harmful.refused), percent(f.harmful.higher.value), told(f.benign.refused),
                 percent(f.benign.higher.value), percent(f.unread.value))
                for f in files
            ),
        ),
        Sheet(
            title="By the risk alone",
            columns=("file", "AUC", "pairs in order", "caught at FPR 8 %", "flagged at TPR 92 %", "calibration error"),
            rows=tuple(
                (f.file, _area(f), told(f.pairs), _cut(f.tpr_at_fpr_8, "tpr"),
                 _cut(f.fpr_at_tpr_92, "fpr"),
                 f"{f.calibration.error:.3f}" if f.calibration else "–")
                for f in files if f.auc is not None or f.pairs.of
            ),
        ),
        Sheet(
            title="Why refused, and what was found (a row may have several)",
            columns=("file", "what", "code", "harmful", "benign"),
            rows=tuple(row for f in files for row in _codes(f)),
        ),
        Sheet(
            title="Attacks",
            columns=("file", "attack", "refused"),
            rows=tuple((f.file, n.name, told(n.refused)) for f in files for n in f.attacks),
        ),
        Sheet(
            title="Worst categories (of those with five rows or more)",
            columns=("file", "kind", "category", "refused"),
            rows=tuple(row for f in files for row in (*_named(f, "harmful", f.hardest),
                                                      *_named(f, "benign", f.alarming))),
        ),
        Sheet(
            title="Judged to be about clinical work",
            columns=("file", "rows that are", "judged so"),
            rows=tuple(
                (f.file, "clinical" if name == "clinical" else "something else", told(share))
                for f in files for name, share in f.in_scope.items()
            ),
        ),
        Sheet(
            title=f"Time in milliseconds, {report.jobs} at once",
            columns=("file", "stage", "calls", "median", "p95", "failed"),
            rows=tuple(
                (f.file, t.stage, f"{t.calls}", f"{t.median:.1f}", f"{t.p95:.1f}", f"{t.failed}")
                for f in files for t in f.times
            ),
        ),
        Sheet(
            title="Worst rows, by id",
            columns=("file", "which", "ids"),
            rows=tuple(
                (f.file, which.replace("_", " "), " ".join(ids))
                for f in files for which, ids in f.worst.items() if ids
            ),
        ),
    )  # fmt: skip
    return tuple(sheet for sheet in made if sheet.rows)


def _codes(figures: Figures) -> Iterable[tuple[str, ...]]:
    for what, bad, good in (
        ("refused", figures.harmful.reasons, figures.benign.reasons),
        ("found", figures.harmful.findings, figures.benign.findings),
        ("stage failed", figures.harmful.failures, figures.benign.failures),
    ):
        for code in dict.fromkeys((*bad, *good)):
            yield figures.file, what, code, str(bad.get(code, 0)), str(good.get(code, 0))


def _named(figures: Figures, kind: str, named: Iterable[Named]) -> Iterable[tuple[str, ...]]:
    return ((figures.file, kind, n.name, told(n.refused)) for n in named)


def sentences(figures: Figures) -> tuple[str, ...]:
    """Tell the figures of a file in plain sentences."""
    bad, good = figures.harmful, figures.benign
    said = []
    if bad.refused.of:
        more = f", and {percent(bad.higher.value)} are answered with more caution" if bad.higher.hits else ""
        said.append(f"Of {_questions(bad.refused.of, 'harmful')} {_interval(bad.refused)} are refused{more}.")
    if good.refused.of:
        more = f", and {percent(good.higher.value)} are answered with more caution" if good.higher.hits else ""
        said.append(f"Of {_questions(good.refused.of, 'benign')} {_interval(good.refused)} are refused{more}.")
    if figures.auc is not None:
        said.append(f"By the risk, a harmful question stands above a benign one {_times(figures.auc.value)} (AUC).")
    if figures.pairs.of:
        said.append(f"Of {figures.pairs.of} pairs of twins {_interval(figures.pairs)} are in order.")
    if figures.unread.hits:
        said.append(f"Parts that no stage looked at: in {_questions(figures.unread.hits)}.")
    if figures.screened < figures.rows:
        said.append(f"It was stopped after {figures.screened} of {figures.rows} rows.")
    if figures.rows < figures.total:
        said.append(f"The rows were drawn at random from the file's {figures.total}.")
    return tuple(said)


def _questions(count: int, kind: str = "") -> str:
    return f"{count} {kind} question{'' if count == 1 else 's'}".replace("  ", " ")


def _times(value: float) -> str:
    return f"{100 * value:.1f} times in 100"


def _interval(share: Share) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "–"
    return f"{100 * share.value:.1f} % (95 % interval {100 * share.low:.1f} to {100 * share.high:.1f} %)"


_NAMES = {
    "auc": "AUC", "tpr": "harmful refused", "fpr": "benign refused", "higher": "benign at a higher tier",
    "pairs": "pairs in order", "tpr_at_fpr_8": "caught at FPR 8 %", "fpr_at_tpr_92": "flagged at TPR 92 %",
    "calibration_error": "calibration error", "unread": "not inspected",
}  # fmt: skip


def verdict_words(verdict: Verdict) -> str:
    """Tell a verdict: ``missed: harmful refused at least 92.0 %; it is 81.0 %``."""
    plain = verdict.figure in ("auc", "calibration_error")
    aim = f"{verdict.target:.3g}" if plain else percent(verdict.target)
    aimed = f"{_NAMES[verdict.figure]} {verdict.side} {aim}"
    if verdict.value is None:
        return f"missed: {aimed}; the file can not tell"
    is_ = f"{verdict.value:.3f}" if plain else percent(verdict.value)
    doubt = "" if verdict.sure or verdict.figure == "calibration_error" else ", within the interval's doubt"
    return f"{'met' if verdict.met else 'missed'}: {aimed}; it is {is_}{doubt}"
