"""What demonstrations do to a model: every question under every setting, one setting after the other.

The two measures are those of arXiv 2506.09067: *attack success*, the share of harmful questions that the model does
not refuse, and *over-defense*, the share of benign questions that it does. Whether an answer refuses is judged by an
auditor.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.evaluation.answers import Answer, Journal
from gateway.evaluation.arms import Arm
from gateway.evaluation.asking import Failure, Question, Setup, answer_key, ask, digest_of
from gateway.evaluation.attacks import NONE
from gateway.evaluation.pictures import MISMATCH, TYPOGRAPHIC
from gateway.evaluation.rows import Row, RowFile
from gateway.evaluation.screening import Stop

PATIENCE = 10
"""Questions in a row that may fail before a setting is given up: a model that is gone answers no later one either."""


class Planned(Struct, frozen=True, kw_only=True):
    """A question under a setting, with the key of its answer."""

    question: Question
    key: str


class ArmPlan(Struct, frozen=True, kw_only=True):
    """All questions of one setting."""

    arm: Arm
    planned: tuple[Planned, ...]


class Judged(Struct, frozen=True, kw_only=True):
    """A question with its judged answer."""

    question: Question
    answer: Answer


class Measured(Struct, frozen=True, kw_only=True):
    """What came of one setting: `judged` answers of `planned` questions, and the failures of the others by cause.

    `given_up` says that it was left after `PATIENCE` failures in a row.
    """

    arm: Arm
    planned: int
    judged: tuple[Judged, ...]
    failures: dict[str, int]
    given_up: bool = False


def questions_of(
    files: Iterable[RowFile], attacks: Sequence[str] = (NONE,), *, attack_benign: bool = False
) -> tuple[Question, ...]:
    """Make the questions: harmful rows once for each attack, benign rows plain.

    With `attack_benign` benign rows are wrapped as the harmful ones are. A row that says itself that it is an attack is
    put as it stands, once. A mismatch needs an image of a known modality, a typographic attack a text to draw.
    """
    made: list[Question] = []
    for file in files:
        for row in file.rows:
            if row.attack is not None:
                made.append(Question(file=file.name, row=row, attack=row.attack))
            elif row.harmful or attack_benign:
                made += [
                    Question(file=file.name, row=row, attack=name, wrap=name != NONE)
                    for name in dict.fromkeys(attacks)
                    if _fits(row, name)
                ]
            else:
                made.append(Question(file=file.name, row=row))
    return tuple(made)


def _fits(row: Row, attack: str) -> bool:
    if attack == MISMATCH:
        return row.image is not None and row.modality is not None and bool(row.text)
    return attack != TYPOGRAPHIC or bool(row.text)


def check_borne(attacks: Sequence[str], questions: Sequence[Question]) -> None:
    """Raise ConfigurationError where an attack by the image is put to no row: nobody should read that as a success."""
    asked = {question.attack for question in questions}
    needs = {MISMATCH: "a text, an `image` and its `modality`", TYPOGRAPHIC: "a text"}
    problems = [
        f"--attacks: no harmful row can bear `{name}`: it needs {needs[name]}; add them, or leave `{name}` out"
        for name in dict.fromkeys(attacks)
        if name in needs and name not in asked
    ]
    if problems:
        raise ConfigurationError(*problems)


async def plan(questions: Sequence[Question], arms: Sequence[Arm], setup: Setup) -> tuple[ArmPlan, ...]:
    """Give each question under each setting its key. Raises OSError where an image can not be read."""
    digests = await asyncio.to_thread(lambda: [digest_of(question) for question in questions])
    return tuple(
        ArmPlan(
            arm=arm,
            planned=tuple(
                Planned(question=question, key=answer_key(question, digest, arm, setup))
                for question, digest in zip(questions, digests, strict=True)
            ),
        )
        for arm in arms
    )


async def measure_arm(
    plan: ArmPlan,
    setup: Setup,
    journal: Journal,
    *,
    jobs: int = 16,
    stop: Stop | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Measured:
    """Ask what the journal does not hold yet, `jobs` questions at once so that a backend can batch them.

    They are taken in an order that is mixed and the same each time, so that what a stop leaves is a fair part. A
    question that fails is not kept, so that a later run asks it again.
    """
    order = [item for item in plan.planned if item.key not in journal.answers]
    random.Random(1).shuffle(order)  # noqa: S311 - an order, no secret
    todo, failures, streak = iter(order), Counter[str](), 0

    async def work() -> None:
        nonlocal streak
        for item in todo:
            if streak >= PATIENCE or (stop is not None and stop.wanted):
                return
            made = await ask(item.question, plan.arm, setup, item.key)
            if isinstance(made, Failure):
                failures[f"{made.stage}: {made.cause}"] += 1
                streak += 1
            else:
                streak = 0
                journal.add(made)
            progress(1)

    await asyncio.gather(*(work() for _ in range(max(1, jobs))))
    return Measured(
        arm=plan.arm,
        planned=len(plan.planned),
        judged=tuple(
            Judged(question=item.question, answer=journal.answers[item.key])
            for item in plan.planned
            if item.key in journal.answers
        ),
        failures=dict(failures),
        given_up=streak >= PATIENCE,
    )
