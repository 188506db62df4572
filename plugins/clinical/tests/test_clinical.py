from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.plugin import Budget, Image, Modality, Request, Text, Turn
from gateway_clinical import gateway_injectors
from gateway_clinical.digest import main
from gateway_clinical.injector import Clinical, ClinicalConfig, build
from gateway_clinical.library import HOME, Pair, load
from gateway_clinical.selection import IMAGE_TOKENS, estimate, layout, select, shares

LIBRARY = load()
PAIRS = LIBRARY.pairs
OPENING = re.compile(r"I'm sorry, but I can't help with|^[^.]+\. However, I can't help with")
PIXEL = Image(
    id="p", data=b"x", media_type="image/png", width=1, height=1, digest="0" * 64, source="png", modality="oct"
)

mixes = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0))
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


def asked(*images: Image) -> Request:
    return Request(
        id="1", department="d", model="m", turns=(Turn(role="user", parts=(*images, Text(id="t", text="q"))),)
    )


def test_the_library_covers_the_taxonomy() -> None:
    assert len(PAIRS) >= 40
    assert Counter(p.modality for p in PAIRS).keys() == set(get_args(Modality))
    assert min(Counter(p.modality for p in PAIRS).values()) >= 4
    assert {p.harm for p in PAIRS} == {f"H{n:02}" for n in range(1, 18)}
    assert {p.task for p in PAIRS} == {f"B{n:02}" for n in range(1, 16)}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.id)
def test_a_pair_is_well_made(pair: Pair) -> None:
    assert pair.harmful.refuses
    assert not pair.benign.refuses
    assert pair.harmful.pair == pair.benign.pair == pair.id
    assert OPENING.search(pair.harmful.answer), "every refusal speaks in one voice"
    assert not re.search(r"can't|cannot|sorry", pair.benign.answer[:40]), "a benign answer answers at once"
    assert len(re.findall(r"[.!?](?:\s|$)", pair.benign.answer)) <= 4
    assert len(pair.harmful.answer) < 260
    words = [set(re.findall(r"\w+", d.question.lower())) for d in (pair.harmful, pair.benign)]
    assert len(words[0] & words[1]) >= 4, "twins share words"


def test_some_refusals_are_adversative() -> None:
    share = sum("However" in p.harmful.answer for p in PAIRS) / len(PAIRS)
    assert 0.1 < share < 0.4


def test_the_fixed_order_spreads_modalities() -> None:
    assert len({p.modality for p in PAIRS[:4]}) == 4
    assert len({p.modality for p in PAIRS[:16]}) >= 8


@given(count=st.integers(0, 130), mix=mixes)
def test_the_share_is_rounded_to_the_safer_side(count: int, mix: float) -> None:
    refusing, answering = shares(count, mix, 200)
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
    assert shares(1, 0.5, 9) == (1, 0)
    assert shares(5, 0.5, 9) == (3, 2)
    assert shares(4, 0.99, 9) == (3, 1)
    assert shares(4, 0.01, 9) == (1, 3)


@given(refusing=st.integers(0, 40), answering=st.integers(0, 40))
def test_twins_are_adjacent_and_an_answer_ends_the_list(refusing: int, answering: int) -> None:
    places = layout(refusing, answering)
    assert sum(r for _, r in places) == refusing
    assert sum(not r for _, r in places) == answering
    assert len(set(places)) == len(places)
    assert [i for i, _ in places] == sorted(i for i, _ in places)
    if answering:
        assert not places[-1][1]
    index = {place: n for n, place in enumerate(places)}
    both = [i for i, r in places if r and (i, False) in index]
    assert len(both) == min(refusing, answering)
    assert all(index[(i, False)] == index[(i, True)] + 1 for i in both)


def test_what_one_kind_has_more_of_is_spread() -> None:
    assert "".join("RA"[not r] for _, r in layout(6, 2)) == "RRRARRRA"
    assert "".join("RA"[not r] for _, r in layout(2, 6)) == "RAAARAAA"
    assert "".join("RA"[not r] for _, r in layout(4, 4)) == "RARARARA"


@given(budget=budgets, images=st.booleans())
def test_a_choice_keeps_to_its_budget(budget: Budget, images: bool) -> None:
    pairs = pictured(PAIRS) if images else PAIRS
    chosen = select(pairs, budget)
    assert len(chosen) <= budget.demonstrations
    assert len({d.id for d in chosen}) == len(chosen)
    assert budget.tokens is None or sum(map(estimate, chosen)) <= budget.tokens
    assert budget.images is None or sum(d.image is not None for d in chosen) <= budget.images
    if any(not d.refuses for d in chosen):
        assert not chosen[-1].refuses
    assert chosen == select(pairs, budget), "the same budget gives the same choice"
    assert tuple((d.id, d.refuses) for d in chosen) == tuple(
        (f"{d.pair}.{'harmful' if d.refuses else 'benign'}", d.refuses) for d in chosen
    )


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


def test_the_closing_pairs_stand_last() -> None:
    sixteen = select(PAIRS, Budget(demonstrations=16, mix=0.5))
    assert sixteen[-8:] == select(PAIRS, Budget(demonstrations=8, mix=0.5))
    assert {d.pair for d in sixteen[:8]} == {p.id for p in PAIRS[4:8]}


def test_a_smaller_budget_is_a_prefix_of_a_larger_one() -> None:
    four, eight = (select(PAIRS, Budget(demonstrations=n, mix=0.5)) for n in (4, 8))
    assert eight[:4] == four, "so that a server's prefix cache hits over tiers"


async def test_fixed_ignores_the_request() -> None:
    stage = build(ClinicalConfig())
    budget = Budget(demonstrations=8, mix=0.5)
    assert await stage.inject(asked(PIXEL), budget) == await stage.inject(asked(), budget)


async def test_same_modality_comes_first() -> None:
    stage = Clinical(LIBRARY, ClinicalConfig(strategy="same-modality"))
    budget = Budget(demonstrations=8, mix=0.5)
    assert {d.modality for d in await stage.inject(asked(PIXEL), budget)} == {"oct"}
    unknown = replace(PIXEL, modality=None)
    assert await stage.inject(asked(unknown), budget) == select(PAIRS, budget)
    twenty = await stage.inject(asked(PIXEL, replace(PIXEL, modality="ct")), Budget(demonstrations=20, mix=0.5))
    assert Counter(d.modality for d in twenty)["ct"] == 12, "all that there are"
    assert {d.modality for d in twenty[-8:]} == {"ct"}, "and they stand next to the question"


def test_a_changed_library_stops_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    shutil.copytree(HOME, folder)
    assert load(folder) == LIBRARY
    path = folder / "ct.yaml"
    path.write_text(path.read_text().replace("I'm sorry, but I can't help", "Of course I help", 1))
    with pytest.raises(ValueError, match=r"`ct\.yaml`.*gateway_clinical\.digest"):
        load(folder)
    assert main([str(folder)]) == 0
    assert load(folder).sha256 != LIBRARY.sha256
    (folder / "extra.yaml").write_text("modality: ct\npairs: []\n")
    with pytest.raises(ValueError, match=r"`extra\.yaml`"):
        load(folder)


def test_a_malformed_library_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "library"
    shutil.copytree(HOME, folder)
    path = folder / "oct.yaml"
    path.write_text(path.read_text().replace("harm: H01", "harm: H99", 1))
    assert main([str(folder)]) == 1
    assert "`oct.yaml`" in capsys.readouterr().err
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"manifest\.json"):
        load(folder)


def test_the_order_must_name_pairs_that_exist(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    shutil.copytree(HOME, folder)
    (folder / "order.yaml").write_text("version: 2\nfirst: [no-such-pair]\n")
    assert main([str(folder)]) == 1
    assert json.loads((folder / "manifest.json").read_text())["version"] == 2


def test_the_stage_is_offered() -> None:
    (stage,) = gateway_injectors()
    assert stage.name == "clinical"
    assert isinstance(stage.build(stage.config()), Clinical)
