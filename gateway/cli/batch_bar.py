"""The bar of a batch on a terminal, with what stands above and below it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from gateway.cli.batch_seen import WORDS, Seen, span
from gateway.cli.batch_view import COLOURS, STATUS_COLOURS, View, ordered, told

_WIDEST = 64  # cells of a bar
_SWEEP = 8.0  # cells a second that the piece moves which only says that something is done


class Bar:
    """The bar of a batch, with what stands above and below it, as a terminal shows it at `now`."""

    def __init__(self, view: View, now: float, clock: float) -> None:
        self._view = view
        self._now = now
        self._clock = clock

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        seen = self._view.seen
        yield _title(seen)
        yield self._bar(options.max_width, ascii_only=options.ascii_only)
        if seen.by_outcome:
            yield _counts(seen)
        words = self._view.pace_words(self._now)
        if not seen.over and seen.began is not None:
            words.append(f"running for {span(max(self._clock - seen.began, 0))}")
        if words:
            yield Text(" · ".join(words), style="bright_black")
        notice = self._view.notice(self._now, self._clock)
        if notice is not None:
            yield Text(notice, style="yellow")

    def _bar(self, width: int, *, ascii_only: bool) -> Text:
        seen = self._view.seen
        words = told(seen) if seen.total else ""
        reserved = len(f"100 %  {seen.total:,} of {seen.total:,}") if seen.total else 0
        cells = max(8, min(_WIDEST, width - reserved - 2))
        full, rest = ("#", "-") if ascii_only else ("━", "─")
        if seen.total == 0:
            line = (
                _sweep(cells, self._now, full, rest)
                if seen.status == "validating"
                else Text(rest * cells, "bright_black")
            )
        else:
            line = Text()
            filled = seen.done * cells // seen.total
            for name, part in _parts(seen, filled):
                line.append(full * part, style=COLOURS[name])
            line.append(rest * (cells - filled), style="bright_black")
        return line.append("  ").append(words, style="bold")


def _title(seen: Seen) -> Text:
    what = {"answer": "answering", "screen": "screening", "reaudit": "re-audit"}.get(seen.kind, seen.kind)
    rest = [seen.department, what, *(f"{name}={value}" for name, value in sorted(seen.metadata.items()))]
    colour = STATUS_COLOURS.get("paused" if seen.paused and not seen.over else seen.status, "cyan")
    title = Text.assemble((seen.id, "bold"), "  ", (seen.word, colour), (f" · {' · '.join(rest)}", "bright_black"))
    title.no_wrap, title.overflow = True, "ellipsis"
    return title


def _counts(seen: Seen) -> Text:
    line = Text()
    for name, number in ordered(seen):
        if line:
            line.append("   ")
        line.append("● ", style=COLOURS[name]).append(f"{number:,}", style="bold").append(f" {WORDS[name]}")
    return line


def _parts(seen: Seen, cells: int) -> Sequence[tuple[str, int]]:
    """Share the filled cells of a bar out among the outcomes, by largest remainders."""
    counts = ordered(seen)
    whole = sum(number for _, number in counts)
    if not whole:
        return [("released", cells)]
    exact = [(name, number * cells / whole) for name, number in counts]
    given = {name: int(size) for name, size in exact}
    for name, _ in sorted(exact, key=lambda pair: int(pair[1]) - pair[1])[: cells - sum(given.values())]:
        given[name] += 1
    return list(given.items())


def _sweep(cells: int, now: float, full: str, rest: str) -> Text:
    """Draw a bar that only says that something is done: a piece that goes to and fro."""
    piece = max(2, cells // 6)
    room = cells - piece
    at = int(now * _SWEEP) % (2 * room) if room else 0
    at = at if at <= room else 2 * room - at
    return Text.assemble((rest * at, "bright_black"), (full * piece, "cyan"), (rest * (room - at), "bright_black"))
