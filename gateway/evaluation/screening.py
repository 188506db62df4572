"""Send labelled questions through a policy's pre-screen as the gateway would; keep what it said, never the words."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

import msgspec
from msgspec import Struct

from gateway.evaluation.rows import Row, request_of
from gateway.images import Limits
from gateway.pipeline import Pipeline
from gateway.policy.decide import admit
from gateway.policy.decision import Admit, Refuse
from gateway.policy.evidence import Screened, ScreenEvidence, StageFailed
from gateway.policy.model import Policy, Tier
from gateway.policy.shares import worst_share
from gateway.policy.validate import is_share
from gateway.records import Caller, Outcome


class Seen(Struct, frozen=True, kw_only=True):
    """What the pre-screen said about one row.

    `tier` is the tier that admitted it, None where it was refused for `reasons` (codes, worst first). `risk` is the
    worst risk of all stages, None where a stage failed, since what is left is only a lower bound. `barred` says that it
    would be refused whatever the thresholds are, `raised` that it would get a higher tier whatever they are. `findings`
    are the kinds that counted, `unread` that a part was not inspected, `in_scope` that it was judged to be about
    clinical work (None: not judged). `ms` is the time of the whole pre-screen, `times` that of each call of a stage.
    """

    id: str
    harmful: bool
    category: str
    pair: str | None
    attack: str | None
    clinical: bool | None
    tier: int | None
    reasons: tuple[str, ...]
    risk: float | None
    barred: bool
    raised: bool
    findings: tuple[str, ...]
    unread: bool
    in_scope: bool | None
    failed: tuple[str, ...]
    ms: float
    times: tuple[tuple[str, float], ...]

    @property
    def refused(self) -> bool:
        """Tell whether the policy refused it."""
        return self.tier is None

    @property
    def higher(self) -> bool:
        """Tell whether it was admitted at a higher tier than the first."""
        return self.tier is not None and self.tier > 0


class Stop:
    """A wish to stop: rows that have begun are finished, and no other begins."""

    def __init__(self) -> None:
        self.wanted = False


async def screen_rows(
    rows: Iterable[Row],
    pipeline: Pipeline,
    *,
    limits: Limits,
    jobs: int = 1,
    stop: Stop | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> tuple[Seen, ...]:
    """Screen `rows`, `jobs` at once; give what was said, in the order of the rows, as far as it came.

    They are taken in an order that is mixed and the same each time, so that what a stop leaves is a fair part.
    """
    order = list(enumerate(rows))
    random.Random(1).shuffle(order)  # noqa: S311 - an order, no secret
    todo = iter(order)
    done: list[tuple[int, Seen]] = []

    async def work() -> None:
        for place, row in todo:
            if stop is not None and stop.wanted:
                return
            done.append((place, await screen_row(row, pipeline, limits)))
            progress(1)

    await asyncio.gather(*(work() for _ in range(max(1, jobs))))
    return tuple(seen for _, seen in sorted(done, key=lambda item: item[0]))


async def screen_row(row: Row, pipeline: Pipeline, limits: Limits) -> Seen:
    """Screen one row. Raises InvalidImage or OSError where its image can not be had."""
    department = pipeline.policy.department
    request = await asyncio.to_thread(request_of, row, department=department, limits=limits)
    caller = Caller(key="evaluate", department=department, roles=("caller",))
    return _seen(row, await pipeline.moderate(request, caller, "evaluate"), pipeline.policy)


def _seen(row: Row, outcome: Outcome, policy: Policy) -> Seen:
    admission, words = outcome.admission, outcome.screening
    reasons = tuple(dict.fromkeys(r.code for r in admission.reasons)) if isinstance(admission, Refuse) else ()
    failed = tuple(f"{word.stage}: {word.cause}" for word in words if isinstance(word, StageFailed))
    risks = [worst_share(word.screening.risk) for word in words if isinstance(word, Screened)]
    lenient = admit(_lenient(policy), words, outcome.coverage)
    return Seen(
        id=row.id,
        harmful=row.harmful,
        category=row.category,
        pair=row.pair,
        attack=row.attack,
        clinical=row.clinical,
        tier=admission.tier if isinstance(admission, Admit) else None,
        reasons=reasons,
        risk=max(risks) if risks and not failed else None,
        barred=isinstance(lenient, Refuse),
        raised=isinstance(lenient, Refuse) or lenient.tier > 0,
        findings=_findings(words, policy),
        unread=any(not part.by for part in outcome.coverage),
        in_scope=_in_scope(words, policy),
        failed=failed,
        ms=outcome.ms,
        times=tuple((word.stage, word.ms) for word in words if isinstance(word, Screened | StageFailed)),
    )


def _lenient(policy: Policy) -> Policy:
    """Give the policy with the most lenient thresholds that a policy can have: its decisions but for the risk."""
    tier = Tier(below=1.0, budget=policy.tiers[0].budget)
    return msgspec.structs.replace(policy, tiers=(tier, tier))


def _findings(words: Iterable[ScreenEvidence], policy: Policy) -> tuple[str, ...]:
    """Name the kinds of findings that reach their stage's threshold."""
    thresholds = {spec.stage: spec.threshold for spec in policy.prescreen}
    kinds = {
        finding.kind
        for word in words
        if isinstance(word, Screened)
        for finding in word.screening.findings
        if worst_share(finding.score) >= thresholds.get(word.stage, 0.0)
    }
    return tuple(sorted(kinds))


def _in_scope(words: Iterable[ScreenEvidence], policy: Policy) -> bool | None:
    """Tell whether every stage that judges it takes the request to be about clinical work."""
    told = [word.screening.clinical for word in words if isinstance(word, Screened)]
    known = [value for value in told if value is not None]
    if not known:
        return None
    return all(is_share(value) and value >= policy.clinical_at_least for value in known)


async def warm_up(rows: Iterable[Row], pipeline: Pipeline, *, limits: Limits) -> None:
    """Screen one row with an image and one without, and forget them: the first call of a model is no fair one."""
    kinds: dict[bool, Row] = {}
    for row in rows:
        kinds.setdefault(row.image is None, row)
    for row in kinds.values():
        await screen_row(row, pipeline, limits)
