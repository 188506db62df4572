"""Legal holds as a fold over their records: what ends one, and what it covers."""

import datetime as dt

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.records import CallerV1, HoldScopeV1, HoldV1
from gateway.records.holds import Held, covers_content, fold, held_by, may_release, same_person

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
EVERYTHING = HoldScopeV1(decisions=(), department=None, patient=None, since=None, until=None)


def who(key, person=None):
    return CallerV1(key=key, department="radiology", roles=("officer",), person=person)


def step(action, hold, caller, id_=None, scope=EVERYTHING):
    placed = action == "placed"
    return HoldV1(
        id=id_ or (hold if placed else f"{action}-{hold}"),
        at=AT,
        caller=caller,
        action=action,
        hold=hold,
        scope=scope if placed else None,
        reason="a lawsuit",
    )


_callers = st.sampled_from([who("k1"), who("k2"), who("k1", "ada"), who("k2", "ada"), who("k3", "grace")])
_steps = st.lists(
    st.builds(step, st.sampled_from(["placed", "requested", "released"]), st.sampled_from(["h1", "h2"]), _callers),
    max_size=12,
)


@settings(max_examples=500, deadline=None)
@given(_steps)
def test_no_order_of_steps_lets_one_person_release(steps):
    for hold in fold(steps).values():
        assert any(one.action == "placed" and one.hold == hold.id for one in steps)
        if hold.open:
            assert hold.state in ("open", "release-requested")
            continue
        assert hold.state == "released"
        before = steps[: next(i for i, one in enumerate(steps) if one is hold.released)]
        asked = [one for one in before if one.hold == hold.id and one.action == "requested"]
        assert any(not same_person(one.caller, hold.released.caller) for one in asked)


@settings(max_examples=200, deadline=None)
@given(_steps, _steps)
def test_a_released_hold_never_comes_back_and_later_steps_never_take_one_away(before, after):
    first, then = fold(before), fold(before + after)
    assert set(first) <= set(then)
    for id_, hold in first.items():
        assert then[id_].scope == hold.scope
        if not hold.open:
            assert then[id_] == hold


def test_two_people_release_a_hold():
    ada, grace = who("k1", "ada"), who("k2", "grace")
    steps = [step("placed", "h", ada), step("requested", "h", ada)]
    assert fold(steps)["h"].state == "release-requested"
    assert not may_release(fold(steps)["h"], who("k9", "ada")), "another key of the same person"
    assert may_release(fold(steps)["h"], grace)
    assert fold([*steps, step("released", "h", ada)])["h"].open
    assert not fold([*steps, step("released", "h", grace)])["h"].open
    assert fold([steps[0], step("released", "h", grace)])["h"].open, "nobody had requested it"


def test_who_is_the_same():
    assert same_person(who("k1"), who("k1"))
    assert not same_person(who("k1"), who("k2"))
    assert same_person(who("k1", "ada"), who("k2", "ada"))
    assert not same_person(who("k1", "ada"), who("k1", "grace")), "a key that two people share"
    assert same_person(who("k1", "ada"), who("k1")), "in doubt the same"


_moments = st.none() | st.integers(0, 4).map(lambda hours: AT + dt.timedelta(hours=hours))
_scopes = st.builds(
    HoldScopeV1,
    decisions=st.lists(st.sampled_from(["d1", "d2"]), max_size=2).map(tuple),
    department=st.sampled_from([None, "radiology", "pathology"]),
    patient=st.sampled_from([None, "p1", "p2"]),
    since=_moments,
    until=_moments,
)
_contents = st.builds(
    Held,
    id=st.sampled_from(["d1", "d2", "d3"]),
    department=st.sampled_from(["radiology", "pathology"]),
    patient=st.sampled_from([None, "p1", "p2"]),
    at=st.integers(0, 4).map(lambda hours: AT + dt.timedelta(hours=hours)),
)


@settings(max_examples=300, deadline=None)
@given(_scopes, _contents)
def test_a_narrower_scope_covers_no_more(scope, content):
    if covers_content(scope, content):
        wider = {"decisions": (), "department": None, "patient": None, "since": None, "until": None}
        for name, wide in wider.items():
            assert covers_content(msgspec.structs.replace(scope, **{name: wide}), content)
        assert held_by(fold([step("placed", "h", who("k"), scope=scope)]).values(), content).id == "h"
    else:
        assert held_by(fold([step("placed", "h", who("k"), scope=scope)]).values(), content) is None


def test_the_ends_of_a_span():
    content = Held(id="d1", department="radiology", patient=None, at=AT)
    later = AT + dt.timedelta(microseconds=1)
    assert covers_content(msgspec.structs.replace(EVERYTHING, since=AT), content)
    assert not covers_content(msgspec.structs.replace(EVERYTHING, since=later), content)
    assert not covers_content(msgspec.structs.replace(EVERYTHING, until=AT), content)
    assert covers_content(msgspec.structs.replace(EVERYTHING, until=later), content)
    assert not covers_content(msgspec.structs.replace(EVERYTHING, patient="p1"), content), "who has none is not meant"
