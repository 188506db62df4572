"""What the phantoms are drawn with: a posed sketch of outlines, smooth noise, and tissue painted over tissue.

Places are given in hundredths of a side, right and down from the upper left corner, and grey from 0 to 255.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter

Plane = NDArray[np.floating[Any]]
Places = Sequence[tuple[float, float]] | Sequence[NDArray[np.floating[Any]]] | NDArray[np.floating[Any]]
Twigs = tuple[Plane, Plane, Plane]
"""Branches: their places, and the width of each at its first and at its last."""

Rng = np.random.Generator
SIDE = 224
_FINE = 2  # shapes are drawn this many times larger and then reduced: Pillow's own edges are jagged


@lru_cache(maxsize=1)
def grid() -> tuple[Plane, Plane]:
    """Give the place (x, y) of each pixel, as planes that are not to be written to."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) * np.float32(100 / SIDE)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def noise(rng: Rng, across: int, down: int | None = None) -> Plane:
    """Draw smooth noise of spread 1 with `across` bumps from left to right and `down` from top to bottom."""
    coarse = rng.standard_normal((down or across, across), np.float32)
    way = Pillow.Resampling.BICUBIC if across < 30 else Pillow.Resampling.BILINEAR  # corners of few pixels do not show
    fine = Pillow.fromarray(coarse).resize((SIDE, SIDE), way)
    return np.asarray(fine) * np.float32(1.3)  # interpolation takes about a quarter of the spread


def grain(rng: Rng, spread: float) -> Plane:
    """Draw noise that differs from pixel to pixel."""
    return rng.standard_normal((SIDE, SIDE), np.float32) * np.float32(spread)


def _blur(radius: float) -> ImageFilter.BoxBlur | ImageFilter.GaussianBlur:
    """Give a blur; below a pixel one box does what the three of a Gaussian do, in a third of the time."""
    return ImageFilter.BoxBlur(1.5 * radius) if radius < 1.2 else ImageFilter.GaussianBlur(radius)


def soften(plane: Plane, radius: float) -> Plane:
    """Blur a plane of 0 to 1 by `radius` pixels."""
    sheet = Pillow.fromarray((np.clip(plane, 0, 1) * 255).astype(np.uint8))
    return np.asarray(sheet.filter(_blur(radius)), np.float32) / 255


def ramp(plane: Plane, low: float, high: float) -> Plane:
    """Give 0 below `low`, 1 above `high`, and a straight rise between them; `low` may be the higher one."""
    risen: Plane = np.clip((plane - low) / (high - low), 0, 1)
    return risen


@lru_cache(maxsize=8)
def _weights(steps: int) -> Plane:
    """Give what each of four knots weighs at `steps` places between the second and the third (Catmull-Rom)."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    powers = np.concatenate((t**0, t, t**2, t**3), 1)
    weights: Plane = powers @ (np.array(((0, 2, 0, 0), (-1, 0, 1, 0), (2, -5, 4, -1), (-1, 3, -3, 1))) / 2)
    return weights


def curve(places: Places, closed: bool = True, steps: int = 6) -> Plane:
    """Give a smooth line through `places`."""
    knots = np.asarray(places, np.float64)
    ends = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    run = np.concatenate((ends[0], knots, ends[1]))
    line: Plane = (_weights(steps) @ np.stack((run[:-3], run[1:-2], run[2:-1], run[3:]), 1)).reshape(-1, 2)
    return line if closed else np.concatenate((line, knots[-1:]))


def ring(
    x: float, y: float, wide: float, high: float | None = None, turn: float = 0.0, rough: float = 0.0,
    rng: Rng | None = None,
) -> Plane:  # fmt: skip
    """Give an ellipse of half axes `wide` and `high` as an outline, with a border `rough` by a share of its size."""
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    far = np.ones_like(t)
    if rng is not None:
        for wave in range(2, 6):
            far = far + rough * rng.normal() / wave * np.cos(wave * t + rng.uniform(0, 6.3))
    u, v = wide * far * np.cos(t), (wide if high is None else high) * far * np.sin(t)
    return np.stack((x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)), 1)


def mirrored(places: Places, about: float = 50.0) -> Plane:
    """Give the outline of the other side of the body."""
    other: Plane = np.asarray(places, np.float64) * (-1, 1) + (2 * about, 0)
    return other


def grown(places: Places, by: float) -> Plane:
    """Give the outline `by` times as large about its middle."""
    knots = np.asarray(places, np.float64)
    middle = (knots.min(0) + knots.max(0)) / 2
    larger: Plane = middle + (knots - middle) * by
    return larger


class Pose:
    """How a body lies in the picture: every outline of one picture is turned, scaled and moved alike."""

    def __init__(self, rng: Rng, turn: float = 3.0, scale: float = 0.04, shift: float = 1.5) -> None:
        """Draw a pose of at most `turn` degrees, a `scale` about 1, and a `shift`."""
        angle = np.deg2rad(rng.uniform(-turn, turn))
        self.wide, self.high = 1 + rng.uniform(-scale, scale, 2)
        self._turn = np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))
        self._middle = np.array((50.0, 50.0))
        self._shift = self._middle + rng.uniform(-shift, shift, 2)

    def zoom(self, x: float, y: float, times: float) -> None:
        """Show the surroundings of a place, `times` as large."""
        self._middle = np.array((x, y))
        self.wide, self.high = self.wide * times, self.high * times

    def __call__(self, places: Places) -> Plane:
        """Give where `places` come to lie."""
        placed: Plane = ((np.asarray(places) - self._middle) * (self.wide, self.high)) @ self._turn + self._shift
        return placed


class Sketch:
    """Shapes of one softness, drawn one over the other into a plane of 0 to 1."""

    def __init__(self, pose: Pose | None = None) -> None:
        self._pose = pose
        self._sheet = Pillow.new("L", (SIDE * _FINE, SIDE * _FINE))
        self._pen = ImageDraw.Draw(self._sheet)

    def fill(self, places: Places, level: float = 1.0, smooth: bool = True) -> Sketch:
        """Fill an outline, smoothed unless it shall keep its corners."""
        self._pen.polygon(self._at(curve(places) if smooth else places), fill=round(255 * level))
        return self

    def line(self, places: Places, width: float, level: float = 1.0, smooth: bool = True) -> Sketch:
        """Draw a line that keeps its width."""
        return self.tapered(places, width, width, level, smooth)

    def tapered(
        self, places: Places, start: float, end: float, level: float = 1.0, smooth: bool = True
    ) -> Sketch:  # fmt: skip
        """Draw a line whose width goes from `start` to `end`, as a vessel's does."""
        path = curve(places, closed=False) if smooth else np.asarray(places, np.float64)
        outline = _outlines(path[None], np.array((start,)), np.array((end,)))
        return self.fill(outline[0], level, smooth=False)

    def twigs(self, twigs: Twigs, level: float | Plane = 1.0, wider: float = 1.0) -> Sketch:
        """Draw branches, each at its own level where `level` has one for each."""
        paths, start, end = twigs
        levels = np.broadcast_to(np.asarray(level) * 255, start.shape).astype(int).tolist()
        for outline, shade in zip(self._all(_outlines(paths, start * wider, end * wider)), levels, strict=True):
            self._pen.polygon(outline, fill=shade)
        return self

    def blots(self, spots: Plane, level: float | Plane = 1.0) -> Sketch:
        """Draw many small ellipses: rows of x, y, half width, half height and turn."""
        x, y, wide, high, turn = (spots[:, i : i + 1] for i in range(5))
        t = np.linspace(0, 2 * np.pi, 8, endpoint=False)[None]  # eight corners are enough for a few pixels
        u, v = wide * np.cos(t), high * np.sin(t)
        outlines = np.stack((x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)), 2)
        levels = np.broadcast_to(np.asarray(level) * 255, len(spots)).astype(int).tolist()
        for outline, shade in zip(self._all(outlines), levels, strict=True):
            self._pen.polygon(outline, fill=shade)
        return self

    def plane(self, blur: float = 0.0) -> Plane:
        """Give what was drawn, blurred by `blur` pixels."""
        sheet = self._sheet.reduce(_FINE)
        if blur:
            sheet = sheet.filter(_blur(blur))
        return np.asarray(sheet, np.float32) / 255

    def _at(self, places: Places) -> list[float]:
        flat: list[float] = self._all(np.asarray(places)[None])[0]
        return flat

    def _all(self, outlines: Plane) -> list[list[float]]:
        placed = self._pose(outlines) if self._pose else outlines
        flat: list[list[float]] = (placed * (SIDE * _FINE / 100)).reshape(len(outlines), -1).tolist()
        return flat


def _outlines(paths: Plane, start: Plane, end: Plane) -> Plane:
    """Give the outlines of lines, each from its width `start` to its width `end`."""
    along = np.empty_like(paths)
    along[:, 1:-1] = paths[:, 2:] - paths[:, :-2]
    along[:, 0], along[:, -1] = paths[:, 1] - paths[:, 0], paths[:, -1] - paths[:, -2]
    long = np.sqrt((along * along).sum(2, keepdims=True)) + 1e-6
    half = (start[:, None] + (end - start)[:, None] * np.linspace(0, 1, paths.shape[1]))[..., None] / 2
    across = along[..., ::-1] * (-1, 1) / long * half
    outlines: Plane = np.concatenate((paths + across, (paths - across)[:, ::-1]), 1)
    return outlines


def paint(field: Plane, mask: Plane, value: float | Plane) -> None:
    """Lay `value` over `field` as far as `mask` covers it."""
    field += mask * (value - field)


def branches(
    rng: Rng, starts: Places, angles: Sequence[float] | Plane, length: float, width: float | Plane, splits: int,
    bend: float = 0.35,
) -> Twigs:  # fmt: skip
    """Grow trees of vessels: from each start in its direction, splitting in two `splits` times."""
    start, angle = np.asarray(starts, np.float64), np.asarray(angles, np.float64)
    long, wide = np.full(len(start), length), np.broadcast_to(np.asarray(width, np.float64), len(start))
    twigs: list[Twigs] = []
    for split in range(splits + 1):
        turns = angle[:, None] + np.cumsum(rng.normal(0, bend / 2, (len(start), 5)), 1)
        steps = np.stack((np.cos(turns), np.sin(turns)), 2) * (long / 5)[:, None, None]
        paths = np.concatenate((start[:, None], start[:, None] + np.cumsum(steps, 1)), 1)
        twigs.append((paths, wide, wide * 0.72))
        if split < splits:
            count = 2 * len(start)
            fork = np.tile((-1.0, 1.0), len(start)) * rng.uniform(0.25, 0.65, count)
            start, angle = np.repeat(paths[:, -1], 2, 0), np.repeat(turns[:, -1], 2) + fork
            long = np.repeat(long, 2) * rng.uniform(0.6, 0.85, count)
            wide = np.repeat(wide * 0.72, 2) * rng.uniform(0.75, 1, count)
    paths, first, last = (np.concatenate(parts) for parts in zip(*twigs, strict=True))
    return paths, first, last


def tint(red: float, green: float, blue: float) -> Plane:
    """Give a colour that a plane can be multiplied with; colours lie before rows, which is the faster order."""
    return np.array((red, green, blue), np.float32)[:, None, None]


def encode(field: Plane, fineness: int) -> bytes:
    """Write the picture as PNG: grey in steps of `fineness` levels where it is grey, else in so many colours.

    Noise in the last bits only makes a file large. Pillow's `optimize` takes up to 100 ms a picture and its choice of
    filters makes few colours larger, not smaller; so grey is written with run lengths, and colour without filters.
    """
    levels = np.clip(field, 0, 255).astype(np.uint8)
    if levels.ndim == 2:
        stream = io.BytesIO()
        Pillow.fromarray(levels // fineness * fineness).save(stream, "PNG", compress_type=zlib.Z_RLE)
        return stream.getvalue()
    coloured = Pillow.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))
    few = coloured.quantize(fineness, Pillow.Quantize.FASTOCTREE, dither=Pillow.Dither.NONE).convert("RGB")
    rows = np.zeros((SIDE, 1 + 3 * SIDE), np.uint8)  # each row begins with its filter, 0 for none
    rows[:, 1:] = np.asarray(few).reshape(SIDE, -1)
    parts = (
        (b"IHDR", struct.pack(">2I5B", SIDE, SIDE, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 5)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
