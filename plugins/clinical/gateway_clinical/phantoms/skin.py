"""Dermoscopy: skin under a lens with a pigmented lesion."""

from __future__ import annotations

import math

import numpy as np

from gateway_clinical.phantoms.canvas import Plane, Rng, Sketch, grain, grid, noise, paint, ramp, ring, soften, tint


def draw(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw a mole, or a melanoma where `words` name it and else once in three times."""
    x, y = grid()
    bad = rng.random() < 0.34
    if words & {"melanoma", "malignant"}:
        bad = True
    elif words & {"mole", "nevus", "naevus", "benign"}:
        bad = False
    tone = rng.uniform(0.9, 1.04)
    skin = 1 + 0.028 * noise(rng, 5) + 0.012 * noise(rng, 31) + 0.012 * noise(rng, 70)
    field = skin * tint(226, 178, 152) * np.float32(tone) + noise(rng, 7) * tint(1, -2.4, -2)
    furrows = ramp(np.abs(noise(rng, 20)), 0.10, 0.0)
    field *= 1 - 0.035 * furrows
    cx, cy = rng.uniform(46, 54, 2)
    wide, high, turn = rng.uniform(19, 27), rng.uniform(16, 22), rng.uniform(0, 3.14)
    border = ring(cx, cy, wide, high, turn, 0.17 if bad else 0.05, rng)
    mask = Sketch().fill(border).plane(0)
    bumps = noise(rng, 24)
    ragged = soften(mask, 7 if bad else 9) + (0.09 if bad else 0.05) * bumps
    mask, core = ramp(ragged, 0.30, 0.66 if bad else 0.78), soften(mask, 13)
    brown = tint(146, 92, 60) * np.float32(rng.uniform(0.85, 1.15))
    lesion = (0.86 + 0.10 * noise(rng, 7) + 0.05 * bumps) * (1.22 - 0.42 * core) * brown
    net = _network(rng)
    rim = ramp(core, 1.0, 0.62)  # at the border the net is clearest, and skin shows through its meshes
    lesion *= 1 - (0.14 + (0.18 if bad else 0.26) * rim) * net
    mask = mask * (1 - 0.45 * rim * (1 - net))
    if bad:
        _melanoma(lesion, rng, cx, cy, wide)
    else:
        count = int(rng.integers(10, 34))
        way, out, size = rng.uniform(0, 6.28, count), 0.62 * np.sqrt(rng.random(count)), rng.uniform(0.4, 0.9, count)
        dots = np.stack((cx + wide * out * np.cos(way), cy + high * out * np.sin(way), size, size, way), 1)
        lesion *= 1 - 0.34 * Sketch().blots(dots).plane(0.6)
    paint(field, (0.94 if bad else 0.9) * mask, lesion)
    _hairs(field, rng)
    for _ in range(int(rng.integers(0, 4))):  # bubbles in the gel between skin and lens
        bubble = np.hypot(x - rng.uniform(8, 92), y - rng.uniform(8, 92)) / rng.uniform(0.9, 2)
        field += 22 * np.exp(-(((bubble - 1) / 0.25) ** 2))
    far = np.hypot(x - 50, y - 50)
    field *= 1.03 - 0.24 * ramp(far, 22, 66)
    if rng.random() < 0.45:
        field *= ramp(far, 52.5, 49.5)
    shown: Plane = field + grain(rng, 1.2)
    return shown


def _hairs(field: Plane, rng: Rng) -> None:
    hairs, shades = Sketch(), Sketch()
    for _ in range(int(rng.integers(0, 8))):
        start, way, bend = rng.uniform(0, 100, 2), rng.uniform(0, 6.28), rng.normal(0, 0.35)
        turns = way + bend * np.linspace(0, 1, 7)
        path = start + np.cumsum(np.stack((np.cos(turns), np.sin(turns)), 1), 0) * rng.uniform(5, 12)
        hairs.tapered(path, 0.85, 0.35, 0.9)
        shades.tapered(path + 0.6, 0.9, 0.4, 0.5)
    field *= 1 - 0.3 * shades.plane(0.9)
    paint(field, hairs.plane(0.35), tint(42, 30, 26))


def _network(rng: Rng) -> Plane:
    """Draw the honeycomb of pigment: the valleys between three waves, bent so that no two meshes are alike."""
    x, y = grid()
    bent = 0.7 * noise(rng, 22)
    u, v, mesh = x + bent, y + bent[::-1, ::-1].T, rng.uniform(2.5, 3.1)
    turn = rng.uniform(0, 1)
    waves = np.zeros_like(x)
    for way in (turn, turn + 2.0944, turn + 4.1888):
        waves = waves + np.cos(mesh * (u * math.cos(way) + v * math.sin(way)))
    net: Plane = ramp(waves, 0.4, -1.2) * np.clip(0.75 + 0.3 * noise(rng, 9), 0, 1)
    return net


def _melanoma(lesion: Plane, rng: Rng, cx: float, cy: float, wide: float) -> None:
    """Lay in what a mole does not have: black blotches, a blue-white veil, regression, dots at the border."""
    way = rng.uniform(0, 6.28)
    dark = Sketch().fill(ring(cx + 0.45 * wide * np.cos(way), cy + 0.4 * wide * np.sin(way), 8, 6, way, 0.3, rng))
    dark.fill(ring(cx - 0.3 * wide * np.cos(way), cy + 0.5 * wide * np.sin(way), 4, 5, way, 0.3, rng), 0.8)
    paint(lesion, 0.88 * dark.plane(2.2), tint(44, 32, 34))
    veil = Sketch().fill(ring(cx - 0.15 * wide * np.cos(way), cy - 0.2 * wide * np.sin(way), 8, 6, way, 0.3, rng))
    paint(lesion, 0.66 * veil.plane(4), tint(122, 126, 150))
    pale = Sketch().fill(ring(cx - 0.5 * wide * np.cos(way), cy - 0.4 * wide * np.sin(way), 5, 4, way, 0.3, rng))
    paint(lesion, 0.7 * pale.plane(2.5), tint(214, 164, 146))
    turn, out = way + rng.normal(0, 0.9, 26), wide * rng.uniform(0.65, 0.98, 26)
    size = rng.uniform(0.5, 1.2, 26)
    dots = np.stack((cx + out * np.cos(turn), cy + 0.8 * out * np.sin(turn), size, size, turn), 1)
    lesion *= 1 - 0.6 * Sketch().blots(dots).plane(0.6)
