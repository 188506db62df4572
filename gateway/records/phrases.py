"""Phrases that several steps of a decision are told with."""

from __future__ import annotations

from gateway.records.shapes import BudgetV1, FailedV1, FindingV1, ReasonV1
from gateway.records.words import cause, count, listed, ms, plain, share


def failed(word: FailedV1) -> str:
    """Tell that a stage gave no word, and what follows."""
    which = "" if word.choice is None else f" on answer {word.choice + 1}"
    return (
        f"{word.stage} {word.version} FAILED{which}: {cause(word.cause)} (after {ms(word.ms)}). "
        "A check that says nothing counts as a no, unless the policy excuses it by name."
    )


def _reason(reason: ReasonV1) -> str:
    stage = f"`{reason.stage}`" if reason.stage else "a stage"
    label = plain(reason.label) if reason.label else "harm"
    where = f" in {reason.part}" if reason.part else ""
    told = {
        "risk": f"{stage} saw too high a risk of {label}{where}",
        "out-of-scope": f"{stage} saw no clinical work in it, and the policy takes no other (`scope: clinical`)",
        "scope-unknown": "no check said whether it is about clinical work (`scope: clinical`)",
        "stage-failed": f"the check {stage} failed: {cause(reason.cause)}",
        "stage-missing": f"the policy asks for the check {stage}, and no word of it came",
        "uninspected": f"no check looked at {reason.part or 'a part of the request'}",
        "finding": f"{stage} found {label}{where}",
        "nothing-to-answer": "there was nothing to answer",
        "demonstrations-failed": f"the demonstrations could not be had from {stage}: {cause(reason.cause)}",
        "caller-gone": "the caller had gone before the answer was ready",
        "model-failed": f"the model stage {stage} failed: {cause(reason.cause)}",
    }
    return told.get(reason.code, f"{plain(reason.code)}{f' ({stage})' if reason.stage else ''}{where}")


def because(reasons: tuple[ReasonV1, ...]) -> str:
    """Join the reasons of a refusal or a withheld answer."""
    return "; ".join(map(_reason, reasons)) or "no reason is recorded"


def budget(spend: BudgetV1) -> str:
    """Tell what a budget buys."""
    if spend.demonstrations == 0:
        return "no demonstrations"
    caps = []
    if spend.tokens is not None:
        caps.append(f"at most {spend.tokens} tokens")
    if spend.images is not None:
        caps.append(f"at most {count(spend.images, 'image')}")
    of = f", {listed(tuple(caps))}" if caps else ""
    return f"up to {count(spend.demonstrations, 'demonstration')}, a share of {share(spend.mix)} of them refusing{of}"


def finding(one: FindingV1) -> str:
    """Tell a finding: kind, label, score, place."""
    label = f" ({plain(one.label)})" if one.label else ""
    span = "" if one.start is None else f", characters {one.start} to {one.end}"
    return f"{plain(one.kind)}{label}, score {share(one.score)}, in {one.part}{span}"
