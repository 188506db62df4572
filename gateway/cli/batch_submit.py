"""`gateway batch submit`: send a file of requests and make a batch of it, once, however often it is repeated."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any

import click

from gateway.cli.batch_client import Client
from gateway.cli.batch_failures import Failed, say
from gateway.cli.batch_options import connection, said
from gateway.cli.batch_seen import Seen, seen_of, span

ENDPOINTS = ("/v1/chat/completions", "/v1/moderations")
AGAIN = 24 * 3600.0
"""Seconds for which the same file, with the same options and key, is taken for the same batch."""

_EARLIER = re.compile(r"batch_[0-9a-f]{32}")
_CHAIN = 100  # batches of the same file that are gone through


def _pairs(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read metadata."""
    found: dict[str, str] = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"`{value}`: expected `name=value`", ctx, option)
        if name in found:
            raise click.BadParameter(f"`{name}` is given twice", ctx, option)
        found[name] = text
    return found


@click.command("submit")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--endpoint", type=click.Choice(ENDPOINTS), default=ENDPOINTS[0], show_default=True)
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="A note that stays with it.")
@click.option("--priority", type=click.IntRange(-10, 10), default=0, show_default=True, help="Higher goes first.")
@click.option("--purpose", help="Why all lines are asked: a code of HL7's PurposeOfUse, such as TREAT.")
@click.option("--task", help="What the answers are for: a code, such as `report-draft`.")
@click.option("--on-behalf-of", help="The id of the person for whom all lines are asked.")
@click.option("--again", is_flag=True, help="Make another batch, also where this file was submitted a moment ago.")
@click.option("--watch", "watched", is_flag=True, help="Follow it until it has ended.")
@click.option("--results-dir", type=click.Path(path_type=Path, file_okay=False), help="Then fetch its files here.")
@connection
def submit(
    file: Path,
    endpoint: str,
    metadata: dict[str, str],
    priority: int,
    again: bool,
    watched: bool,
    results_dir: Path | None,
    **given: Any,
) -> None:
    """Send a file of requests, and make a batch of it.

    FILE has one request a line; `-` is standard input. The batch's id is all that is printed on standard output.

    The same file submitted again within 24 hours, with the same options and key, gives the batch that there is, unless
    that one has failed, expired or been cancelled: a script may repeat this command after a lost connection.
    """
    client = Client(given["url"], given["key_file"])
    headers = said(given["purpose"], given["task"], given["on_behalf_of"])
    wanted = {"endpoint": endpoint, "completion_window": "24h", "metadata": metadata or None, "priority": priority}

    async def run() -> Seen:
        async with client:
            return await submitted(client, file, wanted, headers, again=again)

    try:
        seen = asyncio.run(run())
    except KeyboardInterrupt:
        raise Failed("stopped; no batch was made, as far as was heard: `gateway batch list` tells") from None
    click.echo(seen.id)
    if not watched and results_dir is None:
        say(f"follow it with `gateway batch watch {seen.id}`")
        return
    from gateway.cli.batch_results import save
    from gateway.cli.batch_watch import exit_code, until_ended

    ended = until_ended(client, seen.id, stdout=False)
    if results_dir is not None and any(name != "input" for name in ended.files):
        save(client, ended, results_dir, tell=say)
    raise SystemExit(exit_code(ended))


async def submitted(
    client: Client, file: Path, wanted: dict[str, Any], headers: dict[str, str], *, again: bool
) -> Seen:
    """Send a file and make a batch of it, or find the one that was made of the same. Raises Failed.

    The key that makes it idempotent is derived from what is sent and from the API key, so it is the same whoever sends
    the same with that key, from whichever machine. A batch that has ended badly, or is older than a day, is one link of
    a chain: the key of the next one is derived from it.
    """
    from gateway.cli.batch_transfer import PATIENCE, send

    # Before two gigabytes are sent: is there a gateway, and may this key do so?
    await client.get("v1/batches", limit=1)
    began = time.monotonic()
    sent = await send(client, file, client.key)
    took = time.monotonic() - began
    say(f"sent {sent.bytes:,} bytes{f' in {span(took)}' if took >= 1 else ''}")
    content = json.dumps([wanted, headers, sent.digest], sort_keys=True)
    last = str(time.time_ns()) if again else ""
    for _ in range(_CHAIN):
        key = hmac.new(client.key.encode(), f"{content}\n{last}".encode(), hashlib.sha256).hexdigest()
        try:
            made = await client.ask(
                "POST",
                "v1/batches",
                patience=PATIENCE,
                json=wanted | {"input_file_id": sent.id},
                headers=headers | {"idempotency-key": f"gateway-batch-{key}"},
            )
            return seen_of(made)
        except Failed as exc:
            earlier = _EARLIER.search(exc.message) if exc.status == 409 else None
            if earlier is None:
                await _drop(client, sent.id)
                raise
        last = earlier[0]
        there = await _there(client, last)
        if there is not None:
            await _drop(client, sent.id)
            since = span(max(time.time() - (there.created or 0), 0))
            say(
                f"this file was submitted {since} ago with the same options: {there.id} ({there.word}); no other batch "
                "was made, --again makes one"
            )
            return there
    raise Failed("this file was submitted many times; give --again, or other --metadata, to submit it once more")


async def _there(client: Client, batch_id: str) -> Seen | None:
    """Give the earlier batch of the same file where it stands for this one; None where another is to be made."""
    try:
        seen = seen_of(await client.get(f"v1/batches/{batch_id}"))
    except Failed as exc:
        if exc.status == 404:
            return None
        raise
    young = seen.created is not None and time.time() - seen.created < AGAIN
    return seen if young and seen.status not in ("failed", "expired", "cancelled", "cancelling") else None


async def _drop(client: Client, file_id: str) -> None:
    """Delete a file that no batch reads. Where that fails it is deleted when its time is over."""
    with contextlib.suppress(Failed):
        await client.ask("DELETE", f"v1/files/{file_id}")
