"""The table of personalities."""

from __future__ import annotations

from gateway.testing.upstream import faults, refusals, speech, streams
from gateway.testing.upstream.personality import Personality

PERSONALITIES: dict[str, Personality] = {
    each.name: each
    for module in (speech, streams, faults, refusals)
    for each in vars(module).values()
    if isinstance(each, Personality)
}
"""All personalities by name."""


def find(name: str) -> tuple[Personality, str] | None:
    """Find the personality that a model's name chooses, and its argument; None where it chooses none."""
    base, _, argument = name.partition(":")
    found = PERSONALITIES.get(base)
    return None if found is None or (argument and not found.argument) else (found, argument)


def named(name: str) -> tuple[Personality, str]:
    """Give the personality of this name, and its argument.

    Raises:
        ValueError: there is none.
    """
    found = find(name)
    if found is None:
        raise ValueError(f"there is no personality `{name}`; give one of {', '.join(PERSONALITIES)}")
    return found


def table() -> str:
    """Write the table in Markdown."""
    rows = [
        f"| `{each.name}{f'[:{each.argument}]' if each.argument else ''}` | {each.sentence} |"
        for each in PERSONALITIES.values()
    ]
    return "\n".join(["| model | what it does |", "| --- | --- |", *rows]) + "\n"
