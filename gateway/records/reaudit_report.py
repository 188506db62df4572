"""What a candidate policy would change, counted over decisions that were judged again. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from gateway.records.proportions import Share, share

NAMED = 100
"""How many of the decisions that change a report names."""

_LISTED = 20  # rules and reasons that a report lists
_KINDS = 2000  # different rules or reasons that are counted; a policy and its stages have far fewer


class JudgedLine(Struct, frozen=True, kw_only=True):
    """One line of the output file: a decision that was judged again.

    `before`, `after`, `rule`, `reasons` and `source` are as in `ReauditV1`. `caveats` are codes of what to know beside:
    ``budget``, ``demonstrations`` and ``model`` (the answer was given after other demonstrations, or by another model,
    than the candidate's), ``demonstrations-unseen`` (auditors were asked anew without them), ``other-config`` (a stage
    was configured otherwise), and ``content-…`` (why the content was not judged).
    """

    decision: str
    department: str
    before: str
    after: str
    changed: bool
    rule: str | None
    reasons: tuple[str, ...]
    source: str
    caveats: tuple[str, ...] = ()


class Figures(Struct, frozen=True, kw_only=True):
    """How many decisions there are and what would become of them, as shares with 95 % intervals that sum to 1.

    `newly_released` are those that would be released or screened, or of which a model would be asked, and were not.
    `matrix` counts them by what they were and would be.
    """

    decisions: int
    unchanged: Share
    newly_refused: Share
    newly_withheld: Share
    newly_released: Share
    unknown: Share
    matrix: dict[str, dict[str, int]]


class Counted(Struct, frozen=True, kw_only=True):
    """A rule or a reason, and how many decisions have it."""

    name: str
    decisions: int


class ReauditReport(Struct, frozen=True, kw_only=True):
    """What the candidates would change.

    `candidates` are the digests by department, `filter` is what the decisions were searched by, `failed` counts lines
    that could not be judged. `rules` and `reasons` are the candidates', of decisions that change, most frequent first;
    `why_unknown` are those of decisions of which it is not known. `changed` names the first `NAMED` that change, in the
    order of the log.
    """

    batch: str
    candidates: dict[str, str]
    filter: str | None
    content: bool
    failed: int
    total: Figures
    departments: dict[str, Figures]
    rules: tuple[Counted, ...]
    reasons: tuple[Counted, ...]
    why_unknown: tuple[Counted, ...]
    sources: dict[str, int]
    caveats: dict[str, int]
    changed: tuple[str, ...]


def is_changed(before: str, after: str) -> bool:
    """Tell whether a candidate changes what becomes of a decision; not where nobody knows what it would come to."""
    return after not in ("unknown", before)


class Tally:
    """Counts lines as they come; its size does not grow with their number. `failed` are those that were not judged."""

    def __init__(self) -> None:
        self.failed = 0
        self._matrices: dict[str, Counter[tuple[str, str]]] = {}
        self._rules: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._caveats: Counter[str] = Counter()
        self._changed: list[str] = []

    def add(self, line: JudgedLine) -> None:
        """Count a line."""
        self._matrices.setdefault(line.department, Counter())[line.before, line.after] += 1
        self._sources[line.source] += 1
        self._caveats.update(line.caveats)
        if line.after == "unknown":
            _count(self._unknown, line.reasons)
        if not is_changed(line.before, line.after):
            return
        if len(self._changed) < NAMED:
            self._changed.append(line.decision)
        _count(self._rules, () if line.rule is None else (line.rule,))
        _count(self._reasons, line.reasons)

    def report(
        self,
        *,
        batch: str,
        candidates: Mapping[str, str],
        searched: str | None,
        content: bool,
    ) -> ReauditReport:
        """Give the report on what was counted."""
        whole = sum(self._matrices.values(), Counter[tuple[str, str]]())
        return ReauditReport(
            batch=batch,
            candidates=dict(sorted(candidates.items())),
            filter=searched,
            failed=self.failed,
            content=content,
            total=_figures(whole),
            departments={name: _figures(matrix) for name, matrix in sorted(self._matrices.items())},
            rules=_most(self._rules),
            reasons=_most(self._reasons),
            why_unknown=_most(self._unknown),
            sources=dict(sorted(self._sources.items())),
            caveats=dict(sorted(self._caveats.items())),
            changed=tuple(self._changed),
        )


def _count(counter: Counter[str], names: tuple[str, ...]) -> None:
    counter.update(name if name in counter or len(counter) < _KINDS else "other" for name in names)


def _most(counter: Counter[str]) -> tuple[Counted, ...]:
    ordered = sorted(counter.items(), key=lambda one: (-one[1], one[0]))[:_LISTED]
    return tuple(Counted(name=name, decisions=number) for name, number in ordered)


def _figures(matrix: Counter[tuple[str, str]]) -> Figures:
    total = matrix.total()

    def of(*after: str, changed: bool = True) -> Share:
        hits = sum(n for (was, would), n in matrix.items() if would in after and (not changed or was != would))
        return share(hits, total)

    rows: dict[str, dict[str, int]] = {}
    for (was, would), number in sorted(matrix.items()):
        rows.setdefault(was, {})[would] = number
    return Figures(
        decisions=total,
        unchanged=share(sum(n for (was, would), n in matrix.items() if was == would), total),
        newly_refused=of("refused"),
        newly_withheld=of("withheld"),
        newly_released=of("released", "screened", "asked"),
        unknown=of("unknown", changed=False),
        matrix=rows,
    )
