"""The command line: `gateway serve`, `demo`, `evaluate`, `policy`, `plugins`, `keys`, `log`, `worker`, `migrate`."""

from __future__ import annotations

import importlib
from typing import Any

import click

from gateway import __version__
from gateway.errors import GatewayError

_COMMANDS = {
    "demo": "gateway.cli.demo:demo",
    "evaluate": "gateway.cli.evaluate:evaluate",
    "holds": "gateway.cli.vault:holds",
    "keys": "gateway.cli.keys:keys",
    "log": "gateway.cli.log:log",
    "migrate": "gateway.cli.serve:migrate_command",
    "plugins": "gateway.cli.plugins:plugins",
    "policy": "gateway.cli.policy:policy",
    "reviews": "gateway.cli.reviews:reviews",
    "retention": "gateway.cli.vault:retention",
    "serve": "gateway.cli.serve:serve",
    "vault": "gateway.cli.vault:vault",
    "worker": "gateway.cli.worker:worker",
}


class _Lazy(click.Group):
    """Imports a command's module only when it is called, so that no command waits for another's libraries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        del ctx
        place = _COMMANDS.get(name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GatewayError as exc:
            lines = str(exc).splitlines() or [type(exc).__name__]
            for line in lines:
                click.echo(f"error: {line}", err=True)
            if len(lines) > 1:
                click.echo(f"{len(lines)} problems; nothing was started", err=True)
            ctx.exit(2)


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Med-VLM Safety Gateway: evidence from plugins, decisions from policies, a record before every answer."""
