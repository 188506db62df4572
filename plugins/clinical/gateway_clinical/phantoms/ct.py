"""CT in axial slices: head (brain window), chest and abdomen (soft tissue window), seen from the feet."""

from __future__ import annotations

import numpy as np

from gateway_clinical.phantoms.canvas import (
    Plane,
    Pose,
    Rng,
    Sketch,
    branches,
    grain,
    grid,
    grown,
    mirrored,
    noise,
    paint,
    ramp,
    ring,
    soften,
)  # fmt: skip

HEAD = ((50, 9), (61, 10.5), (71, 17), (78, 29), (81.5, 45), (82, 60), (77, 75), (66, 87), (50, 91.5), (34, 87),
        (23, 75), (18, 60), (18.5, 45), (22, 29), (29, 17), (39, 10.5))  # fmt: skip
"""The outline of a skull."""
HORN = ((48.8, 42), (46.5, 35), (43, 29.5), (40.5, 29.5), (41, 34), (44, 40), (46.5, 47), (48.6, 49))
REAR_HORN = ((46, 58), (42.5, 60.5), (38.5, 66), (36.5, 72.5), (38.5, 74), (42, 69.5), (45, 63))
_BODY = ((50, 19), (64, 19.5), (79, 25), (90, 37), (94, 52), (90, 67), (78, 77), (64, 80.5), (50, 79.5), (36, 80.5),
         (22, 77), (10, 67), (6, 52), (10, 37), (21, 25), (36, 19.5))  # fmt: skip


def draw(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw the slice that `words` name, or else one of the three."""
    chosen = ("head", "abdomen", "chest")[rng.integers(3)]
    if words & {"head", "brain", "stroke"}:
        chosen = "head"
    elif words & {"chest", "lung", "mediastinum"}:
        chosen = "chest"
    elif words & {"abdomen", "abdominal", "liver", "kidney", "spleen", "bowel"}:
        chosen = "abdomen"
    make = {"head": _head, "abdomen": _abdomen, "chest": _chest}[chosen]
    field = make(rng, words)
    # Streaks and grain of a reconstruction are a little longer than a pixel.
    return field + 2.4 * noise(rng, 112) + grain(rng, 1.2)


def _head(rng: Rng, words: frozenset[str]) -> Plane:
    x, _ = grid()
    pose = Pose(rng, turn=4)
    brain = Sketch(pose).fill(grown(HEAD, 0.90)).plane(0.7)
    field = np.zeros_like(x) + 3
    paint(field, Sketch(pose).line([(22, 88), (34, 96.5), (50, 99), (66, 96.5), (78, 88)], 1.0).plane(0.5), 60)
    paint(field, Sketch(pose).fill(grown(HEAD, 1.07)).plane(0.8), 92)
    paint(field, Sketch(pose).fill(HEAD).plane(0.6), 250)
    paint(field, brain, 112)
    deep = soften(brain, 16)
    white = ramp(deep + 0.035 * noise(rng, 14), 0.80, 0.93)
    field -= 13 * white * brain
    sulci = Sketch(pose)
    for angle in np.arange(0, 6.28, 0.19) + rng.uniform(-0.05, 0.05, 34)[: len(np.arange(0, 6.28, 0.19))]:
        long = rng.uniform(0.74, 0.84)
        bent = angle + rng.normal(0, 0.06)
        sulci.line([(50 + 29.5 * np.cos(angle), 50.5 + 38 * np.sin(angle)),
                    (50 + 29.5 * long * np.cos(bent), 50.5 + 38 * long * np.sin(bent))], 0.7)  # fmt: skip
    for turned in (np.asarray, mirrored):
        sulci.tapered(turned([(21, 44), (27, 46), (31, 44), (32, 50)]), 1.6, 0.9)
    field -= 42 * sulci.plane(0.9) * brain
    grey = Sketch(pose)
    for turned in (np.asarray, mirrored):
        grey.fill(turned(ring(44.5, 52.5, 3.6, 5.6, -0.35))).fill(turned(ring(36.5, 46, 3.0, 7.5, 0.25)))
        grey.fill(turned(ring(42, 36, 2.2, 4.2, -0.3)))
    paint(field, 0.8 * grey.plane(1.4), 117)
    wide = rng.uniform(0.9, 1.15)
    fluid = Sketch(pose).fill(ring(50, 53, 0.8 * wide, 4.2)).fill([(44.5, 61.5), (50, 63.5), (55.5, 61.5), (50, 66)])
    for turned in (np.asarray, mirrored):
        fluid.fill(turned(grown(HORN, wide))).fill(turned(grown(REAR_HORN, wide)))
    paint(field, fluid.plane(0.8), 42)
    lines = Sketch(pose).line([(50, 13), (50, 31)], 0.6).line([(50, 69), (50, 88)], 0.7).fill(ring(50, 88, 1.6, 1.2))
    paint(field, 0.6 * lines.plane(0.4), 160)
    spots = Sketch(pose).fill(ring(50, 60.4, 0.9)).fill(ring(39.2, 70.5, 0.9, 1.5)).fill(ring(60.8, 70.5, 0.9, 1.5))
    paint(field, 0.8 * spots.plane(0.5), 235)
    side = (np.asarray, mirrored)[rng.integers(2)]
    spot, size = (rng.uniform(31, 36), rng.uniform(40, 56)), rng.uniform(5, 7)
    if words & {"oedema", "stroke", "mass", "haemorrhage", "lesion"}:
        paint(field, 0.8 * Sketch(pose).fill(side(ring(*spot, size + 4, size + 6, 0.2, 0.2, rng))).plane(2.5), 84)
    if words & {"haemorrhage", "mass", "lesion"}:
        value = 190 if "haemorrhage" in words else 135
        paint(field, Sketch(pose).fill(side(ring(*spot, size, size * 1.2, 0.2, 0.25, rng))).plane(1.0), value)
    return field


def _bones(pose: Pose, rng: Rng, down: float, ribs: tuple[tuple[float, float, float], ...]) -> Plane:
    """Draw a vertebra whose body lies at `down`, and `ribs` of the right side with their turn, mirrored."""
    bones = Sketch(pose)
    bones.fill([(44, down - 4), (50, down - 5.2), (56, down - 4), (57.5, down + 1), (55, down + 4), (50, down + 3),
                (45, down + 4), (42.5, down + 1)], 0.82)  # fmt: skip
    for turned in (np.asarray, mirrored):
        bones.tapered(turned([(45, down + 3), (44, down + 7), (47.5, down + 10), (50, down + 11)]), 2.6, 2.2, 0.9)
        bones.tapered(turned([(44.5, down + 6.5), (40, down + 7.5), (36.5, down + 7)]), 2.6, 1.6, 0.8)
        for x, y, turn in ribs:
            bones.fill(turned(ring(x, y, rng.uniform(2.6, 4.2), 0.95, turn)), 0.95)
    bones.tapered([(50, down + 10), (50, down + 16.5)], 2.4, 1.6, 0.9)
    return bones.plane(0.6)


def _trunk(rng: Rng, pose: Pose) -> tuple[Plane, Plane]:
    """Draw air, couch, fat and the wall of the trunk; give also what lies within the wall."""
    x, _ = grid()
    field = np.zeros_like(x) + 3
    couch = [(2, 82), (20, 90), (50, 93), (80, 90), (98, 82)]
    paint(field, Sketch(pose).line(couch, 1.2).line(np.add(couch, (0, 4)), 0.8, 0.6).plane(0.5), 70)
    thick = rng.uniform(0.87, 0.93)
    paint(field, Sketch(pose).fill(_BODY).plane(0.7), 110)
    paint(field, Sketch(pose).fill(grown(_BODY, 0.985)).plane(0.6), 46)
    paint(field, Sketch(pose).fill(grown(_BODY, thick)).plane(0.8), 122)
    within = Sketch(pose).fill(grown(_BODY, thick - 0.06)).plane(0.8)
    muscle = Sketch(pose)
    for turned in (np.asarray, mirrored):
        muscle.fill(turned(ring(41, 74, 6.2, 4.0, -0.15)))
    paint(field, muscle.plane(1.0), 122)
    return field, within


def _abdomen(rng: Rng, words: frozenset[str]) -> Plane:
    pose = Pose(rng, turn=2)
    field, within = _trunk(rng, pose)
    paint(field, within, 50 + 6 * noise(rng, 30))
    loops = Sketch(pose)
    for x, y in ((48, 30), (56, 33), (64, 43), (57, 43), (72, 48), (49, 38)):
        wide, high = rng.uniform(3.2, 4.8, 2).tolist()
        loops.fill(ring(x + rng.normal(0, 1), y + rng.normal(0, 1), wide, high, 0, 0.25, rng))
    paint(field, loops.plane(0.9), 118 + 10 * noise(rng, 26))
    liver = [(15, 37), (24, 27.5), (37, 24.5), (48, 27), (51, 31), (44, 36), (41, 43), (38, 51), (31, 58), (25, 66),
             (18, 66), (12.5, 57), (12, 46)]  # fmt: skip
    organ = Sketch(pose).fill(liver).plane(0.8)
    spleen = [(84, 48), (88, 55), (86, 65), (78, 70.5), (75, 68), (80, 61), (81, 53)]
    stomach = [(58, 25.5), (68, 25), (79, 31), (84, 40), (80, 47), (73, 44), (66, 37), (58, 32)]
    vessels = Sketch(pose).twigs(branches(rng, ((39, 47), (39, 46), (43, 40)), (3.9, 3.2, 4.3), 8, 1.6, 2))
    paint(field, organ, 138 + 2.5 * noise(rng, 40))
    paint(field, 0.7 * vessels.plane(0.8) * organ, 172)
    paint(field, Sketch(pose).fill(ring(38, 42, 3, 4.4, 0.5)).plane(0.8), 88)
    paint(field, Sketch(pose).fill(stomach).plane(0.8), 112)
    _, down = grid()
    hollow = Sketch(pose).fill(grown(stomach, 0.86)).plane(0.7)
    paint(field, hollow, np.where(down < 33, 4.0, 96.0))
    gas = Sketch(pose)
    for x, y in ((50, 29), (57, 32), (73, 49), (66, 42)):
        wide, high = rng.uniform(1.2, 2.4, 2).tolist()
        gas.fill(ring(x, y, wide, high, 0, 0.3, rng))
    paint(field, gas.plane(0.6), 4)
    paint(field, Sketch(pose).tapered([(45, 44), (53, 44.5), (62, 48), (72, 52)], 4.5, 2.6).plane(0.9), 116)
    bright, pelvis = Sketch(pose), Sketch(pose)
    for turned, low in ((np.asarray, 62.5), (mirrored, 61.0)):
        bright.fill(turned([(32, low - 6.5), (37, low - 4.5), (36.5, low - 1), (34, low), (36, low + 2), (36, low + 5),
                             (31, low + 7), (26, low + 3), (26.5, low - 3)]), 186 / 255)  # fmt: skip
        pelvis.fill(turned([(37, low), (33, low - 1.6), (31, low), (33, low + 1.6)]), 1.0)
    bright.fill(spleen, 146 / 255).fill(ring(40.5, 65, 3.2, 4.2), 118 / 255).fill(ring(59.5, 65, 3.2, 4.2), 118 / 255)
    bright.fill(ring(53.5, 55.5, 2.6), 212 / 255).fill(ring(44.5, 55.5, 3.2, 2.5), 178 / 255)
    bright.fill(ring(51, 48.5, 1.5), 196 / 255)
    np.maximum(field, 255 * bright.plane(0.75), out=field)  # all these are brighter than the fat about them
    paint(field, 0.85 * pelvis.plane(1.2), 108)
    ribs = ((9.5, 56, 1.35), (12.5, 66.5, 1.0), (13.5, 40, -0.9), (21, 74, 0.6), (31, 76.5, 0.2))
    bones = _bones(pose, rng, 63, ribs)
    paint(field, np.minimum(1, 2.2 * bones) * (bones > 0.05), 150 + 100 * bones)
    paint(field, Sketch(pose).fill(ring(50, 68.5, 2.4, 1.9)).plane(0.7), 104)
    spot = (rng.uniform(20, 27), rng.uniform(38, 52))
    if words & {"lesion", "mass", "cyst", "nodule"}:
        paint(field, Sketch(pose).fill(ring(*spot, 4, rough=0.15, rng=rng)).plane(1.2), 60 if "cyst" in words else 98)
    if "stone" in words:
        paint(field, Sketch(pose).fill(ring(66, 62, 1.2, 0.9)).plane(0.4), 255)
    return field


def _chest(rng: Rng, words: frozenset[str]) -> Plane:
    pose = Pose(rng, turn=2)
    field, _ = _trunk(rng, pose)
    right = [(46, 30), (40, 27.5), (28, 28), (17, 36), (12.5, 48), (13, 60), (20, 69), (31, 72.5), (41, 70), (44, 64),
             (42, 57), (37, 52), (36, 43), (41, 36)]  # fmt: skip
    left = [(53, 28.5), (62, 28), (75, 30), (84, 38), (87.5, 50), (86.5, 61), (79, 69.5), (68, 72.5), (60, 69.5),
            (58, 63), (64, 58.5), (71, 52), (70.5, 44), (63, 35)]  # fmt: skip
    lungs = Sketch(pose).fill(right).fill(left).plane(0.7)
    paint(field, lungs, 12)
    starts = [(40.0, 53.0)] * 5 + [(63.0, 56.0)] * 4
    ways = np.array((2.5, 2.9, 3.3, 3.9, 4.4, 0.6, 1.1, 0.1, -0.7)) + rng.normal(0, 0.1, 9)
    twigs = branches(rng, starts, ways, 9.5, 1.5, 3)
    vessels = Sketch(pose).twigs(twigs, np.minimum(1.0, 0.3 + 0.5 * twigs[1]))
    paint(field, vessels.plane(0.5) * lungs, 120)
    fat = Sketch(pose).fill([(46, 30), (54, 29), (62, 36), (69, 45), (68, 52), (60, 58), (55, 64), (46, 64), (42, 56),
                             (38, 50), (38, 42), (42, 35)]).plane(0.8)  # fmt: skip
    paint(field, fat * (1 - lungs), 62)
    heart = [(45, 33), (54, 32), (63, 37.5), (69, 46), (67, 53), (58, 56), (48, 55), (41, 51), (39, 44), (41, 37)]
    paint(field, Sketch(pose).fill(heart).plane(0.9), 138)
    rooms = (
        Sketch(pose).fill(ring(48, 40, 5.2, 5, 0.4)).fill(ring(59.5, 45, 5.6, 3.4, 0.8)).fill(ring(44, 48, 3.6, 3.8))
    )
    rooms.fill(ring(51, 52.5, 5.5, 2.5))
    paint(field, rooms.plane(1.3), 205)
    paint(field, Sketch(pose).fill(ring(57.5, 61.5, 3.3)).plane(0.7), 214)
    paint(field, Sketch(pose).fill(ring(50.5, 58.5, 1.9, 1.4)).plane(0.7), 112)
    ribs = (
        (9.5, 56, 1.45),
        (12.5, 66, 1.0),
        (13, 42, -1.0),
        (21, 74, 0.6),
        (22, 31, -0.6),
        (33, 77, 0.2),
        (35, 25.5, -0.3),
    )
    bones = _bones(pose, rng, 64.5, ribs)
    paint(field, np.minimum(1, 2.2 * bones) * (bones > 0.05), 150 + 100 * bones)
    paint(field, Sketch(pose).fill(ring(50, 70.5, 2.3, 1.8)).plane(0.7), 104)
    paint(field, Sketch(pose).fill(ring(50, 25, 5, 1.6)).plane(0.6), 225)
    side = (np.asarray, mirrored)[rng.integers(2)]
    spot = (rng.uniform(18, 28), rng.uniform(42, 60))
    if words & {"nodule", "mass", "lesion"}:
        size = 1.8 if "nodule" in words else 5.0
        paint(field, Sketch(pose).fill(side(ring(*spot, size, rough=0.1, rng=rng))).plane(0.6), 128)
    if "effusion" in words:
        pool = side([(12, 58), (17, 61), (24, 66), (34, 69), (43, 65), (42, 73), (30, 76), (18, 71)])
        paint(field, Sketch(pose).fill(pool).plane(0.8) * lungs, 98)
    return field
