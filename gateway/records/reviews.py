"""Reviews: what the records of a review come to. Pure; `gateway.records.review_plan` says what is due for one.

The state of a review is a fold over its `ReviewV1` records in the log's order. A record that is not lawful where it
stands (its author has judged already, someone else holds the item, the item is settled) has no effect, so of two that
race the first in the log counts and everyone who folds the log sees the same.

The rules: nobody judges what they asked themselves, nor twice. `agree` settles at once. Any other verdict overrides the
gateway and is settled only when two different people stand behind it: the second one confirms it, or, where they do
not, it is disputed and a third person judges afresh. An escalation that two people stand behind stays open to others.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.records.events import REASON_LONGEST, CallerV1, ReviewV1, Verdict
from gateway.records.outcome import Caller
from gateway.records.review_plan import Subject

REASON_SHORTEST = 5
"""Characters of a reason that a person gives."""

MEANING_LONGEST = 200
"""Characters of the meaning of a signature."""

NAME_LONGEST = 200
"""Characters of the name of who is to judge."""

State = Literal["open", "assigned", "second", "disputed", "escalated", "settled"]
"""Nobody has it; someone has; an override waits for a second reader; they did not confirm; others must look; done."""

UNSETTLED: tuple[State, ...] = ("open", "assigned", "second", "disputed", "escalated")


class Reading(Struct, frozen=True, kw_only=True):
    """One signed judgement: by whom, when, which, why, and what the signature means.

    Of a second reader `confirms` is set, and `verdict` is what they stand behind: the first reader's where they confirm
    it, else their own, None where they gave none. `review` is the id of the record.
    """

    review: str
    by: CallerV1
    at: dt.datetime
    verdict: Verdict | None
    confirms: bool | None
    reason: str
    meaning: str

    @property
    def name(self) -> str:
        """Give the name under the signature."""
        return who(self.by)


class Review(Struct, frozen=True, kw_only=True):
    """The state of a review.

    `standing` is the reading that counts: of the latest who judged afresh, None before. `settled_at` is when the review
    came to rest, None while it has not.
    """

    subject: Subject
    state: State = "open"
    assignee: str | None = None
    readings: tuple[Reading, ...] = ()
    standing: Reading | None = None
    settled_at: dt.datetime | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Give the verdict that stands, settled or not."""
        return None if self.standing is None else self.standing.verdict

    @property
    def confirms(self) -> bool | None:
        """Tell what the second reader said to the verdict that stands; None before there is one."""
        last = self.readings[-1] if self.readings else None
        return None if last is None else last.confirms

    @property
    def first_at(self) -> dt.datetime | None:
        """Give the time of the first judgement."""
        return self.readings[0].at if self.readings else None


class Obstacle(Struct, frozen=True, kw_only=True):
    """Why a step has no effect: ``person`` (not by this one), ``state`` (not now), or ``words`` (not so)."""

    kind: Literal["person", "state", "words"]
    text: str


def who(caller: Caller | CallerV1) -> str:
    """Name a person: by `person` where it is known, else by the key."""
    return caller.person or caller.key


def same(one: Caller | CallerV1, other: Caller | CallerV1) -> bool:
    """Tell whether two callers are one person: by `person` where both are known, else by the key."""
    if one.person is not None and other.person is not None:
        return one.person == other.person
    return one.key == other.key


def _is(name: str, caller: Caller | CallerV1) -> bool:
    return name in (caller.person, caller.key)


def possible(outcome: str | None) -> tuple[Verdict, ...]:
    """List the verdicts that make sense for an outcome: a false positive was stopped, a false negative went on."""
    if outcome is None:
        return ("agree", "escalate")
    return ("agree", "false_positive" if outcome in ("refused", "withheld") else "false_negative", "escalate")


def obstacle(review: Review, step: ReviewV1) -> Obstacle | None:
    """Tell why `step` would have no effect on `review` as it is now; None where it has one."""
    subject = review.subject
    if step.decision != subject.decision:
        return Obstacle(kind="words", text=f"it speaks of another decision than `{subject.decision}`")
    match step.action:
        case "assigned":
            return _may_assign(review, step)
        case "released":
            return _may_release(review, step)
        case "verdict":
            return _may_sign(review, step) or _may_judge(review, step)
        case "seconded":
            return _may_sign(review, step) or _may_second(review, step)


def _state(text: str) -> Obstacle:
    return Obstacle(kind="state", text=text)


def _words(text: str) -> Obstacle:
    return Obstacle(kind="words", text=text)


def _person(text: str) -> Obstacle:
    return Obstacle(kind="person", text=text)


def _asked(subject: Subject) -> str:
    return "asked this decision" if subject.outcome is not None else "opened this break-glass"


def _settled(review: Review) -> Obstacle:
    name = "" if review.standing is None else f" by {review.standing.name}"
    return _state(f"it is settled: judged `{review.verdict}`{name}")


def _may_assign(review: Review, step: ReviewV1) -> Obstacle | None:
    if not step.assignee:
        return _words("nobody is named who is to judge")
    if review.state == "settled":
        return _settled(review)
    if review.assignee is not None:
        yours = " (you)" if _is(review.assignee, step.caller) else ""
        return _state(f"{review.assignee}{yours} has it; it can be taken once it is released")
    # A person is found by either name: whoever takes an item for themselves must not hide behind the other one.
    named = [step.caller] if _is(step.assignee, step.caller) else []
    if _is(step.assignee, review.subject.by) or any(same(one, review.subject.by) for one in named):
        return _person(f"{step.assignee} {_asked(review.subject)}, and so may not review it")
    if any(_is(step.assignee, r.by) or any(same(one, r.by) for one in named) for r in review.readings):
        return _person(f"{step.assignee} has judged it already; another person must")
    return None


def _may_release(review: Review, step: ReviewV1) -> Obstacle | None:
    if review.assignee is None:
        return _state("nobody has it")
    if not _is(review.assignee, step.caller) and not _long_enough(step.reason):
        return _words(f"{review.assignee} has it; give a reason to take it from them")
    return None


def _long_enough(reason: str | None) -> bool:
    return reason is not None and REASON_SHORTEST <= len(reason) <= REASON_LONGEST


def _may_sign(review: Review, step: ReviewV1) -> Obstacle | None:
    """Check what every judgement owes: another person than before, the item free or theirs, a reason and a meaning."""
    if same(step.caller, review.subject.by):
        return _person(f"{who(step.caller)} {_asked(review.subject)}, and so may not review it")
    if any(same(step.caller, reading.by) for reading in review.readings):
        return _person(f"{who(step.caller)} has judged it already; another person must")
    if review.assignee is not None and not _is(review.assignee, step.caller):
        return _state(f"{review.assignee} has it; it can be judged once it is released")
    if not _long_enough(step.reason):
        return _words(f"a judgement needs a reason of {REASON_SHORTEST} to {REASON_LONGEST} characters")
    if not step.meaning:
        return _words("a judgement needs the meaning of its signature")
    if step.verdict is not None and step.verdict not in possible(review.subject.outcome):
        choices = ", ".join(f"`{word}`" for word in possible(review.subject.outcome))
        return _words(f"`{step.verdict}` makes no sense here; choose from {choices}")
    return None


def _may_judge(review: Review, step: ReviewV1) -> Obstacle | None:
    if step.verdict is None or step.confirms is not None or step.refers is not None:
        return _words("a judgement is a verdict, and refers to no other")
    if review.state == "settled":
        return _settled(review)
    if review.state == "second" and review.standing is not None:
        name = review.standing.name
        return _state(f"{name} has judged it `{review.verdict}`; a second reader is to confirm that or not")
    return None


def _may_second(review: Review, step: ReviewV1) -> Obstacle | None:
    standing = review.standing
    if standing is None:
        return _state("nobody has judged it yet; give a verdict")
    if step.confirms is None:
        return _words("a second reader confirms or does not")
    sole = review.state == "settled" and len(review.readings) == 1  # an agreement may be read again: `kappa` needs it
    if review.state != "second" and not sole:
        return _settled(review) if review.state == "settled" else _state("no verdict waits for a second reader")
    if step.refers != standing.review:
        return _state(f"the verdict that waits is `{standing.review}`, by {standing.name}")
    if step.confirms and step.verdict not in (None, standing.verdict):
        return _words("who confirms a verdict gives no other")
    if not step.confirms and step.verdict == standing.verdict:
        return _words("who does not confirm a verdict does not give the same")
    return None


def advance(review: Review, step: ReviewV1) -> Review:
    """Give the state after one more record; the same where it has no effect."""
    if obstacle(review, step) is not None:
        return review
    if step.action == "assigned":
        return replace(review, assignee=step.assignee, state="assigned" if review.state == "open" else review.state)
    if step.action == "released":
        return replace(review, assignee=None, state="open" if review.state == "assigned" else review.state)
    standing = review.standing
    reading = Reading(
        review=step.id,
        by=step.caller,
        at=step.at,
        verdict=standing.verdict if step.confirms and standing is not None else step.verdict,
        confirms=step.confirms,
        reason=step.reason or "",
        meaning=step.meaning or "",
    )
    readings = (*review.readings, reading)
    state = _after(reading, readings)
    return Review(
        subject=review.subject,
        state=state,
        readings=readings,
        standing=reading if step.action == "verdict" else standing,
        settled_at=step.at if state == "settled" else None,
    )


def _after(reading: Reading, readings: tuple[Reading, ...]) -> State:
    if reading.confirms is False:
        return "disputed"
    behind = sum(one.verdict == reading.verdict for one in readings)  # each is another person
    if reading.verdict != "agree" and behind < 2:
        return "second"
    return "escalated" if reading.verdict == "escalate" else "settled"


class Told(Struct, frozen=True, kw_only=True):
    """A record of a review, and why it had no effect; None where it had."""

    step: ReviewV1
    obstacle: Obstacle | None


def tell(subject: Subject, steps: Iterable[ReviewV1]) -> tuple[Review, tuple[Told, ...]]:
    """Give the state that the records of a review come to, in the order of the log, and what each of them did."""
    review = Review(subject=subject)
    told: list[Told] = []
    for step in steps:
        told.append(Told(step=step, obstacle=obstacle(review, step)))
        review = advance(review, step)
    return review, tuple(told)


def fold(subject: Subject, steps: Iterable[ReviewV1]) -> Review:
    """Give the state that the records of a review come to, in the order of the log."""
    return tell(subject, steps)[0]
