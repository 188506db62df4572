"""From the detector's map to lines of text: where each stands and how it is turned, and its pixels laid straight."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway_image_text.engine import HEIGHT, Floats, Pixels

CORE = 0.3  # probability from which on a pixel belongs to the core of a line
SURE = 0.5  # mean probability that a core must have
_GROW = 1.6  # DB's cores are shrunk by area / perimeter; this is what its authors grow them by
_LEAST = 3  # pixels of the map: a thinner core is no line
_TALL = 1.5  # height by width from which on a line is read as turned a quarter
_MARGIN = 12  # pixels around a line, at `HEIGHT`, that its brightness is evened with
SQUEEZE = 0.8
"""Share of its width that a line keeps: it saves a fifth of the time, and letters are known as well."""
_WIDEST = 3200  # pixels at `HEIGHT`: what is longer is squeezed more
_BEND = 0.35  # thicknesses that a line's middle may stray from straight before it is unbent


class Region(NamedTuple):
    """A line of text: corners clockwise from the top left in pixels of the image, and its middle if it is bent.

    `bend` holds x and y of points along the middle of a bent line, from left to right, `thick` its height there.
    """

    box: Floats
    bend: Floats | None = None
    thick: float = 0.0

    def moved(self, by: Floats) -> Region:
        """Give this region `by` x and y pixels further on."""
        return Region(self.box + by, None if self.bend is None else self.bend + by, self.thick)

    @property
    def tall(self) -> bool:
        """Say whether the line is read as turned a quarter."""
        wide, high = self.sides
        return self.bend is None and high >= _TALL * wide

    @property
    def sides(self) -> tuple[float, float]:
        """Give width and height of the box in pixels."""
        return float(np.linalg.norm(self.box[0] - self.box[1])), float(np.linalg.norm(self.box[0] - self.box[3]))

    @property
    def high(self) -> float:
        """Give the height of the line in pixels."""
        return min(self.sides) if self.bend is None else self.thick


def even(pixels: Pixels, window: int = 25, floor: float = 8.0, gain: float = 60.0) -> Pixels:
    """Even out brightness and contrast around each pixel, channel by channel, so that faint text stands out.

    Each value becomes its distance from the local mean in local standard deviations over `window` pixels; `floor`, in
    grey levels, keeps noise on plain ground from being blown up.
    """
    values = pixels.astype(np.float32)
    mean = cv2.blur(values, (window, window))
    spread = np.sqrt(np.maximum(cv2.blur(values * values, (window, window)) - mean * mean, 0.0)) + floor
    evened: Pixels = np.clip(128.0 + (values - mean) * (gain / spread), 0, 255).astype(np.uint8)
    return evened


def clockwise(points: Floats) -> Floats:
    """Order four corners clockwise, the upper of the two leftmost first."""
    by_x = points[np.argsort(points[:, 0], kind="stable")]
    left, right = (pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_x[:2], by_x[2:]))
    return np.array([left[0], right[0], right[1], left[1]], np.float32)


def find(probability: Pixels, factor: float, most: int) -> list[Region]:
    """Find at most `most` + 1 lines in the detector's map of probabilities, height x width, 255 for 1.

    `factor` turns pixels of the map into those of the image.
    """
    mask = cv2.dilate((probability > 255 * CORE).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, nesting = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    found: list[Region] = []
    for number, contour in enumerate(contours):
        if nesting[0][number][3] >= 0:  # the rim of a hole
            continue
        centre, (wide, high), turn = cv2.minAreaRect(contour)
        if min(wide, high) < _LEAST:
            continue
        core = clockwise(cv2.boxPoints((centre, (wide, high), turn)).astype(np.float32))
        grow = _GROW * wide * high / (2 * (wide + high))
        bent = _bent(contour, core) if cv2.contourArea(contour) < 0.8 * wide * high else None
        outline = contour.reshape(-1, 2) if bent is not None else core
        if _mean(probability, outline.astype(np.int32)) < SURE:
            continue
        box = clockwise(cv2.boxPoints((centre, (wide + 2 * grow, high + 2 * grow), turn)).astype(np.float32))
        if bent is None:
            found.append(Region(box * factor))
        else:
            middle, thick = bent
            length = float(np.linalg.norm(np.diff(middle, axis=0), axis=1).sum())
            grow = _GROW * thick * length / (2 * (thick + length))
            found.append(Region(box * factor, _longer(middle, grow) * factor, (thick + 2 * grow) * factor))
        if len(found) > most:
            break
    return found


def _mean(probability: Pixels, outline: NDArray[np.int32]) -> float:
    """Give the mean probability, in 0..1, inside `outline`."""
    limits = np.array(probability.shape[::-1]) - 1
    low, high = np.clip(outline.min(axis=0), 0, limits), np.clip(outline.max(axis=0), 0, limits)
    mask = np.zeros((high[1] - low[1] + 1, high[0] - low[0] + 1), np.uint8)
    cv2.fillPoly(mask, [outline - low.astype(np.int32)], 1)
    return float(cv2.mean(probability[low[1] : high[1] + 1, low[0] : high[0] + 1], mask)[0]) / 255


def _bent(contour: NDArray[np.int32], core: Floats) -> tuple[Floats, float] | None:
    """Give the middle of a core along its length, and its thickness; None where it is straight."""
    if np.linalg.norm(core[0] - core[3]) > np.linalg.norm(core[0] - core[1]):
        core = core[[1, 2, 3, 0]]
    wide, high = (int(np.linalg.norm(core[0] - core[n])) + 1 for n in (1, 3))
    if wide < 4 * _LEAST:
        return None
    frame = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    shape = np.zeros((high + 3, wide + 3), np.uint8)
    there = cv2.getPerspectiveTransform(core, frame)
    cv2.fillPoly(shape, [np.round(cv2.perspectiveTransform(contour.astype(np.float32), there)).astype(np.int32) + 1], 1)
    columns = np.flatnonzero(shape.any(axis=0))
    top, bottom = shape.argmax(axis=0)[columns], shape.shape[0] - shape[::-1].argmax(axis=0)[columns]
    thick = float(np.median(bottom - top))
    middle = (top + bottom) / 2 - 1
    fit = np.polynomial.Polynomial.fit(columns - 1, middle, 4)
    along = np.linspace(0, wide, max(8, wide // 4))
    across = fit(along)
    straight = np.polynomial.Polynomial.fit(along, across, 1)(along)
    if np.abs(across - straight).max() < _BEND * thick or np.abs(fit(columns - 1) - middle).mean() > 0.5 * thick:
        return None
    back = cv2.getPerspectiveTransform(frame, core)
    points = cv2.perspectiveTransform(np.stack([along, across], axis=1)[None].astype(np.float32), back)[0]
    if points[0][0] > points[-1][0]:
        points = points[::-1]
    return np.asarray(points, np.float32), thick


def _longer(points: Floats, by: float) -> Floats:
    """Draw a line of points out at both ends."""
    start, end = points[0] - points[1], points[-1] - points[-2]
    first, last = points[0] + start * (by / np.linalg.norm(start)), points[-1] + end * (by / np.linalg.norm(end))
    return np.concatenate([first[None], points, last[None]]).astype(np.float32)


def straighten(pixels: Pixels, region: Region, squeeze: float = SQUEEZE) -> Pixels:
    """Cut a line out of the image: `HEIGHT` pixels high, turned and unbent to run from left to right, evened.

    A tall line is turned a quarter counter-clockwise.
    """
    if region.bend is not None:
        return _unbent(pixels, region, squeeze)
    box = region.box[[1, 2, 3, 0]] if region.tall else region.box
    wide, high = (max(1.0, float(np.linalg.norm(box[0] - box[n]))) for n in (1, 3))
    width = _width(wide, high, squeeze)
    # Brightness is evened at the size at which the line is read, with some of what is around it.
    frame = np.array([[0, 0], [width, 0], [width, HEIGHT], [0, HEIGHT]], np.float32) + _MARGIN
    low = np.floor(np.maximum(box.min(axis=0) - high, 0)).astype(int)
    top = np.ceil(box.max(axis=0) + high).astype(int)
    part = pixels[low[1] : top[1], low[0] : top[0]]
    box = box - low.astype(np.float32)
    shrink = min(1.0, 1.5 * HEIGHT / high)
    if shrink < 1.0:  # large letters: the interpolation below looks at few pixels and would see noise
        part = np.asarray(cv2.resize(part, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), np.uint8)
        box = box * np.array([part.shape[1], part.shape[0]], np.float32) / (top - low).clip(1)
    size = (width + 2 * _MARGIN, HEIGHT + 2 * _MARGIN)
    there = cv2.getPerspectiveTransform(box.astype(np.float32), frame)
    cut = cv2.warpPerspective(part, there, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return _evened(np.asarray(cut, np.uint8))


def _unbent(pixels: Pixels, region: Region, squeeze: float) -> Pixels:
    points = region.bend
    assert points is not None  # noqa: S101 - the caller looked
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    reach = np.concatenate(([0.0], np.cumsum(steps)))
    width = _width(float(reach[-1]), region.thick, squeeze)
    at = np.linspace(0, reach[-1], width + 2 * _MARGIN)
    x, y = np.interp(at, reach, points[:, 0]), np.interp(at, reach, points[:, 1])
    slope = np.stack([np.gradient(x), np.gradient(y)])
    slope /= np.maximum(np.linalg.norm(slope, axis=0), 1e-6)
    away = ((np.arange(HEIGHT + 2 * _MARGIN) - _MARGIN) / HEIGHT - 0.5)[:, None] * region.thick
    map_x, map_y = (x - slope[1] * away).astype(np.float32), (y + slope[0] * away).astype(np.float32)
    cut = cv2.remap(pixels, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return _evened(np.asarray(cut, np.uint8))


def _width(wide: float, high: float, squeeze: float) -> int:
    return max(16, min(_WIDEST, round(wide / high * HEIGHT * squeeze)))


def _evened(cut: Pixels) -> Pixels:
    return np.ascontiguousarray(even(cut, 41)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
