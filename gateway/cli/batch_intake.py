"""`gateway batch intake`: make the lines of a batch from DICOM studies, FHIR requests or a CSV file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli.output import show
from gateway.errors import ConfigurationError, InvalidRequest
from gateway.settings import read_settings

if TYPE_CHECKING:
    from gateway.intake.line import Item, Line, Options, Problem, Skipped
    from gateway.intake.places import Root

_F = TypeVar("_F", bound=Callable[..., Any])

_CUT = 60  # characters of a question that a dry run shows
_OPTIONS = (
    click.option("--out", type=click.Path(path_type=Path), help="A new file for the lines; - is standard output."),
    click.option("--dry-run", is_flag=True, help="Show what the lines would be, and write nothing."),
    click.option(
        "--rows", type=click.IntRange(0), default=50, help="Lines that a dry run shows [50]; all are counted."
    ),
    click.option("--model", default="auto", help="The model to ask, where the input names none [auto]."),
    click.option("--max-tokens", type=click.IntRange(1, 32_768), help="The longest answer, in tokens."),
    click.option("--task", help="What the answers are for: a code, such as `report-draft`."),
    click.option("--purpose", help="Why they are asked for: a code of HL7's PurposeOfUse, such as TREAT."),
    click.option("--on-behalf-of", help="The id of the person for whom they are asked."),
    click.option("--pixels-only", is_flag=True, help="Send DICOM images as PNG, without their headers."),
)
_IMAGES = click.option("--images", type=click.IntRange(1, 16), default=1, help="Images of each series [1: the middle].")
_BARE = click.option("--bare-patient", is_flag=True, help="Leave out who issued a patient's number.")
_ROOT = click.option(
    "--images-root", type=click.Path(path_type=Path, file_okay=False), help="The folder below which images are read."
)


def _shared(function: _F) -> _F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group()
def intake() -> None:
    """Make the lines of a batch from DICOM studies, FHIR requests or a CSV file."""


@intake.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--question", help="What is asked of every series.")
@click.option(
    "--questions", type=click.Path(path_type=Path), help="What is asked by modality and description, in YAML."
)
@_IMAGES
@_BARE
@_shared
def dicom(folder: Path, question: str | None, questions: Path | None, **flags: Any) -> None:
    """One line for each series of the DICOM files below FOLDER."""
    from tqdm import tqdm

    from gateway.intake.dicom import lines
    from gateway.intake.line import Unfit
    from gateway.intake.questions import Question, read_questions
    from gateway.intake.scan import scan

    if (question is None) == (questions is None):
        raise click.UsageError("give one of --question and --questions")
    rules = read_questions(questions) if questions is not None else (Question(question=question or ""),)
    options = _options(flags)
    try:
        with tqdm(desc="headers", unit="file", disable=None, leave=False) as bar:
            found = scan(folder, bar.update)
    except Unfit as exc:
        raise ConfigurationError(str(exc)) from None
    _run(lines(folder, found, rules, options), len(found.series), flags)


@intake.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@_ROOT
@click.option("--question", default="", help="What is said before each request's own words.")
@_IMAGES
@_BARE
@_shared
def fhir(bundle: Path, images_root: Path | None, question: str, **flags: Any) -> None:
    """One line for each active ServiceRequest of the FHIR bundle BUNDLE, in JSON."""
    from gateway.intake.fhir import lines, requests
    from gateway.intake.fhir_bundle import Bundle

    options, root = _options(flags), _root(images_root)
    opened = Bundle(bundle)
    places = requests(opened)
    if not places:
        raise ConfigurationError(f"{bundle}: holds no ServiceRequest; send a bundle that does")
    _run(lines(opened, places, root, question, options), len(places), flags)


@intake.command("csv")
@click.argument("file", type=click.Path(path_type=Path))
@_ROOT
@_shared
def table(file: Path, images_root: Path | None, **flags: Any) -> None:
    """One line for each row of the CSV file FILE."""
    from gateway.intake.table import Table

    options, root = _options(flags), _root(images_root)
    opened = Table(file)
    try:
        _run(opened.lines(root, options), None, flags)
    finally:
        opened.close()


def _options(flags: dict[str, Any]) -> Options:
    """Make the options, and check that there is somewhere to write before anything is read."""
    from gateway.intake.line import Options
    from gateway.records import NOTHING_SAID
    from gateway.wire.said import said_of_line

    if flags["out"] is None and not flags["dry_run"]:
        raise click.UsageError("give --out FILE, or --dry-run")
    try:
        said_of_line(NOTHING_SAID, {name: flags[name] for name in ("task", "purpose", "on_behalf_of")})
    except InvalidRequest as exc:
        raise click.UsageError(exc.message.replace("context.", "--").replace("on_behalf_of", "on-behalf-of")) from None
    settings = read_settings()
    names = ("model", "max_tokens", "task", "purpose", "on_behalf_of", "images", "pixels_only", "bare_patient")
    given = {name: flags[name] for name in names if name in flags}
    return Options(most=settings.max_body_bytes, limits=settings.image_limits, **given)


def _root(folder: Path | None) -> Root | None:
    from gateway.intake.places import Root

    if folder is None:
        return None
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: is no folder; name the folder of the images with --images-root")
    return Root(folder)


def _run(items: Iterator[Item], total: int | None, flags: dict[str, Any]) -> None:
    """Write or show the lines, tell what made none, and leave with 2 where something should have."""
    from gateway.intake.writing import STDOUT, new_file

    out, tally = flags["out"], _Tally(flags["rows"] if flags["dry_run"] else 0)
    if flags["dry_run"]:
        for _ in tally.of(items, total):
            pass
        tally.show()
    else:
        with new_file(out) as writer:
            for line in tally.of(items, total):
                writer.write(line.data)
        if not writer.lines:
            click.echo("no line was made, so no file was written" if out != STDOUT else "no line was made", err=True)
        else:
            click.echo(f"{_many(writer.lines, 'line')}, {writer.bytes:,} bytes in {out}", err=True)
    tally.tell()
    if tally.problems or not tally.lines:
        raise SystemExit(2)


class _Tally:
    """Counts what comes, tells problems at once, and keeps the first lines for a table."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._shown: list[dict[str, Any]] = []
        self.lines = self.problems = self.skipped = self.images = self.bytes = 0

    def of(self, items: Iterator[Item], total: int | None) -> Iterator[Line]:
        """Give the lines among `items`, with a bar."""
        from tqdm import tqdm

        from gateway.intake.line import Line, Skipped

        with tqdm(total=total, desc="lines", unit="line", disable=None, leave=False) as bar:
            for item in items:
                if isinstance(item, Line):
                    self._count(item)
                    yield item
                else:
                    word = "skipped" if isinstance(item, Skipped) else "problem"
                    tqdm.write(f"{word}: {_told(item)}", file=sys.stderr)
                    self.skipped += isinstance(item, Skipped)
                    self.problems += not isinstance(item, Skipped)
                bar.update(1)

    def _count(self, line: Line) -> None:
        self.lines += 1
        self.images += len(line.images)
        self.bytes += len(line.data) + 1
        if len(self._shown) < self._rows:
            self._shown.append(_row(line))

    def show(self) -> None:
        """Print the table of a dry run."""
        if self._shown:
            notes = ("notes",) if any(row["notes"] for row in self._shown) else ()
            show(self._shown, ("custom_id", "question", "images", "context", *notes), json_wanted=False)
        if self.lines > len(self._shown):
            click.echo(f"… and {_many(self.lines - len(self._shown), 'more line')}")
        told = f"{_many(self.lines, 'line')} with {_many(self.images, 'image')}"
        click.echo(f"{told}, {self.bytes:,} bytes; nothing was written")

    def tell(self) -> None:
        """Tell how many inputs made no line."""
        if self.problems or self.skipped:
            click.echo(f"{_many(self.problems, 'problem')}, {self.skipped} skipped", err=True)


def _told(item: Problem | Skipped) -> str:
    where = "".join(c if c.isprintable() else "�" for c in item.where)
    return f"{where}: {item.why}"


def _row(line: Line) -> dict[str, Any]:
    question = " ".join(line.question.split())
    images = [f"{one.modality or 'image'} {one.width} x {one.height}, {_size(one.size)}" for one in line.images]
    said = {name: masked(value) if name == "patient" else value for name, value in line.context.items()}
    return {
        "custom_id": line.custom_id,
        "question": question if len(question) <= _CUT else question[: _CUT - 1] + "…",
        "images": "; ".join(images),
        "context": ", ".join(f"{name}={value}" for name, value in said.items()),
        "notes": "; ".join(line.notes),
    }


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _size(size: int) -> str:
    return f"{size} B" if size < 1_000 else f"{size / 1_000:.0f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"


def masked(number: str) -> str:
    """Give a patient's number with all but its last two characters hidden, its issuer as it is; short ones whole."""
    issuer, bar, own = number.rpartition("|")
    shown = own[-2:] if len(own) > 4 else ""
    return f"{issuer}{bar}{'•' * (len(own) - len(shown))}{shown}"
