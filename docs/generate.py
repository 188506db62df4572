"""Write `docs/reference.md`: commands, settings, hooks and values, from the code. A test checks that it is current."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import click

from gateway import hookspecs, plugin
from gateway.cli import main
from gateway.settings import _READ

TARGET = Path(__file__).parent / "reference.md"


def _commands() -> list[str]:
    lines = ["## Commands", ""]
    context = click.Context(main, info_name="gateway")

    def tell(command: click.Command, words: str) -> None:
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                if found is not None:
                    tell(found, f"{words} {name}")
            return
        arguments = " ".join(p.make_metavar(context) for p in command.params if isinstance(p, click.Argument))
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        lines.append(f"- `{' '.join(filter(None, (words, arguments)))}` — {command.get_short_help_str(200)}")
        lines.extend(f"  - `{max(o.opts, key=len)}`{' — ' + o.help if o.help else ''}" for o in options)

    tell(main, "gateway")
    return lines


def _surface() -> list[str]:
    lines = ["", "## What a plugin may import from `gateway.plugin`", "", "| name | what it is |", "| --- | --- |"]
    for name in plugin.__all__:
        value = getattr(plugin, name)
        documented = inspect.isclass(value) or inspect.isfunction(value)
        text = (inspect.getdoc(value) or "").split("\n\n")[0] if documented else "a type: see `gateway/values`"
        lines.append(f"| `{name}` | {' '.join(text.split()).replace('|', '/')} |")
    return lines


def _hooks() -> list[str]:
    lines = ["", "## Hooks", ""]
    for name, value in sorted(vars(hookspecs).items()):
        if name.startswith("gateway_"):
            lines.append(f"- `{name}()` — {' '.join((inspect.getdoc(value) or '').split())}")
    return lines


def render() -> str:
    """Give the page's text."""
    head = ["# Reference", "", "Written by `make docs` from the code; do not edit.", ""]
    settings = ["", "## Settings", "", *(f"- `{name}`" for name in _READ)]
    return "\n".join([*head, *_commands(), *settings, *_hooks(), *_surface()]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render())
    sys.stdout.write(f"wrote {TARGET}\n")
