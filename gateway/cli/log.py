"""`gateway log`: explain a decision, search the log, check it."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.keys import _with_store
from gateway.cli.log_export import export
from gateway.cli.log_pseudonym import pseudonym
from gateway.cli.log_search import COMMANDS as SEARCH_COMMANDS
from gateway.cli.log_search import account, caught_up
from gateway.cli.log_tree import COMMANDS
from gateway.cli.output import settings_options
from gateway.records import explain


@click.group()
def log() -> None:
    """The decision log. Reading it is itself recorded."""


@log.command("explain")
@click.argument("decision_id")
@click.option("--why", default=None, help="Why the record is looked at; it is recorded.")
@click.option("--json", "as_json", is_flag=True, help="Print the record itself.")
@settings_options("data_dir", "database_url")
def explain_command(decision_id: str, why: str | None, as_json: bool, **flags: Any) -> None:
    """Tell a decision in plain words: what each stage said, what the policy did, and why.

    Of a stream that was opened and never closed, the record of its opening is told.
    """

    async def work(store: Any) -> Any:
        if await store.decisions.get(decision_id) is None:
            await caught_up(store)
        found = await store.office.read(decision_id, account(), "gateway log explain", why, opened=True)
        return found, None if found is None else await store.office.closed(found.record)

    stored, closed = _with_store(flags, work)
    if stored is None:
        raise click.ClickException(f"no decision `{decision_id}` in this log; is --data-dir the gateway's?")
    click.echo(stored.bytes.decode() if as_json else explain(stored.record, closed=closed))


log.add_command(export)
log.add_command(pseudonym)
for _command in (*COMMANDS, *SEARCH_COMMANDS):
    log.add_command(_command)
