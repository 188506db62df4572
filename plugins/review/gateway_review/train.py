"""Train the second look at a question: ``python -m gateway_review.train OUT FILE.jsonl …``.

Each row of a file is a JSON object with ``text`` and ``label`` (``harmful`` or ``benign``), and optionally ``source``
and ``weight``. The model is a logistic regression (L2) on `gateway_review.features`; the two classes weigh the same.
With ``--leave-one-out`` every source is held out once and judged by a model that has not seen it; nothing is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped] # scipy ships no types
from sklearn.linear_model import LogisticRegression

from gateway_review.features import SIZE, features, normalise
from gateway_review.harm import CARD, CUE_VALUE, WEIGHTS, HarmModel


def main(arguments: list[str]) -> int:
    """Train and write, or judge each source by a model trained on the others."""
    parser = argparse.ArgumentParser(prog="python -m gateway_review.train")
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--leave-one-out", action="store_true")
    parser.add_argument("--strength", type=float, default=3.0, help="inverse of the L2 penalty")
    options = parser.parse_args(arguments)
    rows = [json.loads(line) | {"file": path.stem} for path in options.files for line in path.read_text().splitlines()]
    rows = [row for row in rows if row["text"].strip()]
    for row in rows:
        row["source"] = row.get("source") or row["file"]
    matrix = _matrix([row["text"] for row in rows])
    if options.leave_one_out:
        for source in dict.fromkeys(row["source"] for row in rows):
            kept = np.array([row["source"] != source for row in rows])
            model, _ = _fit(matrix[kept], [row for row, keep in zip(rows, kept, strict=True) if keep], options.strength)
            sys.stdout.write(_judge(source, model, [row for row in rows if row["source"] == source]) + "\n")
        return 0
    model, weights = _fit(matrix, rows, options.strength)
    for source in dict.fromkeys(row["source"] for row in rows):
        sys.stdout.write(_judge(f"trained on {source}", model, [r for r in rows if r["source"] == source]) + "\n")
    data = weights[:-1].astype("<f4").tobytes()
    counts = {s: sum(row["source"] == s for row in rows) for s in sorted({row["source"] for row in rows})}
    card = {"sha256": hashlib.sha256(data).hexdigest(), "bias": float(weights[-1]), "sources": counts}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / WEIGHTS).write_bytes(data)
    (options.out / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return 0


def _matrix(texts: list[str]) -> Any:
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for row, text in enumerate(texts):
        grams, cues = features(normalise(text))
        rows += [row] * (len(grams) + len(cues))
        columns += [*grams, *cues]
        values += [(len(grams) + 1) ** -0.5] * len(grams) + [CUE_VALUE] * len(cues)
    return csr_matrix((values, (rows, columns)), shape=(len(texts), SIZE))


def _fit(matrix: Any, rows: list[dict[str, Any]], strength: float) -> tuple[HarmModel, Any]:
    target = np.array([row["label"] == "harmful" for row in rows])
    weight = np.array([float(row.get("weight", 1.0)) for row in rows])
    for side in (True, False):
        weight[target == side] *= len(rows) / weight[target == side].sum() / 2
    fitted = LogisticRegression(C=strength, max_iter=1000).fit(matrix, target, sample_weight=weight)
    weights = np.append(fitted.coef_[0], fitted.intercept_[0]).astype("f4")
    return HarmModel(array("f", weights[:-1].tolist()), float(weights[-1])), weights


def _judge(name: str, model: HarmModel, rows: list[dict[str, Any]]) -> str:
    said = f"{name}:"
    for label, word in (("harmful", "caught"), ("benign", "falsely flagged")):
        scores = [model.probability(row["text"]) for row in rows if row["label"] == label]
        if scores:
            hits = sum(score >= 0.5 for score in scores)
            said += f" {word} {hits}/{len(scores)} ({hits / len(scores):.3f})"
    return said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
