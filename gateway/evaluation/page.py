"""`screen.html`: the report of a screening as one page."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.evaluation.figures import FPR_LIMIT, TPR_LIMIT, Figures
from gateway.evaluation.markup import document, meanings, plain, source, table
from gateway.evaluation.plots import Line, chart, swatch
from gateway.evaluation.report import Report
from gateway.evaluation.targets import Verdict
from gateway.evaluation.telling import sentences, sheets, verdict_words


def page(report: Report) -> str:
    """Write the report as one HTML file. Everything that comes from outside is escaped."""
    name = f"The pre-screen of {report.policy.department}"
    return document(
        name,
        (
            f'<p class="dim">Policy revision {report.policy.revision}, measured {report.made:%d %B %Y, %H:%M} UTC'
            f" with {plain(_stages(report))}.</p>",
            _summary(report),
            _plots(report.files),
            *(table(sheet) for sheet in sheets(report)),
            meanings(report.definitions.items()),
            _source(report),
        ),
    )


def _stages(report: Report) -> str:
    return ", ".join(f"{used.stage} {used.version}" for used in report.stages)


def _summary(report: Report) -> str:
    verdicts = report.verdicts
    missed = sum(not verdict.met for verdict in verdicts)
    if not verdicts:
        line = '<p class="verdict">No targets were given.</p>'
    elif missed:
        line = f'<p class="verdict missed">{missed} of {len(verdicts)} targets missed</p>'
    else:
        line = f'<p class="verdict met">{"All" if len(verdicts) > 1 else "The"} {_targets(len(verdicts))} met</p>'
    if report.stopped:
        line += "<p>It was stopped before the end: these figures are of the rows that were screened until then.</p>"
    if report.unused:
        names = ", ".join(report.unused)
        line += f"<p>These targets fit no file, and were not checked: <code>{plain(names)}</code></p>"
    cards = (_card(f, [v for v in verdicts if v.file == f.file]) for f in report.files)
    return f'<section><h2>In short</h2>{line}<div class="cards">{"".join(cards)}</div></section>'


def _targets(count: int) -> str:
    return f"{count} targets" if count > 1 else "one target"


def _card(figures: Figures, verdicts: Iterable[Verdict]) -> str:
    told = " ".join(sentences(figures))
    marks = "".join(
        f'<li class="{"met" if verdict.met else "missed"}">{plain(verdict_words(verdict))}</li>' for verdict in verdicts
    )
    listed = f"<ul>{marks}</ul>" if marks else ""
    return f'<article class="card"><h3>{plain(figures.file)}</h3><p>{plain(told)}</p>{listed}</article>'


def _plots(files: Iterable[Figures]) -> str:
    both = [f for f in files if f.auc is not None]
    if not both:
        return ""
    areas = "; ".join(f"{f.file}: {f.auc.value:.3f}" for f in both if f.auc)
    errors = "; ".join(f"{f.file}: {f.calibration.error:.3f}" for f in both if f.calibration)
    curves = [Line(name=f.file, points=f.roc) for f in both]
    bins = [
        Line(name=f.file, points=tuple((b.risk, b.harmful) for b in f.calibration.bins), marks=True)
        for f in both
        if f.calibration
    ]
    ranked = chart(
        curves, id="roc", title="Harmful questions caught against benign ones flagged, at every threshold",
        about=f"One line per file; a line that hugs the upper left corner is better. Area under each: {areas}.",
        across="benign flagged, %", up="harmful caught, %", guides=(FPR_LIMIT, TPR_LIMIT),
    )  # fmt: skip
    reliable = chart(
        bins, id="reliability", title="Share of harmful questions against the mean risk, in ten bins",
        about=f"One line per file; on the diagonal the risk is a true probability. Calibration error: {errors}.",
        across="mean risk, %", up="harmful, %",
    )  # fmt: skip
    legend = "".join(f"<li>{swatch(number)}{plain(f.file)}</li>" for number, f in enumerate(both))
    return (
        f'<section class="risk"><h2>The risk</h2><ul class="legend">{legend}</ul><div class="plots">'
        f"<figure><figcaption>How well the risk ranks (ROC)</figcaption>{ranked}"
        '<p class="dim">Dashed: 8 % of the benign flagged, 92 % of the harmful caught. Dotted: chance.</p></figure>'
        f"<figure><figcaption>How true the risk is (reliability)</figcaption>{reliable}"
        '<p class="dim">Dotted: a risk that is a true probability in a file mixed like this one.</p></figure>'
        "</div></section>"
    )


def _source(report: Report) -> str:
    policy, machine = report.policy, report.machine
    rows = (
        ("command", report.command),
        ("gateway", report.gateway),
        ("policy", f"{policy.path}, revision {policy.revision}, SHA-256 {policy.digest}"),
        ("tiers below", ", ".join(f"{below:g}" for below in policy.tiers)),
        ("machine", f"{machine.cpu}, {machine.cores} cores, {machine.system}, Python {machine.python}"),
        ("took", f"{report.seconds:g} s, {report.jobs} at once"),
        *((f"file {f.file}", f"SHA-256 {f.digest}") for f in report.files),
    )
    return source(rows)
