from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.plugin import Budget
from gateway.testing import image
from gateway_clinical.library import Pair, load
from gateway_clinical.selection import (
    CLOSING,
    IMAGE_TOKENS,
    End,
    closing_last,
    estimate,
    layout,
    most,
    nearest_last,
    needed,
    select,
    shares,
)

PAIRS = load().pairs
PIXEL = image(8, 8, id="demonstrations.pixel.image")
READINGS = {"closing": closing_last, "nearest": nearest_last(0), "hybrid": nearest_last(2)}

mixes = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0))
ends = st.sampled_from(get_args(End))
readings = st.sampled_from(list(READINGS.values()))
supplies = st.integers(1, 60)
budgets = st.builds(
    Budget,
    demonstrations=st.integers(0, 130),
    mix=mixes,
    tokens=st.none() | st.integers(1, 9000),
    images=st.none() | st.integers(0, 10),
)


def pictured(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    return tuple(
        replace(p, harmful=replace(p.harmful, image=PIXEL), benign=replace(p.benign, image=PIXEL)) for p in pairs
    )


@given(count=st.integers(0, 130), mix=mixes)
def test_the_share_is_rounded_to_the_safer_side(count: int, mix: float) -> None:
    refusing, answering = shares(count, mix)
    assert refusing + answering == count
    assert abs(refusing - mix * count) <= 1
    if 0.0 < mix < 1.0 and count >= 2:
        assert refusing
        assert answering
    if mix == 0.0:
        assert refusing == 0
    if mix == 1.0:
        assert answering == 0


def test_a_half_rounds_up() -> None:
    assert shares(1, 0.5) == (1, 0)
    assert shares(5, 0.5) == (3, 2)
    assert shares(4, 0.99) == (3, 1)
    assert shares(4, 0.01) == (1, 3)


@given(budget=budgets, supply=supplies)
def test_a_library_that_is_too_small_keeps_the_share(budget: Budget, supply: int) -> None:
    count = most(budget, supply)
    assert max(shares(count, budget.mix)) <= supply
    if count < budget.demonstrations:
        assert count == 2 * supply or max(shares(count + 1, budget.mix)) > supply, "no more could be had"
    assert needed(budget, supply) == max(shares(count, budget.mix))


@given(refusing=st.integers(0, 40), answering=st.integers(0, 40), end=ends)
def test_twins_are_adjacent_and_the_right_kind_ends_the_list(refusing: int, answering: int, end: End) -> None:
    places = layout(refusing, answering, end)
    assert sum(r for _, r in places) == refusing
    assert sum(not r for _, r in places) == answering
    assert len(set(places)) == len(places)
    assert [i for i, _ in places] == sorted(i for i, _ in places)
    wanted = end == "refusing-last"
    if refusing if wanted else answering:
        assert places[-1][1] is wanted
    index = {place: n for n, place in enumerate(places)}
    both = [i for i, r in places if r and (i, False) in index]
    assert len(both) == min(refusing, answering)
    assert all(index[(i, wanted)] == index[(i, not wanted)] + 1 for i in both)


def test_what_one_kind_has_more_of_is_spread() -> None:
    def told(refusing: int, answering: int, end: End = "answering-last") -> str:
        return "".join("RA"[not r] for _, r in layout(refusing, answering, end))

    assert told(6, 2) == "RRRARRRA"
    assert told(2, 6) == "RAAARAAA"
    assert told(4, 4) == "RARARARA"
    assert told(2, 6, "refusing-last") == "AAARAAAR"
    assert told(6, 2, "refusing-last") == "ARRRARRR"
    assert told(0, 2, "refusing-last") == "AA"


@given(budget=budgets, images=st.booleans(), end=ends, reading=readings, supply=supplies)
def test_a_choice_keeps_to_its_budget(budget: Budget, images: bool, end: End, reading, supply: int) -> None:
    pairs = (pictured(PAIRS) if images else PAIRS)[:supply]
    chosen = select(pairs, budget, end=end, reading=reading)
    assert len(chosen) <= budget.demonstrations
    assert len({d.id for d in chosen}) == len(chosen), "none stands twice"
    assert budget.tokens is None or sum(map(estimate, chosen)) <= budget.tokens
    assert budget.images is None or sum(d.image is not None for d in chosen) <= budget.images
    assert sum(d.refuses for d in chosen) == shares(len(chosen), budget.mix)[0], "the share holds at every size"
    if budget.tokens is None:
        assert len(chosen) == most(budget, supply)
    kinds = {d.refuses for d in chosen}
    if len(kinds) == 2 or (end == "refusing-last") in kinds:
        assert chosen[-1].refuses is (end == "refusing-last")
    assert chosen == select(pairs, budget, end=end, reading=reading), "the same budget gives the same choice"
    if len(kinds) == 2:
        for first, second in pairwise(chosen):
            twins = first.pair == second.pair
            assert not twins or first.refuses is not second.refuses
        both = [d.pair for d in chosen]
        assert sum(both.count(name) == 2 for name in set(both)) == min(shares(len(chosen), budget.mix))


@given(budget=budgets, end=ends, reading=readings)
def test_what_is_needed_is_enough(budget: Budget, end: End, reading) -> None:
    few = PAIRS[: needed(budget, len(PAIRS))]
    assert select(few, budget, end=end, reading=reading) == select(PAIRS, budget, end=end, reading=reading)


@given(mix=mixes, count=st.integers(1, 30))
def test_images_go_before_demonstrations(mix: float, count: int) -> None:
    pairs = pictured(PAIRS)
    text = sum(map(estimate, select(PAIRS, Budget(demonstrations=count, mix=mix))))
    chosen = select(pairs, Budget(demonstrations=count, mix=mix, tokens=text + IMAGE_TOKENS))
    assert len(chosen) == count
    assert [d.image is not None for d in chosen] == [True] + [False] * (count - 1)


def test_more_than_the_library_holds_gives_all_of_it() -> None:
    assert len(select(PAIRS, Budget(demonstrations=1000, mix=0.5))) == 2 * len(PAIRS)
    assert len(select(PAIRS, Budget(demonstrations=1000, mix=1.0))) == len(PAIRS)
    assert select((), Budget(demonstrations=4, mix=0.5)) == ()


def test_the_closing_pairs_stand_last() -> None:
    sixteen = select(PAIRS, Budget(demonstrations=16, mix=0.5))
    assert sixteen[-8:] == select(PAIRS, Budget(demonstrations=8, mix=0.5))
    assert {d.pair for d in sixteen[:8]} == {p.id for p in PAIRS[CLOSING:8]}


def test_a_smaller_budget_is_a_prefix_of_a_larger_one() -> None:
    four, eight = (select(PAIRS, Budget(demonstrations=n, mix=0.5)) for n in (4, 8))
    assert eight[:4] == four, "so that a server's prefix cache hits over tiers"


@pytest.mark.parametrize("fixed", [0, 2])
def test_the_nearest_pair_stands_last(fixed: int) -> None:
    eight = select(PAIRS, Budget(demonstrations=8, mix=0.5), reading=nearest_last(fixed))
    assert [d.pair for d in eight[::2]] == [p.id for p in (*PAIRS[:fixed], *reversed(PAIRS[fixed:4]))]
