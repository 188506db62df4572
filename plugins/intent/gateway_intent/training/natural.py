"""Twins and single texts that were written out, one by one, and wrappings and framings to put them in.

The files of ``pairs`` hold lines ``H01 harmful => B14 benign``. Those of ``singles`` hold lines with a code and a
text: ``harm*`` what must be refused, ``offtopic*`` what is about other things than clinical work, ``wrappers*``
wrappings with the technique's code (``J01 … {q} …``), ``ordinary*`` framings without one; the others are benign and
clinical. Slots and choices are as in `templates`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from random import Random

from gateway_intent.segments import segments
from gateway_intent.training import voices
from gateway_intent.training.generate import Example, Split, split_of
from gateway_intent.training.slots import MODALITIES, Slots, seeded
from gateway_intent.training.templates import expand

_CODE = re.compile(r"[HBJ]\d\d ")
_PIECES = re.compile(r"\{q[123]\}")


def lines(folder: str, name: str) -> Iterator[tuple[str, str | None, str]]:
    """Give the lines of a file: a name for splits, the code before the text if there is one, and the text."""
    content = resources.files(__package__).joinpath(folder, f"{name}.txt").read_text("utf-8")
    for number, line in enumerate(content.splitlines()):
        if not line.strip() or line.startswith("#"):
            continue
        code = _CODE.match(line)
        text = line[code.end() :] if code else line
        yield f"{folder}.{name}.{number:04d}", code[0].strip() if code else None, text.strip()


@cache
def names(folder: str, *kinds: str) -> tuple[str, ...]:
    """Give the names of the files of `folder`, in order; of `kinds` only, where some are given."""
    found = sorted(Path(file.name).stem for file in resources.files(__package__).joinpath(folder).iterdir())
    return tuple(name for name in found if not kinds or name.startswith(kinds))


@cache
def wrappings(split: Split) -> tuple[tuple[str, str], ...]:
    """Give the wrappings of one side of the split: technique and text."""
    found = (
        (code or "none", text.replace("\\n", "\n"))
        for name in names("singles", "wrappers")
        for key, code, text in lines("singles", name)
        if split_of(key) == split
    )
    return tuple(found)


@cache
def framings(split: Split) -> tuple[str, ...]:
    """Give the ordinary framings of one side of the split."""
    found = (
        text.replace("\\n", "\n")
        for name in names("singles", "ordinary")
        for key, _, text in lines("singles", name)
        if split_of(key) == split
    )
    return tuple(found)


def put(wrapping: str, text: str) -> str:
    """Put a request into a wrapping: whole at ``{q}``, or in consecutive pieces at ``{q1}``, ``{q2}``, ``{q3}``."""
    places = len(set(_PIECES.findall(wrapping)))
    if places:
        words = text.split()
        size = max(1, -(-len(words) // places))
        for place in range(places):
            wrapping = wrapping.replace(f"{{q{place + 1}}}", " ".join(words[place * size : (place + 1) * size]))
    return wrapping.replace("{q}", text)


def said(text: str, split: Split, seed: int, *, wrap: float, frame: float) -> tuple[str, str]:
    """Say a text in a voice, perhaps in a wrapping or framing, all chosen by `seed`: the text and the technique."""
    rng = seeded(seed)
    if rng.random() < 0.4:  # whether something is put as a question is no sign of what it is for
        text = text.replace("?", "." if rng.random() < 0.5 else "").strip()
    spoken = voices.voiced(text, rng.getrandbits(32))
    kind = rng.random()
    if kind < wrap and wrappings(split):
        technique, wrapping = rng.choice(wrappings(split))
        return put(wrapping, text if rng.random() < 0.7 else spoken), technique
    if kind < wrap + frame and framings(split):
        return put(rng.choice(framings(split)), text), "none"
    return spoken, "none"


def _slots(rng: Random) -> Slots:
    return Slots(seeded(rng.getrandbits(32)), rng.choice(sorted(MODALITIES)))


def written_twins(seed: int = 0, variants: int = 4) -> Iterator[Example]:
    """Give `variants` of each written pair: every third as it stands, the others in another voice or wrapping."""
    rng = seeded(seed + 11)
    for key, code, line in (line for name in names("pairs") for line in lines("pairs", name)):
        bad, _, good = line.partition(" => ")
        good = _CODE.sub("", good, count=1)
        split = split_of(key, calibrate=8, test=4)
        for number in range(variants):
            slots, choice = _slots(rng), rng.getrandbits(32)
            for text, harmful in ((bad, True), (good, False)):
                filled, technique = expand(text, slots, choice), "none"
                if number % 3:
                    filled, technique = said(filled, split, choice, wrap=0.34, frame=0.1)
                yield Example(
                    text=filled, harmful=harmful, label=code if harmful else "benign", split=split,
                    source=f"pairs.{code}", pair=f"{key}.{number}", clinical=None if code == "H17" else True,
                    technique=technique,
                )  # fmt: skip


def written_singles(seed: int = 0, variants: int = 3) -> Iterator[Example]:
    """Give each written single text as it stands, and in other voices and framings; good-faith clinical ones once more.

    There are fewer of those than of harmful ones, and a refusal of any of them is what gets a guard switched off.
    """
    rng = seeded(seed + 12)
    for name in names("singles"):
        if name.startswith(("wrappers", "ordinary")):
            continue
        harmful, elsewhere = name.startswith("harm"), name.startswith("offtopic")
        for key, code, text in lines("singles", name):
            split = split_of(key, calibrate=8, test=4)
            clinical = False if elsewhere else (None if code == "H17" else True)
            for number in range(variants if harmful or elsewhere else variants + 1):
                filled, technique = expand(text, _slots(rng), rng.getrandbits(32)), "none"
                if number:
                    filled, technique = said(filled, split, rng.getrandbits(32), wrap=0.2, frame=0.2)
                yield Example(
                    text=filled, harmful=harmful, label=code or "benign", split=split, source=f"singles.{name}",
                    clinical=clinical, technique=technique,
                )  # fmt: skip


def bare_wrappings() -> Iterator[Example]:
    """Give what wrappings say without a request: the whole, and each piece that is judged alone. None of it is harm."""
    for split in ("train", "calibrate", "test"):
        for place, (technique, wrapping) in enumerate(wrappings(split)):
            for filling in ("", "Is the fracture displaced?", "Which plane is this?"):
                text = put(wrapping, filling)
                for piece in (text, *segments(text)):
                    yield Example(
                        text=piece, harmful=False, label="benign", split=split, source=f"bare.{place}",
                        technique=technique if piece == text else None,
                    )  # fmt: skip


def natural(seed: int = 0, variants: int = 4) -> Iterator[Example]:
    """Give every written text."""
    yield from written_twins(seed, variants)
    yield from written_singles(seed)
    yield from {example.text: example for example in bare_wrappings()}.values()
