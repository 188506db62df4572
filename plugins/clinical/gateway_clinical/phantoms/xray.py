"""Radiographs: chest, hand, wrist, pelvis and knee. What lies in the beam adds up, so shadows are summed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gateway_clinical.phantoms.canvas import (
    Plane,
    Pose,
    Rng,
    Sketch,
    branches,
    curve,
    grain,
    grid,
    mirrored,
    noise,
    paint,
    ramp,
    ring,
    soften,
)  # fmt: skip

_RIB_REACH = (15.0, 23.0, 28.0, 31.5, 34.0, 36.0, 37.5, 38.5, 39.0, 39.0)
_LUNG_RIGHT = (
    (44, 15), (39, 11.5), (33, 12), (26, 17), (19, 28), (14, 42), (11, 58), (10, 72), (9.5, 79), (14, 75.5), (21, 71),
    (29, 69), (36, 70.5), (41.5, 74), (41, 66), (40.5, 58), (42.5, 48), (43.5, 36), (44.5, 25),
)  # fmt: skip
_LUNG_LEFT = (
    (56, 15), (61, 11.5), (67, 12), (74, 17), (81, 28), (86, 42), (89, 58), (90, 74), (91, 82), (86, 79), (80, 75.5),
    (76, 75), (75, 70), (71, 62), (64, 54), (59.5, 47), (58, 42), (60, 37), (60, 32.5), (56.5, 29), (55.5, 22),
)  # fmt: skip
_CARPALS = (
    (42.4, 72.4, 4.0, 2.2, 1.0), (48.3, 74.2, 2.7, 2.2, 0.1), (53.6, 73.0, 2.5, 2.0, -0.5), (38.8, 66.2, 2.1, 1.9, 0.4),
    (43.5, 66.7, 1.5, 1.8, 0.0), (47.8, 67.6, 2.0, 3.5, 0.05), (52.8, 68.0, 2.3, 2.7, -0.3),
)  # fmt: skip
_FINGERS = (
    (((36.6, 63.6), (27, 53.6), 2.6), ((26.5, 52.8), (19.5, 43), 2.3), ((18.8, 42), (14.5, 35.5), 2.0)),
    (((43.2, 63.6), (38, 42.5), 2.5), ((37.6, 41), (33.6, 26.5), 2.3), ((33.3, 25.4), (31, 16.5), 2.0),
     ((30.8, 15.6), (29.2, 9.8), 1.7)),
    (((48.0, 63.0), (48, 40.2), 2.6), ((47.9, 38.7), (47.3, 22.2), 2.4), ((47.2, 21), (46.9, 10.7), 2.1),
     ((46.9, 9.8), (46.7, 3.6), 1.8)),
    (((52.4, 64.2), (57, 42.8), 2.3), ((57.3, 41.3), (60.3, 26.2), 2.2), ((60.5, 25), (62.4, 15.4), 2.0),
     ((62.6, 14.5), (63.7, 8.6), 1.7)),
    (((56.2, 65.6), (65, 47.6), 2.1), ((65.7, 46.2), (70.6, 34.8), 2.0), ((71, 33.8), (73.7, 27.4), 1.7),
     ((74, 26.6), (76, 21.6), 1.5)),
)  # fmt: skip


def draw(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw the part of the body that `words` name, or else the chest, a hand or a wrist."""
    chosen = ("chest", "chest", "hand", "wrist")[rng.integers(4)]
    asked = [part for part in ("wrist", "hand", "hip", "knee", "chest", "lung", "rib") if part in words]
    part = asked[0] if asked else chosen
    if part in ("hand", "wrist"):
        return _hand(rng, words, part == "wrist")
    if part == "hip":
        return _pelvis(rng, words)
    return _knee(rng, words) if part == "knee" else _chest(rng, words)


def _chest(rng: Rng, words: frozenset[str]) -> Plane:
    _, y = grid()
    pose = Pose(rng, turn=1.5)
    half = [(50, -8), (40, -8), (40, 2), (36, 8), (22, 12), (6, 18), (-3, 30), (1, 50), (2.5, 75), (3, 112)]
    body = Sketch(pose).fill([*half, *mirrored(half[::-1])]).plane(2.5)
    heart = [(43, -5), (44.5, 30), (42, 50), (38.5, 60), (40, 71), (44, 76), (44, 112), (78, 112), (79, 74), (74, 66),
             (64, 52), (59, 40), (56, 28), (57, -5)]  # fmt: skip
    middle = Sketch(pose).fill(heart).plane(3.5)
    large = rng.uniform(-1.2, 2.2) + (6.5 if "cardiomegaly" in words else 0)
    left = np.asarray(_LUNG_LEFT) + np.exp(-((np.asarray(_LUNG_LEFT) - (71, 64)) ** 2 / (90, 110)).sum(1))[:, None] * (
        large,
        -0.2 * large,
    )
    below = Sketch(pose).fill([(0, 84), (12, 76), (27, 70), (42, 75), (60, 78), (80, 76), (90, 83), (104, 92),
                               (100, 120), (0, 120)]).plane(4)  # fmt: skip
    lungs = Sketch(pose).fill(_LUNG_RIGHT).fill(left).plane(1.1)
    field = 6 + body * (118 + 46 * middle * (1 - 0.5 * below) + 62 * below) + 5 * noise(rng, 5) * body
    field -= lungs * (84 + 0.30 * (60 - y) - 26 * ramp(y, 58, 80))
    spine = Sketch(pose)
    for place in np.arange(-2, 110, 6.3):
        spine.fill([(46.5, place), (53.5, place), (53, place + 2.5), (53.5, place + 5.2), (46.5, place + 5.2)], 0.8)
        spine.fill(ring(50, place + 3.5, 0.9, 1.8), 1.0)
    field += 20 * spine.plane(0.8) + 36 * _ribs(pose) * body
    clavicle = [(46, 20), (41, 18.5), (33, 14.5), (24, 12.5), (13, 9.5)]
    shoulder = [(22, 16), (15, 26), (11, 44), (8, 46), (3, 30), (0, 14), (12, 10)]
    bones = Sketch(pose).fill(shoulder, 0.35).fill(mirrored(shoulder), 0.35)
    bones.fill(ring(0, 17, 8, 9), 0.6).fill(ring(100, 17, 8, 9), 0.6)
    for side in (clavicle, mirrored(clavicle)):
        bones.tapered(side, 3.4, 2.8, 1.0).tapered(side, 1.8, 1.4, 0.72)
    field += 42 * bones.plane(0.7)
    air = Sketch(pose).line([(50, -8), (50, 18), (50.4, 34)], 3.6).tapered([(50.2, 33), (45, 39), (41, 42)], 3, 2, 0.8)
    air.tapered([(50.6, 33), (56, 39), (60, 41)], 2.8, 1.8, 0.7)
    field -= 26 * air.plane(1.2)
    field += 52 * _hila(rng, pose) * lungs
    field -= 46 * Sketch(pose).fill(ring(69, 84, 6.5, 3.2, 0.1)).plane(1.6) * ramp(y, 74, 79)
    _chest_findings(field, rng, pose, words, lungs)
    field += 70 * Sketch().line([(92, 4), (92, 9), (95, 9)], 1.1, smooth=False).plane(0.4)  # the lead letter L
    return field + grain(rng, 2.2)


@lru_cache(maxsize=1)
def _rib_paths() -> tuple[Plane, Plane]:
    """Give the front and the rear arcs of the ribs of both sides."""
    fronts, rears = [], []
    for number, reach in enumerate(_RIB_REACH):
        top = 12.5 + 6.5 * number
        front = [(50 - reach, top + 10), (50 - 0.95 * reach, top + 15), (50 - 0.74 * reach, top + 20),
                 (50 - 0.5 * reach, top + 23)]  # fmt: skip
        rear = [(46, top), (50 - 0.42 * reach, top - 1.2), (50 - 0.8 * reach, top + 3.5), (50 - reach, top + 10)]
        for turned in (np.asarray, mirrored):
            rears.append(curve(turned(rear), closed=False))
            if number < 7:
                fronts.append(curve(turned(front), closed=False))
    return np.stack(fronts), np.stack(rears)


def _ribs(pose: Pose) -> Plane:
    """Draw the ribs: cortex at their borders, and the rear arcs, which lie flatter to the beam, clearer."""
    ribs = Sketch(pose)
    for paths, layers in zip(_rib_paths(), (((2.9, 0.5), (2.0, 0.3)), ((2.7, 1.0), (1.5, 0.62))), strict=True):
        for width, level in layers:
            wide = np.full(len(paths), width)
            ribs.twigs((paths, wide, wide), level)
    return ribs.plane(0.7)


def _hila(rng: Rng, pose: Pose) -> Plane:
    vessels = Sketch(pose)
    for place in ((42.0, 45.0), (59.0, 43.0)):
        vessels.fill(ring(*place, 2.6, 4.2, rough=0.2, rng=rng), 0.5)
    starts = [(42.0, 45.0)] * 6 + [(59.0, 43.0)] * 6
    ways = np.array((3.6, 4.2, 3.1, 2.7, 2.3, 1.9, -0.5, -1.1, 0.05, 0.45, 0.85, 1.2)) + rng.normal(0, 0.12, 12)
    twigs = branches(rng, starts, ways, 11, 1.35, 3)
    vessels.twigs(twigs, np.clip(0.12 + 0.42 * twigs[1], 0, 0.7))
    return vessels.plane(0.6)


def _chest_findings(field: Plane, rng: Rng, pose: Pose, words: frozenset[str], lungs: Plane) -> None:
    side, low, spot = int(rng.integers(2)), rng.uniform(62, 68), (rng.uniform(20, 30), rng.uniform(30, 55))
    if words & {"left", "right"}:  # the patient's left is on the right of the picture
        side = int("left" in words)
    if words & {"upper", "lower"}:
        spot = (spot[0], 24 + 0.4 * (spot[1] - 30) + (32 if "lower" in words else 0))
    turned = (lambda places: mirrored(places)) if side else (lambda places: np.asarray(places))
    if "effusion" in words:
        low += 7 if "small" in words else 0
        pool = turned(
            [(4, low - 10), (10, low - 9), (14, low - 2), (22, low + 3), (34, low + 4), (45, low), (45, 98), (4, 98)]
        )
        paint(field, 0.88 * Sketch(pose).fill(pool).plane(2.2) * soften(lungs, 1.5), 196)
    if words & {"nodule", "mass", "lesion"}:
        size = 2.4 if "nodule" in words else 6.0
        field += 74 * Sketch(pose).fill(turned(ring(*spot, size, rough=0.04, rng=rng))).plane(1.7)
    if words & {"consolidation", "oedema"}:
        cloud = Sketch(pose).fill(turned(ring(26, 0.5 * (spot[1] + 56), 13, 11, rough=0.15, rng=rng)))
        if "oedema" in words:
            cloud.fill(mirrored(turned(ring(28, 54, 11, 12, rough=0.2, rng=rng))))
        field += 74 * cloud.plane(6) * lungs * (0.85 + 0.25 * noise(rng, 18))
    if words & {"tube", "bronchus", "intubation"}:
        path = [(50, -8), (50, 10), (50.2, 25), *([(49, 35), (45.2, 39.4)] if "bronchus" in words else [])]
        field += 20 * Sketch(pose).line(path, 2.0).plane(0.4) + 44 * Sketch(pose).line(path, 0.5).plane(0.4)
    if "fracture" in words:
        breaks = Sketch(pose)
        for number in (4, 5):
            reach, top = _RIB_REACH[number], 12.5 + 6.5 * number
            across = (50 - 0.86 * reach, top + 5)
            breaks.line(turned([(across[0] - 0.5, across[1] - 1.3), (across[0] + 0.5, across[1] + 1.6)]), 0.7)
        field -= 34 * breaks.plane(0.4)


def _shaft(start: tuple[float, float], end: tuple[float, float], half: float) -> Plane:
    """Give a long bone from joint to joint, `half` as wide as its base is."""
    along = np.subtract(end, start)
    across = np.array((-along[1], along[0])) / np.hypot(*along)
    shares = np.array(((0, 0.75), (0.06, 1), (0.18, 0.86), (0.45, 0.55), (0.75, 0.62), (0.9, 0.9), (0.98, 0.7)))
    middle = np.asarray(start) + shares[:, :1] * along
    outline: Plane = np.concatenate(
        (middle + across * half * shares[:, 1:], (middle - across * half * shares[:, 1:])[::-1])
    )
    return outline


def _bone(mask: Plane, rng: Rng, times: float = 1.0) -> Plane:
    """Give the density of bones: dense at the border, where the beam meets cortex, spongy within."""
    border = mask * (1 - soften(mask, 1.8 * times)) + 0.5 * mask * (1 - soften(mask, 6.0 * times))
    return mask * (0.56 + 0.028 * noise(rng, 75)) + 0.72 * border


def _hand(rng: Rng, words: frozenset[str], wrist: bool) -> Plane:
    pose = Pose(rng, turn=4)
    if wrist:
        pose.zoom(48, 76, 2.0)
    if rng.random() < 0.5:
        pose.wide = -pose.wide
    bones, flesh = Sketch(pose), Sketch(pose)
    flesh.fill([(36, 64), (33, 46), (44, 39), (58, 40), (70, 47), (65, 62), (63, 76), (64, 112), (36, 112), (36, 78)])
    for finger in _FINGERS:
        path = [finger[0][0], *(joint for _, joint, _ in finger)]
        tip = np.asarray(path[-1]) + 0.24 * np.subtract(path[-1], path[-2])
        flesh.tapered([*path, (float(tip[0]), float(tip[1]))], 11, 5.5)
        flesh.fill(ring(path[-1][0], path[-1][1], 3.0))
        for start, end, half in finger:
            bones.fill(_shaft(start, end, half * 1.05))
    for x, y, wide, high, turn in _CARPALS:
        bones.fill(ring(x, y, wide, high, turn, 0.1, rng))
    bones.fill([(37.9, 76.2), (40.5, 77.2), (45, 78.4), (49.6, 78.7), (51, 79.8), (50.6, 83), (49, 88), (47.8, 96),
                (48, 118), (41.4, 118), (41, 96), (39.2, 88), (37.2, 81)])  # fmt: skip
    bones.fill([(53.0, 82), (54.2, 80.4), (57, 80.2), (58.5, 78.5), (59.6, 79), (59.6, 82.5), (58.3, 86.5), (57.8, 95),
                (58, 118), (53.7, 118), (53.6, 95), (53.7, 86.5)])  # fmt: skip
    field = 7 + 62 * flesh.plane(2.2) + 118 * _bone(bones.plane(0.5), rng, 2.0 if wrist else 1.0)
    if "fracture" in words:
        crack = [(38, 84.6), (41.5, 83.6), (44, 84.8), (47, 83.4), (51.5, 84.4)]
        field -= 52 * Sketch(pose).line(crack, 0.55).plane(0.5)
        field += 26 * Sketch(pose).line(np.add(crack, (0, 1)), 0.7).plane(0.8)
    return field + grain(rng, 2.0)


def _pelvis(rng: Rng, words: frozenset[str]) -> Plane:
    pose = Pose(rng, turn=2)
    bones = Sketch(pose)
    wing = [(43, 36), (40, 27), (31, 19), (19, 17), (9, 24), (7, 33), (12, 41), (16, 48), (19, 56), (25, 62), (31, 60),
            (34, 53), (37, 46)]  # fmt: skip
    ramus = [(27, 60), (33, 57), (42, 60), (48.6, 64), (48.6, 73), (44, 76), (37, 85), (30, 84), (27, 74)]
    hole = [(32, 66), (38, 65), (43.5, 69), (39, 76), (34, 78)]
    femur = [(14, 58), (9, 62), (9.5, 70), (11, 80), (11.5, 112), (19.5, 112), (20, 84), (21, 73), (26, 66), (22, 60)]
    for turned in (np.asarray, mirrored):
        bones.fill(turned(ramus)).fill(turned(hole), 0.0).fill(turned(wing))
    for turned in (np.asarray, mirrored):
        bones.fill(turned(femur), 0.92).fill(turned(ring(25, 60.5, 6.4)), 1.0).fill(turned(ring(37, 83, 4.5, 4.5)), 0.9)
    bones.fill([(39, 30), (44, 28), (50, 27), (56, 28), (61, 30), (59, 38), (55, 46), (52.5, 52), (52, 58), (50, 60),
                (48, 58), (47.5, 52), (45, 46), (41, 38)], 0.96)  # fmt: skip
    for place in (2, 10, 18):
        bones.fill([(43, place), (57, place), (56, place + 3), (57.5, place + 7), (42.5, place + 7), (44, place + 3)])
    body = Sketch(pose).fill([(10, -9), (4, 25), (-2, 60), (0, 112), (46, 112), (50, 86), (54, 112), (100, 112),
                              (102, 60), (96, 25), (90, -9)]).plane(3)  # fmt: skip
    field = 8 + body * (80 + 8 * noise(rng, 5)) + 108 * _bone(bones.plane(0.7), rng, 1.4)
    holes = Sketch(pose)
    for level, place in enumerate((35, 40, 45)):
        holes.fill(ring(46.5 + level * 0.6, place, 1.2, 0.9)).fill(ring(53.5 - level * 0.6, place, 1.2, 0.9))
    for turned in (np.asarray, mirrored):
        arc = ring(25, 60.5, 7.5)
        holes.line(turned(np.concatenate((arc[16:], arc[:3]))), 1.0).line(
            turned([(39.5, 29), (40.5, 36), (44.5, 44)]), 0.7
        )
    field -= 30 * holes.plane(0.7) + 24 * Sketch(pose).fill(ring(50, 12, 12, 6, 0.2, 0.3, rng)).plane(3)
    if "fracture" in words:
        field -= 60 * Sketch(pose).line([(16.5, 60), (18.5, 64), (18, 67), (21, 73)], 0.8).plane(0.5)
    return field + grain(rng, 2.2)


def _knee(rng: Rng, words: frozenset[str]) -> Plane:
    pose = Pose(rng, turn=3)
    femur = [(42, -9), (41, 16), (37, 28), (30, 36), (28.5, 43), (32, 48.2), (40, 49), (46, 46), (50, 43.5), (54, 46),
             (60, 49.2), (68, 48.4), (72, 43), (69.5, 35), (62, 27), (58, 16), (57, -9)]  # fmt: skip
    tibia = [(28.5, 54.5), (34, 53), (43, 53.4), (47, 51.6), (50, 53), (53, 51.6), (58, 53.4), (67, 53), (72, 55),
             (70, 61), (62, 70), (58, 82), (57, 112), (42, 112), (41, 82), (37, 70), (30, 61)]  # fmt: skip
    fibula = [(68, 64), (71, 59.5), (74.5, 62), (74, 69), (71.8, 80), (71.5, 112), (66.8, 112), (67.2, 80)]
    bones = Sketch(pose).fill(fibula).fill(femur).fill(tibia)
    flesh = Sketch(pose).fill([(24, -9), (20, 30), (18, 48), (20, 62), (22, 80), (24, 112), (82, 112), (82, 80),
                               (81, 60), (81, 45), (79, 28), (78, -9)]).plane(2.5)  # fmt: skip
    field = 7 + flesh * (62 + 5 * noise(rng, 6)) + 118 * _bone(bones.plane(0.6), rng, 1.6)
    field += 16 * Sketch(pose).fill(ring(50, 34, 10.5, 11)).plane(1.0)
    if "fracture" in words:
        field -= 55 * Sketch(pose).line([(60, 53.5), (62, 58), (66, 63), (68, 66)], 0.7).plane(0.5)
    return field + grain(rng, 2.0)
