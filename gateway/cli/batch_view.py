"""A batch that is watched, in words: how far it is, how fast it goes, and what the person who watches should know."""

from __future__ import annotations

from gateway.cli.batch_seen import WORDS, Pace, Seen, coarse, share, span, speed, when

COLOURS = {
    "released": "green",
    "screened": "green",
    "judged": "green",
    "refused": "yellow",
    "withheld": "magenta",
    "failed": "red",
    "invalid": "blue",
    "expired": "bright_black",
    "cancelled": "bright_black",
}
"""The colour of each outcome, in bars and tables."""

STATUS_COLOURS = {
    "completed": "green",
    "failed": "red",
    "expired": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "paused": "yellow",
}
"""The colour of a status; that of the others is cyan."""


class View:
    """What is known of a batch that is watched. `trouble` is why nothing more is known at the moment."""

    def __init__(self, seen: Seen, now: float) -> None:
        self.seen = seen
        self.pace = Pace()
        self.trouble: str | None = None
        self.see(seen, now)

    def see(self, seen: Seen, now: float) -> None:
        """Take a look."""
        self.seen, self.trouble = seen, None
        self.pace.see(seen, now)

    def notice(self, now: float, clock: float) -> str | None:
        """Tell what the person should know or do; None where all is well. `clock` is Unix time in seconds."""
        seen = self.seen
        if self.trouble is not None:
            return self.trouble
        if seen.over:
            return None
        if seen.paused:
            return f"paused; `gateway batch resume {seen.id}` lets it go on"
        still = self.pace.stalled(now)
        if seen.status == "cancelling":
            return "cancelling: lines that are being tried come to their end, the others are not tried any more"
        if still is None:
            return self._too_late(now, clock)
        if seen.status == "validating":
            return f"no worker has taken it yet, for {span(still)}: is `gateway worker` running?"
        if seen.status == "finalizing":
            return f"its files have been written for {span(still)}; a worker that died over it is replaced by itself"
        if seen.done == 0:
            return f"no line is done yet, for {span(still)}: is `gateway worker` running, and does the model answer?"
        return f"nothing has moved for {span(still)}: is `gateway worker` running, and does the model answer?"

    def _too_late(self, now: float, clock: float) -> str | None:
        left, expires = self.pace.left(now), self.seen.expires
        if left is None or expires is None or clock + left <= expires:
            return None
        return (
            f"at this pace its time is over before it is done: lines that are not tried by {when(expires)[:16]} expire"
        )

    def pace_words(self, now: float) -> list[str]:
        """Tell rate, estimate, and how long it has been going."""
        seen, told = self.seen, []
        if not seen.paused and seen.status == "in_progress":
            rate, left = self.pace.rate(now), self.pace.left(now)
            if rate:
                told.append(speed(rate))
            if left is not None:
                told.append("a few seconds left" if left <= coarse(1) else f"about {span(left)} left")
            elif seen.done < seen.total:
                told.append("no estimate yet" if self.pace.stalled(now) is None else "no estimate while nothing moves")
        return told


def told(seen: Seen) -> str:
    """Tell how many lines are done."""
    return f"{share(seen.done, seen.total)}  {seen.done:,} of {seen.total:,}"


def counts_words(seen: Seen) -> str:
    """Tell what the lines came to, in a line of text."""
    return ", ".join(f"{WORDS[name]} {number:,}" for name, number in ordered(seen))


def plain_line(view: View, now: float, clock: float) -> str:
    """Tell all that the bar shows in one line, for where there is no terminal."""
    seen = view.seen
    if view.trouble is not None:
        return view.trouble
    parts = [f"{seen.word}: {seen.done:,} of {seen.total:,} lines ({share(seen.done, seen.total)})"]
    if seen.total == 0:
        parts = [seen.word]
    parts += view.pace_words(now)
    if seen.by_outcome:
        parts.append(counts_words(seen))
    notice = view.notice(now, clock)
    return "; ".join(parts if notice is None else [*parts, notice])


def ordered(seen: Seen) -> list[tuple[str, int]]:
    """Give the counts in the order of tables; what this version does not know counts as failed."""
    counts = {name: seen.by_outcome[name] for name in WORDS if seen.by_outcome.get(name)}
    unknown = sum(number for name, number in seen.by_outcome.items() if name not in WORDS)
    if unknown:
        counts["failed"] = counts.get("failed", 0) + unknown
    return [(name, counts[name]) for name in WORDS if name in counts]
