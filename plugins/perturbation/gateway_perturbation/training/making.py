"""From clean pictures to a table of signs: clean ones after all that happens to pictures, and attacked ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway_perturbation.signs import Pixels, signs
from gateway_perturbation.training import attacks, clean
from gateway_perturbation.training.encoder import SIDE, classifier
from gateway_perturbation.training.pictures import Picture, scaled

SIDES = (224, 320, 448)
"""Pixels on the longer side of pictures that are attacked."""
FOLDS = 2
"""Universal noise is made from one half of the sources and tried on the other."""


class Table(NamedTuple):
    """`signs` is (samples, SIGNS); for each sample `picture`, `source`, `modality`, what was `done`, and its `role`.

    `role` is ``clean`` and ``attack`` for what the head is fitted on and measured with, ``other`` for what it is only
    measured with.
    """

    signs: NDArray[np.float64]
    picture: NDArray[np.int64]
    source: NDArray[Any]
    modality: NDArray[Any]
    done: NDArray[Any]
    role: NDArray[Any]


def make(pictures: Sequence[Picture], session: Any, seed: int, store: Path | None = None) -> Table:
    """Make the table. `store` keeps it, and is read where it already is."""
    import torch
    from tqdm import tqdm

    if store is not None and store.is_file():
        with np.load(store, allow_pickle=False) as kept:
            return Table(*(kept[name] for name in Table._fields))
    torch.manual_seed(seed)
    white = attacks.Attacker(classifier(0), "white", SIDE)
    other = attacks.Attacker(classifier(1), "transfer", 240)
    universal = _universal(pictures, white, seed)
    rows: list[tuple[NDArray[np.float64], int, str, str, str, str]] = []
    for place, picture in enumerate(tqdm(pictures, desc="attacking", unit="picture", mininterval=5)):
        rng = np.random.default_rng((seed, place))
        for pixels, done, role in _samples(picture, rng, white, other, universal[_half(picture.source)]):
            rows.append((signs(pixels, session), place, picture.source, picture.kind, done, role))
    found = Table(*(np.asarray(column) for column in zip(*rows, strict=True)))
    if store is not None:
        np.savez(store, allow_pickle=False, **found._asdict())
    return found


def _half(source: str) -> int:
    return sum(source.encode()) % FOLDS


def _universal(pictures: Sequence[Picture], white: attacks.Attacker, seed: int) -> list[tuple[dict[int, Any], Any]]:
    """Make, for each half of the sources, universal noise and a patch from the other half."""
    made = []
    for half in range(FOLDS):
        rng = np.random.default_rng((seed, 1000 + half))
        seen = [scaled(p.pixels, 384) for p in pictures if _half(p.source) != half]
        chosen = [seen[n] for n in rng.permutation(len(seen))[:8]]
        made.append(({eps: white.universal(chosen, rng, eps=eps) for eps in (8, 16)}, white.patch(chosen, rng)))
    return made


def _samples(
    picture: Picture,
    rng: np.random.Generator,
    white: attacks.Attacker,
    other: attacks.Attacker,
    universal: tuple[dict[int, Any], Any],
) -> Iterator[tuple[Pixels, str, str]]:
    """Give (pixels, what was done, role)."""
    yield picture.pixels, "as the file is", "clean"
    base = scaled(picture.pixels, int(rng.choice(SIDES)))
    for name, way in clean.WAYS.items():
        yield way(base, rng), name, "clean"
    names = list(clean.WAYS)
    for _ in range(3):  # what has been through more than one
        one, two = rng.choice(names[1:], 2, replace=False)
        yield clean.WAYS[two](clean.WAYS[one](base, rng), rng), "two of these", "clean"
    made = []
    made += white.pgd(base, rng, grey=False)
    made += white.fgsm(base, rng, grey=False)
    made += white.pgd(base, rng, grey=True, sizes=(4, 8))
    made += white.fgsm(base, rng, grey=True)
    grey = bool(rng.random() < 0.5)
    made += other.fgsm(base, rng, grey=grey)
    made += other.pgd(base, rng, grey=grey, sizes=(4, 8, 16))
    for attack, pixels in made:
        tone = "grey" if attack.grey else "colour"
        yield pixels, f"{attack.method} {attack.network} {tone} {attack.eps}", "attack"
    attacked = made[2][1]  # pgd, white, colour, eps 8
    yield clean.WAYS["jpeg"](attacked, np.random.default_rng(5)), "pgd white colour 8, then jpeg", "other"
    yield clean.WAYS["halved"](attacked, np.random.default_rng(5)), "pgd white colour 8, then halved", "other"
    for eps, noise in universal[0].items():
        yield attacks.add(base, noise), f"universal {eps}", "other"
    yield attacks.stick(base, universal[1], rng), "patch", "other"
    for how in ("uniform", "sign", "gaussian"):
        for eps in (4, 8, 16):
            yield attacks.noisy(base, rng, eps=eps, how=how), f"{how} {eps}", "other"
