"""Figures: each source judged by a detector, and by a cut, made without it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway_perturbation.training.fitting import rules
from gateway_perturbation.training.making import Table


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Give the 95 % interval of a share (Wilson, 1927)."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    middle, spread = share + z * z / (2 * count), z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float((middle - spread) / (1 + z * z / count)), float((middle + spread) / (1 + z * z / count))


def auc(attacks: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
    """Give the chance that an attacked sample sums above a clean one."""
    order = np.sort(clean)
    below, upto = np.searchsorted(order, attacks, "left"), np.searchsorted(order, attacks, "right")
    return float((below + upto).mean() / (2 * len(order)))


def measure(table: Table, found: NDArray[np.float64]) -> dict[str, Any]:
    """Sum up the out-of-fold sums: shares at or above the cut (a score of 0.5) that was chosen without the source."""
    flagged = np.zeros(len(found), bool)
    for source in sorted(set(table.source.tolist())):
        held = table.source == source
        flagged[held] = found[held] >= rules(table, found, ~held).cut
    clean = table.role == "clean"
    made: dict[str, Any] = {"clean": {}, "sources": {}, "attacks": {}}
    for name in ("all", *dict.fromkeys(table.done[clean].tolist())):
        made["clean"][name] = _share(flagged[clean & ((table.done == name) | (name == "all"))])
    for source in sorted(set(table.source.tolist())):
        made["sources"][source] = _share(flagged[clean & (table.source == source)])
    for name in dict.fromkeys(table.done[~clean].tolist()):
        chosen = table.done == name
        made["attacks"][name] = {**_share(flagged[chosen]), "auc": round(auc(found[chosen], found[clean]), 3)}
    return made


def _share(flagged: NDArray[np.bool_]) -> dict[str, Any]:
    hits, count = int(flagged.sum()), len(flagged)
    return {
        "samples": count,
        "flagged": hits,
        "share": hits / count if count else None,
        "interval": wilson(hits, count),
    }


def table_of(found: dict[str, dict[str, Any]], title: str) -> str:
    """Lay a part of the figures out as a Markdown table."""
    ranked = any("auc" in row for row in found.values())
    lines = [
        f"| {title} | samples | flagged | interval |{' AUC |' if ranked else ''}",
        "|---" * (5 if ranked else 4) + "|",
    ]
    for name, row in found.items():
        low, high = row["interval"]
        last = f" {row['auc']:.3f} |" if ranked else ""
        lines.append(
            f"| {name} | {row['samples']} | {100 * row['share']:.1f} % | {100 * low:.0f} to {100 * high:.0f} % |{last}"
        )
    return "\n".join(lines) + "\n"
