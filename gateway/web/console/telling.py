"""What a decision's page shows of its record: the words of `explain` in sections, and its stages and parts as rows."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from gateway.records import DecisionV1, Record, explain
from gateway.records.shapes import (
    AttemptV1,
    AuditedV1,
    CompletedV1,
    FailedV1,
    InjectedV1,
    ScreenedV1,
    SkippedV1,
)
from gateway.records.words import cause, count, plain, share

Line = tuple[tuple[str, bool], ...]
"""A paragraph in pieces, each with whether it is a code, which `explain` puts in backticks."""


class Section(Struct, frozen=True, kw_only=True):
    """Some paragraphs under a title; the first section of a telling has none."""

    title: str
    lines: tuple[Line, ...]


class StageRow(Struct, frozen=True, kw_only=True):
    """What one stage said; `ms` is its time.

    `score`, and `threshold`, from which score on a finding counts, are words, empty where there is none.
    """

    step: str
    stage: str
    version: str
    said: str
    score: str = ""
    threshold: str = ""
    config: str | None = None
    ms: float | None = None
    failed: bool = False


def sections(record: Record, *, closed: bool | None = None) -> tuple[Section, ...]:
    """Tell a record in sections, their lines unwrapped: a browser breaks them where its window ends.

    `closed` is as in `explain`.
    """
    found = []
    for part in explain(record, closed=closed).split("\n\n"):
        rows = part.split("\n")
        titled = len(rows) > 1 and not rows[0].startswith(" ") and all(row.startswith("  ") for row in rows[1:])
        title, body = (rows[0], rows[1:]) if titled else ("", rows)
        lines: list[str] = []
        for row in body:
            if row.startswith("  - ") or not lines:
                lines.append(row.removeprefix("  - ").strip())
            else:
                lines[-1] += " " + row.strip()
        found.append(Section(title=title, lines=tuple(map(in_pieces, lines))))
    return tuple(found)


def in_pieces(line: str) -> Line:
    """Cut a line at its backticks, so that a page can set codes apart."""
    pieces = line.split("`")
    if len(pieces) % 2 == 0:  # a backtick without its twin is a character
        return ((line, False),)
    return tuple((piece, number % 2 == 1) for number, piece in enumerate(pieces) if piece)


def stage_rows(record: DecisionV1) -> tuple[StageRow, ...]:
    """List what every stage said, in the order in which they were asked."""
    rows = [_screened(word) for word in record.screening]
    for number, attempt in enumerate(record.attempts):
        rows += _attempt(attempt, "" if number == 0 else " (asked once more)")
    return tuple(rows)


def _threshold(value: float | None) -> str:
    return "" if value is None else share(value)


def _failed(step: str, word: FailedV1) -> StageRow:
    return StageRow(
        step=step, stage=word.stage, version=word.version, said=f"failed: {cause(word.cause)}",
        config=word.config, ms=word.ms, failed=True,
    )  # fmt: skip


def _screened(word: ScreenedV1 | SkippedV1 | FailedV1) -> StageRow:
    if isinstance(word, FailedV1):
        return _failed("before the model", word)
    if isinstance(word, SkippedV1):
        return StageRow(
            step="before the model", stage=word.stage, version=word.version, config=word.config,
            said="not asked: the risk lay outside its band",
        )  # fmt: skip
    top = max(word.scores, key=lambda score: score.value, default=None)
    said = [f"highest: {plain(top.label)} {share(top.value)}"] if top is not None and top.value > 0 else []
    said += [f"{plain(one.kind)}{f' ({plain(one.label)})' if one.label else ''}" for one in word.findings]
    said += [f"found {count(len(word.found), 'text')} in images"] if word.found else []
    said += [f"clinical {share(word.clinical)}"] if word.clinical is not None else []
    step = "before the model, text in images" if word.round == "found" else "before the model"
    return StageRow(
        step=step, stage=word.stage, version=word.version, said="; ".join(said) or "nothing found",
        score=f"risk {share(word.risk)}", threshold=_threshold(word.threshold), config=word.config, ms=word.ms,
    )  # fmt: skip


def _attempt(attempt: AttemptV1, again: str) -> Iterator[StageRow]:
    shown = attempt.injected
    if isinstance(shown, FailedV1):
        yield _failed(f"demonstrations{again}", shown)
    elif isinstance(shown, InjectedV1):
        said = f"{count(len(shown.demonstrations), 'demonstration')}, {shown.refusing} refusing"
        yield StageRow(
            step=f"demonstrations{again}", stage=shown.stage, version=shown.version, said=said,
            config=shown.config, ms=shown.ms,
        )  # fmt: skip
    done = attempt.completed
    if isinstance(done, FailedV1):
        yield _failed(f"model{again}", done)
    elif isinstance(done, CompletedV1):
        revision = f", revision {done.revision}" if done.revision else ""
        blind = "; it has not seen the images" if done.blind else ""
        said = f"{done.model}{revision}: {count(len(done.choices), 'answer')}{blind}"
        yield StageRow(
            step=f"model{again}", stage=done.stage, version=done.version, said=said, config=done.config, ms=done.ms
        )
    for word in attempt.audits:
        yield _failed(f"after the model{again}", word) if isinstance(word, FailedV1) else _audited(word, again)


def _audited(word: AuditedV1, again: str) -> StageRow:
    found = "; ".join(f"{plain(one.kind)}{f' ({plain(one.label)})' if one.label else ''}" for one in word.findings)
    top = max((one.score for one in word.findings), default=None)
    return StageRow(
        step=f"after the model{again}", stage=word.stage, version=word.version, said=found or "nothing found",
        score="" if top is None else f"score {share(top)}", threshold=_threshold(word.threshold),
        config=word.config, ms=word.ms,
    )  # fmt: skip
