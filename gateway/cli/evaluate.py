"""`gateway evaluate`: measure a policy on files of labelled questions; here its pre-screen."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gateway.cli.defence import defence
from gateway.cli.measuring import INTERRUPTED, bar, load_policy, stopping, writable
from gateway.cli.output import as_json, settings_options, show
from gateway.cli.recommend import recommend
from gateway.settings import Settings, read_settings

if TYPE_CHECKING:
    from gateway.evaluation.figures import Figures
    from gateway.evaluation.report import Report
    from gateway.evaluation.rows import RowFile
    from gateway.evaluation.screening import Stop
    from gateway.evaluation.targets import Target
    from gateway.pipeline import Pipeline
    from gateway.policy.model import LoadedPolicy


@click.group()
def evaluate() -> None:
    """Measure a policy's checks on files of labelled questions."""


evaluate.add_command(defence)
evaluate.add_command(recommend)


@evaluate.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--policy", "department", default="radiology", help="The department whose policy decides [radiology].")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for screen.json and screen.html.")
@click.option("--targets", type=click.Path(path_type=Path), help="Targets, in YAML; where one is missed: exit code 1.")
@click.option("--limit", type=click.IntRange(min=1), help="Rows of each file, drawn at random, always the same [all].")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, help="Questions at once; with more, times grow [1].")
@click.option("--worst", type=click.IntRange(min=1), help="Tell the ids of so many of the worst rows of each kind.")
@as_json
@settings_options("policies_dir")
def screen(
    files: tuple[Path, ...],
    department: str,
    out: Path | None,
    targets: Path | None,
    limit: int | None,
    jobs: int,
    worst: int | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Send labelled questions through a policy's pre-screen and tell, file by file, what it refuses."""
    from gateway.evaluation.rows import read_rows
    from gateway.evaluation.targets import load_targets

    settings = read_settings(**flags)
    loaded = load_policy(settings, department)
    aims = load_targets(targets) if targets is not None else {}
    read = read_rows(files, limit=limit)
    if out is not None:
        writable(out, "screen.json")  # before the work and not after it
    report = asyncio.run(_measure(read, loaded, settings, jobs, worst or 0, aims))
    if out is not None:
        _write(report, out)
    _tell(report, as_json=as_json)
    if report.stopped:
        raise SystemExit(INTERRUPTED)
    if any(not verdict.met for verdict in report.verdicts) or report.unused:
        raise SystemExit(1)


async def _measure(
    files: tuple[RowFile, ...],
    loaded: LoadedPolicy,
    settings: Settings,
    jobs: int,
    worst: int,
    aims: Mapping[str, Target],
) -> Report:
    from gateway.evaluation.report import make_report
    from gateway.evaluation.rows import check_images
    from gateway.evaluation.screening import Stop
    from gateway.evaluation.stages import prescreeners
    from gateway.evaluation.targets import judge, target_of, unused
    from gateway.pipeline import Pipeline
    from gateway.registry import load_registry

    pictures = sum(row.image is not None for file in files for row in file.rows)
    if pictures:
        with bar(pictures, "checking images", "image") as update:
            await asyncio.to_thread(check_images, files, limits=settings.image_limits, jobs=jobs, progress=update)
    stop = Stop()
    async with prescreeners(loaded, load_registry()) as stages:
        start = time.perf_counter()
        with stopping(stop):
            made = await _screen(files, Pipeline(loaded, stages), settings, jobs, worst, stop)
        judged = ((figures, target_of(figures.file, aims)) for figures in made)
        return make_report(
            loaded, stages, made,
            command=shlex.join(["gateway", *sys.argv[1:]]),
            jobs=jobs,
            seconds=time.perf_counter() - start,
            stopped=stop.wanted and sum(f.screened for f in made) < sum(len(f.rows) for f in files),
            verdicts=tuple(verdict for figures, aim in judged if aim is not None for verdict in judge(figures, aim)),
            unused=unused([file.name for file in files], aims),
        )  # fmt: skip


async def _screen(
    files: tuple[RowFile, ...], pipeline: Pipeline, settings: Settings, jobs: int, worst: int, stop: Stop
) -> list[Figures]:
    from gateway.evaluation.figures import figures
    from gateway.evaluation.screening import screen_rows, warm_up

    await warm_up((row for file in files for row in file.rows), pipeline, limits=settings.image_limits)
    made = []
    for file in files:
        if stop.wanted:
            break
        with bar(len(file.rows), file.name, "row") as update:
            seen = await screen_rows(
                file.rows, pipeline, limits=settings.image_limits, jobs=jobs, stop=stop, progress=update
            )
        made.append(figures(file, seen, worst=worst))
    return made


def _write(report: Report, out: Path) -> None:
    from gateway.evaluation.page import page

    text = msgspec.json.format(msgspec.json.encode(report), indent=1)
    (out / "screen.json").write_bytes(text + b"\n")
    (out / "screen.html").write_text(page(report), encoding="utf-8")
    click.echo(f"wrote {out / 'screen.json'} and {out / 'screen.html'}", err=True)


def _tell(report: Report, *, as_json: bool) -> None:
    from gateway.evaluation.telling import sheets, verdict_words

    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=1))
        return
    for sheet in sheets(report):
        rows = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
        show(rows, sheet.columns, json_wanted=False, title=sheet.title)
    for verdict in report.verdicts:
        click.echo(f"{verdict.file}: {verdict_words(verdict)}")
    for pattern in report.unused:
        click.echo(f"the targets `{pattern}` fit no file; mend the pattern or name the file")
    if report.stopped:
        click.echo("stopped before the end: the figures are of the rows that were screened until then")
