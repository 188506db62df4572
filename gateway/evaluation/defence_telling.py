"""The tables and sentences that people read of a measurement of demonstrations."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.evaluation.agreement import Agreement
from gateway.evaluation.defence_report import DefenceReport
from gateway.evaluation.effects import Effect, Rates
from gateway.evaluation.numbers import Mean
from gateway.evaluation.telling import Sheet, told


def average(mean: Mean | None) -> str:
    """Write a mean with its interval and count: ``0.412 (0.380 to 0.446), 60``."""
    if mean is None:
        return "–"
    if mean.low is None or mean.high is None:
        return f"{mean.value:.3f}, {mean.of}"
    return f"{mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f}), {mean.of}"


def defence_sheets(report: DefenceReport) -> tuple[Sheet, ...]:
    """Make the tables; those without a row are left out, and a group that is all there is is not told twice."""
    effects = report.effects
    made = (
        Sheet(
            title="What demonstrations do: lower is better in both",
            columns=("setting", "asked", "attack success", "went along", "over-defense", ""),
            rows=tuple(
                (e.arm.name, _count(e), told(e.rates.attack_success), told(e.rates.complied),
                 told(e.rates.over_defense), _mark(e, report))
                for e in effects
            ),
        ),
        Sheet(
            title="Against reference answers (benign questions)",
            columns=("setting", "utility (token-F1)", "short reference contained"),
            rows=tuple(
                (e.arm.name, average(e.rates.utility), told(e.rates.contained)) for e in effects if e.rates.utility
            ),
        ),
        Sheet(
            title=f"What an answer costs, {report.jobs} at once",
            columns=("setting", "prompt tokens", "answer tokens", "demonstrations shown", "ms, median", "ms, p95"),
            rows=tuple(
                (e.arm.name, f"{e.cost.prompt_tokens:.0f}", f"{e.cost.completion_tokens:.0f}", f"{e.cost.shown:.1f}",
                 f"{e.cost.ms_median:.0f}", f"{e.cost.ms_p95:.0f}")
                for e in effects if e.cost is not None
            ),
        ),
        *_groups(effects),
        Sheet(
            title="Questions without an answer",
            columns=("setting", "stage and cause", "questions"),
            rows=tuple((e.arm.name, cause, f"{count}") for e in effects for cause, count in e.failures.items()),
        ),
        *(() if report.agreement is None else (agreement_sheet(report.agreement),)),
    )  # fmt: skip
    return tuple(sheet for sheet in made if sheet.rows)


def _count(effect: Effect) -> str:
    return f"{effect.judged}" if effect.judged == effect.planned else f"{effect.judged} of {effect.planned}"


def _mark(effect: Effect, report: DefenceReport) -> str:
    name = effect.arm.name
    return "chosen" if name == report.chosen else "on the front" if name in report.front else ""


def _groups(effects: Iterable[Effect]) -> Iterable[Sheet]:
    shown = tuple(effects)
    for word in ("attack", "modality", "file"):
        groups = [(e.arm.name, getattr(e, f"by_{word}")) for e in shown]
        names = {name for _, group in groups for name in group}
        if len(names) > 1 or (word == "modality" and names):
            yield Sheet(
                title=f"By {word}",
                columns=("setting", word, "attack success", "over-defense", "utility"),
                rows=tuple(row for arm, group in groups for row in _rows(arm, group)),
            )


def _rows(arm: str, group: dict[str, Rates]) -> Iterable[tuple[str, ...]]:
    for name, rates in group.items():
        yield arm, name, told(rates.attack_success), told(rates.over_defense), average(rates.utility)


def agreement_sheet(agreement: Agreement) -> Sheet:
    """Make the table of the auditor against people."""
    kappa = "–" if agreement.kappa is None else f"{agreement.kappa:.3f}"
    return Sheet(
        title=f"The auditor of refusals against people's labels: {agreement.file}",
        columns=("people say", "the auditor finds a refusal in"),
        rows=(
            *((label, told(share)) for label, share in agreement.found.items()),
            ("right on refused and complied", told(agreement.accuracy)),
            ("Cohen's kappa", kappa),
        ),
    )


def _full(effect: Effect) -> bool:
    return any(cause.endswith("raised:QueueFull") for cause in effect.failures)


def problems(report: DefenceReport) -> tuple[str, ...]:
    """Tell what keeps the figures from being whole."""
    said = []
    if report.stopped:
        said.append("stopped before the end: the figures are of the questions that were asked until then")
    for effect in report.effects:
        if effect.failures:
            count = sum(effect.failures.values())
            end = ", and it was given up" if effect.given_up else ""
            end += ", since more waited than the model's queue takes: lower --jobs" if _full(effect) else ""
            said.append(
                f"{effect.arm.name}: {count} questions got no answer ({', '.join(effect.failures)}){end}; "
                "they are in no figure, and the same command asks them again"
            )
    short = [
        e.arm.name for e in report.effects
        if e.cost is not None and not e.arm.whole and e.cost.shown < e.arm.budget.demonstrations - 1e-9
    ]  # fmt: skip
    if short:
        said.append(f"the injector gave fewer demonstrations than were asked for: {'; '.join(short)}")
    return tuple(said)
