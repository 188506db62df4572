from __future__ import annotations

import asyncio
import hashlib
import io
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image as Pillow

from gateway.plugin import Budget, Demonstration, Request, Text, Turn
from gateway.testing import check_stage, image, offer, request
from gateway_clinical import digest, gateway_injectors, sign
from gateway_clinical.injector import Clinical, ClinicalConfig, build, question_of
from gateway_clinical.library import HOME, load
from gateway_clinical.nearest import FILE, Nearest, write
from gateway_clinical.pictures import image_id, picture, with_picture
from gateway_clinical.selection import estimate, select, shares

LIBRARY = load()
PAIRS = LIBRARY.pairs
STRATEGIES = ("fixed", "random", "same-modality", "nearest", "hybrid")
EIGHT = Budget(demonstrations=8, mix=0.5)
OCT = image(8, 8, id="messages[0].content[1]", modality="oct")


class WordCounts:
    """Encodes a text as its words, each at a place of its own out of 512: texts that share words are near."""

    sha256 = "word-counts"

    def encode(self, text: str) -> np.ndarray:
        vector = np.zeros(512, np.float32)
        for word in re.findall(r"\w{4,}", text.lower()):
            vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % 512] += 1
        return vector / max(float(np.linalg.norm(vector)), 1e-9)


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Nearest:
    return nearest(tmp_path_factory.mktemp("vectors"))


def nearest(folder: Path, diversity: float = 0.3) -> Nearest:
    write(folder, LIBRARY, WordCounts())
    return Nearest(folder, LIBRARY, WordCounts(), diversity=diversity)


def stage_of(near: Nearest, strategy: str, **options) -> Clinical:
    config = ClinicalConfig(strategy=strategy, **options)  # type: ignore[arg-type]
    return Clinical(LIBRARY, config, near if strategy in ("nearest", "hybrid") else None)


def asked(text: str = "What is shown?", *images, name: str = "1") -> Request:
    return replace(request(text, images=images), id=name)


def chosen(stage: Clinical, said: Request, budget: Budget = EIGHT) -> tuple[Demonstration, ...]:
    return asyncio.run(stage.inject(said, budget))


@settings(max_examples=60, deadline=None)
@given(
    strategy=st.sampled_from(STRATEGIES),
    text=st.text(max_size=80) | st.sampled_from([pair.harmful.question for pair in PAIRS[:40]]),
    name=st.text(max_size=8),
    budget=st.builds(
        Budget,
        demonstrations=st.integers(0, 64),
        mix=st.floats(0, 1),
        tokens=st.none() | st.integers(1, 5000),
        images=st.none() | st.integers(0, 4),
    ),
    order=st.sampled_from(["answering-last", "refusing-last"]),
    images=st.booleans(),
)
def test_every_strategy_keeps_the_rules(near, strategy, text, name, budget, order, images) -> None:
    stage = stage_of(near, strategy, order=order, images=images)
    said = asked(text, OCT, name=name)
    found = chosen(stage, said, budget)
    assert len(found) <= budget.demonstrations
    assert len({demo.id for demo in found}) == len(found)
    assert sum(demo.refuses for demo in found) == shares(len(found), budget.mix)[0]
    assert budget.tokens is None or sum(map(estimate, found)) <= budget.tokens
    seen = sum(demo.image is not None for demo in found)
    assert seen <= (budget.demonstrations if budget.images is None else budget.images)
    assert images or not seen
    if budget.tokens is None:
        assert len(found) == budget.demonstrations
    if len({demo.refuses for demo in found}) == 2:
        assert found[-1].refuses is (order == "refusing-last")
        pairs = Counter(demo.pair for demo in found)
        assert sum(n == 2 for n in pairs.values()) == min(shares(len(found), budget.mix)), "twins go together"
    known = {demo.id: demo for pair in PAIRS for demo in (pair.harmful, pair.benign)}
    assert all(replace(demo, image=None) == known[demo.id] for demo in found), "what is shown is the library's"
    assert found == chosen(stage_of(near, strategy, order=order, images=images), said, budget)


def test_fixed_ignores_the_request(near: Nearest) -> None:
    stage = stage_of(near, "fixed")
    assert chosen(stage, asked("a", OCT, name="1")) == chosen(stage, asked("b", name="2")) == select(PAIRS, EIGHT)


def test_same_modality_comes_first(near: Nearest) -> None:
    stage = stage_of(near, "same-modality")
    assert {demo.modality for demo in chosen(stage, asked("a", OCT))} == {"oct"}
    assert chosen(stage, asked("a", replace(OCT, modality=None))) == select(PAIRS, EIGHT)
    many = Budget(demonstrations=100, mix=0.5)
    found = chosen(stage, asked("a", OCT, replace(OCT, id="messages[0].content[2]", modality="ct")), many)
    assert Counter(demo.modality for demo in found)["ct"] == 92, "all that there are"
    assert {demo.modality for demo in found[-8:]} == {"ct"}, "and they stand next to the question"


def test_random_is_told_by_the_request(near: Nearest) -> None:
    stage = stage_of(near, "random")
    drawn = {name: chosen(stage, asked("a", name=name)) for name in map(str, range(40))}
    assert drawn["7"] == chosen(stage_of(near, "random"), asked("another text", OCT, name="7"))
    assert len({demo.pair for found in drawn.values() for demo in found}) > 100, "of 160, hardly any twice"


def test_the_nearest_pair_stands_next_to_the_question(near: Nearest) -> None:
    for pair in PAIRS[:50]:
        for twin in (pair.harmful, pair.benign):
            found = chosen(stage_of(near, "nearest"), asked(twin.question))
            assert [demo.id for demo in found[-2:]] == [pair.harmful.id, pair.benign.id], "by either of its questions"


def test_hybrid_begins_with_what_every_request_shares(near: Nearest) -> None:
    for fixed in (1, 2, 3):
        stage = stage_of(near, "hybrid", fixed_pairs=fixed)
        twins = [chosen(stage, asked(pair.benign.question)) for pair in PAIRS[20:40]]
        assert len({found[: 2 * fixed] for found in twins}) == 1, "a prefix cache hits on it"
        assert [demo.pair for demo in twins[0][: 2 * fixed : 2]] == [pair.id for pair in PAIRS[:fixed]]
        assert [found[-1].pair for found in twins] == [pair.id for pair in PAIRS[20:40]]
        assert all(len({demo.pair for demo in found}) == 4 for found in twins), "a fixed pair is not shown again"


def test_diversity_parts_what_is_alike(tmp_path: Path) -> None:
    def likeness(diversity: float) -> float:
        near = nearest(tmp_path, diversity)
        total = 0.0
        for pair in PAIRS[:30]:
            picked = near.rank(pair.benign.question, 4)
            assert PAIRS[picked[0]] == pair or diversity == 1.0, "the nearest comes first"
            alike = near._alike[np.ix_(picked, picked)]
            total += float(alike[np.triu_indices(4, 1)].mean())
        return total

    assert likeness(0.0) > likeness(0.3) > likeness(0.7)


def test_a_request_without_text_gets_the_fixed_ones(near: Nearest) -> None:
    bare = replace(request("x"), turns=(Turn(role="user", parts=(OCT,)),))
    for strategy in ("nearest", "hybrid"):
        found = chosen(stage_of(near, strategy), bare)
        assert {demo.pair for demo in found} == {pair.id for pair in PAIRS[:4]}


def test_the_question_is_the_last_text_of_the_user() -> None:
    def said(*turns: tuple[str, str]) -> Request:
        made = (
            Turn(role=role, parts=(Text(id=f"messages[{n}].content", text=text),))  # type: ignore[arg-type]
            for n, (role, text) in enumerate(turns)
        )
        return replace(request("x"), turns=tuple(made))

    assert question_of(said(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"))) == "c"
    assert question_of(said(("user", "a"), ("assistant", "b"), ("user", "  "))) == "a"
    assert question_of(said(("system", "s"), ("assistant", "b"))) == ""


def test_a_picture_is_made_once_and_shared_by_twins() -> None:
    pair = next(pair for pair in PAIRS if pair.pictured)
    shown = with_picture(pair)
    assert shown.harmful.image is shown.benign.image is picture(pair)
    assert picture(pair) is picture(pair)
    made = picture(pair)
    assert made.id == image_id(pair) == f"demonstrations.{pair.id}.image"
    assert (made.width, made.height) == Pillow.open(io.BytesIO(made.data)).size == (224, 224)
    assert made.digest == hashlib.sha256(made.data).hexdigest()


def test_a_pair_that_can_not_be_drawn_stays_without_a_picture(near: Nearest) -> None:
    bare = next(pair for pair in PAIRS if not pair.pictured)
    assert with_picture(bare) is bare
    stage = stage_of(near, "nearest", images=True)
    found = chosen(stage, asked(bare.harmful.question))
    assert found[-1].pair == bare.id
    assert found[-1].image is None


def test_pictures_come_only_where_the_policy_says_so(near: Nearest) -> None:
    for strategy in STRATEGIES:
        assert all(demo.image is None for demo in chosen(stage_of(near, strategy), asked()))
    found = chosen(stage_of(near, "fixed", images=True), asked())
    assert all(demo.image is not None for demo in found)
    assert all(
        demo.image is None for demo in chosen(stage_of(near, "fixed", images=True), asked(), replace(EIGHT, images=0))
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("images", [False, True])
async def test_each_strategy_keeps_the_contract(near: Nearest, strategy: str, images: bool) -> None:
    await check_stage(offer("clinical", stage_of(near, strategy, images=images)), "injector")


def test_pictures_are_drawn_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (HOME / "mri.yaml").read_text().split("\n  - id: ")
    (tmp_path / "mri.yaml").write_text("\n  - id: ".join(lines[:6]) + "\n")
    (tmp_path / "order.yaml").write_text("version: 1\n")
    assert sign.main(["--new-key", str(tmp_path / "key.pem")]) == 0
    public = capsys.readouterr().out.strip()
    assert digest.main([str(tmp_path)]) == 0
    assert sign.main(["--key", str(tmp_path / "key.pem"), str(tmp_path)]) == 0
    stage = build(ClinicalConfig(library=str(tmp_path), public_key=public, images=True))
    drawn = picture.cache_info().misses
    pictured = min(4, sum(pair.pictured for pair in stage.library.pairs))  # they come first
    assert sum(demo.image is not None for demo in chosen(stage, asked())) == 2 * pictured
    assert picture.cache_info().misses == drawn


def test_vectors_of_another_library_or_encoder_are_refused(tmp_path: Path) -> None:
    write(tmp_path, LIBRARY, WordCounts())
    for library, sha in ((replace(LIBRARY, sha256="0" * 64), "word-counts"), (LIBRARY, "another")):
        encoder = WordCounts()
        encoder.sha256 = sha
        with pytest.raises(ValueError, match=r"another library or encoder.*gateway_clinical\.embed"):
            Nearest(tmp_path, library, encoder, diversity=0.3)
    (tmp_path / FILE).write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"can not be read.*gateway_clinical\.embed"):
        Nearest(tmp_path, LIBRARY, WordCounts(), diversity=0.3)
    (tmp_path / FILE).unlink()
    with pytest.raises(ValueError, match=r"no `vectors\.npz`.*gateway_clinical\.embed"):
        Nearest(tmp_path, LIBRARY, WordCounts(), diversity=0.3)


def test_fixed_takes_less_than_a_millisecond(near: Nearest) -> None:
    stage, said = stage_of(near, "fixed"), asked()

    async def timed() -> float:
        await stage.inject(said, EIGHT)
        start = time.process_time()
        for _ in range(100):
            await stage.inject(said, EIGHT)
        return (time.process_time() - start) / 100

    assert asyncio.run(timed()) < 1e-3


def test_the_stage_is_offered() -> None:
    (stage,) = gateway_injectors()
    assert stage.name == "clinical"
    assert isinstance(stage.build(stage.config()), Clinical)


async def test_what_was_shown_once_can_be_shown_to_a_person() -> None:
    stage = build(ClinicalConfig())
    chosen = await stage.inject(request("Is the aorta dilated?"), EIGHT)
    shown = await stage.illustrate((*(demo.id for demo in chosen), "nothing.benign"))
    assert [replace(demo, image=None) for demo in shown] == list(chosen)
    pictured = {pair.id for pair in PAIRS if pair.pictured}
    assert all((demo.image is not None) == (demo.pair in pictured) for demo in shown)
    assert any(demo.image is not None for demo in shown)
    assert await stage.illustrate(()) == ()
