"""`gateway log pseudonym`: the pseudonym of a patient's, study's or user's number, to search by."""

from __future__ import annotations

import os
import sys
from typing import Any, Literal

import click

from gateway.cli.keys import _with_store
from gateway.cli.output import settings_options
from gateway.records import Caller


@click.command("pseudonym")
@click.argument("of", type=click.Choice(["patient", "study", "user"]))
@click.option("--why", default=None, help="The reason, for the record of this look-up.")
@settings_options("data_dir", "database_url")
def pseudonym(of: Literal["patient", "study", "user"], why: str | None, **flags: Any) -> None:
    """Give the pseudonym of a number, which is read from the terminal or standard input; it is recorded."""
    from gateway.store.lookup import look_up

    # No argument: those of a process can be read by everybody on the machine, and stay in the shell's history.
    number = click.prompt(f"number of the {of}", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    account = Caller(key=f"os-account:{os.getuid()}", department="*", roles=("officer", "operator"), via="os")

    async def work(store: Any) -> str:
        return await look_up(
            store.decisions, of, number.rstrip("\r\n"), caller=account, endpoint="gateway log pseudonym", why=why
        )

    click.echo(_with_store(flags, work))
