"""Tables of batches: the summary of one that has ended, one as it stands, and several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from gateway.cli.batch_failures import plain
from gateway.cli.batch_seen import WORDS, Seen, span, speed, when
from gateway.cli.batch_view import COLOURS, STATUS_COLOURS, ordered

_FILES = {"input": "input file", "output": "output file", "errors": "error file", "report": "report"}
_ALWAYS = {
    "answer": ("released", "refused", "withheld", "failed", "invalid"),
    "screen": ("screened", "refused", "failed", "invalid"),
    "reaudit": ("judged", "failed"),
}  # by kind: what is told also where there is none of it
_REASONS = 8


def summary(seen: Seen, *, named: bool) -> Group:
    """Make the summary of a batch that has ended, with its id where it is `named`."""
    return Group(*_summary(seen, named=named))


def _summary(seen: Seen, *, named: bool) -> Iterator[Text | Table]:
    head = Text.assemble((f"{seen.id}  ", "bold") if named else "", (seen.word, STATUS_COLOURS[seen.status]))
    if seen.ended is not None and seen.created is not None and seen.ended > seen.created:
        head.append(f" after {span(seen.ended - seen.created)}")
    if seen.ended is not None and seen.began is not None and seen.done and seen.ended > seen.began:
        head.append(f", {speed(seen.done / (seen.ended - seen.began))}")
    yield head
    yield from _tables(seen)
    files = {name: id_ for name, id_ in seen.files.items() if name != "input"}
    if files:
        yield Text("   ".join(f"{_FILES[name]} {id_}" for name, id_ in files.items()), style="bright_black")
        yield Text.assemble("get the files with ", (f"gateway batch results {seen.id}", "bold"))


def _tables(seen: Seen) -> Iterator[Table]:
    if seen.errors:
        yield errors_table(seen)
    if seen.total:
        yield _outcomes(seen)
    if seen.reasons:
        yield reasons_table(seen)


def _outcomes(seen: Seen) -> Table:
    table = _table(("outcome", "left"), ("lines", "right"), ("share", "right"))
    counts = dict(ordered(seen))
    always = _ALWAYS.get(seen.kind, ())
    for name in WORDS:
        if name in counts or name in always:
            number = counts.get(name, 0)
            style = COLOURS[name] if number else "bright_black"
            table.add_row(
                Text(WORDS[name], style), Text(f"{number:,}", style), Text(share_of(number, seen.total), style)
            )
    table.add_row("all", f"{seen.total:,}", "", style="bold")
    return table


def reasons_table(seen: Seen) -> Table:
    """Make a table of the reasons that were given most often."""
    table = _table(("most frequent reasons", "left"), ("lines", "right"))
    for name, number in list(seen.reasons.items())[:_REASONS]:
        table.add_row(Text(name), f"{number:,}")
    if len(seen.reasons) > _REASONS:
        table.add_row(Text(f"{len(seen.reasons) - _REASONS} more", "bright_black"), "")
    return table


def errors_table(seen: Seen) -> Table:
    """Make a table of why a batch failed as a whole."""
    table = _table(("error", "left"), ("line", "right"), ("what is wrong", "left"))
    for error in seen.errors:
        line = error.get("line")
        table.add_row(
            Text(plain(error.get("code", ""))), "" if line is None else str(line), Text(plain(error.get("message", "")))
        )
    return table


def share_of(number: int, whole: int) -> str:
    """Write a share with a decimal; `below 0.1 %` where it would read as none."""
    if 0 < number * 1000 < whole:
        return "< 0.1 %"
    return f"{number * 1000 // whole / 10:.1f} %" if whole else ""


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(header_style="bold", box=box.SIMPLE, pad_edge=False, padding=(0, 2, 0, 0))
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    return table


def counts_told(seen: Seen) -> str:
    """Tell in a line what the lines came to."""
    told = ", ".join(f"{number:,} {WORDS[name]}" for name, number in ordered(seen))
    return f"{seen.total:,} lines: {told}" if told else f"{seen.total:,} lines"


def print_batch(seen: Seen) -> None:
    """Print a batch as it stands."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(style="bright_black")
    table.add_column(overflow="fold")
    for name, text in _facts(seen):
        if text:
            table.add_row(name, Text(text))
    console.print(table)
    for one in _tables(seen):
        console.print(one)


def _facts(seen: Seen) -> Iterator[tuple[str, str]]:
    raw = seen.raw
    yield "batch", seen.id
    yield "status", seen.word
    yield "lines", f"{seen.done:,} of {seen.total:,}" if seen.total else ""
    yield "department", seen.department
    yield "endpoint", seen.endpoint
    yield "priority", str(seen.priority) if seen.priority else ""
    yield "metadata", ", ".join(f"{name}={value}" for name, value in sorted(seen.metadata.items()))
    yield "created", when(seen.created)
    yield "in progress", when(seen.began)
    yield "cancelling", when(raw.get("cancelling_at"))
    yield "ended", when(seen.ended)
    yield "tried until", when(seen.expires) if not seen.over else ""
    for name, id_ in seen.files.items():
        yield _FILES[name], id_


def rows_of(batches: Sequence[Seen]) -> list[dict[str, str]]:
    """Make the rows of a table of batches."""
    return [
        {
            "id": seen.id,
            "status": seen.word,
            "lines": f"{seen.done:,} of {seen.total:,}" if seen.total else "",
            "failed": f"{seen.failed:,}" if seen.total else "",
            "department": seen.department,
            "endpoint": seen.endpoint,
            "created": when(seen.created)[:16],
            "metadata": ", ".join(f"{name}={value}" for name, value in sorted(seen.metadata.items())),
        }
        for seen in batches
    ]
