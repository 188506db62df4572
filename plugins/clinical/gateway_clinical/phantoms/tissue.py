"""Endoscopy of the bowel, and histopathology in haematoxylin and eosin."""

from __future__ import annotations

import math

import numpy as np

from gateway_clinical.phantoms.canvas import (
    Plane,
    Rng,
    Sketch,
    branches,
    curve,
    grain,
    grid,
    noise,
    paint,
    ramp,
    ring,
    soften,
    tint,
)  # fmt: skip


def endoscopy(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw the view along a colon."""
    x, y = grid()
    cx, cy = 50 + rng.uniform(-9, 9), 50 + rng.uniform(-9, 9)
    u, v = x - cx + 1.2 * noise(rng, 6), y - cy + 1.2 * noise(rng, 6)
    far, way = np.hypot(u, v), np.arctan2(v, u)
    light = 0.08 + 0.92 * ramp(far, -2, 34) ** 0.9 - 0.22 * ramp(far, 36, 72)
    shade, rims = _folds(rng, far, way)
    colour = tint(226, 124, 100) * np.float32(rng.uniform(0.95, 1.05))
    field = (light * shade * (1 + 0.15 * rims) * (1 + 0.02 * noise(rng, 44))) * colour
    field += noise(rng, 6) * light * tint(2.5, 8, 6.5)
    turn, out = rng.uniform(0, 6.28, 10), rng.uniform(18, 42, 10)
    starts = np.stack((cx + out * np.cos(turn), cy + out * np.sin(turn)), 1)
    twigs = branches(rng, starts, turn + rng.normal(0, 1.2, 10), 10, 0.7, 3, 0.6)
    web = Sketch().twigs(twigs, np.minimum(0.9, twigs[1] + 0.2)).plane(0.6)
    field *= 1 - web * ramp(far, 12, 26) * tint(0.12, 0.34, 0.30)
    if words & {"polyp", "mass", "lesion"}:
        grows = "polyp" not in words
        _polyp(field, rng, cx, cy, 1.7 if grows else 0.75 if "small" in words else 1.0, 0.16 if grows else 0.05)
    gloss = ramp(noise(rng, 24), 1.2, 2.0) * ramp(rims, 0.35, 0.8) * ramp(light, 0.4, 0.7)
    wet = ramp(noise(rng, 30), 2.4, 3.0) * ramp(light * shade, 0.6, 0.85)
    field += 190 * soften(np.maximum(gloss, wet), 0.6)
    inside = (np.abs(x - 50) < 47) & (np.abs(y - 50) < 47) & (np.abs(x - 50) + np.abs(y - 50) < 78)
    if rng.random() < 0.4:
        inside = (np.hypot(x - 50, y - 50) < 49) & (np.abs(y - 50) < 44)
    shown: Plane = (field + grain(rng, 1.0)) * soften(inside.astype(np.float32), 0.7)
    return shown


def _folds(rng: Rng, far: Plane, way: Plane) -> tuple[Plane, Plane]:
    """Give the shadow behind each fold, and the light on its rim."""
    shade, rims, start = np.ones_like(far), np.zeros_like(far), rng.uniform(0, 6.28)
    three = [np.cos(3 * way), np.sin(3 * way)]
    one = [np.cos(way), np.sin(way)]
    for number, size in enumerate((47.0, 32.0, 21.5, 14.0, 9.0)):
        # The colon's three bands of muscle make its folds triangles; each is turned a little against the next.
        turn, tilt = start + 0.35 * number + rng.normal(0, 0.15), rng.uniform(0, 6.28)
        corners = three[0] * math.cos(3 * turn) + three[1] * math.sin(3 * turn)
        lean = one[0] * math.cos(tilt) + one[1] * math.sin(tilt)
        edge = size * (1 + 0.14 * corners + 0.10 * lean) - far  # above 0 beyond the fold, which hides the wall there
        deep = np.clip(0.62 + 0.38 * lean - 0.30 * corners, 0.08, 1)  # a fold is flat where a band runs
        shade = shade * (1 - 0.52 * deep * np.exp(-np.abs(edge) / (0.20 * size + 0.5)) * ramp(edge, -0.4, 0.9))
        rims = rims + deep * np.exp(-np.abs(edge + 0.5) / (0.07 * size + 0.4)) * ramp(edge, 0.5, -0.5)
    return shade, rims


def _polyp(field: Plane, rng: Rng, cx: float, cy: float, times: float, rough: float) -> None:
    """Draw a polyp, or a mass: `times` as large as a common polyp, and `rough` at its border."""
    x, y = grid()
    turn, out, size = rng.uniform(0, 6.28), rng.uniform(20, 26), times * rng.uniform(7.5, 10)
    px, py = cx + out * math.cos(turn), cy + out * math.sin(turn)
    shape = ring(px, py, size, size * 0.86, turn, rough, rng)
    field *= 1 - 0.45 * Sketch().fill(shape + np.array((1.4, 1.8))).plane(3.5)
    near = np.clip(1 - ((x - px + 1.5) ** 2 + (y - py + 2) ** 2) / size**2, 0, 1)
    paint(
        field,
        Sketch().fill(shape).plane(0.8),
        (0.60 + 0.44 * near + 0.04 * noise(rng, 34) + 0.6 * (rough - 0.05) * noise(rng, 14)) * tint(224, 100, 88),
    )
    shine = np.array(((px - 2.6, py - 3.2, 1.6, 0.8, -0.6), (px + 0.4, py - 4.6, 0.7, 0.5, 0.0)))
    field += 170 * Sketch().blots(shine).plane(0.6)


def histopathology(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw glands in their stroma, or a tumour where `words` name it and else once in three times."""
    x, y = grid()
    tumour = rng.random() < 0.34
    if words & {"mass", "malignant", "invasive"}:
        tumour = True
    elif words & {"normal", "benign", "gland"}:
        tumour = False
    turn, swirl = rng.uniform(0, 3.14), noise(rng, 7)
    fibre = np.sin(1.9 * (x * math.cos(turn) + y * math.sin(turn)) + 3.2 * swirl + 0.8 * noise(rng, 26))
    pink = 0.36 + 0.08 * fibre * ramp(noise(rng, 9), -1, 1) + 0.05 * swirl + 0.025 * noise(rng, 50)
    gaps = ramp(noise(rng, 12) + 0.25 * fibre, 1.6, 1.9)
    pink *= 1 - 0.9 * gaps
    nuclei, pale, cells, lumen = Sketch(), Sketch(), Sketch(), Sketch()
    nuclei.blots(*_scattered(rng, 170 if tumour else 230, turn + 1.57))
    for place in _places(rng, tumour):
        border = ring(place[0], place[1], place[2], place[2] * rng.uniform(0.74, 0.95), rng.uniform(0, 3.1),
                      0.16 if tumour else 0.07, rng)  # fmt: skip
        _gland(rng, border, tumour, (nuclei, pale, cells, lumen))
    inside, hollow = cells.plane(0.7), lumen.plane(0.8)
    paint(pink, inside, 0.44 if tumour else 0.36)
    pink = pink * (1 - 0.80 * pale.plane(0.6)) * (1 - 0.94 * hollow)
    blue = nuclei.plane(0.45) * (1.0 + 0.09 * noise(rng, 60)) + 0.09 * inside * (1 - hollow) + 0.02
    # Each stain takes its own share of red, green and blue from the light that goes through.
    density = pink * tint(0.17, 1.02, 0.44) + np.clip(blue, 0, None) * tint(0.92, 1.10, 0.44)
    shown: Plane = 247 * np.exp(-density)
    return shown


def _scattered(rng: Rng, count: int, turn: float) -> tuple[Plane, Plane]:
    """Give the nuclei of the stroma: spindles along its fibres, and round ones of lymphocytes; and their levels."""
    round_ = rng.random(count) < 0.4
    wide = np.where(round_, rng.uniform(0.7, 0.9, count), rng.uniform(1.0, 1.7, count))
    high = np.where(round_, wide * 0.95, rng.uniform(0.35, 0.55, count))
    place = rng.uniform(0, 100, (2, count))
    return np.stack((*place, wide, high, rng.normal(turn, 0.45, count)), 1), rng.uniform(0.6, 1.0, count)


def _places(rng: Rng, tumour: bool) -> list[tuple[float, float, float]]:
    """Choose where glands lie: near each other and not one in the other."""
    kept: list[tuple[float, float, float]] = []
    for x, y, share in rng.random((130, 3)).tolist():
        place = (112 * x - 6, 112 * y - 6, 6 + 11 * share if tumour else 11.5 + 4 * share)
        if all((place[0] - a) ** 2 + (place[1] - b) ** 2 > (0.92 * (place[2] + c) + 1) ** 2 for a, b, c in kept):
            kept.append(place)
    return kept


def _gland(rng: Rng, border: Plane, tumour: bool, sketches: tuple[Sketch, Sketch, Sketch, Sketch]) -> None:
    """Draw one gland: its cells, their nuclei at the base, goblets, and the hollow in the middle."""
    nuclei, pale, cells, lumen = sketches
    path = curve(border)
    middle = path.mean(0)
    out = path - middle
    reach = np.hypot(out[:, 0], out[:, 1])
    turn = np.arctan2(out[:, 1], out[:, 0])
    size, around = float(reach.mean()), float(np.hypot(*np.diff(path, axis=0).T).sum())
    cells.fill(path, smooth=False)
    hollow = rng.uniform(0.08, 0.35) if tumour else rng.uniform(0.20, 0.34)
    lumen.fill(middle + out[::8] * hollow * (1 + 0.22 * rng.normal(size=(len(path[::8]), 1))))
    for row in (0.9, 0.70, 0.48) if tumour else (0.91,):
        count = int(around * row / (2.0 if tumour else 1.35))
        at = (np.linspace(0, len(path) - 1, count) + rng.normal(0, 1.2, count)).astype(int) % len(path)
        depth = row + rng.normal(0, 0.06 if tumour else 0.03, count)
        long = rng.uniform(0.85, 1.5, count) if tumour else rng.uniform(0.85, 1.25, count)
        wide = rng.uniform(0.6, 1.05, count) if tumour else rng.uniform(0.45, 0.62, count)
        spots = middle + out[at] * depth[:, None]
        rows = np.stack((spots[:, 0], spots[:, 1], long, wide, turn[at] + rng.normal(0, 0.25, count)), 1)
        nuclei.blots(rows, rng.uniform(0.7, 1.0, count))
    if not tumour:
        count = int(around * 0.62 / 2.6)
        at = (np.linspace(0, len(path) - 1, count) + rng.normal(0, 1.5, count)).astype(int) % len(path)
        spots = middle + out[at] * rng.uniform(0.58, 0.68, count)[:, None]
        high = rng.uniform(0.9, 1.25, count)
        pale.blots(
            np.stack((spots[:, 0], spots[:, 1], np.full(count, size * 0.17), high, turn[at]), 1),
            rng.uniform(0.6, 1, count),
        )
