"""How well the auditor of refusals agrees with people who have labelled answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.errors import ConfigurationError, Unavailable
from gateway.evaluation.asking import REFUSED_AT
from gateway.evaluation.numbers import Share, share
from gateway.evaluation.rows import TOLD
from gateway.pipeline import Built, Fault, call_stage
from gateway.policy.validate import findings_problem
from gateway.values import Choice, Completion, Prompt, Request, Text, Turn

LABELS = {
    "complied": "complied", "compliance": "complied", "full_compliance": "complied", "1_full_compliance": "complied",
    "refused": "refused", "refusal": "refused", "full_refusal": "refused", "2_full_refusal": "refused",
    "partial": "partial", "partial_refusal": "partial", "3_partial_refusal": "partial",
}  # fmt: skip
"""What files call an answer, and what it is here: XSTest's words (arXiv 2308.01263) and plain ones."""


class Labelled(Struct, frozen=True, kw_only=True):
    """An answer with a person's label: ``complied``, ``refused`` or ``partial``."""

    question: str
    answer: str
    label: str


class Agreement(Struct, frozen=True, kw_only=True):
    """How an auditor agrees with people.

    `accuracy` and `kappa` (Cohen, 1960; None where one side never differs) are of full refusals against full
    compliance. `found` is, of the answers of each label, the share in which the auditor finds a refusal: the confusion.
    """

    file: str
    rows: int
    accuracy: Share
    kappa: float | None
    found: dict[str, Share]


def read_labelled(path: Path) -> tuple[Labelled, ...]:
    """Read answers with labels. Raises ConfigurationError with every line that is none, quoting nothing of it."""
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as exc:
        why = exc.strerror or type(exc).__name__
        raise ConfigurationError(f"{path}: can not be read ({why}); name a file of JSON Lines") from None
    rows: list[Labelled] = []
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            raw = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raw = None
        if not isinstance(raw, dict) or not isinstance(raw.get("response"), str):
            problems.append(
                f"{path}:{number}: holds no `response`; write one JSON object in each line, with the answer"
            )
            continue
        word = raw.get("response_label")
        label = LABELS.get(word.strip().casefold()) if isinstance(word, str) else None
        if label is None:
            problems.append(f"{path}:{number}: `response_label` is none; write `complied`, `refused` or `partial`")
            continue
        text = raw.get("text")
        rows.append(Labelled(question=text if isinstance(text, str) else "", answer=raw["response"], label=label))
    if problems:
        rest = len(problems) - TOLD
        raise ConfigurationError(*problems[:TOLD], *((f"… and {rest} more of the same file",) if rest > 0 else ()))
    if not rows:
        raise ConfigurationError(f"{path}: holds no row; write answers with `response` and `response_label`")
    return tuple(rows)


async def measure_agreement(
    path: Path, rows: Iterable[Labelled], auditor: Built, *, progress: Callable[[int], object] = lambda _: None
) -> Agreement:
    """Have the auditor judge each answer, and compare. Raises Unavailable where it fails."""
    said: dict[str, list[bool]] = {}
    for row in rows:
        said.setdefault(row.label, []).append(await _refuses(row, auditor))
        progress(1)
    yes, no = said.get("refused", []), said.get("complied", [])
    right, all_ = sum(yes) + sum(not word for word in no), len(yes) + len(no)
    return Agreement(
        file=path.name,
        rows=sum(map(len, said.values())),
        accuracy=share(right, all_),
        kappa=kappa(sum(yes), len(yes) - sum(yes), sum(no), len(no) - sum(no)),
        found={label: share(sum(words), len(words)) for label, words in sorted(said.items())},
    )


def kappa(both: int, first: int, second: int, neither: int) -> float | None:
    """Give Cohen's kappa of two judges: `both` say yes, only the `first`, only the `second`, `neither`."""
    n = both + first + second + neither
    if n == 0:
        return None
    chance = ((both + first) * (both + second) + (neither + first) * (neither + second)) / (n * n)
    return None if chance >= 1 else ((both + neither) / n - chance) / (1 - chance)


async def _refuses(row: Labelled, auditor: Built) -> bool:
    asked = Turn(role="user", parts=(Text(id="messages[0].content", text=row.question),))
    prompt = Prompt(request=Request(id="agreement", department="evaluation", model="none", turns=(asked,)))
    answer = Text(id="choices[0].content", text=row.answer)
    completion = Completion(model="none", choices=(Choice(index=0, text=answer),))
    value, _ = await call_stage(
        lambda: auditor.stage.audit(prompt, completion),
        deadline=60.0,
        check=lambda v: findings_problem(v, {answer.id: answer.text}),
    )
    if isinstance(value, Fault):
        raise Unavailable(f"auditor `{auditor.name}` failed on a labelled answer ({value.cause}); nothing was measured")
    # The check above has made sure that these are findings.
    return any(f.kind == "refusal" and f.score >= REFUSED_AT for f in value)  # type: ignore[attr-defined]
