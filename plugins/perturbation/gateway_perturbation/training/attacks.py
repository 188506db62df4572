"""Pictures with adversarial noise: FGSM and PGD, with or without a target, on the encoder's network and another.

All noise is bound by `eps` in every sample, at the picture's own resolution (the way to the network's resolution is
part of what is differentiated), rounded to whole grey levels as a file needs it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway_perturbation.signs import Pixels

STEPS = 6
EPS = (2, 4, 8, 16)


class Attack(NamedTuple):
    """How a picture was attacked: `method` (fgsm, pgd), `network` (white, transfer), `grey`: alike in all channels."""

    method: str
    network: str
    eps: int
    grey: bool
    targeted: bool


class Attacker:
    """Makes attacks with one network. `side` is that network's resolution."""

    def __init__(self, net: Any, name: str, side: int) -> None:
        self._net = net
        self._name = name
        self._side = side

    def fgsm(self, pixels: Pixels, rng: np.random.Generator, *, grey: bool) -> list[tuple[Attack, Pixels]]:
        """Attack with one step of the sign of the gradient (Goodfellow et al., 2015), for every eps."""
        start, goal, targeted = self._aim(pixels, rng, targeted=bool(rng.random() < 0.5))
        step = self._gradient(start, goal, grey=grey).sign() * (-1 if targeted else 1)
        return [(Attack("fgsm", self._name, eps, grey, targeted), _back(start + eps * step)) for eps in EPS]

    def pgd(
        self, pixels: Pixels, rng: np.random.Generator, *, grey: bool, sizes: tuple[int, ...] = EPS
    ) -> list[tuple[Attack, Pixels]]:
        """Attack with `STEPS` projected steps from a random start (Madry et al., 2018), for every eps at once."""
        import torch

        start, goal, targeted = self._aim(pixels, rng, targeted=bool(rng.random() < 0.5))
        eps = torch.tensor(sizes, dtype=torch.float32).view(-1, 1, 1, 1)
        shape = (len(sizes), 1 if grey else 3, *start.shape[2:])
        drawn = torch.from_numpy(rng.uniform(-1, 1, shape).astype(np.float32))
        now = (start + eps * drawn).clamp(0, 255)
        for _ in range(STEPS):
            step = self._gradient(now, goal.expand(len(sizes)), grey=grey).sign() * (-1 if targeted else 1)
            now = now + 2.5 / STEPS * eps * step
            now = torch.maximum(torch.minimum(now, start + eps), start - eps).clamp(0, 255)
        return [
            (Attack("pgd", self._name, size, grey, targeted), _back(now[place : place + 1]))
            for place, size in enumerate(sizes)
        ]

    def universal(self, pictures: list[Pixels], rng: np.random.Generator, *, eps: int, side: int = 384) -> Any:
        """Make one noise for all pictures (Moosavi-Dezfooli et al., 2017, by steps of the sign): (1, 3, side, side)."""
        import torch

        noise = torch.zeros(1, 3, side, side)
        for _ in range(2):
            for place in rng.permutation(len(pictures)):
                image = torch.nn.functional.interpolate(_tensor(pictures[place]), (side, side), mode="area")
                with torch.no_grad():
                    goal = self._net(self._scale(image)).argmax(1)
                step = self._gradient((image + noise).clamp(0, 255), goal, grey=False).sign()
                noise = (noise + eps / 8 * step).clamp(-eps, eps)
        return noise

    def patch(self, pictures: list[Pixels], rng: np.random.Generator, *, side: int = 56, target: int = 859) -> Any:
        """Make a patch that draws any picture to one class (Brown et al., 2017): (1, 3, side, side)."""
        import torch

        patch = torch.full((1, 3, side, side), 128.0)
        goal = torch.tensor([target])
        for _ in range(2):
            for place in rng.permutation(len(pictures)):
                image = torch.nn.functional.interpolate(_tensor(pictures[place]), (self._side, self._side), mode="area")
                top, left = (int(n) for n in rng.integers(0, self._side - side, 2))
                moving = patch.clone().requires_grad_()
                shown = image.clone()
                shown[..., top : top + side, left : left + side] = moving
                loss = torch.nn.functional.cross_entropy(self._net(shown), goal)
                (slope,) = torch.autograd.grad(loss, moving)
                patch = (patch - 8 * slope.sign()).clamp(0, 255)
        return patch

    def _aim(self, pixels: Pixels, rng: np.random.Generator, *, targeted: bool) -> tuple[Any, Any, bool]:
        import torch

        start = _tensor(pixels)
        if targeted:
            return start, torch.tensor([int(rng.integers(0, 1000))]), True
        with torch.no_grad():
            return start, self._net(self._scale(start)).argmax(1), False

    def _gradient(self, now: Any, goal: Any, *, grey: bool) -> Any:
        import torch

        moving = now.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(self._net(self._scale(moving)), goal, reduction="sum")
        (slope,) = torch.autograd.grad(loss, moving)
        return slope.sum(1, keepdim=True).expand_as(slope) if grey else slope

    def _scale(self, image: Any) -> Any:
        import torch

        return torch.nn.functional.interpolate(
            image, (self._side, self._side), mode="bilinear", antialias=True, align_corners=False
        )


def _tensor(pixels: Pixels) -> Any:
    import torch

    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]


def _back(image: Any) -> Pixels:
    found = image.clamp(0, 255).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
    return np.ascontiguousarray(found)


def add(pixels: Pixels, noise: Any) -> Pixels:
    """Add universal noise (1, 3, h, w) to a picture of any size, scaled to it and not smoothed."""
    import torch

    return _back(_tensor(pixels) + torch.nn.functional.interpolate(noise, pixels.shape[:2], mode="nearest"))


def stick(pixels: Pixels, patch: Any, rng: np.random.Generator) -> Pixels:
    """Put a patch onto a picture, a quarter of its shorter side wide, anywhere."""
    import torch

    size = min(pixels.shape[:2]) // 4
    shown = _back(torch.nn.functional.interpolate(patch, (size, size), mode="bilinear"))
    top, left = int(rng.integers(0, pixels.shape[0] - size)), int(rng.integers(0, pixels.shape[1] - size))
    made = pixels.copy()
    made[top : top + size, left : left + size] = shown
    return made


def noisy(pixels: Pixels, rng: np.random.Generator, *, eps: int, how: str) -> Pixels:
    """Add noise of size `eps` that aims at nothing, sample by sample: ``uniform``, ``sign`` or ``gaussian``."""
    drawn: NDArray[np.float64]
    if how == "gaussian":
        drawn = rng.normal(0, eps / 2, pixels.shape)
    else:
        drawn = rng.uniform(-eps, eps, pixels.shape)
        drawn = eps * np.sign(drawn) if how == "sign" else drawn
    return np.asarray(np.clip(np.rint(pixels + drawn), 0, 255), np.uint8)
