"""What `gateway policy calibrate` does: screen a department's own benign questions, and set the tiers by them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gateway.cli.measuring import bar, stopping
from gateway.cli.output import show
from gateway.errors import ConfigurationError
from gateway.evaluation.calibrate import (
    Broken,
    Promise,
    Threshold,
    new_tiers,
    raised_at,
    refused_at,
    threshold_of_caution,
    threshold_of_refusal,
)
from gateway.evaluation.numbers import Share, share, upper_bound
from gateway.evaluation.rewrite import (
    cases_broken,
    difference,
    load_text,
    number,
    read_policy,
    with_tiers,
    write_policy,
)
from gateway.evaluation.rows import RowFile, check_images, read_rows
from gateway.evaluation.screening import Seen, Stop, screen_rows, warm_up
from gateway.evaluation.stages import prescreeners
from gateway.evaluation.telling import told
from gateway.pipeline import Pipeline
from gateway.policy.model import LoadedPolicy
from gateway.registry import load_registry
from gateway.settings import read_settings

ASSUMED = (
    "The promise holds for questions that come as those in the file came (exchangeable): the same department, season "
    "and mix, none that a check was trained on or that was picked by how the checks judge it. When these or a check "
    "change, calibrate again."
)


def calibrate(
    path: Path,
    benign: Path,
    harmful: Path | None,
    *,
    refusal: Promise,
    caution: Promise | None,
    jobs: int,
    write: bool,
    as_json: bool,
) -> None:
    """Choose the thresholds, tell them, and write them where that is wished. Raises GatewayError, nothing written."""
    offers = load_registry().configs()
    data = read_policy(path)
    loaded = load_text(path, data, offers)
    if caution is not None and len(loaded.policy.tiers) == 1:
        raise ConfigurationError(f"{path}: has one tier, so no question gets a higher one; leave out --higher-tier")
    files = read_rows([benign], only="benign") + (read_rows([harmful], only="harmful") if harmful else ())
    seen = asyncio.run(_screened(files, loaded, jobs))
    good, bad = seen[0], seen[1] if harmful else ()
    last = _kept(threshold_of_refusal(good, refusal), benign, refusal, "refused", good)
    first = None if caution is None else _kept(threshold_of_caution(good, caution), benign, caution, "raised", good)
    old = tuple(tier.below for tier in loaded.policy.tiers)
    new = new_tiers(old, None if first is None else first.below, last.below)
    if isinstance(new, Broken):
        raise ConfigurationError(f"{path}: {new.why}")
    made, after = with_tiers(path, data, new, offers)
    document = {
        "policy": str(path),
        "digest": loaded.digest,
        "tiers": {"before": list(old), "after": list(new)},
        "refused": _effect(good, refused_at, old[-1], new[-1], last, refusal),
        "higher_tier": None if not (first and caution) else _effect(good, raised_at, old[0], new[0], first, caution),
        "harmful_refused": [_counts(bad, refused_at, below, unknown=False) for below in (old[-1], new[-1])] if bad
        else None,
        "assumed": ASSUMED,
        "cases_broken": cases_broken(path, loaded, after),
        "written": write,
    }  # fmt: skip
    if write:
        write_policy(path, made, data)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _tell(document, difference(path, data, made, "calibrated"), good, bad, old, new)


async def _screened(files: Sequence[RowFile], loaded: LoadedPolicy, jobs: int) -> list[tuple[Seen, ...]]:
    limits, stop = read_settings().image_limits, Stop()
    pictures = sum(row.image is not None for file in files for row in file.rows)
    if pictures:
        with bar(pictures, "checking images", "image") as update:
            await asyncio.to_thread(check_images, files, limits=limits, jobs=jobs, progress=update)
    seen = []
    async with prescreeners(loaded, load_registry()) as stages:
        pipeline = Pipeline(loaded, stages)
        await warm_up((row for file in files for row in file.rows), pipeline, limits=limits)
        with stopping(stop):
            for file in files:
                with bar(len(file.rows), file.name, "row") as update:
                    seen.append(
                        await screen_rows(file.rows, pipeline, limits=limits, jobs=jobs, stop=stop, progress=update)
                    )
    if stop.wanted:
        click.echo("stopped; nothing was changed", err=True)
        raise SystemExit(130)
    return seen


def _kept(found: Threshold | Broken, file: Path, promise: Promise, word: str, seen: Sequence[Seen]) -> Threshold:
    """Give the threshold. Raises ConfigurationError with what is in the way where there is none."""
    if isinstance(found, Threshold):
        return found
    lines = [f"{file}: at most {_plain(promise.at_most)} {word} can not be promised: {found.why}"]
    if found.needed is not None:
        how = "on average" if promise.confidence is None else f"with {_plain(promise.confidence)} confidence"
        lines.append(f"{file}: {_plain(promise.at_most)} {how} needs {found.needed} questions or more, all admitted")
    others = _others(seen)
    if others:
        lines.append(f"{file}: refused whatever the thresholds are: {others}")
    raise ConfigurationError(*lines)


def _others(seen: Sequence[Seen]) -> str:
    """Name what refuses beside the risk, and how often; empty where nothing does."""
    counted = Counter("risk 1" if code == "risk" else code for s in seen if s.barred for code in s.reasons)
    return ", ".join(f"{code} {count}" for code, count in counted.most_common())


def _counts(seen: Sequence[Seen], count: Any, below: float, *, unknown: bool) -> dict[str, Any]:
    found: Share = share(count(seen, below, unknown=unknown), len(seen))
    return {"hits": found.hits, "of": found.of, "value": found.value, "low": found.low, "high": found.high}


def _effect(
    seen: Sequence[Seen], count: Any, old: float, new: float, threshold: Threshold, promise: Promise
) -> dict[str, Any]:
    after = _counts(seen, count, new, unknown=True)
    return {
        "at_most": promise.at_most,
        "confidence": promise.confidence,
        "allowed": threshold.allowed,
        "whatever_the_threshold": threshold.fixed,
        "before": _counts(seen, count, old, unknown=True),
        "after": after,
        "upper_bound_95": upper_bound(after["hits"], after["of"], 0.95),
    }


def _tell(
    document: dict[str, Any],
    diff: str,
    good: Sequence[Seen],
    bad: Sequence[Seen],
    old: Sequence[float],
    new: Sequence[float],
) -> None:
    rows = []
    for key, words in (("refused", "refused"), ("higher_tier", "refused or at a higher tier")):
        effect = document[key]
        if effect is not None:
            how = "on average" if effect["confidence"] is None else f"with {_plain(effect['confidence'])} confidence"
            ends = (old[-1], new[-1]) if key == "refused" else (old[0], new[0])
            rows.append(
                {
                    "promise": f"at most {_plain(effect['at_most'])} {words}, {how}",
                    "below": f"{number(ends[0])} → {number(ends[1])}",
                    "before": _share(effect["before"]),
                    "after": _share(effect["after"]),
                    "allowed": effect["allowed"],
                }
            )
    show(rows, tuple(rows[0]), json_wanted=False, title=f"{len(good)} benign questions")
    others = _others(good)
    if others:
        count = document["refused"]["whatever_the_threshold"]
        click.echo(f"{count} are refused whatever the thresholds are, and count as refused: {others}")
    if document["harmful_refused"]:
        then, now = map(_share, document["harmful_refused"])
        click.echo(f"Of the {len(bad)} harmful questions it refused {then}; it would refuse {now}.")
    click.echo(f"{ASSUMED}\n\n{diff}\n")
    broken = document["cases_broken"]
    if broken:
        click.echo(f"cases that would no longer hold (look at them, then mend them): {'; '.join(broken)}")
    click.echo(
        f"wrote {document['policy']}; run `gateway policy test`, then start the gateway anew"
        if document["written"]
        else "nothing was written; add --write to change the file"
    )


def _share(counts: dict[str, Any]) -> str:
    return told(Share(**counts))


def _plain(part: float) -> str:
    return f"{100 * part:g} %"
