"""Pictures drawn by code: rough phantoms of each modality, and pictures that show no patient at all.

Phantoms only add to training; nothing is ever measured on them. They matter most where no true image could be had:
they teach the head that a skin or a breast is not one of the modalities it knows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

Plane = NDArray[np.float64]
SIDE = 320
EACH = 10
"""Pictures of each kind."""
_WORDS = (
    "patient", "report", "findings", "impression", "left", "right", "normal", "no acute change", "compared with prior",
    "table", "invoice", "total", "date", "page", "section", "model", "answer", "menu", "file", "edit", "view", "help",
)  # fmt: skip


def phantoms(seed: int) -> Iterator[tuple[Pillow.Image, str, str]]:
    """Give (picture, modality, name) of the phantoms."""
    makers = (_body, _mri, _xray, _fan, _fundus, _oct, _skin, _gut, _cells, _breast)
    names = (
        "ct", "mri", "xray", "ultrasound", "fundus", "oct", "dermoscopy", "endoscopy", "histopathology", "mammography",
    )  # fmt: skip
    for place, (kind, make) in enumerate(zip(names, makers, strict=True)):
        for number in range(EACH):
            rng = np.random.default_rng((seed, place, number))
            yield _picture(make(rng)), kind, f"drawn-{kind}-{number:02d}"


def others(seed: int) -> Iterator[tuple[Pillow.Image, str]]:
    """Give (picture, name) of pictures without a modality: pages, charts, screens, noise, plain and smooth fields."""
    makers = {"page": _page, "chart": _chart, "noise": _noise, "plain": _plain, "shapes": _shapes}
    for place, (name, make) in enumerate(makers.items()):
        for number in range(EACH):
            yield make(np.random.default_rng((seed, 100 + place, number))), f"{name}-{number:02d}"


def _picture(values: Plane) -> Pillow.Image:
    shown = np.clip(values, 0, 255).astype(np.uint8)
    return Pillow.fromarray(shown).convert("RGB")


def _grid() -> tuple[Plane, Plane]:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    return x, y


def _smooth(rng: np.random.Generator, scale: int) -> Plane:
    """Draw smooth noise in -1..1 whose bumps are about `SIDE` / `scale` pixels wide."""
    coarse = Pillow.fromarray(rng.normal(size=(scale, scale)).astype(np.float32))
    fine = np.asarray(coarse.resize((SIDE, SIDE), Pillow.Resampling.BICUBIC), np.float64)
    scaled: Plane = fine / (np.abs(fine).max() + 1e-9)
    return scaled


def _pair(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    return float(rng.uniform(low, high)), float(rng.uniform(low, high))


def _blob(rng: np.random.Generator, x: float, y: float, wide: float, high: float) -> NDArray[np.bool_]:
    gx, gy = _grid()
    turn = rng.uniform(0, np.pi)
    u, v = (gx - x) * np.cos(turn) + (gy - y) * np.sin(turn), (gy - y) * np.cos(turn) - (gx - x) * np.sin(turn)
    inside: NDArray[np.bool_] = (u / wide) ** 2 + (v / high) ** 2 < 1 + 0.2 * _smooth(rng, 6)
    return inside


def _body(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    wide, high = rng.uniform(0.36, 0.46), rng.uniform(0.26, 0.36)
    field = np.zeros((SIDE, SIDE))
    field[(x / wide) ** 2 + (y / high) ** 2 < 1] = rng.uniform(50, 80)
    field[(x / (wide - 0.03)) ** 2 + (y / (high - 0.03)) ** 2 < 1] = rng.uniform(100, 140)
    for _ in range(rng.integers(3, 7)):
        spot = _blob(rng, rng.uniform(-0.22, 0.22), rng.uniform(-0.15, 0.1), *_pair(rng, 0.04, 0.12))
        field[spot & (field > 90)] = rng.choice([15, 90, 150, 170, 240])
    field[_blob(rng, 0, high - 0.1, 0.05, 0.06)] = 245
    field[(np.abs(y - high - 0.05 - 0.1 * x * x) < 0.006) & (np.abs(x) < 0.4)] = 120
    return field + rng.normal(0, 6, field.shape)


def _mri(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    field = np.zeros((SIDE, SIDE))
    round_ = (x / 0.36) ** 2 + (y / 0.43) ** 2
    field[round_ < 1] = rng.uniform(150, 230)
    field[round_ < 0.86] = 20
    brain = round_ < 0.78
    field[brain] = (110 + 50 * np.sign(_smooth(rng, 14)) * rng.uniform(0.3, 1))[brain]
    for side in (-1, 1):
        field[_blob(rng, 0.05 * side, 0, 0.03, 0.1)] = rng.choice([20, 230])
    return np.abs(field * (1 + 0.2 * _smooth(rng, 2)) + rng.normal(0, 7, field.shape))


def _xray(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    field = 150 + 60 * y + 20 * _smooth(rng, 3)
    for side in (-1, 1):
        field[_blob(rng, 0.2 * side, 0, 0.13, 0.3)] -= 90
        for rib in range(9):
            field[np.abs(y - (-0.4 + 0.09 * rib) - 0.5 * (x - 0.2 * side) ** 2) < 0.012] += 22
    field[np.abs(x) < 0.05] += 40
    return field + rng.normal(0, 4, field.shape)


def _fan(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    field = 70 + 60 * _smooth(rng, 5) + 30 * _smooth(rng, 40)
    for _ in range(rng.integers(1, 4)):
        field[_blob(rng, *_pair(rng, -0.25, 0.25), *_pair(rng, 0.04, 0.14))] *= 0.15
    field *= rng.gamma(2.0, 0.5, field.shape)
    angle, depth = np.arctan2(x, y + 0.6), np.hypot(x, y + 0.6)
    if rng.random() < 0.7:
        field[(np.abs(angle) > 0.55) | (depth < 0.16) | (depth > 1.05)] = 0
    return field


def _fundus(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    red = np.stack([np.full((SIDE, SIDE), v) for v in (rng.uniform(150, 220), rng.uniform(60, 110), 30.0)], 2)
    red *= (1 + 0.15 * _smooth(rng, 4))[..., None]
    cx, cy = rng.uniform(-0.15, 0.15), rng.uniform(-0.05, 0.05)
    for _ in range(12):
        turn, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-2, 2)
        for step in np.linspace(0, 0.45, 140):
            px, py = cx + step * np.cos(turn + bend * step), cy + step * np.sin(turn + bend * step)
            row, column = int((py + 0.5) * SIDE), int((px + 0.5) * SIDE)
            if 1 <= row < SIDE - 1 and 1 <= column < SIDE - 1:
                red[row - 1 : row + 2, column - 1 : column + 2] *= (0.75, 0.6, 0.7)
    red[(x - cx) ** 2 + (y - cy) ** 2 < 0.045**2] = (250, 210, 120)
    red[x * x + y * y > 0.47**2] = 0
    return red + rng.normal(0, 2, red.shape)


def _oct(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    field = np.full((SIDE, SIDE), 25.0)
    base = rng.uniform(-0.1, 0.1) + 0.08 * np.exp(-((x / 0.12) ** 2)) + 0.04 * _smooth(rng, 3)[0]
    for top, bottom, grey in ((0, 0.03, 150), (0.03, 0.12, 80), (0.12, 0.16, 60), (0.16, 0.2, 190), (0.2, 0.4, 90)):
        field[(y > base + top) & (y < base + bottom)] = grey * rng.uniform(0.8, 1.2)
    return field * rng.gamma(4.0, 0.25, field.shape)


def _tinted(plane: Plane, colour: tuple[float, float, float]) -> Plane:
    tinted: Plane = plane[..., None] * np.asarray(colour)
    return tinted


def _skin(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    field = _tinted(190 + 18 * _smooth(rng, 12) + 8 * _smooth(rng, 60), (1.1, 0.85, 0.72))
    spot = _blob(rng, *_pair(rng, -0.08, 0.08), *_pair(rng, 0.12, 0.28))
    field[spot] *= rng.uniform(0.35, 0.65) + 0.2 * _smooth(rng, 50)[spot][:, None]
    for _ in range(rng.integers(0, 8)):
        slope, shift = rng.uniform(-2, 2), rng.uniform(-0.5, 0.5)
        field[np.abs(y - slope * x - shift) < 0.006] *= 0.35
    if rng.random() < 0.5:
        field *= np.clip(1.6 - 2.2 * np.hypot(x, y), 0, 1)[..., None]
    return field


def _gut(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    far = np.hypot(x - rng.uniform(-0.15, 0.15), y - rng.uniform(-0.15, 0.15))
    folds = 1 + 0.2 * np.sin(far * rng.uniform(30, 60) + 2 * _smooth(rng, 4))
    field = _tinted(210 * np.clip(far * 3, 0.05, 1) * folds, (1.0, 0.55, 0.5))
    for _ in range(rng.integers(2, 9)):
        field[_blob(rng, *_pair(rng, -0.35, 0.35), 0.012, 0.018)] = 250
    field[np.maximum(np.abs(x), np.abs(y)) > rng.uniform(0.42, 0.5)] = 0
    return field


def _cells(rng: np.random.Generator) -> Plane:
    tint = (1.0, 0.72, 0.87) if rng.random() < 0.7 else (0.95, 0.9, 0.8)
    field = _tinted(215 + 25 * _smooth(rng, 9) + 12 * _smooth(rng, 40), tint)
    pen = Pillow.fromarray(np.clip(field, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(pen)
    for _ in range(rng.integers(60, 220)):
        px, py, size = *_pair(rng, 0, SIDE), rng.uniform(3, 8)
        draw.ellipse((px, py, px + size, py + size * rng.uniform(0.7, 1.4)), fill=(95, 60, int(rng.uniform(120, 160))))
    return np.asarray(pen, np.float64) + rng.normal(0, 5, field.shape)


def _breast(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    inside = ((x + 0.5) / rng.uniform(0.5, 0.8)) ** 2 + (y / rng.uniform(0.36, 0.48)) ** 2
    field = np.where(inside < 1, 90 + 60 * (1 - inside) + 45 * _smooth(rng, 18) * (1 - inside), 3)
    return (field[:, ::-1] if rng.random() < 0.5 else field) + rng.normal(0, 3, field.shape)


def _words(rng: np.random.Generator, count: int) -> str:
    return " ".join(rng.choice(_WORDS, count))


def _colour(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in rng.integers(low, high, 3))
    return red, green, blue


def _page(rng: np.random.Generator) -> Pillow.Image:
    dark = rng.random() < 0.3
    page = Pillow.new("RGB", (480, 360), _colour(rng, 0, 40) if dark else _colour(rng, 230, 256))
    pen, size = ImageDraw.Draw(page), int(rng.integers(11, 24))
    for line in range(20, 340, size + 6):
        ink = _colour(rng, 180, 256) if dark else _colour(rng, 0, 90)
        pen.text((20, line), _words(rng, int(rng.integers(2, 9))), font=ImageFont.load_default(size), fill=ink)
    return page


def _chart(rng: np.random.Generator) -> Pillow.Image:
    page = Pillow.new("RGB", (420, 320), (255, 255, 255))
    pen, bars = ImageDraw.Draw(page), rng.random() < 0.5
    pen.line((40, 20, 40, 280, 400, 280), fill=(0, 0, 0), width=2)
    for number in range(3):
        heights, ink = rng.uniform(40, 270, 12), _colour(rng, 0, 220)
        if bars:
            for place, height in enumerate(heights[:: number + 1]):
                pen.rectangle((45 + 28 * place + 8 * number, height, 52 + 28 * place + 8 * number, 279), fill=ink)
        else:
            pen.line([(45 + 30 * i, h) for i, h in enumerate(heights)], fill=ink, width=2)
    pen.text((150, 295), _words(rng, 2), font=ImageFont.load_default(14), fill=(0, 0, 0))
    return page


def _noise(rng: np.random.Generator) -> Pillow.Image:
    shape = (SIDE, SIDE) if rng.random() < 0.5 else (SIDE, SIDE, 3)
    return _picture(rng.normal(rng.uniform(40, 200), rng.uniform(5, 80), shape))


def _plain(rng: np.random.Generator) -> Pillow.Image:
    x, y = _grid()
    field = _tinted(128 + rng.uniform(-120, 120) * x + rng.uniform(-120, 120) * y, tuple(rng.uniform(0, 2, 3)))
    return _picture(field if rng.random() < 0.6 else np.full((SIDE, SIDE), rng.uniform(0, 255)))


def _shapes(rng: np.random.Generator) -> Pillow.Image:
    page = Pillow.new("RGB", (SIDE, SIDE), _colour(rng, 0, 256))
    pen = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(4, 30))):
        (a, b), (c, d) = rng.uniform(0, SIDE, 2), rng.uniform(10, 120, 2)
        (pen.ellipse if rng.random() < 0.5 else pen.rectangle)((a, b, a + c, b + d), fill=_colour(rng, 0, 256))
    return page
