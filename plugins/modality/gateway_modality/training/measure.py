"""Figures: each source judged by heads and margins made without it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway_modality.judge import Verdict, coloured, read
from gateway_modality.loading import Rules
from gateway_modality.training.head import LABELS, Vectors, rules


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Give the 95 % interval of a share (Wilson, 1927)."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    middle, spread = share + z * z / (2 * count), z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float((middle - spread) / (1 + z * z / count)), float((middle + spread) / (1 + z * z / count))


def measure(vectors: Vectors, found: NDArray[np.float64]) -> dict[str, Any]:
    """Sum up the out-of-fold sums: with margins also chosen without the source (`nested`), and with the final ones.

    `changed` are the changed copies of the held-out pictures under the final margins.
    """
    everything = np.flatnonzero(vectors.real)
    final = rules(vectors, found, everything)
    sources = vectors.sources
    without = {
        s: rules(vectors, found, everything[sources[everything] != s]) for s in set(sources[everything].tolist())
    }
    copies = range(1, found.shape[1])

    def verdicts(copy: int, given: Rules | None = None) -> list[Verdict]:
        return [
            read(found[i, copy], coloured(vectors.values[i, copy]), given or without[str(sources[i])])
            for i in everything
        ]

    truth = [LABELS[vectors.labels[i]] for i in everything]
    nested = verdicts(0)
    wrong = [
        f"{true} of {sources[i]} called {verdict.label}"
        for i, true, verdict in zip(everything, truth, nested, strict=True)
        if verdict.sure and verdict.label != true
    ]
    return {
        "nested": _rows(truth, nested),
        "errors": sorted(wrong),
        "final": _rows(truth, verdicts(0, final)),
        "changed": _rows(truth * len(copies), [one for copy in copies for one in verdicts(copy, final)]),
        "margins": {label: round(value, 3) for label, value in final.margins.items()},
        "temperature": round(final.temperature, 3),
        "sources": {
            label: sorted({str(sources[i]) for i in everything if LABELS[vectors.labels[i]] == label})
            for label in LABELS
        },
    }


def _rows(truth: list[str], verdicts: list[Verdict]) -> dict[str, dict[str, Any]]:
    pairs = list(zip(truth, verdicts, strict=True))
    made = {label: _row(label, pairs) for label in LABELS}
    sure = [(true, verdict) for true, verdict in pairs if verdict.sure]
    right = sum(true == verdict.label for true, verdict in sure)
    made["all"] = {
        "pictures": len(pairs),
        "likeliest_right": sum(true == verdict.label for true, verdict in pairs) / len(pairs),
        "sure": len(sure),
        "sure_right": right,
        "precision": right / len(sure) if sure else None,
        "precision_interval": wilson(right, len(sure)),
        "abstained": 1 - len(sure) / len(pairs),
    }
    return made


def _row(label: str, pairs: list[tuple[str, Verdict]]) -> dict[str, Any]:
    own = [verdict for true, verdict in pairs if true == label]
    called = [(true, verdict) for true, verdict in pairs if verdict.sure and verdict.label == label]
    right, silent = sum(true == label for true, _ in called), sum(not verdict.sure for verdict in own)
    return {
        "pictures": len(own),
        "likeliest_right": sum(verdict.label == label for verdict in own) / len(own) if own else None,
        "sure": len(called),
        "sure_right": right,
        "precision": right / len(called) if called else None,
        "precision_interval": wilson(right, len(called)),
        "abstained": silent / len(own) if own else None,
        "abstained_interval": wilson(silent, len(own)),
    }


def table(found: dict[str, Any], part: str) -> str:
    """Lay one part of the figures out as a Markdown table."""

    def share(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f} %"

    def span(low: float, high: float) -> str:
        return f"{100 * low:.0f} to {100 * high:.0f} %"

    lines = [
        "| modality | sources | pictures | likeliest right | called so | rightly | precision | interval | abstained |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for label, row in found[part].items():
        sources = len(found["sources"].get(label, ())) or ""
        spread = span(*row["precision_interval"]) if row["sure"] else ""
        cells = (
            label, sources, row["pictures"], share(row["likeliest_right"]), row["sure"], row["sure_right"],
            share(row["precision"]), spread, share(row["abstained"]),
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"
