"""Make the twins: pairs of questions with the same image and words and opposite intent. Deterministic by seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from msgspec import Struct

from gateway_intent.training import voices
from gateway_intent.training.slots import MODALITIES, Slots, seeded
from gateway_intent.training.templates import HARMS, Core, capital, expand, read

Split = str
"""``train``, ``calibrate`` or ``test``. Whole templates, openers and wrappings are held out of ``train``."""


class Example(Struct, frozen=True, kw_only=True):
    """A text with what it is. `label` is a harm (``H01``…), a benign task (``B01``…) or ``benign``; None: not known.

    Twins share `pair`. `source` is the file or template family it comes from. `clinical` says whether it is about
    clinical work, `technique` which jailbreak it is wrapped in (``J01``…, or ``none``); None: not known.
    """

    text: str
    harmful: bool
    label: str | None
    split: Split
    source: str
    pair: str | None = None
    clinical: bool | None = None
    technique: str | None = None


def split_of(key: str, *, calibrate: int = 8, test: int = 12) -> Split:
    """Put a key on one side of the split, for ever: percentages by its checksum."""
    place = zlib.crc32(key.encode()) % 100
    return "test" if place < test else "calibrate" if place < test + calibrate else "train"


def _wrapped(text: str, split: Split, seed: int) -> tuple[str, str]:
    rng = seeded(seed)
    held: Mapping[str, voices.Wrapping] = voices.HELD_WRAPPINGS if split == "test" else voices.WRAPPINGS
    name = rng.choice(sorted(held))
    return held[name](text, rng), voices.TECHNIQUES[name]


def spoken(core: Core, text: str, slots: Slots, split: Split, seed: int, *, wrap: float = 0.15) -> tuple[str, str]:
    """Say a template's text in an opener, a voice, and sometimes a jailbreak's wrapping, all chosen by `seed`.

    Gives the text and the technique of the wrapping, ``none`` for none.
    """
    rng = seeded(seed)
    filled = expand(text, slots, seed)
    if core.phrase:
        openers = voices.HELD_OPENERS if split == "test" else voices.OPENERS
        filled = voices.opened(filled, rng.choice(openers))
    said = voices.voiced(capital(filled) if rng.random() < 0.9 else filled, rng.getrandbits(32))
    if rng.random() < wrap:
        return _wrapped(said, split, rng.getrandbits(32))
    return said, "none"


def twins(seed: int = 0, variants: int = 10) -> Iterator[Example]:
    """Give `variants` pairs of each twin template, the modalities in turn."""
    rng = seeded(seed)
    modalities = sorted(MODALITIES)
    for harm in HARMS:
        for core in read(harm):
            split = split_of(core.family)
            start = rng.randrange(len(modalities))
            for number in range(variants):
                slots = Slots(seeded(rng.getrandbits(32)), modalities[(start + number) % len(modalities)])
                choice = rng.getrandbits(32)
                pair = f"{core.family}.{number}"
                for said, harmful in ((core.text, True), (core.benign or "", False)):
                    text, technique = spoken(core, said, slots, split, choice)
                    yield Example(
                        text=text, harmful=harmful, label=harm if harmful else "benign", split=split, source=harm,
                        pair=pair, clinical=None if harm == "H17" else True, technique=technique,
                    )  # fmt: skip


def singles(seed: int = 0, variants: int = 12) -> Iterator[Example]:
    """Give the texts without a twin: clinical and everyday questions, system prompts, answers, reports, plain harm."""
    rng = seeded(seed + 1)
    modalities = sorted(MODALITIES)
    for name, harmful in (("clinical", False), ("general", False), ("harm", True)):
        kinds: dict[str, list[Core]] = {}
        for core in read(name):
            split = split_of(core.family)
            kinds.setdefault(f"{core.label}:{split}", []).append(core)
            spread = variants if core.label not in {"system", "answer", "report"} else variants // 2
            for _ in range(spread):
                slots = Slots(seeded(rng.getrandbits(32)), rng.choice(modalities))
                text, technique = spoken(core, core.text, slots, split, rng.getrandbits(32), wrap=0.08)
                clinical = True if name == "clinical" else (False if core.label == "benign" else None)
                yield Example(
                    text=text, harmful=harmful, label=core.label, split=split, source=name, clinical=clinical,
                    technique=technique,
                )  # fmt: skip
        for kind in ("system", "answer", "report"):
            for split in ("train", "calibrate", "test"):
                cores = kinds.get(f"{kind}:{split}", [])
                for _ in range(8 * len(cores)):
                    slots = Slots(seeded(rng.getrandbits(32)), rng.choice(modalities))
                    some = rng.sample(cores, min(len(cores), rng.randint(2, 4)))
                    text = " ".join(expand(core.text, slots, rng.getrandbits(32)) for core in some)
                    yield Example(text=text, harmful=False, label=kind, split=split, source=name, technique="none")


def stories(seed: int = 0, count: int = 700) -> Iterator[Example]:
    """Give examination questions and bare clinical stories."""
    rng = seeded(seed + 2)
    for _ in range(count):
        text = voices.exam_question(rng) if rng.random() < 0.8 else voices.vignette(rng)
        yield Example(
            text=text, harmful=False, label="B12", split=split_of(text), source="stories", clinical=True,
            technique="none",
        )  # fmt: skip


def mixed(examples: list[Example], seed: int = 0, share: float = 0.06) -> Iterator[Example]:
    """Give conversations and noise made of `examples`: a harmful turn among benign ones stays harmful.

    A wrongly decoded benign text is benign. Splits are not crossed.
    """
    rng = seeded(seed + 3)
    for split in ("train", "calibrate", "test"):
        pool = [example for example in examples if example.split == split and len(example.text) < 240]
        benign = [example for example in pool if not example.harmful]
        if not benign:
            continue
        for example in rng.sample(pool, int(share * len(pool))):
            others = [rng.choice(benign) for _ in range(rng.choice((1, 1, 2)))]
            turns = [example, *others]
            rng.shuffle(turns)
            text = rng.choice(("\n", " ", "\n\n")).join(turn.text for turn in turns)
            one = {turn.clinical for turn in turns}
            used = [turn.technique for turn in turns if turn.technique != "none"]
            yield Example(
                text=text, harmful=example.harmful, label=example.label, split=split, source="mixed",
                clinical=one.pop() if len(one) == 1 else None, technique=used[0] if used else "none",
            )  # fmt: skip
        for example in rng.sample(benign, int(share * len(benign) / 3)):
            text = voices.garbled(example.text, rng)
            yield Example(text=text, harmful=False, label="benign", split=split, source="garbled")


def generate(seed: int = 0, variants: int = 3) -> list[Example]:
    """Make every generated example. The same arguments give the same list."""
    from gateway_intent.training.natural import natural  # it makes its examples of this module's

    made = [*twins(seed, variants), *singles(seed, variants + 2), *stories(seed, 70 * variants)]
    made += natural(seed, variants)
    return [*made, *mixed(made, seed)]
