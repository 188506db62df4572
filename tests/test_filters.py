"""A filter as a query string gives it: read strictly, told again in one way only."""

import datetime as dt
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.records import Caller
from gateway.store.filters import ABSENT, COUNTED, FIELDS, LISTED, Filter, parse_filter

NOW = dt.datetime(2026, 3, 10, 12, 30, 0, 250000, tzinfo=dt.UTC)
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=40)


def test_fields_that_are_repeated_mean_any_and_text_is_canonical():
    filter_ = parse_filter(
        [("outcome", "withheld"), ("department", "radiology"), ("outcome", "refused"), ("outcome", "withheld")]
    )
    assert filter_ == Filter(outcomes=("withheld", "refused"), departments=("radiology",))
    assert filter_.text() == "department=radiology&outcome=refused&outcome=withheld"
    odd = parse_filter([("rule", "a&b=c d"), ("patient", "p")])
    assert odd.text() == "rule=a%26b%3Dc+d&patient=p"
    assert parse_filter([]).text() == ""


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("2026-01-31T08:00:00Z", dt.datetime(2026, 1, 31, 8, tzinfo=dt.UTC)),
        ("2026-01-31T08:00:00.5+02:00", dt.datetime(2026, 1, 31, 6, 0, 0, 500000, tzinfo=dt.UTC)),
        ("2026-01-31T08:00:00 02:00", dt.datetime(2026, 1, 31, 6, tzinfo=dt.UTC)),
        ("2026-01-31", dt.datetime(2026, 1, 31, tzinfo=dt.UTC)),
        ("7d", NOW - dt.timedelta(days=7)),
        ("90m", NOW - dt.timedelta(minutes=90)),
        ("36h", NOW - dt.timedelta(hours=36)),
        ("2w", NOW - dt.timedelta(weeks=2)),
        ("0001-01-01", dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
    ],
)
def test_times(text, due):
    assert parse_filter([("since", text)], now=NOW).since == due


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "7", "7y", "-7d", "999999w9d", "2026-13-01", "2026-01-31T08:00:00", "2026-01-31T25:00:00Z",
     "20260131", "1' OR '1'='1", "0001-01-01T00:00:00+14:00", "٧d"],
)  # fmt: skip
def test_what_is_no_time(text):
    with pytest.raises(InvalidRequest, match="`since`: expected") as caught:
        parse_filter([("since", text)], now=NOW)
    assert caught.value.param == "since"


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([("outcomes", "refused")], "did you mean `outcome`"),
        ([("", "x")], "the fields are: kind, department"),
        ([("f`\n", "x")], "`f��` is no field"),
        ([("person", "a\x00b")], "`person`: expected 1 to 256"),
        ([("person", "")], "`person`: expected 1 to 256"),
        ([("rule", "x" * 257)], "`rule`: expected 1 to 256"),
        ([("revision", "one")], "`revision`: expected a whole number"),
        ([("revision", "1" * 10)], "`revision`: expected a whole number"),
        ([("min_risk", "1.1")], "`min_risk`: expected a number from 0 to 1"),
        ([("min_risk", "nan")], "`min_risk`: expected a number from 0 to 1"),
        ([("min_risk", "1e-1")], "`min_risk`: expected a number from 0 to 1"),
        ([("min_risk", "0.1"), ("min_risk", "0.2")], "given twice"),
        ([("since", "1d"), ("since", "2d")], "given twice"),
        ([("since", "1d"), ("until", "2d")], "must lie before"),
        ([("key", str(i)) for i in range(101)], "at most 100 values"),
    ],
)
def test_what_is_no_filter_is_told_with_its_field(pairs, says):
    with pytest.raises(InvalidRequest) as caught:
        parse_filter(pairs, now=NOW)
    assert says in caught.value.message
    assert caught.value.message[0] in "`abcdefghijklmnopqrstuvwxyz"
    assert not caught.value.message.endswith(".")


@given(st.lists(st.tuples(st.sampled_from([*COUNTED, *LISTED]), WORDS), max_size=12), st.randoms())
def test_the_text_reads_back_and_knows_no_order(pairs, rng):
    pairs = [(name, str(hash(value) % 1000) if name == "revision" else value) for name, value in pairs]
    filter_ = parse_filter(pairs)
    again = parse_filter(parse_qsl(filter_.text()))
    assert again.text() == filter_.text()
    shuffled = list(pairs)
    rng.shuffle(shuffled)
    assert parse_filter(shuffled).text() == filter_.text()
    for name, value in pairs:
        assert any(value.startswith(one) for one in filter_.values(name))


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_words_are_a_filter_or_a_reason(name, value):
    try:
        filter_ = parse_filter([(name, value)], now=NOW)
    except InvalidRequest:  # and nothing else
        return
    assert name in FIELDS
    assert filter_ != Filter()


def test_within_narrows_to_what_a_caller_may_see():
    own = Caller(key="k", department="radiology", roles=("officer",))
    every = Caller(key="k", department="*", roles=("officer",))
    admin = Caller(key="k", department="pathology", roles=("admin",))
    asked = parse_filter([("outcome", "refused")])
    assert asked.within(own).departments == ("radiology",)
    assert not asked.within(own).nothing
    assert asked.within(every) == asked.within(admin) == asked
    both = parse_filter([("department", "radiology"), ("department", "pathology")])
    assert both.within(own).departments == ("radiology",)
    assert parse_filter([("department", "pathology")]).within(own).nothing
    assert not parse_filter([("department", "pathology")]).within(admin).nothing


def test_decisions_unless_another_kind_is_asked_for():
    assert parse_filter([("outcome", "refused")]).of_decisions().kinds == ("decision.v1",)
    assert parse_filter([("kind", "*")]).of_decisions().kinds == ("*",)
    assert parse_filter([("subject", "dec_1")]).of_decisions().kinds == ()
    assert parse_filter([("action", "read")]).of_decisions().kinds == ()


def test_only_an_edge_of_a_band_is_answered_by_combinations():
    whole = {text: parse_filter([("min_risk", text)]).whole_bands for text in ("0", "0.25", "0.5", "0.75", "0.3", "1")}
    assert whole == {"0": True, "0.25": True, "0.5": True, "0.75": True, "0.3": False, "1": False}
    assert parse_filter([("purpose", ABSENT)]).purpose == ("-",)
