"""The eye: a colour photograph of the fundus, and OCT of the macula."""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow
from PIL import ImageFilter

from gateway_clinical.phantoms.canvas import (
    SIDE,
    Plane,
    Pose,
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
    tint,
)  # fmt: skip

_ARCADES = (
    ((71, 47), (67, 36), (56, 25), (42, 21), (28, 25), (17, 36)),
    ((71, 52), (67, 62), (57, 73), (43, 78), (29, 75), (18, 65)),
    ((72, 48), (77, 38), (83, 29), (90, 20)),
    ((72, 52), (77, 61), (84, 70), (90, 80)),
)  # fmt: skip
"""The course of the four great arteries of a right eye; the veins go beside them."""


def fundus(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw a right or a left fundus."""
    x, y = grid()
    pose = Pose(rng, turn=6, scale=0.05, shift=1)
    if rng.random() < 0.5:
        pose.wide = -pose.wide
    # Plain numbers: with NumPy's own, every plane would turn into one of twice the size.
    disc, macula = pose([(72, 49.5), (41, 52)]).tolist()
    far = np.hypot(x - 50, y - 50)
    light = 1.04 - 0.42 * ramp(far, 12, 52) + 0.05 * noise(rng, 4)
    hue = rng.uniform(-1, 1)
    field = tint(206 + 12 * hue, 98 + 12 * hue, 46 + 12 * hue) * (
        light + 0.02 * noise(rng, 22) + 0.012 * noise(rng, 50)
    )
    spot = np.exp(-((x - macula[0]) ** 2 + (y - macula[1]) ** 2) / 72)
    field *= 1 - spot * tint(0.26, 0.40, 0.38)
    near = (x - disc[0]) ** 2 + (y - disc[1]) ** 2
    field += np.exp(-near / 121) * tint(13, 16, 10)
    swollen = "papilloedema" in words
    plate = Sketch(pose).fill(ring(72, 49.5, 5.0, 5.7)).plane(3.2 if swollen else 1.0)
    paint(field, 0.93 * plate, tint(250, 196, 118))
    cup = Sketch(pose).fill(ring(71.4, 49.6, *(np.array((2.2, 2.6)) * rng.uniform(0.8, 1.3)))).plane(1.5)
    paint(field, (0.2 if swollen else 0.85) * cup, tint(255, 232, 178))
    arteries, veins = _vessels(rng, pose)
    field *= 1 - veins * tint(0.34, 0.60, 0.50)
    field *= 1 - arteries * tint(0.14, 0.42, 0.40)
    _fundus_findings(field, rng, pose, words)
    field += 46 * np.exp(-((x - macula[0] - 0.3) ** 2 + (y - macula[1]) ** 2) / 0.64)
    edge = ramp(far, 47.6, 46.8)
    shown: Plane = (field + grain(rng, 1.3)) * edge
    return shown


def _vessels(rng: Rng, pose: Pose) -> tuple[Plane, Plane]:
    """Draw the arteries and the veins, each as a plane."""
    planes = []
    for vein in (False, True):
        sketch, starts, ways, widths = Sketch(pose), [], [], []
        for number, course in enumerate(_ARCADES):
            shift = (1.6 if vein else -0.6) * (1 if number % 2 else -1)
            knots = (
                np.asarray(course, np.float64)
                + rng.normal(0, 0.7, (len(course), 2)) * ((np.arange(len(course)) > 0)[:, None])
            )
            knots[1:, 1] += shift
            knots[1:, 0] += 0.8 * vein
            width = (1.9 if vein else 1.3) * (1.0 if number < 2 else 0.72)
            sketch.tapered(knots, width, width * 0.3, 0.95)
            path = curve(knots, closed=False)
            places = np.arange(6, len(path) - 4, 4)
            ahead = path[places + 1] - path[places]
            sides = np.where((places // 4 + vein) % 2, 0.75, -0.75) + rng.normal(0, 0.15, len(places))
            starts.append(path[places])
            ways.append(np.arctan2(ahead[:, 1], ahead[:, 0]) + sides)
            widths.append(np.full(len(places), width * 0.5))
        starts.append(np.array(((69.0, 49.5),) * 2))
        ways.append(np.array((2.9, 3.4)) + 0.1 * vein)
        widths.append(np.full(2, 0.6))
        paths, first, last = branches(
            rng, np.concatenate(starts), np.concatenate(ways), 10, np.concatenate(widths), 2, 0.3
        )
        bare = np.hypot(paths[:, -1, 0] - 41, paths[:, -1, 1] - 52) < 7.5  # the fovea has no vessels
        sketch.twigs((paths[~bare], first[~bare], last[~bare]), 0.75)
        planes.append(sketch.plane(0.5))
    return planes[0], planes[1]


def _fundus_findings(field: Plane, rng: Rng, pose: Pose, words: frozenset[str]) -> None:
    bleeds = bool(words & {"haemorrhage", "retinopathy", "diabetic", "diabetes"})
    if bleeds:
        red = np.stack((rng.uniform(20, 66, 18), rng.uniform(20, 80, 18), rng.uniform(0.5, 1.7, 18),
                        rng.uniform(0.5, 1.2, 18), rng.uniform(0, 3, 18)), 1)  # fmt: skip
        field *= 1 - 0.9 * Sketch(pose).blots(red).plane(0.6) * tint(0.42, 0.78, 0.68)
    count, drusen = (46, True) if "drusen" in words else (18, False)
    if drusen or bleeds:
        way, out = rng.uniform(0, 6.28, count), rng.rayleigh(6, count) if drusen else rng.uniform(8, 15, count)
        size = rng.uniform(0.35, 1.1, count)
        spots = np.stack((41 + out * np.cos(way), 52 + out * np.sin(way), size, size * 0.85, way), 1)
        paint(field, 0.8 * Sketch(pose).blots(spots, rng.uniform(0.6, 1, count)).plane(0.5), tint(245, 208, 110))


def oct_scan(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw a cross-section of the retina through the fovea."""
    x, y = grid()
    line = x[0]
    centre, drusen = 50 + rng.uniform(-4, 4), np.zeros_like(line)
    off = line - centre
    rim, pit = np.exp(-((off / 24) ** 2)), np.exp(-((off / 8.5) ** 2))
    if "drusen" in words:
        for place in centre + np.array((-26, -17, -9, -1, 8, 19, 28)) + rng.normal(0, 1.5, 7):
            drusen = drusen + rng.uniform(1.5, 3.6) * np.exp(-(((line - place) / rng.uniform(1.6, 3)) ** 4))
    sub = np.zeros_like(line)
    if words & {"oedema", "detachment"}:
        sub = 6.5 * np.exp(-(((off - 2) / 15) ** 4))
    bow = 0.0016 * off**2 * rng.uniform(-1.0, 0.4) + 0.03 * rng.uniform(-1, 1) * off
    base = 66 + rng.uniform(-2, 2) + bow  # Bruch's membrane
    left = 1 if rng.random() < 0.5 else -1
    fibres = (1.2 + 2.4 / (1 + np.exp(-left * (off - 18) / 9))) * (1 - pit) + 0.25
    if "glaucoma" in words:
        fibres = 0.3 + 0.35 * fibres
    inner = 1 - np.exp(-((off / 9.5) ** 2))
    thick = (
        (fibres, 205), ((2.0 + 3.2 * rim) * inner + 0.2, 118), (3.2 * inner + 0.15, 142), (2.9 * inner + 0.15, 74),
        (2.0 * inner + 0.3, 138), (5.2 + 3.4 * pit - 0.92 * drusen, 62), (0.6, 104), (2.2 + 0.7 * pit, 70), (1.1, 212),
        (1.4, 92), (sub, 14), (drusen, 120), (1.9, 240),
    )  # fmt: skip
    # The layers are laid from the outermost upwards, so that fluid lifts what lies above it; drusen only
    # press into the layer of the nuclei.
    heights = np.cumsum([np.broadcast_to(layer, line.shape) for layer, _ in thick[::-1]], axis=0)[::-1]
    field = np.full_like(x, 12.0)
    wave = 0.25 * noise(rng, 26, 2)[:1]
    depth = y - base
    under = np.clip(depth, 0, None)
    choroid = 150 * np.exp(-under / 13) * (0.86 + 0.22 * noise(rng, 26, 30)) + 10
    holes = ramp(noise(rng, 22, 26), 0.5, 1.2) * ramp(under, 2, 5)
    field = np.where(depth > 0, choroid * (1 - 0.45 * holes), field)
    for (_, value), height in zip(thick, heights, strict=True):
        paint(field, ramp(y - (base - height + wave), 0.0, 0.55) * ramp(depth, 0.3, -0.2), float(value))
    top = base - heights[0]
    if "oedema" in words:
        cysts = Sketch()
        for _ in range(9):
            place = centre + rng.normal(0, 9)
            cysts.fill(
                ring(
                    place,
                    float(np.interp(place, line, top)) + rng.uniform(6, 10),
                    rng.uniform(1, 2.4),
                    rng.uniform(1.2, 2.8),
                )
            )
        paint(field, cysts.plane(0.8) * (y > top + 1.5) * (y < base - 8), 16)
    # Vessels of the retina throw shadows on everything below them.
    for place in (rng.uniform(8, 26), rng.uniform(74, 92), rng.uniform(64, 72)):
        field *= 1 - 0.42 * np.exp(-(((line - place) / 0.8) ** 2)) * ramp(y - top, 2.0, 4.0)
    real, other = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    raw = Pillow.fromarray(np.clip(np.hypot(real, other) * 60, 0, 255).astype(np.uint8))
    speckle = np.asarray(raw.filter(ImageFilter.GaussianBlur(0.55)), np.float32) / 75
    return field * (0.42 + 0.58 * speckle)
