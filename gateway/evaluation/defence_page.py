"""`defence.html`: the report of a measurement of demonstrations as one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from msgspec import Struct

from gateway.evaluation.arms import TURNS, Arm, mix_name
from gateway.evaluation.defence_report import DefenceReport
from gateway.evaluation.defence_telling import defence_sheets, problems
from gateway.evaluation.effects import Effect, Rates
from gateway.evaluation.markup import document, meanings, plain, source, standalone, table
from gateway.evaluation.numbers import Share
from gateway.evaluation.plots import HEIGHT, WIDTH, Line, Spot, curves, plane, swatch
from gateway.evaluation.tradeoff import Claim

_MARK = {"yes": "met", "no": "missed", "open": "dim"}


class _Series(Struct, frozen=True, kw_only=True):
    """The settings that differ in the budget alone, by rising budget; the first may be without demonstrations."""

    name: str
    effects: tuple[Effect, ...]


def defence_page(report: DefenceReport) -> str:
    """Write the report as one HTML file. Everything that comes from outside is escaped."""
    series = _series(report.effects)
    return document(
        f"What demonstrations do to {report.model.name}",
        (
            f'<p class="dim">Asked through {plain(report.model.stage)} {plain(report.model.version)}, measured '
            f"{report.made:%d %B %Y, %H:%M} UTC, answers of at most {report.max_tokens} tokens.</p>",
            _summary(report),
            _plots(report, series),
            *(table(sheet) for sheet in defence_sheets(report)),
            meanings(report.definitions.items()),
            _source(report),
        ),
    )


def defence_figure(report: DefenceReport) -> str:
    """Draw both errors against the budget as one SVG that stands alone, for a README."""
    series = _series(report.effects)
    return standalone(
        [
            _drawn(series, "attack_success", "Attack success", "harmful answered, %"),
            _drawn(series, "over_defense", "Over-defense", "benign refused, %"),
        ],
        width=WIDTH,
        height=HEIGHT,
        legend=[(swatch(number), s.name) for number, s in enumerate(series)],
    )


def _series(effects: Iterable[Effect]) -> tuple[_Series, ...]:
    shown = [e for e in effects if not e.arm.whole]
    bare = tuple(e for e in shown if not e.arm.budget.demonstrations)
    groups: dict[tuple[float, str | None, str], list[Effect]] = {}
    for effect in shown:
        if effect.arm.budget.demonstrations:
            groups.setdefault(_kind(effect.arm), []).append(effect)
    several = {
        "strategy": len({kind[1] for kind in groups}) > 1,
        "form": len({kind[2] for kind in groups}) > 1,
    }
    made = []
    for (mix, strategy, form), group in sorted(groups.items(), key=lambda item: (-item[0][0], str(item[0][1:]))):
        name = (
            mix_name(mix) + (f", {strategy}" if several["strategy"] else "") + (f", {form}" if several["form"] else "")
        )
        whole = (*bare, *sorted(group, key=lambda e: e.arm.budget.demonstrations))
        made.append(_Series(name=name, effects=whole))
    return tuple(made) or ((_Series(name="no demonstrations", effects=bare),) if bare else ())


def _kind(arm: Arm) -> tuple[float, str | None, str]:
    return arm.budget.mix, arm.strategy, arm.form or TURNS


def _summary(report: DefenceReport) -> str:
    warned = "".join(f'<p class="missed">{plain(line)}</p>' for line in problems(report))
    claims = "".join(f'<li class="{_MARK[claim.holds]}">{plain(claim.sentence)}</li>' for claim in _told(report.claims))
    chosen = f"Chosen: {plain(report.chosen)}" if report.chosen else "No setting has both kinds of question answered."
    return (
        f'<section><h2>In short</h2><p class="verdict">{chosen}</p>{warned}'
        f'<article class="card"><h3>What the numbers show</h3><ul>{claims}</ul></article></section>'
    )


def _told(claims: Sequence[Claim]) -> Sequence[Claim]:
    return sorted(claims, key=lambda claim: claim.about != "best sum")


def _plots(report: DefenceReport, series: Sequence[_Series]) -> str:
    if not series:
        return ""
    legend = "".join(f"<li>{swatch(number)}{plain(s.name)}</li>" for number, s in enumerate(series))
    return (
        f'<section class="risk"><h2>The two errors</h2><ul class="legend">{legend}</ul><div class="plots">'
        + _curve(series, "attack_success", "Attack success against the budget", "harmful answered, %")
        + _curve(series, "over_defense", "Over-defense against the budget", "benign refused, %")
        + _plane(report, series)
        + "</div></section>"
    )


_Measure = Literal["attack_success", "over_defense"]


def _curve(series: Sequence[_Series], measure: _Measure, title: str, up: str) -> str:
    drawn = _drawn(series, measure, title, up)
    return f'<figure><figcaption>{plain(title)}</figcaption>{drawn}<p class="dim">Bars: 95 % intervals.</p></figure>'


def _drawn(series: Sequence[_Series], measure: _Measure, title: str, up: str) -> str:
    budgets = sorted({e.arm.budget.demonstrations for s in series for e in s.effects})
    # budgets double, so they stand at even distances
    at = {budget: (place + 0.5) / len(budgets) for place, budget in enumerate(budgets)}
    pick: Callable[[Rates], Share] = lambda rates: getattr(rates, measure)  # noqa: E731 - typed for the lines below
    lines = []
    for number, line in enumerate(series):
        # lines of one budget stand a little apart, so that no interval hides another
        aside = (number - (len(series) - 1) / 2) * 0.012
        seen = [(at[e.arm.budget.demonstrations] + aside, pick(e.rates)) for e in line.effects]
        lines.append(
            Line(
                name=line.name,
                points=tuple((x, s.value) for x, s in seen if s.value is not None),
                whiskers=tuple((x, s.low, s.high) for x, s in seen if s.low is not None and s.high is not None),
                marks=True,
            )
        )
    about = "; ".join(
        f"{s.name}: " + ", ".join(
            f"{e.arm.budget.demonstrations}: {100 * value:.0f} %"
            for e in s.effects if (value := pick(e.rates).value) is not None
        )
        for s in series
    )  # fmt: skip
    return curves(
        lines, id=measure.replace("_", "-"), title=title, about=f"By number of demonstrations. {about}.",
        across="demonstrations", up=up, ticks=[(x, str(budget)) for budget, x in at.items()],
    )  # fmt: skip


def _plane(report: DefenceReport, series: Sequence[_Series]) -> str:
    spots = [
        Spot(
            name=_spot_name(e),
            at=e.point,
            series=number,
            label=str(e.arm.budget.demonstrations),
            best=e.arm.name == report.chosen,
        )
        for number, s in enumerate(series)
        for e in s.effects
        # each line begins with the point without demonstrations; it is drawn once
        if e.point is not None and (number == 0 or e.arm.budget.demonstrations)
    ]
    whole = [e for e in report.effects if e.arm.whole and e.point is not None]
    spots += [Spot(name=_spot_name(e), at=e.point or (0.0, 0.0), series=5, apart=True) for e in whole]
    edge = sorted(e.point for e in report.effects if e.arm.name in report.front and e.point is not None)
    title = "Attack success against over-defense"
    drawn = plane(
        spots, edge, id="plane", title=title,
        about="Each point is a setting; the lower left corner is best. " + "; ".join(spot.name for spot in spots) + ".",
        across="harmful answered, %", up="benign refused, %",
    )  # fmt: skip
    more = " Diamond: the whole gateway." if whole else ""
    return (
        f"<figure><figcaption>{plain(title)}</figcaption>{drawn}"
        f'<p class="dim">Numbers: demonstrations. Dashed: the front. Ring: the chosen setting.{more}</p></figure>'
    )


def _spot_name(effect: Effect) -> str:
    bad, good = effect.point or (0.0, 0.0)
    return f"{effect.arm.name}: {100 * bad:.1f} % answered, {100 * good:.1f} % refused"


def _source(report: DefenceReport) -> str:
    policy, machine = report.policy, report.machine
    return source(
        (
            ("command", report.command),
            ("gateway", report.gateway),
            ("model", f"{report.model.name}, by {report.model.stage} {report.model.version}"),
            ("policy", f"{policy.path}, revision {policy.revision}, SHA-256 {policy.digest}"),
            ("stages", ", ".join(f"{used.stage} {used.version}" for used in report.stages)),
            ("attacks", ", ".join(report.attacks)),
            ("machine", f"{machine.cpu}, {machine.cores} cores, {machine.system}, Python {machine.python}"),
            ("took", f"{report.seconds:g} s, {report.jobs} at once; {report.kept} answers were there before"),
            *((f"file {f.name}", f"{f.harmful} harmful, {f.benign} benign, SHA-256 {f.digest}") for f in report.files),
        )
    )
