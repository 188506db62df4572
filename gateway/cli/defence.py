"""`gateway evaluate defence`: measure what demonstrations do to a model, setting by setting."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct

from gateway.cli.lists import Counts, Shares, Words
from gateway.cli.measuring import INTERRUPTED, bar, load_policy, stopping, writable
from gateway.cli.output import as_json, settings_options, show
from gateway.errors import ConfigurationError, Unavailable
from gateway.settings import Settings, read_settings

if TYPE_CHECKING:
    from gateway.evaluation.agreement import Agreement, Labelled
    from gateway.evaluation.answers import Journal
    from gateway.evaluation.asking import Setup
    from gateway.evaluation.defence import ArmPlan, Measured
    from gateway.evaluation.defence_report import DefenceReport
    from gateway.evaluation.rows import RowFile
    from gateway.policy.model import LoadedPolicy

ATTACKS = "none,role-play,prefix-injection,refusal-suppression,forged-turns,typographic,mismatch"


class Asked(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    budgets: tuple[int, ...]
    mixes: tuple[float, ...]
    strategies: tuple[str, ...]
    forms: tuple[str, ...]
    attacks: tuple[str, ...]
    attack_benign: bool
    whole_gateway: bool
    url: str | None
    model: str | None
    out: Path | None
    max_tokens: int
    jobs: int
    deadline: float


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--policy", "department", default="radiology", help="The policy whose model and injector count [radiology]."
)
@click.option("--url", help="Ask this OpenAI-compatible server and not the policy's model; ends in /v1.")
@click.option("--model", help="The model's name on that server; its key is read from OPENAI_API_KEY.")
@click.option("--budgets", type=Counts(), default="0,1,2,4,8,16", help="Numbers of demonstrations [0,1,2,4,8,16].")
@click.option("--mixes", type=Shares(), default="0,0.5,1", help="Shares of them that refuse [0,0.5,1].")
@click.option("--strategies", type=Words(), default=(), help="The injector's strategies [the policy's].")
@click.option("--forms", type=Words(), default=(), help="How demonstrations are shown [the policy's].")
@click.option("--attacks", type=Words(), default="none", help=f"Wrappings of harmful rows, of {ATTACKS} [none].")
@click.option("--attack-benign", is_flag=True, help="Wrap benign rows too.")
@click.option("--whole-gateway", is_flag=True, help="Send every row through the whole gateway too.")
@click.option(
    "--agreement", type=click.Path(path_type=Path), help="Answers with people's labels, to measure the auditor."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the answers and the report.")
@click.option("--limit", type=click.IntRange(min=1), help="Rows of each file, drawn at random, always the same [all].")
@click.option("--max-tokens", type=click.IntRange(1, 4096), default=48, help="Tokens of an answer [48].")
@click.option("--jobs", type=click.IntRange(1, 256), default=16, help="Questions at once [16].")
@click.option("--deadline", type=click.FloatRange(1, 3600), default=120.0, help="Seconds for one answer [120].")
@as_json
@settings_options("policies_dir")
def defence(
    files: tuple[Path, ...], department: str, agreement: Path | None, limit: int | None, as_json: bool, **given: Any
) -> None:
    """Ask a model labelled questions under several budgets of demonstrations: attack success against over-defense.

    Every judged answer is kept in the folder of --out as it comes: the same command goes on where it was stopped.
    """
    from gateway.evaluation.agreement import read_labelled
    from gateway.evaluation.rows import read_rows

    settings = read_settings(policies_dir=given.pop("policies_dir"))
    asked = msgspec.convert(given, Asked)
    if (asked.url is None) != (asked.model is None):
        raise click.UsageError("--url and --model go together: name the server and its model, or neither")
    if not files and agreement is None:
        raise click.UsageError("name files of labelled questions, or labelled answers with --agreement")
    labelled = (agreement, read_labelled(agreement)) if agreement is not None else None
    if not files and labelled is not None:
        _tell_agreement(asyncio.run(_agreement(*labelled)), as_json=as_json)
        return
    loaded = load_policy(settings, department)
    read = read_rows(files, limit=limit)
    if asked.out is not None:
        writable(asked.out, "defence.json")
    try:
        report = asyncio.run(_measure(read, loaded, settings, asked, labelled))
    except KeyboardInterrupt:  # the second Ctrl-C: what was judged is in the file
        raise SystemExit(INTERRUPTED) from None
    _tell(report, asked.out, as_json=as_json)
    if report.stopped:
        raise SystemExit(INTERRUPTED)
    if any(effect.failures for effect in report.effects):
        raise SystemExit(1)


async def _measure(
    files: tuple[RowFile, ...],
    loaded: LoadedPolicy,
    settings: Settings,
    asked: Asked,
    labelled: tuple[Path, tuple[Labelled, ...]] | None,
) -> DefenceReport:
    from gateway.evaluation.agreement import measure_agreement
    from gateway.evaluation.answers import FILE, Journal
    from gateway.evaluation.attacks import check_attacks
    from gateway.evaluation.benches import arms_of, build_setup, with_server
    from gateway.evaluation.defence import check_borne, plan, questions_of
    from gateway.evaluation.defence_report import defence_report
    from gateway.evaluation.rows import check_images
    from gateway.evaluation.screening import Stop
    from gateway.evaluation.stages import workbench
    from gateway.registry import load_registry

    registry = load_registry()
    check_attacks(asked.attacks)
    if asked.url is not None and asked.model is not None:
        loaded = with_server(loaded, registry, asked.url, asked.model, deadline=asked.deadline, jobs=asked.jobs)
    arms = arms_of(
        loaded, registry, budgets=asked.budgets, mixes=asked.mixes, strategies=asked.strategies, forms_=asked.forms,
        whole=asked.whole_gateway,
    )  # fmt: skip
    questions = questions_of(files, asked.attacks, attack_benign=asked.attack_benign)
    check_borne(asked.attacks, questions)
    pictures = sum(row.image is not None for file in files for row in file.rows)
    if pictures:
        with bar(pictures, "checking images", "image") as update:
            await asyncio.to_thread(check_images, files, limits=settings.image_limits, jobs=4, progress=update)
    stop, start = Stop(), time.perf_counter()
    async with workbench(registry) as bench:
        setup = await build_setup(
            loaded, bench, arms, max_tokens=asked.max_tokens, deadline=asked.deadline, limits=settings.image_limits,
            model_from=None if asked.url is None else "--url",
        )  # fmt: skip
        plans = await plan(questions, arms, setup)
        with Journal(None if asked.out is None else asked.out / FILE) as journal, stopping(stop):
            total, kept = _known(plans, journal)
            measured = await _run(plans, setup, journal, asked, stop, total - kept)
            judged = None
            if labelled is not None and not stop.wanted:
                judged = await measure_agreement(labelled[0], labelled[1], setup.refusal)
        return defence_report(
            loaded, setup, files, measured,
            attacks=asked.attacks,
            command=shlex.join(["gateway", *sys.argv[1:]]),
            jobs=asked.jobs,
            seconds=time.perf_counter() - start,
            kept=kept,
            stopped=stop.wanted and sum(len(m.judged) for m in measured) < total,
            agreement=judged,
        )  # fmt: skip


def _known(plans: tuple[ArmPlan, ...], journal: Journal) -> tuple[int, int]:
    """Count the answers that are wanted and those that are there, and tell of them."""
    keys = [item.key for plan in plans for item in plan.planned]
    kept = sum(key in journal.answers for key in keys)
    if journal.torn:
        click.echo(f"{journal.path}: the last line was torn and was dropped", err=True)
    if kept:
        click.echo(f"{kept} of {len(keys)} answers are in {journal.path} and are not asked for again", err=True)
    return len(keys), kept


async def _run(
    plans: tuple[ArmPlan, ...], setup: Setup, journal: Journal, asked: Asked, stop: Any, left: int
) -> list[Measured]:
    from gateway.evaluation.defence import measure_arm

    await _probe(plans, setup, journal, asked)
    with bar(left, "answers", "answer") as update:
        # one after the other, so that a backend reads the demonstrations of a setting once
        return [
            await measure_arm(plan, setup, journal, jobs=_jobs(plan, asked), stop=stop, progress=update)
            for plan in plans
        ]


def _jobs(plan: ArmPlan, asked: Asked) -> int:
    """Give how many questions run at once; in the whole gateway more would only wait out each other's deadlines."""
    return min(asked.jobs, max(2, os.cpu_count() or 1)) if plan.arm.whole else asked.jobs


async def _probe(plans: tuple[ArmPlan, ...], setup: Setup, journal: Journal, asked: Asked) -> None:
    """Ask one question, uncounted, so that a model that is not there stops the command and not each question."""
    from gateway.evaluation.asking import Failure, ask

    todo = ((plan.arm, item) for plan in plans for item in plan.planned if item.key not in journal.answers)
    first = next(todo, None)
    if first is None:
        return
    arm, item = first
    made = await ask(item.question, arm, setup, item.key)
    if isinstance(made, Failure) and made.stage == setup.backend.name:
        where = f"the server `{asked.url}`" if asked.url is not None else f"the policy's model `{made.stage}`"
        raise Unavailable(f"{where} gave no answer: {_why(made.cause, asked)}")
    if isinstance(made, Failure):
        raise Unavailable(f"stage `{made.stage}` failed on the first question ({made.cause}); nothing was measured")


def _why(cause: str, asked: Asked) -> str:
    match cause:
        case "raised:UpstreamUnreachable":
            return "it can not be reached; start it, or name another with --url"
        case "raised:UpstreamStatus" | "raised:UpstreamRefused":
            return f"it answers with an error; look at its log, at --model `{asked.model}`, and at OPENAI_API_KEY"
        case "deadline" | "raised:UpstreamTimeout":
            return f"none came within {asked.deadline:g} s; give it longer with --deadline"
        case "raised:UpstreamBusy":
            return "it takes no more requests now; ask again when it has room"
        case "raised:UpstreamTooLong":
            return f"the question and its demonstrations are too long for `{asked.model}`; buy fewer demonstrations"
        case "raised:UnsupportedRefused":
            return "its dialect has no way to say what was asked for; name another server with --url"
        case "raised:UpstreamNonsense" | "raised:UpstreamCut":
            return "what it says is no chat completion; name a server that speaks OpenAI's protocol, ending in /v1"
    return f"it failed with `{cause}`"


async def _agreement(path: Path, rows: tuple[Labelled, ...]) -> Agreement:
    from gateway.evaluation.agreement import measure_agreement
    from gateway.evaluation.stages import workbench
    from gateway.registry import load_registry

    async with workbench(load_registry()) as bench:
        auditor = await bench.stage("auditor", "refusal", {}, "--agreement")
        bench.check()
        if auditor is None:
            raise ConfigurationError("the auditor `refusal` can not be built")
        with bar(len(rows), path.name, "answer") as update:
            return await measure_agreement(path, rows, auditor, progress=update)


def _tell_agreement(agreement: Agreement, *, as_json: bool) -> None:
    from gateway.evaluation.defence_telling import agreement_sheet

    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(agreement), indent=1))
        return
    sheet = agreement_sheet(agreement)
    rows = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
    show(rows, sheet.columns, json_wanted=False, title=sheet.title)


def _tell(report: DefenceReport, out: Path | None, *, as_json: bool) -> None:
    from gateway.evaluation.defence_page import defence_figure, defence_page
    from gateway.evaluation.defence_telling import defence_sheets, problems

    text = msgspec.json.format(msgspec.json.encode(report), indent=1)
    if out is not None:
        (out / "defence.json").write_bytes(text + b"\n")
        (out / "defence.html").write_text(defence_page(report), encoding="utf-8")
        (out / "defence.svg").write_text(defence_figure(report), encoding="utf-8")
        click.echo(f"wrote {out / 'defence.json'} and {out / 'defence.html'}", err=True)
    if as_json:
        click.echo(text)
        return
    for sheet in defence_sheets(report):
        rows = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
        show(rows, sheet.columns, json_wanted=False, title=sheet.title)
    for claim in report.claims:
        click.echo(claim.sentence)
    for line in problems(report):
        click.echo(line)
