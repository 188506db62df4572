"""What clean pictures look like after cameras, scanners, films, codecs and viewers: none of it is an attack."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway_perturbation.signs import Pixels

Floats = NDArray[np.float64]
Change = Callable[[Pixels, np.random.Generator], Pixels]


def _back(values: Floats) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def as_it_is(pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG001 -- like its neighbours
    """Change nothing."""
    return pixels


def jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Compress once or twice, quality 40 to 95."""
    for _ in range(int(rng.integers(1, 3))):
        _, coded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))])
        pixels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    return np.ascontiguousarray(pixels)


def film(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add film grain: smooth noise of 1 to 8 grey levels, alike in all channels, strongest in the middle tones."""
    noise = cv2.GaussianBlur(rng.normal(size=pixels.shape[:2]), (0, 0), float(rng.uniform(0.4, 1.2)))
    noise *= rng.uniform(1, 8) / noise.std()
    level = pixels.mean(2) / 255
    return _back(pixels + (noise * (0.3 + 2.8 * level * (1 - level)))[..., None])


def sensor(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add a sensor's noise: counting noise and a floor, alike in all channels of a grey picture."""
    colour = (pixels.max(2).astype(int) - pixels.min(2)).mean() > 6
    shape = pixels.shape if colour else (*pixels.shape[:2], 1)
    gain, floor = rng.uniform(0.02, 0.25), rng.uniform(0.3, 3)
    return _back(pixels + rng.normal(size=shape) * np.sqrt(gain * pixels.mean(2, keepdims=True) + floor**2))


def speckle(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Multiply by coherent speckle, as in ultrasound and OCT."""
    looks = float(rng.uniform(15, 200))
    noise = rng.gamma(looks, 1 / looks, pixels.shape[:2])
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), 0.7)
    return _back(pixels * noise[..., None])


def rician(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add the noise of a magnitude image, as in magnetic resonance: also where nothing is."""
    spread = rng.uniform(1, 7)
    one, two = rng.normal(0, spread, (2, *pixels.shape[:2], 1))
    return _back(np.hypot(pixels + one, two))


def halved(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Scale by 0.45 to 0.95, which sharpens and leaves no trace of earlier compression."""
    factor = float(rng.uniform(0.45, 0.95))
    how = int(rng.choice([cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR]))
    return np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=how), np.uint8)


def enlarged(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Scale by 1.1 to 1.8."""
    factor = float(rng.uniform(1.1, 1.8))
    how = int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LINEAR]))
    return np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=how), np.uint8)


def sharpened(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Sharpen with an unsharp mask."""
    soft = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.8, 2.0))).astype(np.float64)
    return _back(pixels + rng.uniform(0.3, 1.2) * (pixels - soft))


def stretched(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Stretch contrast, as another window does; leaves gaps in the histogram."""
    low, high = np.percentile(pixels, (rng.uniform(0, 8), rng.uniform(92, 100)))
    return _back((pixels - low) * (255 / max(high - low, 20.0)))


def palette(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Keep 24 to 96 levels of each channel."""
    step = 256 / float(rng.integers(24, 97))
    return _back(np.floor(pixels / step) * step + step / 2)


WAYS: dict[str, Change] = {
    "as it is": as_it_is, "jpeg": jpeg, "film": film, "sensor": sensor, "speckle": speckle, "rician": rician,
    "halved": halved, "enlarged": enlarged, "sharpened": sharpened, "stretched": stretched, "palette": palette,
}  # fmt: skip
