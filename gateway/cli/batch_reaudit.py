"""`gateway batch reaudit`: what a policy would have decided on past decisions, and the report on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gateway.cli.log_search import account
from gateway.cli.output import as_json, settings_options, show
from gateway.errors import ConfigurationError, Unavailable
from gateway.policy.model import LoadedPolicy
from gateway.records.proportions import Share
from gateway.records.reaudit_report import Counted, Figures, ReauditReport
from gateway.settings import Settings, read_settings

if TYPE_CHECKING:
    from gateway.batch.reaudit_plan import Options
    from gateway.registry import Registry
    from gateway.store import Batch, Counts, Filter, Store

_OUTCOMES = ("released", "refused", "withheld", "screened")
_SHARES = {
    "unchanged": "unchanged",
    "newly_refused": "newly refused",
    "newly_withheld": "newly withheld",
    "newly_released": "newly released or asked",
    "unknown": "unknown",
}


@click.command("reaudit")
@click.option(
    "--policy",
    "places",
    multiple=True,
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="A candidate: a file, or a folder of them. Several times for several departments.",
)
@click.option("--since", required=True, help="Decisions from then on: a date, a time with its zone, or 7d.")
@click.option("--until", default=None, help="Decisions before then.")
@click.option("--department", "departments", multiple=True, help="Of these departments [all with a candidate].")
@click.option("--outcome", "outcomes", multiple=True, type=click.Choice(_OUTCOMES), help="That came to this.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=None, help="At most so many, the oldest ones.")
@click.option("--content", is_flag=True, help="Let stages of which a record has no word look at sealed content.")
@click.option("--all-stages", is_flag=True, help="Let every stage of the candidate look at sealed content.")
@click.option("--auditor", "auditors", multiple=True, help="Let this auditor look at sealed answers in any case.")
@click.option("--why", default=None, help="Why, 5 to 1000 characters; it is recorded. Content needs it.")
@click.option(
    "--allow-other-config", is_flag=True, help="Take what stages said that the candidate configures otherwise."
)
@click.option("--detach", is_flag=True, help="Only make the batch; workers do it.")
@as_json
@settings_options("data_dir", "database_url")
def reaudit(
    places: tuple[Path, ...],
    since: str,
    until: str | None,
    departments: tuple[str, ...],
    outcomes: tuple[str, ...],
    limit: int | None,
    content: bool,
    all_stages: bool,
    auditors: tuple[str, ...],
    why: str | None,
    allow_other_config: bool,
    detach: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Judge past decisions again under a candidate policy, and report what would change. Nothing is changed.

    Each decision is judged by the evidence in its record; with --content also by what is sealed of it, and each such
    look is recorded. The re-audit runs as a batch, and leaves a record for each decision.
    """
    from gateway.batch.reaudit_plan import Candidate, Options
    from gateway.policy.load import load_candidates
    from gateway.registry import load_registry
    from gateway.store.filters import parse_filter
    from gateway.store.reasons import check_reason

    if (all_stages or auditors) and not content:
        raise click.UsageError("--all-stages and --auditor look at sealed content; give --content with them")
    if content and why is None:
        raise click.UsageError("--content needs --why: each look at sealed content is recorded with its reason")
    settings, registry = read_settings(**flags), load_registry()
    loaded = load_candidates(places, registry.configs())
    chosen = _chosen(loaded, departments, auditors)
    pairs = [("kind", "decision.v1"), ("mode", "enforced"), ("since", since)]
    pairs += [("until", until)] if until is not None else []
    pairs += [("department", name) for name in chosen] + [("outcome", name) for name in outcomes]
    options = Options(
        candidates={name: Candidate.of(policy) for name, policy in chosen.items()},
        content=content,
        all_stages=all_stages,
        auditors=auditors,
        other_config=allow_other_config,
        why=None if why is None else check_reason(why),
    )
    asyncio.run(_run(settings, registry, parse_filter(pairs), options, limit=limit, detach=detach, json_wanted=as_json))


def _chosen(
    loaded: Mapping[str, LoadedPolicy], departments: tuple[str, ...], auditors: tuple[str, ...]
) -> dict[str, LoadedPolicy]:
    """Choose the candidates. Raises ConfigurationError for departments without one, and auditors that none names."""
    lines = [
        f"--department {name}: no candidate is for it; there are: {', '.join(sorted(loaded))}"
        for name in departments
        if name not in loaded
    ]
    chosen = {name: policy for name, policy in sorted(loaded.items()) if not departments or name in departments}
    named = {spec.stage for policy in chosen.values() for spec in policy.policy.audit}
    lines += [
        f"--auditor {name}: no candidate names it; add it under `audit`, there are: {', '.join(sorted(named))}"
        for name in auditors
        if name not in named
    ]
    if lines:
        raise ConfigurationError(*lines)
    return chosen


async def _run(
    settings: Settings,
    registry: Registry,
    filter_: Filter,
    options: Options,
    *,
    limit: int | None,
    detach: bool,
    json_wanted: bool,
) -> None:
    from gateway.batch.reaudit_start import begin, report_of
    from gateway.opening import open_store

    store = await open_store(settings)
    try:
        try:
            await store.sequencer.catch_up()
        except Unavailable as exc:
            click.echo(f"warning: the latest decisions may be missing: {exc.message}", err=True)
        batch, number = await begin(store, settings, filter_, account(), options, limit=limit)
        if batch is None:
            click.echo("no decision meets this; nothing was judged", err=True)
            return
        if detach:
            await _detached(settings, batch, number, json_wanted)
            return
        ended = await _worked_off(store, settings, registry, batch, number)
        if ended.status != "completed":
            click.echo(f"the batch {batch.id} is {ended.status}; the report is on what was judged before", err=True)
        _show(await report_of(store, ended), json_wanted)
    finally:
        await store.close()


async def _detached(settings: Settings, batch: Batch, number: int, json_wanted: bool) -> None:
    from gateway.batch.wake import Waker

    await Waker(settings).wake()
    if json_wanted:
        click.echo(msgspec.json.encode({"batch": batch.id, "decisions": number}).decode())
    else:
        click.echo(f"{number} decisions will be judged by the batch {batch.id}: `gateway batch watch {batch.id}`")


async def _worked_off(store: Store, settings: Settings, registry: Registry, batch: Batch, number: int) -> Batch:
    """Work the batch off here, with a bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gateway.batch.reaudit_start import work_off
    from gateway.bootstrap import Runtime

    runtime = Runtime(settings=settings, registry=registry, store=store, pipelines={}, stages=())
    columns = (TextColumn("judged"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("judged", total=number)

        def tell(counts: Counts) -> None:
            bar.update(task, completed=counts.completed + counts.failed)

        try:
            return await work_off(runtime, batch, tell)
        except asyncio.CancelledError:
            click.echo(
                f"stopped; workers go on with the batch {batch.id} (`gateway batch watch {batch.id}`), or cancel it: "
                f"`gateway batch cancel {batch.id}`",
                err=True,
            )
            raise


def _show(report: ReauditReport, json_wanted: bool) -> None:
    """Print a report, as tables or as JSON."""
    if json_wanted:
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    rows = [_row(name, figures) for name, figures in report.departments.items()]
    rows += [_row("all", report.total)] if len(rows) > 1 else []
    click.echo(f"batch {report.batch}: what the candidate would change, with 95 % intervals")
    show(rows, ("department", "decisions", *_SHARES.values()), json_wanted=False)
    words = sorted({after for row in report.total.matrix.values() for after in row})
    matrix = [{"was": was, **row} for was, row in report.total.matrix.items()]
    click.echo("what decisions were, and would be")
    show(matrix, ("was", *words), json_wanted=False)
    for title, counted in (
        ("rules behind the changes", report.rules),
        ("reasons of the changes", report.reasons),
        ("why it is not known", report.why_unknown),
    ):
        _list(title, counted)
    _list("what to know beside", (Counted(name=name, decisions=n) for name, n in report.caveats.items()))
    sources = ", ".join(f"{number} by {source}" for source, number in report.sources.items())
    click.echo(f"judged: {sources or 'none'}; could not be judged: {report.failed}")
    if report.total.unknown.hits and not report.content:
        click.echo("what is unknown may be told by sealed content: --content --why …")
    if report.changed:
        more = "the first that change" if len(report.changed) == 100 else "those that change"
        click.echo(f"{more}: {' '.join(report.changed)}")


def _row(name: str, figures: Figures) -> dict[str, Any]:
    shares = {column: _share(getattr(figures, name)) for name, column in _SHARES.items()}
    return {"department": name, "decisions": figures.decisions, **shares}


def _list(title: str, counted: Iterable[Counted]) -> None:
    rows = [{"name": one.name, "decisions": one.decisions} for one in counted]
    if rows:
        click.echo(title)
        show(rows, ("name", "decisions"), json_wanted=False)


def _share(share: Share) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "0"
    return f"{share.hits} ({share.value:.1%}; {share.low:.1%} to {share.high:.1%})"
