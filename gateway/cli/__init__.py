"""The command line: `gateway serve`, `worker`, `batch`, `demo`, `evaluate`, `policy`, `keys`, `log` and others."""

from __future__ import annotations

from typing import Any

import click

from gateway import __version__
from gateway.cli.lazy import Lazy
from gateway.errors import GatewayError

_COMMANDS = {
    "batch": "gateway.cli.batch:batch",
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


class _Main(Lazy):
    """Tells the gateway's own errors, each in a line."""

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


@click.command(cls=_Main, places=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Med-VLM Safety Gateway: evidence from plugins, decisions from policies, a record before every answer."""
