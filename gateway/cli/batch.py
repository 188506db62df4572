"""`gateway batch`: submit, watch, results, list, show, cancel, pause, resume, intake and reaudit.

All but the last two ask a gateway over HTTP.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from gateway.cli.batch_client import Client
from gateway.cli.batch_options import batch_id as checked
from gateway.cli.batch_options import connection
from gateway.cli.lazy import Lazy
from gateway.cli.output import as_json

_T = TypeVar("_T")


@click.group(
    cls=Lazy,
    places={
        "intake": "gateway.cli.batch_intake:intake",
        "reaudit": "gateway.cli.batch_reaudit:reaudit",
        "results": "gateway.cli.batch_results:results",
        "submit": "gateway.cli.batch_submit:submit",
        "watch": "gateway.cli.batch_watch:watch",
    },
)
def batch() -> None:
    """Batches: many requests in one file.

    Each of them is screened, answered, audited and logged as a live one.

    The gateway's address is taken from --url or GATEWAY_URL, the key from GATEWAY_API_KEY or --key-file.
    """


def _ask(place: dict[str, Any], work: Callable[[Client], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        async with Client(place["url"], place["key_file"]) as client:
            return await work(client)

    return asyncio.run(run())


@batch.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--after", default=None, help="Go on behind this batch.")
@as_json
@connection
def list_(limit: int, after: str | None, as_json: bool, **place: Any) -> None:
    """List the batches of the department."""
    from gateway.cli.batch_seen import seen_of
    from gateway.cli.batch_show import rows_of
    from gateway.cli.output import show

    async def work(client: Client) -> tuple[list[dict[str, Any]], bool]:
        found: list[dict[str, Any]] = []
        more, last = True, after
        while more and len(found) < limit:
            query = {"limit": min(limit - len(found), 100), **({} if last is None else {"after": last})}
            page = await client.get("v1/batches", **query)
            found += page["data"]
            more, last = bool(page["has_more"]), page["last_id"]
        return found, more

    rows, more = _ask(place, work)
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    shown = rows_of([seen_of(row) for row in rows])
    given = [name for name in (shown[0] if shown else ("id",)) if name != "metadata" or any(r[name] for r in shown)]
    show(shown, given, json_wanted=False)
    if more:
        click.echo(f"older ones: --after {rows[-1]['id']}")


@batch.command("show")
@click.argument("batch_id")
@as_json
@connection
def show_(batch_id: str, as_json: bool, **place: Any) -> None:
    """Show how a batch stands."""
    _tell(_ask(place, lambda client: client.get(f"v1/batches/{checked(batch_id)}")), as_json=as_json)


def _change(word: str, batch_id: str, place: dict[str, Any]) -> dict[str, Any]:
    return _ask(place, lambda client: client.ask("POST", f"v1/batches/{checked(batch_id)}/{word}"))


@batch.command()
@click.argument("batch_id")
@as_json
@connection
def cancel(batch_id: str, as_json: bool, **place: Any) -> None:
    """Cancel a batch.

    Lines that are being tried come to their end, the others are not tried any more. What is answered by then comes out
    as usual, and the other lines are told in the error file.
    """
    _tell(_change("cancel", batch_id, place), as_json=as_json)


@batch.command()
@click.argument("batch_id")
@as_json
@connection
def pause(batch_id: str, as_json: bool, **place: Any) -> None:
    """Let a batch rest.

    Lines that are being tried come to their end, and no other is begun until `resume`. The batch's 24 hours go on.
    """
    _tell(_change("pause", batch_id, place), as_json=as_json)


@batch.command()
@click.argument("batch_id")
@as_json
@connection
def resume(batch_id: str, as_json: bool, **place: Any) -> None:
    """Let a paused batch go on."""
    _tell(_change("resume", batch_id, place), as_json=as_json)


def _tell(body: dict[str, Any], *, as_json: bool) -> None:
    from gateway.cli.batch_seen import seen_of
    from gateway.cli.batch_show import print_batch

    if as_json:
        click.echo(json.dumps(body, ensure_ascii=False, indent=2))
    else:
        print_batch(seen_of(body))
