"""What is measured on an image: how its fine grain looks, and how much the encoder hangs on that grain."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Height x width x 3, red first."""

SIDE = 224
LONGEST = 448
"""Pixels on the longer side of what the encoder's views are made from."""
SMALLEST = 32
"""An image with a shorter side is not judged: it has no grain to speak of."""
_TILE = 256
_VIEWS = 7
_JPEG = 75
_SHIFT = (17, 23)  # pixels by which the grain is moved to see whether its place matters
_PAIRS = ((0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (2, 5), (2, 6))  # of views whose vectors are compared
_DEEP = 1280  # dimensions of the encoder's last layer; the rest are means and spreads of three inner ones
GRAIN = 24
SIGNS = GRAIN + 2 * len(_PAIRS)
"""Numbers that are measured on an image: first those of the grain, then distances between views."""


def signs(pixels: Pixels, session: Any) -> NDArray[np.float64]:
    """Measure `pixels`, at least `SMALLEST` on each side: (SIGNS,). `session` runs the encoder."""
    return np.concatenate([grain(pixels), sway(pixels, session)])


def sway(pixels: Pixels, session: Any) -> NDArray[np.float64]:
    """Give the logarithms of how far the encoder's vectors move when the fine grain is taken away, turned or moved.

    Grain that was made to mislead a network moves its vectors further than grain of the same strength that was not, and
    loses this when it is mirrored around zero or shifted by some pixels.
    """
    vectors = []
    for view in views(pixels):
        shown = cv2.resize(
            view, (SIDE, SIDE), interpolation=cv2.INTER_AREA if max(view.shape) > SIDE else cv2.INTER_LINEAR
        )
        deep, middle = session.run(None, {"pixels": shown.astype(np.float32).transpose(2, 0, 1)[None]})
        vectors.append((deep[0].astype(np.float64), middle[0].astype(np.float64)))
    found = []
    for part in (0, 1):
        for a, b in _PAIRS:
            one, two = vectors[a][part], vectors[b][part]
            found.append(math.log(np.linalg.norm(one - two) / (np.linalg.norm(one) + 1e-6) + 1e-4))
    return np.asarray(found)


def views(pixels: Pixels) -> list[Pixels]:
    """Give the image at `LONGEST`, then blurred, smoothed, compressed, halved, its grain mirrored, its grain moved."""
    image = _fit(pixels)
    smooth = cv2.medianBlur(image, 3)
    left = image.astype(np.int16) - smooth
    moved = np.roll(left, _SHIFT, (0, 1))
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG])
    return [
        image,
        np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.uint8),
        np.asarray(smooth, np.uint8),
        np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1],
        np.asarray(cv2.resize(half, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8),
        np.clip(smooth - left, 0, 255).astype(np.uint8),
        np.clip(smooth + moved, 0, 255).astype(np.uint8),
    ]


def _fit(pixels: Pixels) -> Pixels:
    """Cut a long strip to its middle, and scale down to `LONGEST`."""
    high, wide = pixels.shape[:2]
    top, left = max(0, high - 2 * wide) // 2, max(0, wide - 2 * high) // 2
    pixels = pixels[top : high - top, left : wide - left]
    factor = LONGEST / max(pixels.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(pixels)
    size = tuple(max(1, round(n * factor)) for n in pixels.shape[1::-1])
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def grain(pixels: Pixels) -> NDArray[np.float64]:
    """Give `GRAIN` statistics of what a small median takes away, over at most five tiles at full resolution."""
    parts = [_tile_grain(tile) for tile in _tiles(pixels)]
    return np.asarray(np.mean(parts, axis=0), np.float64)


def _tiles(pixels: Pixels) -> list[Pixels]:
    high, wide = pixels.shape[:2]
    if high <= 1.5 * _TILE and wide <= 1.5 * _TILE:
        return [pixels]
    places = {
        (int(max(0, high - _TILE) * down), int(max(0, wide - _TILE) * across))
        for down, across in ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
    }
    return [pixels[top : top + _TILE, left : left + _TILE] for top, left in sorted(places)]


def _tile_grain(tile: Pixels) -> NDArray[np.float64]:
    image = np.ascontiguousarray(tile)
    smooth = cv2.medianBlur(image, 3).astype(np.float32)
    left = image.astype(np.float32) - smooth
    luma = left @ np.asarray([0.299, 0.587, 0.114], np.float32)
    tint = np.stack([left[..., 0] - left[..., 1], left[..., 2] - left[..., 1]])
    level = smooth.mean(2)
    slope = cv2.blur(np.abs(cv2.Sobel(level, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(level, cv2.CV_32F, 0, 1)), (9, 9))
    flat = slope <= np.quantile(slope, 0.25)
    rough = slope >= np.quantile(slope, 0.75)
    middle = luma - luma.mean()
    power = float((middle * middle).mean()) + 1e-3
    lags = [float((middle[a:, b:] * middle[: -a or None, : -b or None]).mean()) / power for a, b in _LAGS]
    calm = luma[flat]
    tails = float((((calm - calm.mean()) / (calm.std() + 0.05)) ** 4).mean())
    colour = smooth.max(2) - smooth.min(2)
    return np.asarray(
        [
            _log(luma.std()), _log(calm.std()), _log(luma[rough].std()), _log(tint.std()), _log(tint[:, flat].std()),
            _log(tint[:, rough].std()), _log(np.abs(calm).mean()), min(12.0, tails),
            min(12.0, float((middle**4).mean()) / power**2), float((left == 0).mean()),
            float((left[flat] == 0).mean()), float((np.abs(tint) < 0.5).mean()),
            _log(cv2.Laplacian(luma, cv2.CV_32F).std()), *lags,
            float((colour > 12).mean()), float((level < 8).mean()), float((level > 247).mean()),
            *_blocks(image[..., 1].astype(np.float32)), _log(slope.mean()),
        ]
    )  # fmt: skip


_LAGS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))


def _log(value: Any) -> float:
    return math.log(float(value) + 0.05)


def _blocks(plane: NDArray[np.float32]) -> tuple[float, float]:
    """Give how much steps between columns, and rows, stand out every eighth, at the best phase: JPEG's blocks."""
    found = []
    for turned in (plane, plane.T):
        steps = np.abs(np.diff(turned, axis=1)).mean(0)
        if len(steps) < 16:
            found.append(0.0)
            continue
        means = [float(steps[phase::8].mean()) for phase in range(8)]
        found.append(math.log((max(means) + 0.05) / (float(np.median(means)) + 0.05)))
    return found[0], found[1]
