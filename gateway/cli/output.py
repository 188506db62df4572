"""What commands share: options that mean the same as the settings of the environment, tables, and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = {
    "data_dir": click.option("--data-dir", help="Folder for the database and the secret [GATEWAY_DATA_DIR]."),
    "database_url": click.option("--database-url", help="SQLite or PostgreSQL [GATEWAY_DATABASE_URL]."),
    "policies_dir": click.option("--policies-dir", help="Folder of the policies [GATEWAY_POLICIES_DIR]."),
    "broker_url": click.option("--broker-url", help="Celery's broker [GATEWAY_BROKER_URL]."),
    "log_level": click.option("--log-level", help="debug, info, warning or error [GATEWAY_LOG_LEVEL]."),
    "host": click.option("--host", help="Address to listen on [GATEWAY_HOST]."),
    "port": click.option("--port", type=int, help="Port to listen on, 0 for any [GATEWAY_PORT]."),
}


def settings_options(*names: str) -> Callable[[_F], _F]:
    """Add the options for these settings; a flag wins over the environment."""

    def add(function: _F) -> _F:
        for name in reversed(names):
            function = _OPTIONS[name](function)
        return function

    return add


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, json_wanted: bool, title: str = "") -> None:
    """Print rows as a table, or as JSON."""
    if json_wanted:
        click.echo(json.dumps([dict(row) for row in rows], ensure_ascii=False, indent=2))
        return
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def _cell(value: Any) -> Text:
    # Text and not markup: a value in square brackets is a value.
    if value is None:
        return Text("")
    return Text(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
