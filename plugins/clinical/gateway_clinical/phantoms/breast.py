"""Mammography: oblique (with the pectoral muscle) and craniocaudal."""

from __future__ import annotations

import numpy as np

from gateway_clinical.phantoms.canvas import SIDE, Plane, Pose, Rng, Sketch, grain, grid, noise, ramp, ring, soften


def draw(rng: Rng, words: frozenset[str]) -> Plane:
    """Draw one breast, from the side or from above."""
    x, _ = grid()
    oblique, flipped = rng.random() < 0.6, rng.random() < 0.5
    if words & {"mlo", "oblique"}:
        oblique = True
    elif words & {"cc", "craniocaudal"}:
        oblique = False
    pose = Pose(rng, turn=1.5, scale=0.05, shift=0)
    if oblique:
        shape = [(-9, -12), (24, -12), (32, 2), (42, 15), (54, 30), (63, 46), (67.5, 58), (66, 69), (58, 79), (46, 86),
                 (33, 89), (22, 92), (16, 98), (14, 114), (-9, 114)]  # fmt: skip
        nipple, apex = (68.5, 61.0), (6.0, 46.0)
    else:
        shape = [(-9, 6), (2, 8), (20, 10), (38, 16), (53, 27), (61, 40), (63.5, 50), (61, 61), (53, 74), (38, 85),
                 (20, 91), (2, 93), (-9, 95)]  # fmt: skip
        nipple, apex = (65.0, 50.5), (4.0, 50.0)
    breast = Sketch(pose).fill(shape).plane(0.9)
    thin = soften(breast, 12)
    rise = ramp(thin, 0.38, 0.95) ** 0.7
    field = 3 + breast * (36 + 46 * rise)
    field += breast * ramp(soften(breast, 1.6), 0.98, 0.6) * 20  # the skin
    field += breast * 70 * Sketch(pose).fill(ring(*nipple, 2.3, 2.6)).plane(0.9)
    field = np.maximum(field, 70 * Sketch(pose).fill(ring(*nipple, 2.3, 2.6)).plane(0.9))
    field += breast * rise * _gland(rng, pose, nipple, apex, words)
    if oblique:
        muscle = [(-9, -12), (29, -12), (25, 6), (18, 26), (9, 46), (1, 62), (-9, 70)]
        field += (
            breast
            * 78
            * Sketch(pose).fill(muscle).plane(2.2)
            * (1 - 0.2 * ramp(x, 0, 40))
            * (1 + 0.05 * noise(rng, 6, 12))
        )
        if rng.random() < 0.4:
            field += 50 * Sketch(pose).fill(ring(11, 20, 2.0, 3.2, 0.3)).plane(1.2)
    spot = (rng.uniform(30, 44), rng.uniform(38, 66))
    if words & {"mass", "nodule", "lesion", "distortion"}:
        star = Sketch(pose)
        for way in np.arange(0, 6.28, 0.42) + rng.normal(0, 0.1, 15):
            long = rng.uniform(6, 10)
            star.tapered([spot, (spot[0] + long * np.cos(way), spot[1] + long * np.sin(way))], 1.3, 0.2)
        field += breast * (46 * star.plane(0.8) + 78 * Sketch(pose).fill(ring(*spot, 4.4, 4, 0, 0.2, rng)).plane(1.4))
    if words & {"calcification", "calcified"}:
        dust = Sketch(pose)
        for _ in range(22):
            at = rng.normal(0, 2.6, 2)
            dust.fill(
                ring(spot[0] + at[0], spot[1] + at[1], rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.4), rng.uniform(0, 3))
            )
        field += 150 * breast * dust.plane(0.25)
    field += grain(rng, 1.6) * breast
    shown: Plane = field[:, ::-1] if flipped else field
    return shown


def _gland(
    rng: Rng, pose: Pose, nipple: tuple[float, float], apex: tuple[float, float], words: frozenset[str]
) -> Plane:
    """Draw the cone of fibroglandular tissue: lobes and strands that run to the nipple."""
    x, y = grid()
    dense = rng.uniform(0.35, 1.0)
    if "dense" in words:
        dense = 1.1
    elif "fatty" in words:
        dense = 0.2
    (nx, ny), (ax, ay) = nipple, apex
    cone = Sketch(pose).fill([(nx - 2, ny), (nx - 14, ny - 14), (nx - 32, ny - 22), (ax + 14, ay - 14),
                              (ax + 10, ay + 6), (ax + 18, ay + 22), (nx - 32, ny + 20),
                              (nx - 14, ny + 12)]).plane(9)  # fmt: skip
    # Lobes are long towards the nipple, so their noise is drawn by direction and distance from it.
    angle = np.arctan2(y - ny, nx + 6 - x) / 2.4 + 0.5
    away = np.hypot(x - nx - 6, y - ny) / 90
    scale = SIDE - 1
    lobes = noise(rng, 22, 6)[
        (np.clip(away, 0, 1) * scale).astype(np.intp), (np.clip(angle, 0, 1) * scale).astype(np.intp)
    ]
    clouds = 0.42 * lobes + 0.38 * noise(rng, 7) + 0.24 * noise(rng, 24)
    tissue = cone * (0.22 * dense + 0.78 * ramp(clouds, 0.55 - dense, 1.7 - 0.6 * dense))
    sketch = Sketch(pose)
    for _ in range(26):
        end = np.array((rng.uniform(ax + 6, nx - 16), ny + rng.uniform(-27, 25)))
        bend = (np.array(nipple) + end) / 2 + rng.normal(0, 2.5, 2)
        sketch.tapered(
            [nipple, (float(bend[0]), float(bend[1])), (float(end[0]), float(end[1]))], 1.0, 0.4, rng.uniform(0.3, 0.9)
        )
    for _ in range(34):  # the ligaments in the fat
        start = np.array((rng.uniform(2, nx - 8), rng.uniform(10, 90)))
        tip = start + rng.normal(0, 9, 2)
        sketch.line([(float(start[0]), float(start[1])), (float(tip[0]), float(tip[1]))], 0.35, 0.35)
    strands = sketch.plane(0.9)
    return 118 * tissue + 30 * strands + 2.5 * noise(rng, 50)
