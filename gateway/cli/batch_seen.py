"""A batch as a person sees it: what the gateway tells of it, in words, and how fast it goes."""

from __future__ import annotations

import datetime as dt
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.cli.batch_failures import Failed, plain

ENDED = ("completed", "failed", "expired", "cancelled")
"""The statuses after which nothing happens to a batch any more."""

WORDS = {
    "released": "answered",
    "screened": "screened",
    "judged": "judged",
    "refused": "refused",
    "withheld": "withheld",
    "failed": "failed",
    "invalid": "invalid",
    "expired": "expired",
    "cancelled": "cancelled",
}
"""What lines came to, by the word that people are told, in the order of tables and bars."""

WINDOW = 60.0
"""Seconds over which a rate is measured."""

STALLED = 15.0
"""Seconds without progress after which a person is told so."""

_STATUS = {
    "validating": "reading the file",
    "in_progress": "in progress",
    "finalizing": "writing the files",
    "cancelling": "cancelling",
}
_ENOUGH = 3.0  # seconds that must have been seen before a rate is told
_LATE = 2.5  # seconds after which a look is old: the rate falls from then on
_SMOOTH = (2.0, 15.0)  # seconds over which the estimate follows a change of the rate: a tenth of what is left
_WORSE = 1.1  # how far an estimate must rise before it is told that it has


class Seen(Struct, frozen=True, kw_only=True):
    """A batch as the gateway has told it. Times are Unix seconds; `done` lines of `total` have come to their end."""

    id: str
    status: str
    kind: str
    department: str
    endpoint: str
    paused: bool
    total: int
    completed: int
    failed: int
    by_outcome: dict[str, int]
    reasons: dict[str, int]
    priority: int
    metadata: dict[str, str]
    errors: tuple[Mapping[str, Any], ...]
    files: dict[str, str]
    created: int | None
    began: int | None
    ended: int | None
    expires: int | None
    raw: Mapping[str, Any]

    @property
    def done(self) -> int:
        """Count the lines that have come to their end."""
        return self.completed + self.failed

    @property
    def over(self) -> bool:
        """Tell whether nothing happens to it any more."""
        return self.status in ENDED

    @property
    def word(self) -> str:
        """Tell how it stands, in words."""
        return "paused" if self.paused and not self.over else _STATUS.get(self.status, self.status)


def seen_of(body: Mapping[str, Any]) -> Seen:
    """Read OpenAI's object of a batch, with the member `gateway`. Raises Failed where it is none."""
    try:
        own, counts = body["gateway"], body["request_counts"]
        ended = next((body[f"{status}_at"] for status in ENDED if body["status"] == status), None)
        files = {
            "input": body["input_file_id"],
            "output": body["output_file_id"],
            "errors": body["error_file_id"],
            "report": own.get("report_file_id"),
        }
        return Seen(
            id=plain(body["id"]),
            status=plain(body["status"]),
            kind=own["kind"],
            department=plain(own["department"]),
            endpoint=plain(body["endpoint"]),
            paused=bool(own["paused"]),
            total=int(counts["total"]),
            completed=int(counts["completed"]),
            failed=int(counts["failed"]),
            by_outcome={plain(name): int(number) for name, number in own["by_outcome"].items() if number},
            reasons={plain(name): int(number) for name, number in own["reasons"].items()},
            priority=int(own["priority"]),
            metadata={plain(name): plain(text) for name, text in (body.get("metadata") or {}).items()},
            errors=tuple((body.get("errors") or {}).get("data") or ()),
            files={name: id_ for name, id_ in files.items() if id_ is not None},
            created=body["created_at"],
            began=body.get("in_progress_at"),
            ended=ended,
            expires=body.get("expires_at"),
            raw=body,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Failed("the server tells of batches otherwise than a gateway does; check --url or GATEWAY_URL") from None


class Pace:
    """How fast a batch goes: over the last minute, and until when it will take. Times are those of one clock."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._phase: tuple[str, bool] | None = None
        self._told: float | None = None
        self._end: float | None = None
        self._smoothed = 0.0
        self._left = 0
        self.moved = -math.inf

    def see(self, seen: Seen, now: float) -> None:
        """Take a look at the batch that was had at `now`, in seconds."""
        phase = (seen.status, seen.paused)
        if phase != self._phase:  # what was counted before a pause says nothing about the pace after it
            self._phase, self.moved = phase, now
            self._samples.clear()
            self._end = self._told = None
        elif self._samples and seen.done != self._samples[-1][1]:
            self.moved = now
        self._left = seen.total - seen.done
        self._samples.append((now, seen.done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()

    def stalled(self, now: float) -> float | None:
        """Give the seconds without progress, None where they are no matter."""
        still = now - self.moved
        return still if still >= STALLED else None

    def rate(self, now: float) -> float | None:
        """Give the lines a second over the last minute, or since there was something to see; None where unknown."""
        if not self._samples or self._phase != ("in_progress", False):
            return None
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        until = last if now - last < _LATE else now
        if until - first < _ENOUGH:
            return None
        return (after - before) / (until - first)

    def left(self, now: float) -> float | None:
        """Give the seconds that the lines which are left will take, None where nobody can tell.

        The estimate follows the rate slowly, so that it does not jump, and falls with the time otherwise.
        """
        rate = self.rate(now)
        if not rate or self._left <= 0 or self.stalled(now) is not None:
            self._end = self._told = None
            return None
        wanted = now + self._left / rate
        if self._end is None:
            self._end = wanted
        else:
            over = min(max((wanted - now) / 10, _SMOOTH[0]), _SMOOTH[1])
            self._end += (1 - math.exp(-max(now - self._smoothed, 0.0) / over)) * (wanted - self._end)
        self._smoothed = now
        left = max(self._end - now, 0.0)
        told = coarse(left)
        if self._told is None or told < self._told or left > self._told * _WORSE:
            self._told = told
        return self._told


def coarse(seconds: float) -> float:
    """Round a span up to what an estimate can promise: steps of 5 s at first, of ten minutes in the end."""
    for below, step in ((60, 5), (180, 10), (600, 30), (1800, 60), (7200, 300)):
        if seconds <= below:
            return math.ceil(seconds / step) * step
    return math.ceil(seconds / 600) * 600


def span(seconds: float) -> str:
    """Write a span of time for people, in at most two units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(whole // 60, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def speed(rate: float) -> str:
    """Write a number of lines a second, or a minute where that is less."""
    if rate >= 10:
        return f"{rate:,.0f} lines/s"
    return f"{rate:.1f} lines/s" if rate >= 1 else f"{rate * 60:.1f} lines/min"


def share(part: int, whole: int) -> str:
    """Write a share that is never told as all before it is all, nor as none where there is some."""
    if part and part * 100 < whole:
        return "under 1 %"
    return f"{part * 100 // whole if whole else 0} %"


def when(seconds: int | None) -> str:
    """Write a time, in the time zone of whoever reads it."""
    return "" if seconds is None else f"{dt.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"
