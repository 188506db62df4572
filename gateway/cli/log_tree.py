"""`gateway log verify`, `prove`, `checkpoint`, `rotate-key` and `verifier`: the log's tree and its signatures."""

from __future__ import annotations

import datetime as dt
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from gateway.cli.keys import _with_store
from gateway.cli.output import settings_options
from gateway.errors import ConfigurationError, Unavailable
from gateway.records import AccessV1, Caller
from gateway.records.note import parse_vkey
from gateway.settings import read_settings


def _account() -> Caller:
    """Tell who acts at the command line: the account of the operating system, since no API key is used."""
    return Caller(key=f"os-account:{os.getuid()}", department="*", roles=("officer", "operator"), via="os")


def _access(command: str, ids: tuple[str, ...] = ()) -> AccessV1:
    now = dt.datetime.now(dt.UTC)
    return AccessV1.of(caller=_account(), endpoint=f"gateway log {command}", decisions=ids, at=now, action="verify")


def _vkey(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    del ctx, option
    try:
        return tuple(parse_vkey(value).vkey for value in values)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


@click.command("verify")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--trust", multiple=True, callback=_vkey, metavar="VKEY", help="A public key of the log that you know.")
@click.option(
    "--checkpoints",
    "copies",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A file or folder of copies of checkpoints; those of this gateway's own sinks are always compared.",
)
@click.option("--deep", is_flag=True, help="Parse records in full, read sealed content, and derive the index again.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Processes [one a core].")
@settings_options("data_dir", "database_url")
def verify(
    as_json: bool, trust: tuple[str, ...], copies: tuple[Path, ...], deep: bool, jobs: int | None, **flags: Any
) -> None:
    """Derive the log's tree, signatures and order again, and name the first record that is not as it was signed."""
    from tqdm import tqdm

    from gateway.store import CheckReport, LogSigner, VerifyOptions, copies_of

    settings = read_settings(**flags)
    own = (settings.data_dir / "checkpoints", *copies_of(settings.checkpoint_sinks))
    wanted = VerifyOptions(trusted=trust, copies=(*copies, *(one for one in own if one.exists())), deep=deep, jobs=jobs)

    async def work(store: Any) -> tuple[CheckReport, LogSigner | None]:
        try:
            await store.decisions.append_event(_access("verify"))
        except Unavailable as exc:
            click.echo(f"note: this verification could not be recorded: {exc}", err=True)
        with tqdm(unit="record", disable=True if as_json else None, leave=False) as bar:
            try:
                bar.total = await store.decisions.count() * (2 if deep else 1)  # the index is gone through after it
            except Unavailable:
                bar.total = None
            return await store.decisions.check(bar.update, wanted=wanted), store.signer

    try:
        report, signer = _with_store(flags, work, must_sign=False)
    except ConfigurationError as exc:
        if not any(word in str(exc) for word in ("damaged", "no SQLite database", "log_keys")):
            raise
        report, signer = CheckReport(records=0, problem=str(exc)), None
    remarks = report.remarks
    if signer is not None and signer.other:  # a history that was rewritten with a new key shows here as well
        told = f"the database names another key than this machine has: {signer.trouble}"
        report = replace(
            report, problem=report.problem or told, more=(*report.more, *([told] if report.problem else []))
        )
    elif signer is not None and signer.trouble is not None:
        remarks = (*remarks, f"this machine can not sign: {signer.trouble}")
    if as_json:
        said = {**msgspec.to_builtins(report), "remarks": remarks, "ok": report.ok}
        click.echo(json.dumps(said, ensure_ascii=False))
    else:
        for problem in (report.problem, *report.more):
            if problem is not None:
                click.echo(f"error: {problem}", err=True)
        for remark in remarks:
            click.echo(f"note: {remark}", err=True)
        if report.ok:
            click.echo(
                f"{report.records} records, each as it was written: {report.size} in the tree under "
                f"{report.checkpoints} signed checkpoints, {report.waiting} waiting for the next; "
                f"{report.copies} copies of checkpoints agree"
            )
    if not report.ok:
        raise SystemExit(1)


@click.command("prove")
@click.argument("record_id")
@click.option("--json", "as_json", is_flag=True, help="Print the proof as JSON, for `gateway log verifier`'s script.")
@settings_options("data_dir", "database_url")
def prove(record_id: str, as_json: bool, **flags: Any) -> None:
    """Prove that the log holds a record: its leaf hash, its place, and the path to a signed root."""

    async def work(store: Any) -> Any:
        await store.decisions.append_event(_access("prove", (record_id,)))
        if store.signer.trouble is None:
            await store.sequencer.catch_up()
        return await store.tree.prove(record_id)

    proof = _with_store(flags, work, must_sign=False)
    if proof is None:
        raise click.ClickException(f"the tree holds no record `{record_id}`; is --data-dir the gateway's?")
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(proof), ensure_ascii=False))
        return
    click.echo(f"record  {proof.id}\nleaf    {proof.leaf}\nplace   {proof.position} of {proof.size}\npath")
    for one in proof.path:
        click.echo(f"        {one}")
    click.echo(f"\n{proof.checkpoint}")
    for key in proof.keys:
        click.echo(f"key     {key.vkey}")


@click.command("checkpoint")
@settings_options("data_dir", "database_url")
def checkpoint(**flags: Any) -> None:
    """Sign what is in the log now, and print the checkpoint: keep it where nobody of here can write."""

    async def work(store: Any) -> Any:
        await store.sequencer.catch_up()
        return await store.tree.checkpoint()

    found = _with_store(flags, work)
    if found is None:
        raise click.ClickException("the log is empty, so there is no checkpoint")
    click.echo(found.note, nl=False)


@click.command("rotate-key")
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.option("--lost-key", is_flag=True, help="The old key is gone and can not sign who follows it.")
@settings_options("data_dir", "database_url")
def rotate_key(reason: str, lost_key: bool, **flags: Any) -> None:
    """Sign with a new key from now on; the old one signs that, and is destroyed."""

    async def work(store: Any) -> Any:
        return await store.handover.rotate(by=_account(), reason=reason, lost=lost_key)

    made = _with_store(flags, work, must_sign=not lost_key)
    click.echo(
        f"the log's key {made.number} signs what comes after its first {made.size} records:\n\n    {made.vkey}\n"
    )


@click.command("verifier")
def verifier() -> None:
    """Print a script that verifies an export or a proof offline, with Python and `cryptography` alone."""
    click.echo(resources.files("gateway.store").joinpath("verify_export.py").read_text(encoding="utf-8"), nl=False)


COMMANDS = (verify, prove, checkpoint, rotate_key, verifier)
