"""`gateway log list`, `search`, `facets` and `reindex`: find records of the log, and make its index again."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import Any

import click

from gateway.cli.keys import _with_store
from gateway.cli.output import as_json, settings_options, show
from gateway.errors import Unavailable
from gateway.records import ALL, Caller, CallerV1, ChangeV1, new_id

_COLUMNS = ("id", "at", "department", "outcome", "ms")
_FOUND = (
    "id",
    "at",
    "kind",
    "department",
    "outcome",
    "rule",
    "reason",
    "policy",
    "revision",
    "person",
    "action",
    "why",
)


def account() -> Caller:
    """Tell who acts at the command line: the account of the operating system, since no API key is used."""
    return Caller(key=f"os-account:{os.getuid()}", department=ALL, roles=("officer", "operator"), via="os")


def _pairs(fields: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = []
    for field in fields:
        name, sign, value = field.partition("=")
        if not sign:
            raise click.BadParameter(f"`{field}`: expected `field=value`", param_hint="FIELD=VALUE")
        pairs.append((name, value))
    return pairs


async def caught_up(store: Any) -> None:
    """Give the latest records their places, so that they are found; without, the search says up to where it goes."""
    try:
        await store.sequencer.catch_up()
    except Unavailable as exc:
        click.echo(f"warning: the latest records may be missing: {exc.message}", err=True)


@click.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--department", default=None)
@as_json
@settings_options("data_dir", "database_url")
def list_(limit: int, department: str | None, as_json: bool, **flags: Any) -> None:
    """List the latest decisions."""
    from gateway.store import parse_filter
    from gateway.store.search_summary import summary

    asked = [("kind", "decision.v1")] + ([("department", department)] if department is not None else [])
    filter_, viewer = parse_filter(asked), account()

    async def work(store: Any) -> Any:
        await caught_up(store)
        return await store.office.search(filter_, viewer, "gateway log list", limit=limit)

    page = _with_store(flags, work)
    rows = [summary(row, viewer) for row in page.rows]
    rows = [{**row, "ms": round(row["ms"], 1)} for row in rows]
    if as_json:
        rows = [{name: row[name] for name in _COLUMNS} for row in rows]
    show(rows, _COLUMNS, json_wanted=as_json)


@click.command("search")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", default=None, help="The `next` of the page before.")
@click.option("--why", default=None, help="Why the records are looked at; it is recorded.")
@click.option("--json", "as_json", is_flag=True, help="Print a page as JSON, with its `next` and the total.")
@settings_options("data_dir", "database_url")
def search(
    fields: tuple[str, ...], limit: int, cursor: str | None, why: str | None, as_json: bool, **flags: Any
) -> None:
    """Find records, newest first, such as `outcome=refused since=7d department=radiology`.

    A field that is repeated means any of its values. Without a kind they are decisions; `kind=*` is every record, and
    `subject=dec_…` finds what was done about a decision: who read it, who reviewed it. The search is itself recorded.
    """
    from gateway.store import parse_filter
    from gateway.store.search_summary import summary

    filter_, viewer = parse_filter(_pairs(fields)).of_decisions(), account()

    async def work(store: Any) -> Any:
        await caught_up(store)
        return await store.office.search(
            filter_, viewer, "gateway log search", limit=limit, cursor=cursor, why=why, counted=cursor is None
        )

    page = _with_store(flags, work)
    rows = [summary(row, viewer, filter_.subject) for row in page.rows]
    if as_json:
        total = None if page.tally is None else {"records": page.tally.total, "exact": page.tally.exact}
        click.echo(json.dumps({"records": rows, "next": page.next, "total": total}, ensure_ascii=False, indent=2))
        return
    given = [name for name in _FOUND if name in ("id", "at") or any(row.get(name) is not None for row in rows)]
    show(rows, given, json_wanted=False)
    if page.tally is not None:
        click.echo(f"{len(rows)} of {'' if page.tally.exact else 'more than '}{page.tally.total} records")
    if page.next is not None:
        click.echo(f"older ones: --cursor {page.next}")


@click.command("facets")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--by", default="outcome,rule,reason", show_default=True, help="Fields, joined by commas.")
@click.option("--why", default=None, help="Why the records are counted; it is recorded.")
@as_json
@settings_options("data_dir", "database_url")
def facets(fields: tuple[str, ...], by: str, why: str | None, as_json: bool, **flags: Any) -> None:
    """Count the records that meet a filter, by the values of fields. The question is itself recorded."""
    from gateway.store import parse_filter

    filter_ = parse_filter(_pairs(fields)).of_decisions()
    names = tuple(name.strip() for name in by.split(",") if name.strip())

    async def work(store: Any) -> Any:
        await caught_up(store)
        return await store.office.tally(filter_, account(), "gateway log facets", names, why)

    tally = _with_store(flags, work)
    rows = [
        {"field": name, "value": value, "records": count}
        for name, values in tally.facets.items()
        for value, count in values
    ]
    show(rows, ("field", "value", "records"), json_wanted=as_json)
    if not as_json:
        click.echo(f"{'' if tally.exact else 'more than '}{tally.total} records")


@click.command("reindex")
@settings_options("data_dir", "database_url")
def reindex_command(**flags: Any) -> None:
    """Make the index of the log again, from its records. Stop the gateway first. It is itself recorded."""
    from tqdm import tqdm

    async def work(store: Any) -> Any:
        await store.decisions.append_event(
            ChangeV1(
                id=new_id("chg"),
                at=dt.datetime.now(dt.UTC),
                caller=CallerV1.of(account()),
                what="reindexed",
                subject="index",
                before=None,
                after=None,
                reason=None,
            )
        )
        with tqdm(total=await store.tree.size(), unit="record", disable=None, leave=False) as bar:
            return await store.search.reindex(bar.update)

    click.echo(f"{_with_store(flags, work)} records are in the index, made again from the log")


COMMANDS = (list_, search, facets, reindex_command)
