"""`gateway log`: explain a decision, list the latest, check the log."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import Any

import click

from gateway.cli.keys import _with_store
from gateway.cli.output import as_json, settings_options, show
from gateway.records import AccessV1, Caller, DecisionV1, explain


def _officer() -> Caller:
    """Tell who reads at the command line: the account of the operating system, since no API key is used."""
    return Caller(key=f"os-account:{os.getuid()}", department="*", roles=("operator",))


@click.group()
def log() -> None:
    """The decision log. Reading it is itself recorded."""


@log.command("explain")
@click.argument("decision_id")
@click.option("--json", "as_json", is_flag=True, help="Print the record itself.")
@settings_options("data_dir", "database_url")
def explain_command(decision_id: str, as_json: bool, **flags: Any) -> None:
    """Tell a decision in plain words: what each stage said, what the policy did, and why."""

    async def work(store: Any) -> Any:
        stored = await store.decisions.get(decision_id)
        if stored is not None:
            now = dt.datetime.now(dt.UTC)
            access = AccessV1.of(caller=_officer(), endpoint="gateway log explain", decisions=(decision_id,), at=now)
            await store.decisions.append_event(access)
        return stored

    stored = _with_store(flags, work)
    if stored is None or not isinstance(stored.record, DecisionV1):
        raise click.ClickException(f"no decision `{decision_id}` in this log; is --data-dir the gateway's?")
    click.echo(stored.bytes.decode() if as_json else explain(stored.record))


@log.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--department", default=None)
@as_json
@settings_options("data_dir", "database_url")
def list_(limit: int, department: str | None, as_json: bool, **flags: Any) -> None:
    """List the latest decisions."""

    async def work(store: Any) -> Any:
        rows = await store.decisions.recent(limit, department)
        now = dt.datetime.now(dt.UTC)
        ids = tuple(row.id for row in rows)
        access = AccessV1.of(caller=_officer(), endpoint="gateway log list", decisions=ids, at=now)
        await store.decisions.append_event(access)
        return rows

    rows = [
        {
            "id": row.id,
            "at": row.record.at,
            "department": row.record.department,
            "outcome": row.record.outcome,
            "ms": round(row.record.ms, 1),
        }
        for row in _with_store(flags, work)
        if isinstance(row.record, DecisionV1)
    ]
    show(rows, ("id", "at", "department", "outcome", "ms"), json_wanted=as_json)


@log.command("verify")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@settings_options("data_dir", "database_url")
def verify(as_json: bool, **flags: Any) -> None:
    """Read the whole log and check every record against its leaf hash; name the first that does not hold."""
    from tqdm import tqdm

    async def work(store: Any) -> Any:
        with tqdm(total=await store.decisions.count(), unit="record", disable=None, leave=False) as bar:
            return await store.decisions.check(bar.update)

    report = _with_store(flags, work)
    if as_json:
        click.echo(json.dumps({"records": report.records, "problem": report.problem}))
    elif report.problem is None:
        click.echo(f"{report.records} records, each as it was written")
    else:
        click.echo(f"error: {report.problem}", err=True)
    if report.problem is not None:
        raise SystemExit(1)
