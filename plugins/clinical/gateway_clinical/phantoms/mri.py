"""MRI: the brain in axial slices (T1, T2), the lumbar spine and a knee in sagittal ones."""

from __future__ import annotations

from itertools import pairwise

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
    grown,
    mirrored,
    noise,
    paint,
    ramp,
    ring,
    soften,
)  # fmt: skip
from gateway_clinical.phantoms.ct import HEAD, HORN, REAR_HORN

_SPINE = ((50.5, -12), (48.5, 1), (45.5, 14), (43, 27.5), (41.8, 41.5), (42.6, 55.5), (46.4, 69), (53, 80.5),
          (60.5, 89.5), (67, 98), (72, 108))  # fmt: skip
_L4_L5 = 5  # the place in `_SPINE` of the vertebra above the disc that herniates most often


def draw(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw the part that `words` name, or else a brain or a spine."""
    chosen = ("brain", "brain", "spine")[rng.integers(3)]
    asked = [part for part in ("spine", "knee", "brain", "head") if part in words]
    part = asked[0] if asked else chosen
    make = {"spine": _spine, "knee": _knee}.get(part, _brain)
    field = make(rng, words)
    field *= 1 + 0.05 * noise(rng, 3)  # coils do not hear every place alike
    return np.abs(field + grain(rng, 2.4))


def _brain(rng: Rng, words: frozenset[str]) -> Plane:
    x, _ = grid()
    pose = Pose(rng, turn=4)
    second = rng.random() < 0.5
    second = "t1" not in words if words & {"t1", "t2", "flair"} else second
    flair = "flair" in words
    fluid, grey, white, fat = (235, 150, 92, 190) if second else (28, 104, 168, 225)
    if flair:
        fluid, grey, white = 24, 132, 100
    brain = Sketch(pose).fill(grown(HEAD, 0.88)).plane(0.7)
    field = np.zeros_like(x) + 4
    paint(field, Sketch(pose).fill(grown(HEAD, 1.07)).plane(0.7), fat)
    paint(field, Sketch(pose).fill(grown(HEAD, 1.0)).plane(0.7), 14)
    paint(field, Sketch(pose).fill(grown(HEAD, 0.985)).plane(0.9), 60 if second else 90)
    paint(field, Sketch(pose).fill(grown(HEAD, 0.965)).plane(0.6), 12)
    paint(field, Sketch(pose).fill(grown(HEAD, 0.905)).plane(0.6), fluid)
    # Furrows go in from the surface and fork; grey matter lines them and the surface, and white matter is the rest.
    way = np.arange(0, 6.28, 0.262) + rng.uniform(-0.07, 0.07, 24)
    starts = np.stack((50 + 28.5 * np.cos(way), 50.5 + 36.5 * np.sin(way)), 1)
    twigs = branches(rng, starts, way + 3.14 + rng.normal(0, 0.25, 24), 6.5, rng.uniform(0.6, 1.0, 24), 1, 0.9)
    furrows = Sketch(pose).twigs(twigs).plane(0.5)
    lined = soften(np.maximum(Sketch(pose).twigs(twigs, wider=1.3).plane(), 1 - brain), 2.4)
    paint(field, brain, white + (grey - white) * ramp(lined, 0.08, 0.16))
    paint(field, 0.75 * furrows * brain, fluid)
    split = Sketch(pose).line([(50, 11), (50, 30)], 1.0).line([(50, 68), (50, 90)], 1.0)
    for turned in (np.asarray, mirrored):
        split.tapered(turned([(21, 43), (27, 46), (31, 45), (32, 49)]), 1.8, 0.9)
    middle = Sketch(pose).fill(ring(50, 33, 7, 2.2)).fill(ring(50, 66, 7, 2.4)).plane(1.4)
    deep = Sketch(pose)
    for turned in (np.asarray, mirrored):
        deep.fill(turned(ring(44.8, 53, 4.0, 6.0, -0.35))).fill(
            turned([(40, 40), (37, 41), (34, 47), (36, 53.5), (39, 49)])
        )
        deep.fill(turned(ring(42.2, 36.5, 2.0, 4.6, -0.35)))
    paint(field, middle, white)
    paint(field, 0.9 * deep.plane(1.0), grey)
    paint(field, split.plane(0.7) * brain, fluid)
    wide = rng.uniform(0.72, 0.98)
    rooms = Sketch(pose).fill(ring(50, 54, 0.7 * wide, 4.0))
    for turned in (np.asarray, mirrored):
        rooms.fill(turned(grown(HORN, wide))).fill(turned(grown(REAR_HORN, wide)))
    paint(field, rooms.plane(0.7), fluid)
    _brain_findings(field, rng, pose, words, 1 if second else -1)
    return field


def _brain_findings(field: Plane, rng: Rng, pose: Pose, words: frozenset[str], sign: int) -> None:
    side = (np.asarray, mirrored)[rng.integers(2)]
    spot, size = (rng.uniform(31, 35), rng.uniform(36, 60)), rng.uniform(5, 7)
    if words & {"mass", "oedema", "haemorrhage", "stroke"}:
        swollen = Sketch(pose).fill(side(ring(*spot, size + 4, size + 6, 0.2, 0.3, rng))).plane(2.0)
        paint(field, 0.8 * swollen, 200 if sign > 0 else 78)
    if words & {"mass", "haemorrhage"}:
        paint(field, Sketch(pose).fill(side(ring(*spot, size, rough=0.2, rng=rng))).plane(0.9), 150)
        paint(field, Sketch(pose).fill(side(ring(*spot, size * 0.5, rough=0.3, rng=rng))).plane(1.0), 50)
    if words & {"lesion", "plaque", "sclerosis"}:
        plaques = Sketch(pose)
        for x, y in ((39, 33), (36, 40), (38, 62), (35, 68), (60, 30), (63, 60), (65, 69), (62, 42), (30, 52)):
            angle = np.arctan2(y - 50, x - 50)
            place = (x + rng.normal(0, 1), y + rng.normal(0, 1))
            plaques.fill(ring(*place, rng.uniform(1.2, 2.4), rng.uniform(0.8, 1.2), angle))
        paint(field, 0.9 * plaques.plane(0.8), 236 if sign > 0 else 70)


def _spine(rng: Rng, words: frozenset[str]) -> Plane:
    x, y = grid()
    pose = Pose(rng, turn=2, shift=1)
    middle = curve(_SPINE, closed=False, steps=8)
    along = np.gradient(middle, axis=0)
    along /= np.hypot(along[:, 0], along[:, 1])[:, None]
    back = along[:, ::-1] * (1, -1)  # from the vertebrae to the skin of the back, which is on the right
    field = np.zeros_like(x) + 5
    rear = np.concatenate((middle + back * 42, ((120.0, 120.0), (-9.0, 120.0), (-9.0, -9.0))))
    skin = np.minimum(rear, (89.0, 130.0))
    paint(field, Sketch(pose).fill(skin, smooth=False).plane(1.0), 200 + 6 * noise(rng, 20))
    deep = np.interp(np.arange(len(middle)), (0, 45, 72), (32, 32, 15))[:, None]
    soft = np.concatenate((middle + back * deep, ((90.0, 120.0), (-9.0, 120.0), (-9.0, -9.0))))
    muscle = 62 + 14 * noise(rng, 30, 7) + 10 * noise(rng, 40)
    paint(field, Sketch(pose).fill(soft, smooth=False).plane(1.4), muscle)
    # A band of saturation before the spine keeps the moving bowel dark.
    front = np.concatenate((middle - back * 11, ((60.0, 120.0), (-9.0, 120.0), (-9.0, -9.0))))
    paint(
        field,
        Sketch(pose).fill(front, smooth=False).plane(1.5),
        (96 + 16 * noise(rng, 16)) * (0.24 + 0.76 * ramp(x, 14, 34)),
    )
    paint(field, Sketch(pose).line(middle - back * 14.5, 5.5, smooth=False).plane(1.0) * ramp(y, 68, 60), 16)
    paint(field, Sketch(pose).line(middle + back * 16.5, 6.0, smooth=False).plane(1.2), 146)
    sac = Sketch(pose).line((middle + back * 12.4)[:54], 6.4, smooth=False)
    paint(field, sac.tapered((middle + back * 12.2)[52:68], 6.4, 1.5, smooth=False).plane(0.8), 226)
    cord = Sketch(pose).line(middle[:20] + back[:20] * 12.6, 2.7, smooth=False)
    cord.tapered((middle + back * 12.7)[18:25:2], 2.7, 0.6)
    roots = Sketch(pose)
    for shift in (13.4, 14.1, 14.8):
        roots.line((middle + back * shift)[20:58], 0.45, smooth=False)
    paint(field, 0.55 * roots.plane(0.6), 110)
    paint(field, cord.plane(0.7), 108)
    bones, discs, cores, spines = Sketch(pose), Sketch(pose), Sketch(pose), Sketch(pose)
    bad = "herniation" in words
    for number, (a, b) in enumerate(pairwise(_SPINE)):
        here = min(number * 8, len(middle) - 1)
        mid, way, out = middle[here], along[here], back[here]
        half, tall = (8.4 - 0.5 * max(0, number - 6), 4.75 if number < 7 else 3.9)
        box = [(-half, -tall), (-half * 0.9, 0), (-half, tall), (0, tall - 0.5), (half, tall), (half * 0.92, 0),
               (half, -tall), (0, -tall + 0.5)]  # fmt: skip
        bones.fill(np.asarray([mid + out * u + way * v for u, v in box]))
        if 0 < number < 7:
            tip = mid + way * 4.5
            spines.fill(
                np.asarray([tip + out * u + way * v for u, v in ((17.5, -2), (24, -2), (29, 0.5), (29, 3), (22, 3))])
            )
        gap, gone = (np.asarray(a) + b) / 2, bad and number == _L4_L5
        reach = half + ((2.0 if "small" in words else 3.6) if gone else 0.3)
        turn = float(np.arctan2(out[1], out[0]))
        shift = out * (1.5 if gone else 0.0)
        discs.fill(ring(gap[0] + shift[0], gap[1] + shift[1], reach, 1.7 if number < 7 else 0.9, turn))
        if number < 7 and not gone:
            cores.fill(ring(gap[0], gap[1], half * 0.66, 1.0, turn))
    paint(field, spines.plane(1.0), 128)
    paint(field, discs.plane(0.7), 34)
    body = bones.plane(0.8)
    paint(field, body, 132 + 6 * noise(rng, 34))
    field -= 70 * body * (body - soften(body, 1.6)) * 1.6
    paint(field, 0.9 * cores.plane(0.8), 176)
    if bad:
        paint(field, discs.plane(0.7) * ramp(body, 0.4, 0.1) * (1 - cores.plane(0.8)), 30)
    return field


def _knee(rng: Rng, words: frozenset[str]) -> Plane:
    x, _ = grid()
    pose = Pose(rng, turn=3)
    field = np.zeros_like(x) + 5
    skin = [
        (22, -9),
        (20, 20),
        (15, 34),
        (17, 50),
        (25, 66),
        (28, 112),
        (84, 112),
        (88, 80),
        (82, 58),
        (84, 40),
        (90, 10),
        (88, -9),
    ]
    paint(field, Sketch(pose).fill(skin).plane(0.9), 190 + 8 * noise(rng, 24))
    muscle = [
        (66, -9),
        (66, 20),
        (74, 40),
        (72, 54),
        (70, 70),
        (66, 112),
        (80, 112),
        (83, 80),
        (77, 58),
        (79, 40),
        (84, -9),
    ]
    paint(field, Sketch(pose).fill(muscle).plane(1.2), 70 + 10 * noise(rng, 40, 8))
    paint(field, Sketch(pose).fill([(28, -9), (30, 20), (36, 22), (42, -9)]).plane(1.2), 72 + 10 * noise(rng, 30, 8))
    femur = [
        (44, -9),
        (43, 14),
        (36, 24),
        (31, 36),
        (34, 47),
        (44, 52),
        (56, 52),
        (66, 47),
        (69, 37),
        (65, 26),
        (61, 12),
        (60, -9),
    ]
    tibia = [(33, 57.5), (45, 56.5), (56, 57), (68, 58), (67, 66), (60, 76), (58, 112), (40, 112), (38, 78), (32, 68)]
    patella = [(22, 22), (26.5, 21), (29, 28), (28, 37), (24, 39), (20.5, 31)]
    cartilage = Sketch(pose).fill(grown(femur, 1.05)).fill(grown(tibia, 1.03)).fill(grown(patella, 1.1)).plane(0.8)
    paint(field, cartilage, 118)
    bones = Sketch(pose).fill(femur).fill(tibia).fill(patella).plane(0.8)
    paint(field, bones, 168 + 3 * noise(rng, 50))
    field -= 150 * bones * np.clip(bones - soften(bones, 1.4), 0, 1)
    dark = Sketch(pose).fill([(32, 52.6), (32, 58), (42, 55.4)], smooth=False)
    dark.fill([(69, 52.6), (69, 58.5), (58.5, 55.8)], smooth=False)
    dark.tapered([(24.5, 38), (27.5, 50), (33, 67)], 2.4, 1.8).tapered([(32, -9), (28, 10), (25.5, 22)], 2.6, 2)
    paint(field, dark.plane(0.7), 22)
    if words & {"effusion", "oedema"}:
        paint(field, Sketch(pose).fill([(31, 8), (35, 10), (34, 20), (30, 30), (29, 20)]).plane(0.9), 235)
    return field
