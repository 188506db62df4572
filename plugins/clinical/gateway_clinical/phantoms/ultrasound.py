"""Ultrasound: a fan with a gallbladder, a kidney or a fetus, and a flat field with vessels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image as Pillow
from PIL import ImageFilter

from gateway_clinical.phantoms.canvas import SIDE, Plane, Pose, Rng, Sketch, grid, noise, paint, ramp, ring, soften

_TIP, _OPEN, _NEAR, _FAR = -22.0, 0.62, 30.0, 117.0  # the fan's point above the picture, half its angle, its depths
_LINES, _SAMPLES = 120, 260


@lru_cache(maxsize=1)
def _fan() -> tuple[Plane, Plane]:
    """Give the angle and the depth of each pixel as the probe sees it."""
    x, y = grid()
    return np.arctan2(x - 50, y - _TIP), np.hypot(x - 50, y - _TIP)


def draw(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw what `words` name, or else one of gallbladder, kidney, fetus and vessels."""
    chosen = ("gallbladder", "kidney", "fetus", "vein")[rng.integers(4)]
    asked = {"thrombus": "vein", "vein": "vein", "fetus": "fetus", "girl": "fetus", "baby": "fetus", "kidney": "kidney",
             "gallbladder": "gallbladder", "liver": "gallbladder", "cyst": "gallbladder"}  # fmt: skip
    for word, part in asked.items():
        if word in words:
            chosen = part
            break
    if chosen == "vein":
        return _vessels(rng, words)
    make = {"gallbladder": _gallbladder, "kidney": _kidney, "fetus": _fetus}[chosen]
    angle, depth = _fan()
    field = make(rng, Pose(rng, turn=5), words)
    lines = _speckle(rng, _SAMPLES, _LINES)
    across = np.clip((angle + _OPEN) / (2 * _OPEN) * (_LINES - 1), 0, _LINES - 1).astype(np.intp)
    down = np.clip((depth - _NEAR) / (_FAR - _NEAR) * (_SAMPLES - 1), 0, _SAMPLES - 1).astype(np.intp)
    field = field * lines[down, across]
    field = _compress(field * (1.08 - 0.35 * ramp(depth, 60, _FAR)) + 60 * ramp(depth, _NEAR + 4, _NEAR))
    inside = ramp(np.abs(angle), _OPEN, _OPEN - 0.012) * ramp(depth, _NEAR, _NEAR + 0.6) * ramp(depth, _FAR, _FAR - 0.6)
    return field * inside + _furniture()


def _speckle(rng: Rng, samples: int, lines: int) -> Plane:
    """Draw the grain of echoes: finer along the beam than across it."""
    real, other = (rng.standard_normal((samples, lines), np.float32) for _ in range(2))
    raw = np.sqrt(real * real + other * other)
    sheet = Pillow.fromarray(np.clip(raw * 60, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
    return np.asarray(sheet, np.float32) / 75


def _compress(field: Plane) -> Plane:
    """Show strong echoes weaker, as a scanner's logarithm does."""
    shown: Plane = 255 * (1 - np.exp(-np.clip(field, 0, None) / 150))
    return shown


def _furniture() -> Plane:
    """Draw the bar of greys and the marks of depth at the border of a scanner's screen."""
    x, y = grid()
    bar = np.where((x > 95) & (x < 97.5) & (y > 6) & (y < 40), 250 * (40 - y) / 34, 0)
    return bar + np.where((x > 91.5) & (x < 92.8) & (np.mod(y + 0.2, 11) < 0.46), 120.0, 0.0)


def _gallbladder(rng: Rng, pose: Pose, words: frozenset[str]) -> Plane:
    angle, depth = _fan()
    field = 62 + 7 * noise(rng, 9) + 8 * noise(rng, 30)
    tubes = Sketch(pose)
    for _ in range(7):
        x, y = rng.uniform(22, 78), rng.uniform(22, 80)
        tubes.fill(ring(x, y, rng.uniform(1.5, 4), rng.uniform(0.7, 1.3), rng.uniform(-0.8, 0.8)))
    hollow = tubes.plane(0.9)
    field += 46 * np.clip(soften(hollow, 2) - hollow, 0, 1) - 46 * hollow
    if "cyst" in words:
        shape, middle, wide = ring(52, 46, 11, 10, 0, 0.06, rng), (52.0, 46.0), 0.13
    else:
        shape = np.asarray(
            [(34, 47), (40, 41.5), (50, 42), (60, 46), (68, 52), (70, 55.5), (67, 58), (56, 58.5), (44, 57), (36, 53)]
        )
        middle, wide = (52.0, 51.0), 0.22
    sac = Sketch(pose).fill(shape).plane(0.9)
    placed = pose([middle])[0]
    here = float(np.arctan2(placed[0] - 50, placed[1] - _TIP))
    behind = ramp(depth - float(np.hypot(placed[0] - 50, placed[1] - _TIP)), 5, 9) * ramp(
        np.abs(angle - here), wide, wide * 0.7
    )
    field *= 1 + 0.85 * behind * (1 - sac)
    rim = np.clip(soften(sac, 2.4) - sac, 0, 1)
    field += 130 * rim * ramp(rim, 0.05, 0.3)
    paint(field, sac, 5)
    band = Sketch(pose).line([(8, 84), (30, 92), (55, 94), (90, 86)], 1.6).plane(1.0)
    field += 150 * band
    if "stone" in words:
        for x in (48.0, 53.5)[: 1 + int(rng.integers(2))]:
            place = pose([(x, 55.0)])[0]
            way = float(np.arctan2(place[0] - 50, place[1] - _TIP))
            far = float(np.hypot(place[0] - 50, place[1] - _TIP))
            field *= 1 - 0.9 * ramp(depth - far, 0, 1.5) * ramp(np.abs(angle - way), 0.036, 0.026)
            paint(
                field,
                Sketch(pose).fill([(x - 2.8, 56), (x - 2, 53.6), (x, 52.8), (x + 2, 53.6), (x + 2.8, 56)]).plane(0.7),
                300,
            )
    return field


def _kidney(rng: Rng, pose: Pose, words: frozenset[str]) -> Plane:
    angle, depth = _fan()
    field = 64 + 8 * noise(rng, 8) + 9 * noise(rng, 30)
    bean = [
        (24, 54),
        (30, 44),
        (42, 39),
        (56, 39),
        (69, 45),
        (75, 55),
        (72, 64),
        (62, 66.5),
        (50, 63),
        (38, 67),
        (28, 64),
    ]
    organ = Sketch(pose).fill(bean).plane(1.0)
    rim = np.clip(soften(organ, 2) - organ, 0, 1)
    field += 170 * rim
    paint(field, organ, 38 + 4 * noise(rng, 26))
    pyramids = Sketch(pose)
    for x, y, turn in (
        (34, 50, 0.9),
        (42, 45.5, 1.2),
        (51, 44, 1.57),
        (60, 46, 1.9),
        (67, 52, 2.5),
        (34, 60, -0.7),
        (64, 60.5, -2.4),
    ):
        pyramids.fill(ring(x, y, 3.4, 2.2, turn))
    field -= 22 * pyramids.plane(1.5)
    sinus = Sketch(pose).fill(ring(50, 54.5, 17, 5, 0, 0.35, rng)).plane(1.8)
    field += sinus * (95 + 55 * noise(rng, 34))
    band = Sketch(pose).line([(10, 76), (32, 82), (60, 82), (90, 74)], 1.8).plane(1.0)
    field += 120 * band * (0.8 + 0.3 * noise(rng, 20))
    if "stone" in words:
        place = pose([(46.0, 55.0)])[0]
        way, far = float(np.arctan2(place[0] - 50, place[1] - _TIP)), float(np.hypot(place[0] - 50, place[1] - _TIP))
        field *= 1 - 0.88 * ramp(depth - far, 0, 1.5) * ramp(np.abs(angle - way), 0.03, 0.02)
        paint(field, Sketch(pose).fill(ring(46, 55, 2.2, 1.1)).plane(0.6), 320)
    if words & {"cyst", "mass"}:
        paint(field, Sketch(pose).fill(ring(68, 48, 5.5, 5)).plane(0.8), 4 if "cyst" in words else 60)
    return field


def _fetus(rng: Rng, pose: Pose, words: frozenset[str]) -> Plane:
    """Draw a head seen from the side in its water, with the body below it."""
    del words
    field = 74 + 10 * noise(rng, 8) + 12 * noise(rng, 28)
    water = (
        Sketch(pose)
        .fill([(14, 52), (22, 34), (40, 26), (62, 27), (82, 40), (87, 58), (76, 72), (50, 78), (26, 72)])
        .plane(1.4)
    )
    field += 60 * np.clip(soften(water, 3) - water, 0, 1)
    paint(field, water, 4)
    trunk = (
        Sketch(pose).fill([(52, 53), (62, 51), (76, 53), (84, 58), (82, 68), (66, 73), (52, 71), (47, 63)]).plane(1.2)
    )
    paint(field, trunk, 66 + 12 * noise(rng, 26))
    ribs = Sketch(pose)
    for x in np.arange(58, 80, 3.2):
        ribs.line([(x, 66.5), (x + 1, 69), (x + 0.4, 70.6)], 0.9)
    ribs.line([(51, 68), (62, 69.8), (74, 69), (82, 65)], 0.9, 0.8)
    paint(field, 0.85 * ribs.plane(0.6), 240)
    paint(field, Sketch(pose).fill(ring(62, 60, 4.0, 3.2)).plane(1.0), 14)
    profile = [(27, 37.5), (34, 35), (42, 36.5), (48, 42), (50, 50), (48, 58), (43, 62), (37, 63.5), (32.5, 62.5),
               (29.5, 61.5), (28.5, 59.5), (27.2, 58.6), (27.6, 57), (26.2, 56), (26.4, 54.6), (23.6, 53.4), (25.4, 50),
               (23.5, 45), (24, 40.5)]  # fmt: skip
    head = Sketch(pose).fill(profile).plane(0.8)
    paint(field, head, 58 + 9 * noise(rng, 34))
    skull = Sketch(pose).line(
        [(25.4, 49.5), (24, 44), (25.5, 39.5), (32, 36), (40, 37), (46.5, 42), (48.5, 50), (46, 57)], 1.2
    )
    skull.line([(26, 51), (24.8, 53)], 0.9).line([(29, 56), (35, 56.5)], 1.1).line([(29.5, 60), (36, 61.5)], 1.0)
    brain = Sketch(pose).fill(ring(37, 46, 10, 7.5)).plane(1.5)
    paint(field, 0.75 * brain, 24)
    paint(
        field,
        0.8 * Sketch(pose).line([(30, 44), (37, 42.5), (44, 46)], 0.7).fill(ring(39, 48, 3.4, 1.4)).plane(0.9),
        110,
    )
    paint(field, skull.plane(0.7), 300)
    arm = Sketch(pose).tapered([(53, 56), (45, 67), (36, 68), (30, 66.5)], 4.2, 2.2).plane(0.9)
    paint(field, arm, 84)
    paint(
        field, 0.8 * Sketch(pose).line([(52, 58), (45.5, 66.8)], 0.9).line([(44, 67.6), (36, 68)], 0.8).plane(0.6), 240
    )
    return field


def _vessels(rng: Rng, words: frozenset[str]) -> Plane:
    x, y = grid()
    pose = Pose(rng, turn=4)
    field = 70 + 10 * noise(rng, 10, 30) + 10 * noise(rng, 34)
    layers = Sketch(pose)
    for place in (9, 17, 24, 31):
        wave = rng.normal(0, 1.2, 6)
        layers.line([(18.0 * i - 2, place + float(w)) for i, w in enumerate(wave)], rng.uniform(0.6, 1.1))
    field += 90 * layers.plane(0.8)
    field *= 1 - 0.35 * ramp(y, 30, 34) * (0.5 + 0.5 * np.sin(y * 1.4 + 2 * noise(rng, 6)))
    artery, vein = ring(35, 45, 8.4, rough=0.02, rng=rng), ring(58, 52, 11, 8.6, 0.15, 0.05, rng)
    rooms = Sketch(pose).fill(artery).fill(vein).plane(0.8)
    rim = np.clip(soften(rooms, 2.2) - rooms, 0, 1)
    field += 150 * rim
    behind = ramp(y, 54, 62) * np.maximum(ramp(np.abs(x - 35), 9, 6), ramp(np.abs(x - 58), 12, 9))
    field *= 1 + 0.6 * behind
    paint(field, rooms, 5)
    if "thrombus" in words:
        paint(field, Sketch(pose).fill(ring(58.5, 53, 9.2, 6.6, 0.15, 0.12, rng)).plane(1.2), 60 + 14 * noise(rng, 30))
    shown = _compress(field * _speckle(rng, SIDE, SIDE) * (1.1 - 0.4 * ramp(y, 50, 100)) + 50 * ramp(y, 5, 2))
    inside = (x > 9) & (x < 88) & (y > 2.5) & (y < 95)
    return shown * inside + _furniture()
