"""Read and expand the templates beside this module.

A line is ``vp: …`` (a verb phrase that takes an opener) or ``say: …`` (a text that stands as it is). In the files
``H01`` to ``H17`` each line holds twins, harmful ``=>`` benign. ``{slot}`` is filled from `slots`, and ``[a|b]`` is
a choice; both fall the same way in both twins. The other files hold texts without a twin, with a label or a kind
before the word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

from msgspec import Struct

from gateway_intent.training.slots import Slots, seeded

HARMS = tuple(f"H{number:02d}" for number in range(1, 18))
TECHNIQUES = ("none", "J01", "J02", "J03", "J05", "J06", "J07", "J08", "J12", "J13")
"""The jailbreak techniques that are told apart in text. J04 is seen by decoding; the others are in images."""

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeioAEIO]|un(?!i)|ul|MR|X-|HIV|ER |H&E|OCT)")
_DOUBLE_ARTICLE = re.compile(r"\b(a|an|the|this|old|second|his|her|no) (a|an) ", re.IGNORECASE)
_DOUBLED = frozenset(
    [
        "get",
        "put",
        "cut",
        "run",
        "stop",
        "plan",
        "rig",
        "swap",
        "ship",
        "drop",
        "skip",
        "spot",
        "strip",
        "tap",
        "set",
        "let",
        "hit",
        "beg",
        "rob",
        "jam",
    ]
)


class Core(Struct, frozen=True, kw_only=True):
    """One template. `family` names it for splits; `label` is its harm or benign task; `benign` is the twin, if any."""

    family: str
    label: str
    phrase: bool
    text: str
    benign: str | None = None


def read(name: str) -> Iterator[Core]:
    """Give the templates of one file, by its name without the ending."""
    content = resources.files(__package__).joinpath("templates", f"{name}.txt").read_text("utf-8")
    for number, line in enumerate(content.splitlines()):
        if not line or line.startswith("#"):
            continue
        head, _, rest = line.partition(": ")
        *label, form = head.split()
        text, twin, benign = rest.partition(" => ")
        yield Core(
            family=f"{name}.{number:03d}",
            label=label[0] if label else (name if name in HARMS else "benign"),
            phrase=form == "vp",
            text=text,
            benign=benign if twin else None,
        )


def expand(text: str, slots: Slots, seed: int) -> str:
    """Fill the choices and slots of `text`. The same `seed` makes the same choices."""
    rng = seeded(seed)
    chosen = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), text)
    filled = _SLOT.sub(lambda match: slots[match.group(1)], chosen)
    return _ARTICLE.sub(r"\1n ", _DOUBLE_ARTICLE.sub(r"\1 ", filled))


def gerund(phrase: str) -> str:
    """Turn the first verb of a phrase into its -ing form."""
    verb, space, rest = phrase.partition(" ")
    if verb == "lie" or verb == "die":
        verb = verb[0] + "ying"
    elif verb in _DOUBLED:
        verb = verb + verb[-1] + "ing"
    elif verb.endswith("e") and not verb.endswith(("ee", "ye", "be")):
        verb = verb[:-1] + "ing"
    else:
        verb += "ing"
    return verb + space + rest


def capital(text: str) -> str:
    """Give `text` with a capital at its start."""
    return text[:1].upper() + text[1:]
