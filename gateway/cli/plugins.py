"""`gateway plugins list`."""

from __future__ import annotations

import click

from gateway.cli.output import as_json, show


@click.group()
def plugins() -> None:
    """The installed stages."""


@plugins.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List every installed stage, its kind, and the distribution it comes from."""
    from gateway.registry import load_registry

    rows = [
        {"kind": o.kind, "stage": o.name, "distribution": o.distribution, "version": o.version}
        for o in load_registry().all()
    ]
    show(rows, ("kind", "stage", "distribution", "version"), json_wanted=as_json)
