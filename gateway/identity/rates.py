"""Rates, as settings write them (``600/minute``, or ``600/minute;20000/day``), and where they are counted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

Unit = Literal["second", "minute", "hour", "day"]

SECONDS: dict[Unit, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
"""How long each unit is, in seconds."""

_RATE = re.compile(r"([1-9][0-9]{0,8})\s*/\s*(second|minute|hour|day)", re.ASCII)


class Rate(Struct, frozen=True):
    """At most `amount` requests in each `unit`."""

    amount: int
    unit: Unit

    @property
    def seconds(self) -> int:
        """How long the unit is."""
        return SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.amount}/{self.unit}"


def parse_rates(text: str) -> tuple[Rate, ...]:
    """Read rates, shortest unit first; none for an empty text. Raises ValueError with what is expected."""
    rates: dict[Unit, Rate] = {}
    for one in filter(None, (part.strip() for part in re.split("[;,]", text))):
        match = _RATE.fullmatch(one)
        if match is None:
            raise ValueError(f"expected rates such as `600/minute` or `600/minute;20000/day`, got `{one[:40]}`")
        unit: Unit = match[2]  # type: ignore[assignment] # the pattern matches nothing else
        if unit in rates:
            raise ValueError(f"there are two rates for each {unit}; write one")
        rates[unit] = Rate(int(match[1]), unit)
    return tuple(sorted(rates.values(), key=lambda rate: rate.seconds))


def replaced(rates: Iterable[Rate], per_minute: int | None, per_day: int | None) -> tuple[Rate, ...]:
    """Give `rates` with those of a key in place of the rates for the same unit."""
    by_unit = {rate.unit: rate for rate in rates}
    if per_minute is not None:
        by_unit["minute"] = Rate(per_minute, "minute")
    if per_day is not None:
        by_unit["day"] = Rate(per_day, "day")
    return tuple(sorted(by_unit.values(), key=lambda rate: rate.seconds))


def redis_url(url: str) -> str:
    """Give the URL of a Redis with its port. Raises ValueError, without quoting it: it may hold a password."""
    expected = "expected `redis://host:6379/0` or `rediss://…`"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in ("redis", "rediss") or not host:
        raise ValueError(expected)
    place = parts.netloc if port is not None else f"{parts.netloc.rstrip(':')}:6379"
    return urlunsplit(parts._replace(netloc=place))
