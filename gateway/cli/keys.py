"""`gateway keys`: create, list, rotate, revoke."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from gateway.cli.output import as_json, settings_options, show
from gateway.errors import ConfigurationError
from gateway.settings import read_settings

ROLES = ("caller", "operator", "platform", "officer", "auditor", "admin")
SCOPES = (
    *("ask", "read", "search", "reveal", "export", "verify", "review", "hold", "erase", "figures", "keys"),
    "break-glass",
)
_T = TypeVar("_T")


def _with_store(flags: dict[str, Any], work: Callable[[Any], Awaitable[_T]], *, must_sign: bool = True) -> _T:
    from gateway.opening import open_store

    settings = read_settings(**flags)

    async def run() -> _T:
        store = await open_store(settings, must_sign=must_sign)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _account() -> Any:
    """Tell who changes keys at the command line: the account of the operating system."""
    from gateway.records import Caller

    return Caller(key=f"os-account:{os.getuid()}", department="*", roles=("officer", "operator"), via="os")


def _span(ctx: click.Context, param: click.Parameter, value: str | None) -> dt.timedelta | None:
    """Read a span of time, such as ``90d``; ``0`` is none."""
    from gateway.policy.model import Duration

    if value is None:
        return None
    if value.strip() in ("0", "0s"):
        return dt.timedelta(0)
    try:
        return dt.timedelta(seconds=Duration.parse(value).seconds)
    except (ValueError, OverflowError):
        told = f"`{value}` is no duration; give one such as `90d`, `24h` or `30m`"
        raise click.BadParameter(told, ctx, param) from None


_REASON = click.option("--reason", default=None, help="Why, for the log.")


@click.group()
def keys() -> None:
    """API keys: each is bound to a department and to roles, and shown once."""


@keys.command()
@click.option("--department", required=True, help="Whose policy decides for this key; `*` for roles that ask no model.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), default=("caller",), show_default=True)
@click.option("--label", default="", help="A note for the list of keys.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="Narrow what the roles allow.")
@click.option("--expires", callback=_span, default=None, help="For how long the key works, such as 90d.")
@click.option("--person", default=None, help="Whose key it is.")
@click.option("--application", default=None, help="Which application uses it.")
@click.option("--per-minute", type=click.IntRange(1), default=None, help="Its requests a minute [GATEWAY_LIMIT_KEY].")
@click.option("--per-day", type=click.IntRange(1), default=None, help="Its requests a day [GATEWAY_LIMIT_KEY].")
@_REASON
@click.option("--quiet", is_flag=True, help="Print the key and nothing else.")
@as_json
@settings_options("data_dir", "database_url", "policies_dir")
def create(
    department: str,
    roles: tuple[str, ...],
    label: str,
    scopes: tuple[str, ...],
    expires: dt.timedelta | None,
    person: str | None,
    application: str | None,
    per_minute: int | None,
    per_day: int | None,
    reason: str | None,
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Create a key and show it: only a keyed hash of it is stored."""
    policies = read_settings(**flags).policies_dir
    if department != "*" and policies.is_dir() and not (policies / f"{department}.yaml").is_file():
        known = ", ".join(sorted(p.stem for p in policies.glob("*.yaml"))) or "none"
        raise ConfigurationError(f"no policy for department `{department}` in {policies}; there are: {known}")

    async def work(store: Any) -> tuple[Any, str]:
        made: tuple[Any, str] = await store.keys.create(
            department,
            tuple(dict.fromkeys(roles)),
            label=label,
            scopes=scopes,
            lasts=expires,
            person=person,
            application=application,
            per_minute=per_minute,
            per_day=per_day,
            by=_account(),
            why=reason,
        )
        return made

    key, secret = _with_store(flags, work)
    what = f"key {key.id} for {department}, roles {', '.join(key.roles)}"
    _tell(key, secret, what, quiet=quiet, as_json=as_json)


@keys.command("list")
@as_json
@settings_options("data_dir", "database_url")
def list_(as_json: bool, **flags: Any) -> None:
    """List the keys (never their secrets)."""

    async def work(store: Any) -> Any:
        return await store.keys.list()

    rows = [
        {
            "id": key.id,
            "department": key.department,
            "roles": list(key.roles),
            "scopes": list(key.scopes),
            "label": key.label,
            "person": key.person,
            "application": key.application,
            "created": _time(key.created_at),
            "expires": _time(key.expires_at),
            "last_used": _time(key.last_used_at),
            "old_until": _time(key.old_until),
            "revoked": _time(key.revoked_at),
            "per_minute": key.per_minute,
            "per_day": key.per_day,
        }
        for key in _with_store(flags, work)
    ]
    columns = ("id", "department", "roles", "scopes", "label", "person", "expires", "last_used", "revoked")
    show(rows, columns, json_wanted=as_json)


@keys.command()
@click.argument("key_id")
@click.option(
    "--overlap",
    callback=_span,
    default="24h",
    show_default=True,
    help="For how long the secret of before works on, at most 30d; 0 ends every older secret at once.",
)
@click.option("--expires", callback=_span, default=None, help="Let the key end that long from now, such as 90d.")
@_REASON
@click.option("--quiet", is_flag=True, help="Print the key and nothing else.")
@as_json
@settings_options("data_dir", "database_url")
def rotate(
    key_id: str,
    overlap: dt.timedelta,
    expires: dt.timedelta | None,
    reason: str | None,
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Give a key a new secret under the same id, and show it; the one before works on for the overlap."""

    async def work(store: Any) -> tuple[Any, str]:
        made: tuple[Any, str] = await store.keys.rotate(key_id, overlap, lasts=expires, by=_account(), why=reason)
        return made

    key, secret = _with_store(flags, work)
    before = f"works until {_time(key.old_until)}" if key.old_until else "has ended"
    what = f"the secret of before {before}; new secret of key {key.id}"
    _tell(key, secret, what, quiet=quiet, as_json=as_json)


@keys.command()
@click.argument("key_id")
@_REASON
@settings_options("data_dir", "database_url")
def revoke(key_id: str, reason: str | None, **flags: Any) -> None:
    """Revoke a key, by its id: the next request with it gets 401."""

    async def work(store: Any) -> bool:
        return bool(await store.keys.revoke(key_id, by=_account(), why=reason))

    if not _with_store(flags, work):
        raise click.ClickException(f"no key `{key_id}` that is not revoked yet; see `gateway keys list`")
    click.echo(f"key {key_id} is revoked")


def _tell(key: Any, secret: str, what: str, *, quiet: bool, as_json: bool) -> None:
    """Show a secret, once."""
    if as_json:
        fields = {
            "id": key.id,
            "department": key.department,
            "roles": list(key.roles),
            "scopes": list(key.scopes),
            "expires": _time(key.expires_at),
            "old_until": _time(key.old_until),
            "key": secret,
        }
        click.echo(json.dumps(fields))
    elif quiet:
        click.echo(secret)
    else:
        ends = f", good until {_time(key.expires_at)}" if key.expires_at else ""
        click.echo(f"{what}{ends}; it is shown once:\n\n    {secret}\n")


def _time(at: dt.datetime | None) -> str | None:
    return None if at is None else at.isoformat(sep=" ", timespec="seconds")
