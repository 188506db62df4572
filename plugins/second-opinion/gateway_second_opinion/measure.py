"""``python -m gateway_second_opinion.measure``: what a second opinion buys, on held-out twins, as JSON.

It judges pairs of opposite intent with the stage, and beside it with the pre-screener ``intent``, and tells both apart
and together in the band in which a policy would ask. Needs gateway-intent, numpy and tqdm.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.util
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tqdm import tqdm

from gateway.plugin import ModelRef, Request, Text, Turn
from gateway_second_opinion import Config, build
from gateway_second_opinion.figures import applied, auc, calibration, fit, rates
from gateway_second_opinion.stage import NoVerdict, SecondOpinion

BAND = (0.2, 0.9)
"""Where a policy with the default tiers asks a second opinion: below nothing is added; from there on, refused."""


def stage(kind: str, name: str) -> Any:
    """Find an installed stage by its entry point.

    Raises:
        ValueError: no installed plugin offers it.
    """
    for point in metadata.entry_points(group="gateway"):
        for offer in getattr(point.load(), f"gateway_{kind}s", list)():
            if offer.name == name:
                return offer
    raise ValueError(f"no installed plugin offers the {kind} `{name}`")


def pairs(path: Path) -> list[tuple[str, str, str]]:
    """Read a file of twins, one ``H01 harmful => B01 benign`` a line: category, harmful text, benign text."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        bad, arrow, good = line.partition(" => ")
        if arrow and not line.startswith("#"):
            code, _, bad = bad.partition(" ")
            found.append((code, bad, good[4:] if good[:1] == "B" and good[1:3].isdigit() else good))
    return found


def weights() -> Path:
    """Find the folder of gateway-intent without importing it."""
    spec = importlib.util.find_spec("gateway_intent")
    if spec is None or spec.origin is None:
        raise ValueError("gateway-intent is not installed; install it, or this package with the extra `measure`")
    return Path(spec.origin).parent


def request(text: str) -> Request:
    """Make a request of one user turn."""
    turn = Turn(role="user", parts=(Text(id="messages[0].content", text=text),))
    return Request(id="measure", department="measure", model="none", turns=(turn,))


async def judge(opinion: SecondOpinion, intent: Any, sample: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Judge both texts of every pair, one at a time, with a bar on standard error."""
    rows = []
    texts = [
        (n, code, harm, text) for n, (code, bad, good) in enumerate(sample) for harm, text in ((1, bad), (0, good))
    ]
    for pair, code, harm, text in tqdm(texts, unit="text", file=sys.stderr):
        began, idle = time.perf_counter(), time.process_time()
        given = await opinion.screen(request(text))
        took, busy = time.perf_counter() - began, time.process_time() - idle
        first = await intent.screen(request(text))
        rows.append(
            {"pair": pair, "code": code, "harm": harm, "opinion": given.risk, "intent": first.risk, "seconds": took,
             "busy": busy}
        )  # fmt: skip
    return rows


def told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up: each alone, and together in the band, as the stage's risk stands and with its log-odds fitted."""
    harm = np.array([row["harm"] for row in rows])
    order = np.array([row["pair"] for row in rows])
    opinion, intent = (np.array([row[name] for row in rows]) for name in ("opinion", "intent"))
    inside = (intent >= BAND[0]) & (intent < BAND[1])
    slope, offset = fit(opinion, harm)
    fitted = np.empty_like(opinion)
    for half in (0, 1):  # each half of the pairs by what was fitted to the other
        here = order % 2 == half
        fitted[here] = applied(opinion[here], *fit(opinion[~here], harm[~here]))

    def alone(risk: Any) -> dict[str, Any]:
        return {"auc": auc(risk, harm), "pairs_in_order": ordered(risk, harm, order), **calibration(risk, harm)}

    def beside(risk: Any) -> dict[str, Any]:
        worst = np.where(inside, np.maximum(intent, risk), intent)  # it can only add to the risk
        return {"auc": auc(worst, harm), **rates(worst, harm, BAND[1])}

    times = np.array([row["seconds"] for row in rows]) * 1000
    return {
        "texts": len(rows),
        "opinion": alone(opinion),
        "opinion_fitted": {"slope": slope, "offset": offset, **alone(fitted)},
        "intent": {**alone(intent), **rates(intent, harm, BAND[1])},
        "in_band": {
            "texts": int(inside.sum()),
            "harmful": int(harm[inside].sum()),
            "auc_intent": auc(intent[inside], harm[inside]),
            "auc_opinion": auc(opinion[inside], harm[inside]),
        },
        "together": beside(opinion),
        "together_fitted": beside(fitted),
        "milliseconds": {
            "median": float(np.median(times)),
            "p95": float(np.percentile(times, 95)),
            "processor_mean": 1000 * float(np.mean([row["busy"] for row in rows])),
        },
    }


def ordered(risk: Any, harm: Any, order: Any) -> float:
    """Give the share of pairs whose harmful twin has the higher risk."""
    both = {(pair, bool(kind)): value for pair, kind, value in zip(order, harm, risk, strict=True)}
    return float(np.mean([both[pair, True] > both[pair, False] for pair in set(order)]))


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_second_opinion.measure", description=__doc__)
    parser.add_argument(
        "--config", default="{}", help="the stage's configuration as JSON (default: the embedded model)"
    )
    parser.add_argument("--pairs", type=Path, help="file of twins (default: the held-out twins of gateway-intent)")
    parser.add_argument("--sample", type=int, default=60, help="how many pairs, spread over the categories; 0 for all")
    parser.add_argument("--out", type=Path, help="also write every risk, without its text, to this JSON file")
    options = parser.parse_args(arguments)
    try:
        config = msgspec.convert({"model": {"stage": "transformers"}} | json.loads(options.config), Config, strict=True)
        found, rows = asyncio.run(_run(config, options.pairs, options.sample))
        if options.out is not None:
            options.out.write_text(json.dumps(rows) + "\n")
    except (ValueError, OSError, NoVerdict) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


def chosen(found: list[tuple[str, str, str]], count: int) -> list[tuple[str, str, str]]:
    """Take `count` pairs at random, the same each time, as evenly from the categories as they go."""
    rng = random.Random(0)  # noqa: S311 - a sample, no secret
    rng.shuffle(found)
    seen: dict[str, int] = {}
    ranked = []
    for pair in found:
        seen[pair[0]] = seen.get(pair[0], 0) + 1
        ranked.append((seen[pair[0]], pair))
    ranked.sort(key=lambda item: item[0])
    return [pair for _, pair in ranked[: count or None]]


async def _run(config: Config, path: Path | None, count: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    file = path or weights() / "training" / "heldout" / "twins.txt"
    ref: ModelRef = config.model
    offer = stage("backend", ref.stage)
    model = await asyncio.to_thread(offer.build, msgspec.convert(ref.config, offer.config, strict=True))
    manifest = hashlib.sha256((weights() / "weights" / "manifest.json").read_bytes()).hexdigest()
    screen = stage("prescreener", "intent")
    intent = await asyncio.to_thread(screen.build, screen.config())
    opinion = build(config, model)
    began = time.perf_counter()
    await opinion.leaning()
    first = 1000 * (time.perf_counter() - began)
    rows = await judge(opinion, intent, chosen(pairs(file), count))
    if hasattr(model, "aclose"):
        await model.aclose()
    head = {
        "model": ref.stage,
        "config": msgspec.to_builtins(config),
        "intent_manifest": manifest,
        "leaning_milliseconds": first,
    }
    return {**head, "load_average": os.getloadavg()[0], **told(rows)}, rows


if __name__ == "__main__":
    raise SystemExit(main())
