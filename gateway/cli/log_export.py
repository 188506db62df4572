"""`gateway log export`: take records away, in a folder or zip file that verifies without the gateway."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from gateway.cli.keys import _with_store
from gateway.cli.output import settings_options
from gateway.records import ALL, Caller


@click.command("export")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder, or a new file `NAME.zip`.")
@click.option(
    "--format",
    "formats",
    default="ndjson",
    show_default=True,
    help="Some of ndjson, csv, parquet, fhir (R4), fhir-r5 and dicom, joined by commas.",
)
@click.option(
    "--redaction",
    default="full",
    show_default=True,
    help="full: the records as they are; pseudonymous: without names and reasons.",
)
@click.option("--why", required=True, help="Why the records are taken away; it is recorded.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@settings_options("data_dir", "database_url")
def export(
    fields: tuple[str, ...], out: Path, formats: str, redaction: str, why: str, as_json: bool, **flags: Any
) -> None:
    """Export the records that meet a filter, such as `outcome=refused since=7d department=radiology`.

    Without a kind they are decisions; `kind=*` is every record. The export is itself recorded, before it is made. Check
    it anywhere with `python verify_export.py`, which lies in it.
    """
    from tqdm import tqdm

    from gateway.store.exports import wanted
    from gateway.store.filters import parse_filter

    pairs = [_pair(field) for field in fields]
    kinds = [one.strip() for one in formats.split(",") if one.strip()]
    what = wanted(parse_filter(pairs), kinds, redaction, why)
    caller = Caller(
        key=f"os-account:{os.getuid()}", department=ALL, roles=("officer", "operator"), person=None, via="os"
    )

    async def work(store: Any) -> Any:
        with tqdm(unit="record", disable=None, leave=False) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            return await store.exports.make(out, what, caller, "gateway log export", progress=progress)

    made = _with_store(flags, work)
    if as_json:
        click.echo(json.dumps({"path": str(made.path), "records": made.rows, "access": made.access}))
    else:
        click.echo(f"{made.rows} records in {made.path}; recorded as {made.access}")


def _pair(field: str) -> tuple[str, str]:
    name, sign, value = field.partition("=")
    if not sign:
        raise click.BadParameter(f"`{field}`: expected `field=value`", param_hint="FIELD=VALUE")
    return name, value
