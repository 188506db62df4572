"""A decision told in plain words, for a compliance officer: from the record alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from gateway.records.explain_attempt import again, attempt_lines, in_force
from gateway.records.explain_context import context_lines, moment, where_lines, who
from gateway.records.explain_events import told
from gateway.records.explain_streamed import opened_text, part, part_left, stream_lines
from gateway.records.phrases import because, budget, failed, finding
from gateway.records.record import DecisionV1, OpenedV1, Record
from gateway.records.shapes import (
    AdmitV1,
    FailedV1,
    RefuseV1,
    ScreenedV1,
    SkippedV1,
    WithholdV1,
)
from gateway.records.words import count, level, listed, modality, ms, plain, share, short, view

_WIDTH = 110  # characters
_SCORES_TOLD = 3  # the strongest categories of a stage; the record has all

_ERASED = {
    "prompt": "the words of the request",
    "images": "the images",
    "stop": "the stop sequences",
    "found": "the text found in images",
    "demonstrations": "the demonstrations (their ids and digest are kept)",
    "answer": "the words of the model's answer",
    "replacements": "what the redactions put in place",
}


def explain(record: Record, *, closed: bool | None = None) -> str:
    """Tell a record in plain words, one paragraph for each step, lines of at most 110 characters.

    `closed`: of a stream that was opened, whether its decision has a record; None where that is not known.
    """
    if isinstance(record, OpenedV1):
        return _fill(opened_text(record, closed=closed))
    if not isinstance(record, DecisionV1):
        return _fill(told(record))
    parts: list[tuple[str, Iterable[str]]] = [
        ("", [_opening(record)]),
        ("Who asked, and for what", [_asked(record)]),
        ("Why, and for whom", context_lines(record.context)),
        ("The rules in force", [_rules(record)]),
        ("What the checks before the model said", [_screened(word) for word in record.screening]),
        ("What no check looked at", [_coverage(record)]),
        ("What the policy decided", [_admission(record)]),
    ]
    for number, attempt in enumerate(record.attempts):
        title = "The model" if number == 0 else "The model, asked once more"
        parts.append((title, [*attempt_lines(attempt), *([again(attempt)] if number else [])]))
    if record.defused:
        tokens = count(record.defused, "control token")
        given = f"{tokens} of a chat template stood in the request and was broken."
        parts.append(("What the model was given", [given]))
    if streamed := stream_lines(record):
        parts.append(("How the answer was streamed", streamed))
    parts.append(("What left the gateway", [_final(record)]))
    if where := where_lines(record):
        parts.append(("Where, and by which clock", where))
    parts.append(("What is kept, and what is not", _kept(record)))
    return "\n\n".join(_section(title, list(lines)) for title, lines in parts)


def _fill(text: str, indent: str = "") -> str:
    clean = "".join(c if c.isprintable() or c.isspace() else "�" for c in text)  # people's reasons go to terminals
    return textwrap.fill(
        clean, _WIDTH, initial_indent=indent, subsequent_indent=" " * len(indent),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _section(title: str, lines: list[str]) -> str:
    if not title:
        return "\n".join(_fill(line) for line in lines)
    lines = lines or ["Nothing is recorded."]
    body = "\n".join(_fill(line, "  - " if len(lines) > 1 else "  ") for line in lines)
    return f"{title}\n{body}"


def _opening(record: DecisionV1) -> str:
    word = {
        "released": "RELEASED: an answer of the model left the gateway",
        "refused": "REFUSED: the model was not asked",
        "screened": "SCREENED: only the checks before the model were asked for, and the policy would let it pass",
        "withheld": "WITHHELD: the model was asked, and its answer did not leave the gateway",
    }[record.outcome]
    if part_left(record):
        word = f"WITHHELD IN PART: the model was asked, and its answer was stopped after {part(record)} had left"
    shadow = " This was a SHADOW decision: it had no effect." if record.mode == "shadow" else ""
    when = f"{record.at:%d %B %Y, %H:%M:%S} UTC"
    return f"Decision {record.id} of {when}. Outcome: {word}. It took {ms(record.ms)} in all.{shadow}"


def _asked(record: DecisionV1) -> str:
    texts = sum(1 for row in record.coverage if row.kind == "text")
    held = [count(texts, "piece of text", "pieces of text")]
    held += [
        f"one {modality(image.modality)} ({image.source.upper()}, {image.width} by {image.height} pixels, {image.part})"
        for image in record.images
    ]
    asker, stream = who(record.caller), ", as a stream" if record.stream else ""
    return (
        f"{asker[0].upper()}{asker[1:]} asked the model `{record.model}` through {record.endpoint}{stream}. "
        f"What a model could have read: {listed(tuple(held))}.{_line(record)}"
    )


def _line(record: DecisionV1) -> str:
    """Tell of which line of a batch it was; nothing of a live request."""
    line = record.batch
    if line is None:
        return ""
    return (
        f" It was line {line.line} of the batch {line.batch}, decided at try {line.tries}; checks and model had "
        f"{line.patience:g} times as long as for a live request."
    )


def _rules(record: DecisionV1) -> str:
    policy = record.policy
    return (
        f"The policy of {policy.department}, revision {policy.revision} (SHA-256 of its file: {policy.digest}), was "
        f"carried out by version {record.gateway} of the gateway."
    )


def _screened(word: ScreenedV1 | SkippedV1 | FailedV1) -> str:
    if isinstance(word, FailedV1):
        return failed(word)
    if isinstance(word, SkippedV1):
        return f"{word.stage} {word.version} was not asked: the risk lay outside the band of its second opinion."
    what = "judged the text found in images" if word.round == "found" else "judged the request"
    said = [f"{word.stage} {word.version} {what} ({ms(word.ms)}): risk {share(word.risk)} of 1 ({level(word.risk)})"]
    if word.part is not None:
        said.append(f"highest in {word.part}{view(word.view)}")
    scores = sorted(word.scores, key=lambda score: -score.value)[:_SCORES_TOLD]
    if scores:
        said.append("by category " + ", ".join(f"{plain(score.label)} {share(score.value)}" for score in scores))
    text = "; ".join(said) + "."
    text += f" It looked at {listed(word.inspected)}." if word.inspected else " It looked at no part."
    if word.found:
        found = count(len(word.found), "piece of text", "pieces of text")
        text += f" It found {found} inside images ({listed(word.found)}), handed on as if the user had typed it."
    if word.findings:
        text += f" It found {'; '.join(map(finding, word.findings))}."
    if word.clinical is not None:
        text += f" About clinical work: {share(word.clinical)} of 1."
    if word.notes:
        text += f" Notes: {listed(tuple(map(plain, word.notes)))}."
    return text + in_force(word.config, word.threshold)


def _coverage(record: DecisionV1) -> str:
    unseen = tuple(f"{row.part} ({row.kind})" for row in record.coverage if not row.by)
    total = len(record.coverage)
    if not total:
        return "The request held nothing that a model could read."
    if not unseen:
        parts = "the one part" if total == 1 else f"each of the {total} parts"
        return f"Nothing: {parts} that a model could read was looked at by a check."
    waived = isinstance(record.admission, AdmitV1) and bool(record.admission.waived)
    why = " The policy let them pass uninspected (`allow_uninspected`)." if waived else ""
    return f"{count(len(unseen), 'part')} of {total}: {listed(unseen)}.{why}"


def _admission(record: DecisionV1) -> str:
    decision = record.admission
    if isinstance(decision, RefuseV1):
        risk = "" if decision.risk is None else f" The worst risk seen was {share(decision.risk)}."
        return (
            f"Rule `{decision.rule}`: the request was refused, because {because(decision.reasons)}.{risk}"
            f"{_thresholds(decision)}"
        )
    text = (
        f"Rule `{decision.rule}`: with a worst risk of {share(decision.risk)} the model might be asked. "
        f"This tier buys {budget(decision.budget)}.{_thresholds(decision)}"
    )
    if decision.excused:
        text += f" The policy excused failed checks by name (`allow_if_unavailable`): {listed(decision.excused)}."
    if decision.waived:
        text += f" The policy let parts pass that no check looked at: {listed(decision.waived)}."
    return text


def _thresholds(decision: AdmitV1 | RefuseV1) -> str:
    if not decision.bounds:
        return ""
    tiers = listed(tuple(f"below {share(bound)} tier {place}" for place, bound in enumerate(decision.bounds)))
    clinical = decision.clinical_at_least
    owed = "" if clinical is None else f" The request had to be clinical by at least {share(clinical)} of 1."
    return f" The thresholds in force: {tiers}, and from {share(decision.bounds[-1])} on a refusal.{owed}"


def _final(record: DecisionV1) -> str:
    final = record.final
    if isinstance(final, RefuseV1):
        return f"No answer: the caller got a refusal, by rule `{final.rule}`. The model never saw the request."
    if isinstance(final, WithholdV1) and part_left(record):
        return (
            f"A part of the model's answer: {part(record)}, which the checks had let pass. What came after was "
            f"withheld by rule `{final.rule}`, because {because(final.reasons)}."
        )
    if isinstance(final, WithholdV1):
        return f"No answer: it was withheld by rule `{final.rule}`, because {because(final.reasons)}."
    if isinstance(final, AdmitV1):
        return f"What the checks found, and that by rule `{final.rule}` the model might be asked. No model was."
    text = f"The model's answer, by rule `{final.rule}`"
    if final.redactions:
        spans = listed(tuple(f"{plain(r.label)} ({r.part}, {r.start} to {r.end})" for r in final.redactions))
        text += f", after {count(len(final.redactions), 'redaction')}: {spans}."
    else:
        text += ", with nothing redacted."
    if final.noted:
        text += f" Noted without consequence: {listed(tuple(map(plain, final.noted)))}."
    if final.excused:
        text += f" The policy excused failed checks by name (`allow_if_unavailable`): {listed(final.excused)}."
    if record.left is not None:
        text += f" {count(record.left, 'character')} of it {'was' if record.left == 1 else 'were'} handed over."
    return text


_RETENTION = {"6y": "six years", "10y": "ten years", "6mo": "six months"}


def _kept(record: DecisionV1) -> list[str]:
    what = listed(tuple(_ERASED.get(name, plain(name)) for name in record.erased)) or "nothing"
    lines = [
        f"Left out of this record: {what}. Digests keyed with the gateway's secret stand for them, so that whoever "
        "holds both a text and the secret can show whether this record is about it."
    ]
    if record.sealed is not None:
        until = "with no end set" if record.sealed.until is None else f"until {moment(record.sealed.until)}"
        lines.append(
            f"Sealed in the vault, {until}: the request and the answer, {record.sealed.size} bytes with the SHA-256 "
            f"{short(record.sealed.sha256)}. To see them takes a role, a reason and a record."
        )
    lines.append(f"The record itself is to be kept at least {_RETENTION[record.retention]}.")
    if record.review is not None:
        lines.append(f"Due for review by a person: it was drawn as `{record.review}`.")
    return lines
