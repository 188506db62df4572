"""Reviews: what is due, what the records of a review come to in any order, and the figures made of them."""

import datetime as dt
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from store.kit import SECRET, outcomes

from gateway.policy.decision import Admit
from gateway.policy.evidence import StageFailed
from gateway.policy.lint import lint
from gateway.policy.model import ReviewsSpec
from gateway.records import BreakGlassV1, CallerV1, Digester, ReviewV1, record_of
from gateway.records.proportions import kappa, share
from gateway.records.review_figures import Waiting, figures, reviewed, spread
from gateway.records.review_plan import Subject, due, is_due, subject_of
from gateway.records.reviews import (
    UNSETTLED,
    Review,
    advance,
    fold,
    obstacle,
    possible,
    same,
    tell,
)

DIGESTER = Digester(SECRET)
T0 = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ASKER = CallerV1(key="k-asker", department="radiology", roles=("caller",), person="asker")


def by(name: str, person: str | None = "") -> CallerV1:
    """A reviewer with a key and, unless None, a person of the same name."""
    return CallerV1(
        key=f"k-{name}", department="radiology", roles=("officer",), person=name if person == "" else person
    )


def subject(outcome="refused", due_by=None) -> Subject:
    return Subject(
        decision="dec_1",
        department="radiology",
        at=T0,
        by=ASKER,
        due_by=due_by or ("break-glass" if outcome is None else outcome),
        outcome=outcome,
    )


def step(number: int, caller: CallerV1, action: str, **fields) -> ReviewV1:
    empty = dict.fromkeys(("assignee", "verdict", "confirms", "reason", "meaning", "refers"))
    if action in ("verdict", "seconded"):
        empty |= {"reason": "read the record", "meaning": "review"}
    base = {"id": f"rev_{number}", "at": T0 + dt.timedelta(hours=number), "caller": caller, "decision": "dec_1"}
    return ReviewV1(**base, department="radiology", action=action, **empty | fields)


def judged(number, name, verdict, **fields):
    return step(number, by(name), "verdict", verdict=verdict, **fields)


def seconded(number, name, refers, confirms, **fields):
    return step(number, by(name), "seconded", confirms=confirms, refers=f"rev_{refers}", **fields)


def with_plan(outcome, **shares):
    policy = replace(outcome.policy.policy, reviews=ReviewsSpec(**shares))
    return replace(outcome, policy=replace(outcome.policy, policy=policy))


def excused(outcome):
    assert isinstance(outcome.admission, Admit)
    return replace(outcome, admission=replace(outcome.admission, excused=("intent",)))


# what is due


def test_by_default_every_no_and_every_excuse_is_due_and_few_answers():
    for _ in range(20):
        assert due(outcomes.refused(), DIGESTER) == "refused"
        assert due(outcomes.withheld("q", "a"), DIGESTER) == "withheld"
        assert due(excused(outcomes.released()), DIGESTER) == "excused"
        assert due(excused(outcomes.withheld("q", "a")), DIGESTER) == "withheld"
    answers = [due(outcomes.released(id=f"dec_{i}"), DIGESTER) for i in range(2000)]
    assert set(answers) == {None, "released"}
    assert 15 <= answers.count("released") <= 75  # 2 % of 2,000 is 40


def test_each_kind_of_excuse_counts():
    released = outcomes.released()
    waived = replace(released, admission=replace(released.admission, waived=("messages[0].content[0]",)))
    failed = StageFailed(stage="clinical", version="1", kind="injector", cause="deadline", ms=1.0)
    bare = replace(released, attempts=(replace(released.attempts[0], injected=failed), *released.attempts[1:]))
    last = released.attempts[-1]
    audit = replace(released, attempts=(replace(last, verdict=replace(last.verdict, excused=("phi",))),))
    for outcome in (waived, bare, audit):
        assert due(with_plan(outcome, released=0.0), DIGESTER) == "excused"
        assert due(with_plan(outcome, released=0.0, excused=0.0), DIGESTER) is None


def test_what_a_shadow_policy_decided_is_not_due():
    assert due(replace(outcomes.refused(), mode="shadow"), DIGESTER) is None


def test_which_answers_are_due_depends_on_the_secret_and_grows_with_the_share():
    some = [outcomes.released(id=f"dec_{i}") for i in range(300)]

    def hit(share, digester=DIGESTER):
        return {o.request.id for o in some if due(with_plan(o, released=share), digester)}

    assert hit(0.0) == set()
    assert hit(1.0) == {o.request.id for o in some}
    assert hit(0.2) < hit(0.5)
    assert hit(0.3) == hit(0.3)
    assert hit(0.3) != hit(0.3, Digester(b"x" * 32))


def test_the_record_says_what_made_it_due():
    record = record_of(outcomes.refused(), DIGESTER)
    assert record.review == "refused"
    assert is_due(record)
    assert subject_of(record).due_by == "refused"
    passed = record_of(with_plan(outcomes.released(), released=0.0), DIGESTER)
    assert not is_due(passed)
    assert subject_of(passed).due_by == "chosen"


def test_a_break_glass_is_always_due():
    glass = BreakGlassV1(id="brk_1", at=T0, caller=ASKER, department="emergency", reason="a patient bleeds", until=T0)
    found = subject_of(glass)
    assert is_due(glass)
    assert (found.due_by, found.department, found.outcome) == ("break-glass", "emergency", None)
    assert possible(found.outcome) == ("agree", "escalate")


def test_a_plan_that_leaves_out_what_matters_is_told():
    plan = ReviewsSpec(refused=0.5, withheld=0.0, released=0.0)
    policy = replace(outcomes.POLICY.policy, reviews=plan)
    usual = {w.path for w in lint(outcomes.POLICY.policy)}
    told = {w.path: w.text for w in lint(policy)}
    assert set(told) - usual == {"reviews.refused", "reviews.withheld", "reviews.released"}
    assert told["reviews.refused"] == "of refusals a share of 0.5 is reviewed, and not every one"


# the fold


def test_agreement_settles_at_once_and_an_override_needs_another_reader():
    assert fold(subject(), [judged(1, "ann", "agree")]).state == "settled"
    waiting = fold(subject(), [judged(1, "ann", "false_positive")])
    assert (waiting.state, waiting.settled_at) == ("second", None)
    done = fold(subject(), [judged(1, "ann", "false_positive"), seconded(2, "bob", 1, True)])
    assert (done.state, done.verdict, done.confirms) == ("settled", "false_positive", True)
    assert done.settled_at == T0 + dt.timedelta(hours=2)
    assert done.standing.name == "ann"


def test_who_disagrees_with_a_first_reader_leaves_it_to_a_third():
    disputed = [judged(1, "ann", "false_positive"), seconded(2, "bob", 1, False, verdict="agree")]
    assert fold(subject(), disputed).state == "disputed"
    third = fold(subject(), [*disputed, judged(3, "cat", "agree")])
    assert (third.state, third.verdict) == ("settled", "agree")
    # Two of three people stand behind the override.
    other = fold(subject(), [*disputed, judged(3, "cat", "false_positive")])
    assert (other.state, other.verdict) == ("settled", "false_positive")
    # What nobody has said yet needs a second reader again.
    new = fold(subject(), [*disputed, judged(3, "cat", "escalate")])
    assert new.state == "second"


def test_an_escalation_stays_open_to_others():
    steps = [judged(1, "ann", "escalate"), seconded(2, "bob", 1, True)]
    assert fold(subject(), steps).state == "escalated"
    assert fold(subject(), [*steps, judged(3, "cat", "agree")]).state == "settled"
    assert fold(subject(), [*steps, judged(3, "ann", "agree")]).state == "escalated"


def test_an_agreement_may_be_read_again_once():
    first = judged(1, "ann", "agree")
    assert fold(subject(), [first, seconded(2, "bob", 1, True)]).state == "settled"
    unsure = fold(subject(), [first, seconded(2, "bob", 1, False, verdict="false_positive")])
    assert unsure.state == "disputed"
    twice = fold(subject(), [first, seconded(2, "bob", 1, True), seconded(3, "cat", 1, False)])
    assert (twice.state, len(twice.readings)) == ("settled", 2)


REFUSALS = {
    "asked by the judge": ([], step(1, ASKER, "verdict", verdict="agree"), "person", "asked this decision"),
    "asked, by another key of the person": (
        [],
        step(1, replace(ASKER, key="k-other"), "verdict", verdict="agree"),
        "person",
        "asked this decision",
    ),
    "judged already": (
        [judged(1, "ann", "false_positive")],
        seconded(2, "ann", 1, True),
        "person",
        "ann has judged it already",
    ),
    "settled": ([judged(1, "ann", "agree")], judged(2, "bob", "agree"), "state", "it is settled"),
    "waits for a second": (
        [judged(1, "ann", "false_positive")],
        judged(2, "bob", "agree"),
        "state",
        "ann has judged it `false_positive`",
    ),
    "held by another": (
        [step(1, by("ann"), "assigned", assignee="ann")],
        judged(2, "bob", "agree"),
        "state",
        "ann has it",
    ),
    "taken": (
        [step(1, by("ann"), "assigned", assignee="ann")],
        step(2, by("bob"), "assigned", assignee="bob"),
        "state",
        "ann has it",
    ),
    "given to who asked": ([], step(1, by("bob"), "assigned", assignee="asker"), "person", "asker asked"),
    "given to who judged": (
        [judged(1, "ann", "false_positive")],
        step(2, by("bob"), "assigned", assignee="k-ann"),
        "person",
        "k-ann has judged",
    ),
    "given to nobody": ([], step(1, by("bob"), "assigned"), "words", "nobody is named"),
    "assigned when settled": (
        [judged(1, "ann", "agree")],
        step(2, by("bob"), "assigned", assignee="bob"),
        "state",
        "it is settled",
    ),
    "released by nobody": ([], step(1, by("bob"), "released"), "state", "nobody has it"),
    "taken away without a reason": (
        [step(1, by("ann"), "assigned", assignee="ann")],
        step(2, by("bob"), "released"),
        "words",
        "give a reason",
    ),
    "without a reason": ([], judged(1, "ann", "agree", reason=None), "words", "needs a reason"),
    "with too short a reason": ([], judged(1, "ann", "agree", reason="ok"), "words", "needs a reason"),
    "without a meaning": ([], judged(1, "ann", "agree", meaning=None), "words", "meaning"),
    "without a verdict": ([], judged(1, "ann", None), "words", "verdict"),
    "nonsense": ([], judged(1, "ann", "false_negative"), "words", "choose from `agree`, `false_positive`"),
    "nothing to second": ([], seconded(1, "ann", 0, True), "state", "nobody has judged"),
    "another verdict seconded": (
        [judged(1, "ann", "false_positive")],
        seconded(2, "bob", 9, True),
        "state",
        "the verdict that waits is `rev_1`",
    ),
    "neither yes nor no": (
        [judged(1, "ann", "false_positive")],
        seconded(2, "bob", 1, None),
        "words",
        "confirms or does not",
    ),
    "yes and another verdict": (
        [judged(1, "ann", "false_positive")],
        seconded(2, "bob", 1, True, verdict="agree"),
        "words",
        "gives no other",
    ),
    "no and the same verdict": (
        [judged(1, "ann", "false_positive")],
        seconded(2, "bob", 1, False, verdict="false_positive"),
        "words",
        "does not give the same",
    ),
    "of another decision": ([], replace(judged(1, "ann", "agree"), decision="dec_2"), "words", "another decision"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_step_that_is_not_lawful_has_no_effect_and_a_reason(name):
    before, late, kind, text = REFUSALS[name]
    review = fold(subject(), before)
    found = obstacle(review, late)
    assert found.kind == kind
    assert text in found.text
    assert advance(review, late) == review


def test_a_break_glass_is_not_reviewed_by_who_opened_it():
    glass = subject(outcome=None)
    own = step(1, ASKER, "verdict", verdict="agree")
    assert "opened this break-glass" in obstacle(Review(subject=glass), own).text
    assert fold(glass, [own, judged(2, "ann", "agree")]).standing.name == "ann"


def test_an_item_is_given_back_by_its_holder_or_taken_away_with_a_reason():
    held = [step(1, by("ann"), "assigned", assignee="ann")]
    assert fold(subject(), held).state == "assigned"
    assert fold(subject(), [*held, step(2, by("ann"), "released")]).state == "open"
    away = fold(subject(), [*held, step(2, by("bob"), "released", reason="ann is on leave")])
    assert (away.state, away.assignee) == ("open", None)
    # A holder is known by the key as well as by the person's name.
    keyed = [step(1, by("bob"), "assigned", assignee="k-ann"), judged(2, "ann", "agree")]
    assert fold(subject(), keyed).state == "settled"


def test_people_are_told_apart_by_person_then_by_key():
    assert same(by("ann"), replace(by("ann"), key="k-2"))
    assert not same(by("ann"), replace(by("bob"), key="k-ann"))
    assert same(by("ann"), replace(by("ann"), person=None))
    assert not same(by("ann", None), by("bob", None))


NAMES = ("ann", "bob", "cat", "asker")
callers = st.one_of(
    st.sampled_from(NAMES).map(by),
    st.sampled_from(NAMES).map(lambda name: by(name, None)),
    st.just(replace(by("ann"), key="k-ann-2")),
)


@st.composite
def logs(draw):
    """Records of a review in any order: most are lawful in shape, none needs to be so where it stands."""
    steps = []
    for number in range(draw(st.integers(0, 14))):
        action = draw(st.sampled_from(["assigned", "released", "verdict", "verdict", "seconded", "seconded"]))
        fields = {}
        if action == "assigned":
            fields["assignee"] = draw(st.sampled_from([*NAMES, "k-ann", "k-bob"]))
        if action in ("verdict", "seconded"):
            verdicts = ["agree", "false_positive", "false_negative", "escalate", None]
            fields["verdict"] = draw(st.sampled_from(verdicts)) if action == "verdict" else None
        if action == "seconded":
            fields["confirms"] = draw(st.booleans())
            refers = [s.id for s in steps if s.action == "verdict"] or ["rev_none"]
            fields["refers"] = draw(st.sampled_from(refers))
            if not fields["confirms"]:
                fields["verdict"] = draw(st.sampled_from(["agree", "escalate", None]))
        if draw(st.integers(0, 9)) == 0:
            fields["reason"] = draw(st.sampled_from([None, "no", "a long enough reason"]))
        steps.append(step(number, draw(callers), action, **fields))
    return steps


@settings(max_examples=400, deadline=None)
@given(logs(), st.sampled_from(["refused", "withheld", "released", "screened", None]))
def test_any_interleaving_gives_a_lawful_state(steps, outcome):
    what = subject(outcome)
    review, told = tell(what, steps)
    assert fold(what, steps) == review
    # What had no effect can be left out: the state is that of the lawful records alone.
    assert fold(what, [one.step for one in told if one.obstacle is None]) == review
    for place in range(len(steps) + 1):
        _lawful(fold(what, steps[:place]), steps[:place])


def _lawful(review, steps):
    people = [reading.by for reading in review.readings]
    assert not any(same(one, ASKER) for one in people)
    assert not any(same(a, b) for i, a in enumerate(people) for b in people[:i])
    for reading in review.readings:
        assert reading.verdict is None or reading.verdict in possible(review.subject.outcome)
        assert len(reading.reason) >= 5
        assert reading.meaning
    behind = [reading.by for reading in review.readings if reading.verdict == review.verdict]
    if review.state in ("settled", "escalated") and review.verdict != "agree":
        assert len(behind) >= 2
    assert (review.settled_at is not None) == (review.state == "settled")
    assert (review.state == "escalated") <= (review.verdict == "escalate")
    assert (review.state in ("open", "assigned")) == (review.standing is None)
    if review.state == "settled":
        assert review.assignee is None
        assert review.verdict != "escalate"
    if review.assignee is not None:
        assert review.state in UNSETTLED
        assert review.state != "open"
    assert len(review.readings) <= sum(s.action in ("verdict", "seconded") for s in steps)


@settings(max_examples=200, deadline=None)
@given(logs())
def test_a_step_changes_the_state_exactly_where_nothing_stands_in_its_way(steps):
    review = Review(subject=subject())
    for one in steps:
        after = advance(review, one)
        assert (after == review) == (obstacle(review, one) is not None)
        # Nothing that was signed is ever lost or changed.
        assert after.readings[: len(review.readings)] == review.readings
        review = after


# figures


def _row(review, rule="tiers", stages=("intent",), policy="radiology@3"):
    base = reviewed(types.SimpleNamespace(), review)
    return replace(base, rule=rule, stages=stages, policy=policy)


def test_figures_of_a_handful_of_reviews():
    agreed = fold(subject(), [judged(1, "ann", "agree")])
    wrong = fold(subject(), [judged(2, "ann", "false_positive"), seconded(4, "bob", 2, True)])
    missed = fold(subject("released"), [judged(3, "ann", "false_negative"), seconded(5, "bob", 3, True)])
    doubted = fold(subject(), [judged(6, "ann", "escalate"), seconded(7, "bob", 6, False, verdict="agree")])
    queue = Waiting(states={"open": 2}, overdue=1, oldest=60.0)
    rows = [_row(agreed), _row(wrong, stages=("intent", "phi")), _row(missed, rule="audit", stages=()), _row(doubted)]
    found = figures([*rows, _row(Review(subject=subject()))], queue)
    assert (found.judged, found.settled) == (4, 3)
    assert (found.agreement.hits, found.agreement.of) == (1, 3)
    assert found.agreement.low == pytest.approx(0.0615, abs=1e-4)  # Wilson, 1 of 3
    assert found.agreement.high == pytest.approx(0.7923, abs=1e-4)
    assert {name: (s.hits, s.of) for name, s in found.by["stage"].items()} == {"intent": (1, 2), "phi": (0, 1)}
    assert {name: (s.hits, s.of) for name, s in found.by["rule"].items()} == {"audit": (0, 1), "tiers": (1, 2)}
    assert {name: (s.hits, s.of) for name, s in found.by["due_by"].items()} == {"refused": (1, 2), "released": (0, 1)}
    assert (found.false_positives.hits, found.false_positives.of) == (1, 2)
    assert (found.false_negatives.hits, found.false_negatives.of) == (1, 1)
    assert (found.confirmed.hits, found.confirmed.of) == (2, 3)
    assert found.pairs == 3
    hour = 3600.0
    assert (found.to_verdict.of, found.to_verdict.median, found.to_verdict.p90) == (4, 2.5 * hour, 6 * hour)
    assert (found.to_settled.of, found.to_settled.median, found.to_settled.p90) == (3, 4 * hour, 5 * hour)
    assert found.queue == queue


def test_chosen_decisions_do_not_count_as_errors_of_the_gateway_at_large():
    chosen = subject("released", due_by="chosen")
    review = fold(chosen, [judged(1, "ann", "false_negative"), seconded(2, "bob", 1, True)])
    found = figures([_row(review)], Waiting(states={}, overdue=0, oldest=None))
    assert found.false_negatives.of == 0
    assert found.by["due_by"]["chosen"].of == 1


def test_figures_of_nothing():
    found = figures([], Waiting(states={}, overdue=0, oldest=None))
    assert (found.agreement.value, found.kappa, found.to_verdict.median) == (None, None, None)


def test_reviewed_reads_rule_stages_and_policy_off_the_record():
    record = record_of(outcomes.refused(), DIGESTER)
    row = reviewed(record, Review(subject=subject_of(record)))
    assert (row.rule, row.stages, row.policy) == ("tiers", ("intent", "image-text"), "radiology@3")


def test_kappa_against_worked_examples():
    # 20 both yes, 5 only the first, 10 only the second, 15 both no: observed 0.7, by chance 0.5.
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert kappa(pairs) == pytest.approx(0.4)
    assert kappa([("y", "y")] * 5) is None
    assert kappa([]) is None
    assert kappa([("y", "n"), ("n", "y")]) == -1.0


def test_share_and_spread():
    assert share(0, 0).value is None
    assert share(0, 10).low == 0.0
    assert share(10, 10).high == 1.0
    assert spread([]).p90 is None
    assert spread([float(i) for i in range(1, 11)]).p90 == 9.0
