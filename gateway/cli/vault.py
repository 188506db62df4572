"""`gateway vault`, `gateway holds`, `gateway retention`: sealed content, what keeps it, and what erases it."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import Any

import click

from gateway.cli.keys import _with_store
from gateway.cli.output import as_json, settings_options, show
from gateway.records import ALL, Caller
from gateway.records.events import HoldV1
from gateway.records.holds import Hold

_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
_reason = click.option("--reason", required=True, help="Why; it stands in the log.")


def _officer() -> Caller:
    """Tell who acts at the command line: the account of the operating system, since no API key is used."""
    return Caller(key=f"os-account:{os.getuid()}", department=ALL, roles=("officer", "operator"), via="os")


@click.group()
def vault() -> None:
    """Sealed content and the keys that wrap its keys."""


@vault.command("keys")
@as_json
@settings_options("data_dir", "database_url")
def keys(as_json: bool, **flags: Any) -> None:
    """List the key-encryption keys: how much content each wraps, and whether it is here."""

    async def work(store: Any) -> Any:
        return await store.vault.keys()

    rows = [
        {"key": use.kek, "wraps": use.count, "here": use.here, "current": use.current}
        for use in _with_store(flags, work)
    ]
    show(rows, ("key", "wraps", "here", "current"), json_wanted=as_json)


@vault.command("rotate-key")
@click.option("--resume", is_flag=True, help="Make no new key; wrap what an earlier rotation left.")
@settings_options("data_dir", "database_url")
def rotate_key(resume: bool, **flags: Any) -> None:
    """Make a new key-encryption key, and wrap every key of content with it; the gateway may go on running.

    Where the keys are given from outside, put the new key first there before: this wraps with it.
    """
    from tqdm import tqdm

    async def work(store: Any) -> Any:
        total = sum(use.count for use in await store.vault.keys() if not (resume and use.current))
        with tqdm(total=total, unit="key", disable=None, leave=False) as bar:
            return await store.vault.rotate_key(_officer(), bar.update, resume=resume)

    done = _with_store(flags, work)
    click.echo(f"{done.wrapped} keys of content are wrapped with {done.kek} now")
    for kek, count in done.left.items():
        click.echo(f"error: {count} keys of content could not be opened with {kek}; restore that key", err=True)
    if done.left:
        raise SystemExit(1)


@vault.command("drop-key")
@click.argument("key")
@click.confirmation_option(prompt="What the key wrapped, in old copies of the database too, opens no more. Drop it?")
@settings_options("data_dir", "database_url")
def drop_key(key: str, **flags: Any) -> None:
    """Destroy a key-encryption key that wraps nothing any more."""

    async def work(store: Any) -> None:
        await store.vault.drop_key(key, _officer())

    _with_store(flags, work)
    click.echo(f"the key {key} is gone")


@vault.command("reveal")
@click.argument("decision_id")
@_reason
@settings_options("data_dir", "database_url")
def reveal(decision_id: str, reason: str, **flags: Any) -> None:
    """Print the content of a decision as JSON; that it was looked at, and why, is recorded first."""
    import msgspec

    from gateway.records.sealing import plainly

    async def work(store: Any) -> Any:
        return await store.vault.reveal(decision_id, _officer(), "gateway vault reveal", reason, 1)

    click.echo(msgspec.json.encode(plainly(_with_store(flags, work).content)).decode())


@vault.command("erase")
@click.argument("decision_ids", nargs=-1, required=True)
@_reason
@click.confirmation_option(prompt="The content can not be brought back. Erase it?")
@settings_options("data_dir", "database_url")
def erase(decision_ids: tuple[str, ...], reason: str, **flags: Any) -> None:
    """Erase the content of decisions; their records stay."""

    async def work(store: Any) -> Any:
        return await store.retention.erase(decision_ids, _officer(), reason)

    done = _with_store(flags, work)
    click.echo(f"{len(done.decisions)} erased ({done.erasure or 'nothing was left'}), {len(done.already)} were before")


@click.group()
def holds() -> None:
    """Legal holds: what they cover is not erased, until two people have released them."""


@holds.command("list")
@click.option("--released", is_flag=True, help="Also those that are released.")
@as_json
@settings_options("data_dir", "database_url")
def list_(released: bool, as_json: bool, **flags: Any) -> None:
    """List the holds, oldest first."""

    async def work(store: Any) -> Any:
        return await store.holds.list(_officer(), "gateway holds list", released=released)

    columns = ("id", "state", "covers", "placed", "by", "reason")
    show([_row(hold) for hold in _with_store(flags, work)], columns, json_wanted=as_json)


@holds.command("place")
@_reason
@click.option("--decision", "decisions", multiple=True, help="A decision, by its id.")
@click.option("--department", help="All of a department.")
@click.option("--patient", help="All of a patient, by the number; only its pseudonym is kept.")
@click.option("--since", type=_TIME, help="From a time on, UTC.")
@click.option("--until", type=_TIME, help="Before a time, UTC.")
@settings_options("data_dir", "database_url")
def place(
    reason: str,
    decisions: tuple[str, ...],
    department: str | None,
    patient: str | None,
    since: dt.datetime | None,
    until: dt.datetime | None,
    **flags: Any,
) -> None:
    """Place a hold on what meets all that is given."""

    async def work(store: Any) -> Any:
        return await store.holds.place(
            _officer(),
            reason,
            decisions=decisions,
            department=department,
            patient=None if patient is None else store.decisions.pseudonym("patient", patient),
            since=None if since is None else since.replace(tzinfo=dt.UTC),
            until=None if until is None else until.replace(tzinfo=dt.UTC),
        )

    click.echo(f"{_with_store(flags, work).id} holds from now on")


@holds.command("request-release")
@click.argument("hold_id")
@_reason
@settings_options("data_dir", "database_url")
def request_release(hold_id: str, reason: str, **flags: Any) -> None:
    """Ask that a hold be released; another person does it."""

    async def work(store: Any) -> Any:
        return await store.holds.request_release(hold_id, _officer(), reason)

    _with_store(flags, work)
    click.echo(f"the release of {hold_id} is requested; another person releases it with `gateway holds release`")


@holds.command("release")
@click.argument("hold_id")
@_reason
@settings_options("data_dir", "database_url")
def release(hold_id: str, reason: str, **flags: Any) -> None:
    """Release a hold whose release another person has requested."""

    async def work(store: Any) -> Any:
        return await store.holds.release(hold_id, _officer(), reason)

    _with_store(flags, work)
    click.echo(f"{hold_id} is released")


@click.group()
def retention() -> None:
    """How long sealed content is kept."""


@retention.command("run")
@click.option("--again", is_flag=True, help="Look at every erasure on record once more, after a restore.")
@click.option("--json", "json_wanted", is_flag=True, help="Print the result as JSON.")
@settings_options("data_dir", "database_url")
def run(again: bool, json_wanted: bool, **flags: Any) -> None:
    """Erase content whose time is over and that no legal hold covers; `gateway worker --beat` does it each night."""
    from tqdm import tqdm

    async def work(store: Any) -> Any:
        now = dt.datetime.now(dt.UTC)
        with tqdm(total=await store.retention.due(now), unit="decision", disable=None, leave=False) as bar:
            return await store.retention.run(now, _officer(), bar.update, again=again)

    done = _with_store(flags, work)
    if json_wanted:
        click.echo(json.dumps({"erased": done.erased, "held": done.held, "finished": done.finished}))
    else:
        click.echo(f"{done.erased} erased, {done.held} kept by a legal hold, {done.finished} finished")


def _row(hold: Hold) -> dict[str, Any]:
    scope = hold.scope
    words = (("department", scope.department), ("patient", scope.patient))
    times = (("since", scope.since), ("until", scope.until))
    covers = [
        *(f"decision {decision}" for decision in scope.decisions),
        *(f"{name} {value}" for name, value in words if value),
        *(f"{name} {value:%Y-%m-%dT%H:%M:%SZ}" for name, value in times if value),
    ]
    placed: HoldV1 = hold.placed
    return {
        "id": hold.id,
        "state": hold.state,
        "covers": covers,
        "placed": f"{placed.at:%Y-%m-%d %H:%M}",
        "by": placed.caller.person or placed.caller.key,
        "reason": placed.reason,
    }
