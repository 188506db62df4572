"""The generator of twins."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway_intent.training.generate import generate, split_of, twins
from gateway_intent.training.rows import probes
from gateway_intent.training.slots import MODALITIES, Slots, seeded
from gateway_intent.training.templates import HARMS, expand, gerund, read


def test_the_same_seed_makes_the_same_examples() -> None:
    assert generate(0, 2) == generate(0, 2)
    assert [example.text for example in generate(1, 2)] != [example.text for example in generate(0, 2)]


def test_twins_share_their_words_and_differ_in_intent() -> None:
    pairs: dict[str, list] = {}
    for example in twins(0, 4):
        pairs.setdefault(example.pair, []).append(example)
    assert len(pairs) > 1200
    shared = 0.0
    for harmful, benign in pairs.values():
        assert harmful.harmful
        assert not benign.harmful
        assert harmful.split == benign.split
        assert harmful.text != benign.text
        left, right = (set(example.text.lower().split()) for example in (harmful, benign))
        shared += len(left & right) / min(len(left), len(right))
    assert shared / len(pairs) > 0.5


def test_every_harm_and_modality_is_there() -> None:
    made = list(twins(0, 10))
    assert {example.label for example in made if example.harmful} == set(HARMS)
    for scan in ("mammogram", "OCT", "fundus", "dermoscopy", "slide", "endoscopy", "ultrasound", "MRI", "CT", "X-ray"):
        assert any(scan.lower() in example.text.lower() for example in made)


def test_whole_templates_are_held_out() -> None:
    sides: dict[str, set[str]] = {}
    for example in twins(0, 3):
        assert example.pair is not None
        sides.setdefault(example.pair.rpartition(".")[0], set()).add(example.split)
    assert all(len(side) == 1 for side in sides.values())
    counts = Counter(next(iter(side)) for side in sides.values())
    assert counts["test"] >= 20
    assert counts["calibrate"] >= 15


def test_no_probe_is_trained_on() -> None:
    trained = {example.text.lower() for example in generate(0, 4)}
    measured = list(probes())
    assert len(measured) >= 100
    assert not trained & {example.text.lower() for example in measured}


def test_a_split_is_for_ever() -> None:
    # What was held out once must stay held out: these may not change while weights trained with them are shipped.
    assert [split_of(f"H01.{number:03d}") for number in range(1, 9)] == [
        "test", "train", "train", "test", "train", "train", "train", "train",
    ]  # fmt: skip
    shares = Counter(split_of(str(number)) for number in range(2000))
    assert 0.75 < shares["train"] / 2000 < 0.85


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_template_can_be_filled(modality: str) -> None:
    for name in (*HARMS, "clinical", "general", "harm"):
        for core in read(name):
            for text in filter(None, (core.text, core.benign)):
                filled = expand(text, Slots(seeded(1), modality), 1)
                assert not set("{}[]|") & set(filled), core.family


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [("use this", "using this"), ("get it", "getting it"), ("see", "seeing"), ("forge a report", "forging a report")],
)
def test_gerunds(phrase: str, expected: str) -> None:
    assert gerund(phrase) == expected
