"""What reviews come to, as figures: agreement, errors, time, and what waits. Pure."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from gateway.records.proportions import Share, kappa, share
from gateway.records.record import DecisionV1, Record
from gateway.records.reviews import Review
from gateway.records.shapes import RefuseV1, WithholdV1


class Spread(Struct, frozen=True, kw_only=True):
    """Times in seconds: how many, their median and 90th percentile (nearest rank); None where there were none."""

    of: int
    median: float | None
    p90: float | None


class Reviewed(Struct, frozen=True, kw_only=True):
    """A review with what is behind its decision: the rule that fired, the stages that said no, ``policy@revision``."""

    review: Review
    rule: str | None
    stages: tuple[str, ...]
    policy: str | None


class Waiting(Struct, frozen=True, kw_only=True):
    """What is in the queue now: how many by state, settled ones too; how many are overdue; the oldest's age in s."""

    states: Mapping[str, int]
    overdue: int
    oldest: float | None


class ReviewFigures(Struct, frozen=True, kw_only=True):
    """The figures of the reviews that were judged from `since` until before `until`.

    `judged` counts those with a verdict, `settled` those at rest; shares are of settled ones. `agreement` is the share
    of `agree`, and `by` the same in groups: of department, what made it due, rule, stage and policy revision.
    `false_positives` is, of stopped decisions that the plan put in the queue, the share that was to be answered;
    `false_negatives`, of released answers that were drawn by chance, the share that was not. `confirmed` is, of the
    verdicts that were read a second time, the share that was confirmed; `kappa` is Cohen's, over the `pairs` in which
    both readers gave a verdict. `to_verdict` and `to_settled` are times since the decision.
    """

    since: dt.datetime | None
    until: dt.datetime | None
    judged: int
    settled: int
    agreement: Share
    by: Mapping[str, Mapping[str, Share]]
    false_positives: Share
    false_negatives: Share
    confirmed: Share
    kappa: float | None
    pairs: int
    to_verdict: Spread
    to_settled: Spread
    queue: Waiting


def reviewed(record: Record, review: Review) -> Reviewed:
    """Join a review with what its record says of the rule behind it."""
    if not isinstance(record, DecisionV1):
        return Reviewed(review=review, rule=None, stages=(), policy=None)
    final = record.final
    reasons = final.reasons if isinstance(final, RefuseV1 | WithholdV1) else ()
    return Reviewed(
        review=review,
        rule=final.rule,
        stages=tuple(dict.fromkeys(reason.stage for reason in reasons if reason.stage is not None)),
        policy=f"{record.policy.department}@{record.policy.revision}",
    )


def figures(
    rows: Iterable[Reviewed], queue: Waiting, *, since: dt.datetime | None = None, until: dt.datetime | None = None
) -> ReviewFigures:
    """Make the figures of reviews that have a verdict."""
    judged = [row for row in rows if row.review.standing is not None]
    settled = [row for row in judged if row.review.state == "settled"]
    pairs = [pair for row in judged for pair in _pairs(row.review)]
    seconds = [one.confirms for row in judged for one in row.review.readings if one.confirms is not None]
    return ReviewFigures(
        since=since,
        until=until,
        judged=len(judged),
        settled=len(settled),
        agreement=_of(settled, "agree"),
        by={
            "department": _grouped(settled, lambda row: (row.review.subject.department,)),
            "due_by": _grouped(settled, lambda row: (row.review.subject.due_by,)),
            "rule": _grouped(settled, lambda row: () if row.rule is None else (row.rule,)),
            "stage": _grouped(settled, lambda row: row.stages),
            "policy": _grouped(settled, lambda row: () if row.policy is None else (row.policy,)),
        },
        false_positives=_of([r for r in settled if r.review.subject.due_by in _STOPPED], "false_positive"),
        false_negatives=_of([r for r in settled if r.review.subject.due_by == "released"], "false_negative"),
        confirmed=share(sum(seconds), len(seconds)),
        kappa=kappa(pairs),
        pairs=len(pairs),
        to_verdict=spread([_age(row.review, row.review.first_at) for row in judged]),
        to_settled=spread([_age(row.review, row.review.settled_at) for row in settled]),
        queue=queue,
    )


_STOPPED = ("refused", "withheld")


def _of(rows: Sequence[Reviewed], verdict: str) -> Share:
    return share(sum(row.review.verdict == verdict for row in rows), len(rows))


def _grouped(rows: Iterable[Reviewed], names: Callable[[Reviewed], tuple[str, ...]]) -> dict[str, Share]:
    groups: dict[str, list[Reviewed]] = {}
    for row in rows:
        for name in names(row):
            groups.setdefault(name, []).append(row)
    return {name: _of(group, "agree") for name, group in sorted(groups.items())}


def _pairs(review: Review) -> Iterable[tuple[str, str]]:
    """Give the verdicts of each first reader with that of their second, who always comes next."""
    for first, second in zip(review.readings, review.readings[1:], strict=False):
        if second.confirms is not None and first.verdict is not None and second.verdict is not None:
            yield first.verdict, second.verdict


def _age(review: Review, at: dt.datetime | None) -> float:
    # A clock that was set back between the two must not give a time below zero.
    return 0.0 if at is None else max(0.0, (at - review.subject.at).total_seconds())


def spread(seconds: Sequence[float]) -> Spread:
    """Give the median and the 90th percentile of times."""
    if not seconds:
        return Spread(of=0, median=None, p90=None)
    ordered = sorted(seconds)
    rank = math.ceil(0.9 * len(ordered)) - 1
    return Spread(of=len(ordered), median=statistics.median(ordered), p90=ordered[rank])
