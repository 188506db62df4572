"""`gateway keys`: create, list, revoke."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from gateway.cli.output import as_json, settings_options, show
from gateway.errors import ConfigurationError
from gateway.settings import read_settings

ROLES = ("caller", "operator", "platform", "officer", "auditor", "admin")
_T = TypeVar("_T")


def _with_store(flags: dict[str, Any], work: Callable[[Any], Awaitable[_T]]) -> _T:
    from gateway.store import Store, load_secret

    settings = read_settings(**flags)
    settings.data_dir.mkdir(parents=True, exist_ok=True)

    async def run() -> _T:
        store = await Store.open(settings.database_url, secret=load_secret(settings.data_dir, settings.secret))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


@click.group()
def keys() -> None:
    """API keys: each is bound to a department and to roles, and shown once."""


@keys.command()
@click.option("--department", required=True, help="Whose policy decides for this key.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), default=("caller",), show_default=True)
@click.option("--label", default="", help="A note for the list of keys.")
@click.option("--quiet", is_flag=True, help="Print the key and nothing else.")
@as_json
@settings_options("data_dir", "database_url", "policies_dir")
def create(department: str, roles: tuple[str, ...], label: str, quiet: bool, as_json: bool, **flags: Any) -> None:
    """Create a key and show it: only a keyed hash of it is stored."""
    policies = read_settings(**flags).policies_dir
    if policies.is_dir() and not (policies / f"{department}.yaml").is_file():
        known = ", ".join(sorted(p.stem for p in policies.glob("*.yaml"))) or "none"
        raise ConfigurationError(f"no policy for department `{department}` in {policies}; there are: {known}")

    async def work(store: Any) -> tuple[Any, str]:
        made: tuple[Any, str] = await store.keys.create(department, tuple(dict.fromkeys(roles)), label=label)
        return made

    key, secret = _with_store(flags, work)
    if as_json:
        click.echo(json.dumps({"id": key.id, "department": department, "roles": list(key.roles), "key": secret}))
    elif quiet:
        click.echo(secret)
    else:
        click.echo(f"key {key.id} for {department}, roles {', '.join(key.roles)}; it is shown once:\n\n    {secret}\n")


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
            "label": key.label,
            "created": str(key.created_at),
            "revoked": str(key.revoked_at) if key.revoked_at else None,
        }
        for key in _with_store(flags, work)
    ]
    show(rows, ("id", "department", "roles", "label", "created", "revoked"), json_wanted=as_json)


@keys.command()
@click.argument("key_id")
@settings_options("data_dir", "database_url")
def revoke(key_id: str, **flags: Any) -> None:
    """Revoke a key, by its id: the next request with it gets 401."""

    async def work(store: Any) -> bool:
        return bool(await store.keys.revoke(key_id))

    if not _with_store(flags, work):
        raise click.ClickException(f"no key `{key_id}` that is not revoked yet; see `gateway keys list`")
    click.echo(f"key {key_id} is revoked")
