"""Numbers in 0..1, read so that a broken one counts as the worst."""

from __future__ import annotations

from gateway.policy.validate import is_share


def worst_share(value: object) -> float:
    """Give `value` where it is a number in 0..1, else 1.0: NaN, infinity or nonsense is never taken for harmless."""
    return float(value) if is_share(value) else 1.0
