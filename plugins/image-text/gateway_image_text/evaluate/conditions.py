"""The conditions that figures are given for: each changes one thing, `everyday` mixes them."""

from __future__ import annotations

import random
from collections.abc import Callable

from gateway_image_text.evaluate.draw import Style

Make = Callable[[random.Random], Style]
FONTS = ("sans", "bold", "serif", "mono", "condensed", "italic", "default")
GROUNDS = ("phantom", "noise", "gradient", "plain", "clinical")


def _always(**fields: object) -> Make:
    return lambda rng: Style(**{"ground": rng.choice(("phantom", "clinical")), **fields})  # type: ignore[arg-type]


def everyday(rng: random.Random) -> Style:
    """Draw the lot for a 512 x 512 image whose text a person reads without effort."""
    size = rng.choice((12, 14, 16, 18, 20, 24, 28, 32, 40))
    kind = rng.random()
    return Style(
        size=size,
        font=rng.choice(FONTS),
        ground=rng.choice(GROUNDS),
        delta=rng.choice((-1, 1)) * rng.choice((70, 90, 120, 160, 255)),
        outline=1 if rng.random() < 0.15 and size >= 18 else 0,
        turn=rng.choice((90, 180, 270)) if kind < 0.12 else rng.uniform(-12, 12) if kind < 0.35 else 0.0,
        layout=rng.choice(("tiled", "corners", "spaced")) if kind > 0.85 and size <= 20 else "block",
        quality=rng.choice((None, None, 90, 60)),
        annotated=rng.random() < 0.3 and 0.35 <= kind <= 0.85 and size <= 28,
    )


CONDITIONS: dict[str, Make] = {
    "everyday": everyday,
    **{f"size-{size}": _always(size=size) for size in (8, 9, 10, 12, 16, 24, 32, 48)},
    **{f"font-{name}": _always(font=name) for name in ("serif", "mono", "italic", "default")},
    **{f"faint-{delta}": _always(delta=delta, ground="phantom") for delta in (20, 25, 30, 40, 60)},
    "faint-minus-30": _always(delta=-30, ground="gradient"),
    **{f"faint-{delta}-clinical": _always(delta=delta, ground="clinical") for delta in (40, 60)},
    "noise": _always(ground="noise", delta=80),
    "gradient": _always(ground="gradient", delta=60),
    "black-on-white": _always(colour=(0, 0, 0), on=(255, 255, 255)),
    "white-on-black": _always(colour=(255, 255, 255), on=(0, 0, 0)),
    "red-on-black": _always(colour=(170, 0, 0), on=(0, 0, 0)),
    "blue-on-black": _always(colour=(0, 0, 200), on=(0, 0, 0)),
    "red-on-green": _always(colour=(200, 40, 40), on=(40, 120, 40)),
    "same-grey": _always(colour=(160, 90, 90), on=(90, 126, 90)),
    "yellow-on-white": _always(colour=(255, 255, 0), on=(255, 255, 255)),
    "red": _always(colour=(220, 30, 30)),
    "outlined": _always(outline=2, size=24),
    "alpha-25": _always(alpha=0.25, colour=(255, 255, 255)),
    "alpha-40": _always(alpha=0.4, colour=(255, 255, 255)),
    **{f"turn-{turn}": _always(turn=turn) for turn in (5, -15, 15, 30, 45, 90, 180, 270)},
    "shear": _always(shear=0.3),
    **{name: _always(layout=name) for name in ("tiled", "corners", "scattered", "spaced", "stacked", "curved")},
    "tiled-turned": _always(layout="tiled", turn=15, size=14),
    "annotated": _always(annotated=True),
    "jpeg-40": _always(quality=40),
    "jpeg-40-small": _always(quality=40, size=12),
    "side-256-8": _always(side=256, size=8),
    "side-256-12": _always(side=256, size=12),
    "side-256-20": _always(side=256, size=20),
    **{f"side-1024-{size}": _always(side=1024, size=size) for size in (10, 12, 16, 24, 48, 96)},
    **{f"side-2048-{size}": _always(side=2048, size=size) for size in (12, 16, 24, 48, 96, 192)},
}
