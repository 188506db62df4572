"""`gateway batch results`: fetch the files of a batch that has ended, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from gateway.cli.batch_client import Client
from gateway.cli.batch_failures import Failed
from gateway.cli.batch_options import batch_id as checked
from gateway.cli.batch_options import because, connection
from gateway.cli.batch_seen import Seen, seen_of
from gateway.cli.batch_show import counts_told
from gateway.cli.batch_transfer import Fetched, check_free, fetch

_SUFFIX = {"output": "output.jsonl", "errors": "errors.jsonl", "report": "report.json"}
_INPUT = "input.jsonl"
_FORMATS = {"jsonl": None, "fhir": "R4", "fhir-r5": "R5"}


@click.command("results")
@click.argument("batch_id")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="The folder for the files [the one you are in].",
)
@click.option("--force", is_flag=True, help="Overwrite files of the same names.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(tuple(_FORMATS)),
    default="jsonl",
    show_default=True,
    help="With fhir also DiagnosticReports, one a line, of R4 or R5.",
)
@click.option("--why", help="Why the answers are taken away; it is recorded.")
@connection
def results(batch_id: str, out: Path, force: bool, kind: str, why: str | None, **place: Any) -> None:
    """Fetch the files of a batch that has ended.

    Only the key that sent it may, or another key of the same person.

    Answers go to BATCH_output.jsonl, lines without an answer to BATCH_errors.jsonl. Each fetch of answers is recorded.
    """
    client = Client(place["url"], place["key_file"])

    async def look() -> Seen:
        async with client:
            return seen_of(await client.get(f"v1/batches/{checked(batch_id)}"))

    seen = asyncio.run(look())
    if not seen.over:
        raise Failed(
            f"the batch is {seen.word}; its files are there when it has ended: `gateway batch watch {seen.id}`"
        )
    if not any(name in seen.files for name in _SUFFIX):
        raise Failed(
            f"the batch has no files, since no line came to anything: `gateway batch show {seen.id}` tells why"
        )
    save(client, seen, out, force=force, kind=kind, why=why)


def save(
    client: Client,
    seen: Seen,
    out: Path,
    *,
    force: bool = False,
    kind: str = "jsonl",
    why: str | None = None,
    tell: Callable[[str], object] = click.echo,
) -> None:
    """Fetch the files of a batch into a folder, and tell what was fetched. Raises Failed."""
    places = {name: out / f"{seen.id}_{suffix}" for name, suffix in _SUFFIX.items() if name in seen.files}
    reports = out / f"{seen.id}_reports.ndjson", out / f"{seen.id}_reports_errors.ndjson"
    if kind != "jsonl" and ("output" not in places or seen.endpoint != "/v1/chat/completions"):
        raise Failed("there are no answers to make reports of")
    for place in (*places.values(), *(reports if kind != "jsonl" else ())):
        check_free(place, force=force)
    headers = because(why)

    async def run() -> dict[str, Fetched]:
        async with client:
            found = {
                name: await fetch(client, seen.files[name], place, force=force, headers=headers)
                for name, place in places.items()
            }
            if kind != "jsonl":
                found["input"] = await fetch(
                    client, seen.files["input"], out / f".{seen.id}_{_INPUT}", force=True, headers={}
                )
            return found

    try:
        fetched = asyncio.run(run())
    except Failed as exc:
        if exc.status != 404:
            raise
        raise Failed(
            f"{exc.message}; files are for the key that sent the batch, or another key of the same person, and for as "
            "long as they are kept",
            404,
        ) from None
    for name in places:
        one = fetched[name]
        tell(f"{one.place}: {one.lines:,} {'line' if one.lines == 1 else 'lines'}, {one.bytes:,} bytes")
    told = {"output": seen.completed, "errors": seen.failed}
    for name, number in told.items():
        if name in fetched and fetched[name].lines != number:
            raise Failed(f"{fetched[name].place}: has {fetched[name].lines:,} lines, and the batch tells of {number:,}")
    tell(counts_told(seen))
    if kind != "jsonl":
        _reports(fetched, reports, str(_FORMATS[kind]), force=force, tell=tell)


def _reports(
    fetched: dict[str, Fetched],
    places: tuple[Path, Path],
    release: str,
    *,
    force: bool,
    tell: Callable[[str], object],
) -> None:
    """Write the answers as FHIR DiagnosticReports, and what made none as OperationOutcomes."""
    from gateway.intake.report import convert
    from gateway.intake.writing import new_file

    if force:
        for place in places:
            place.unlink(missing_ok=True)
    try:
        with new_file(places[0]) as good, new_file(places[1]) as bad:

            def without(line: bytes) -> None:
                bad.write(line.rstrip(b"\n"))

            for line in convert(fetched["input"].place, _lines(fetched["output"].place), release, without=without):  # type: ignore[arg-type] # one of two words
                good.write(line.rstrip(b"\n"))
    finally:
        fetched["input"].place.unlink(missing_ok=True)  # it was needed to tell whose each answer is
    for place, writer, what in ((places[0], good, "reports"), (places[1], bad, "answers that make none")):
        if writer.lines:
            tell(f"{place}: {writer.lines:,} {what}")


def _lines(place: Path) -> Iterator[bytes]:
    with place.open("rb") as file:
        yield from file
