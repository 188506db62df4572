"""What a picture may have been through before it is sent: cropping, turning, grey, compression, tone, letters."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageEnhance, ImageFont

Change = Callable[[Pillow.Image, np.random.Generator], Pillow.Image]
_MARKS = ("L", "R", "PORTABLE", "SE: 3", "IM: 12", "W: 400 L: 40", "14:32:07", "5 cm", "A", "MI 1.2", "draft", "FOV 24")


def change(image: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Change `image` at random, by two or three of the ways at once."""
    for place in sorted(rng.choice(len(_WAYS), int(rng.integers(2, 4)), replace=False)):
        image = _WAYS[place](image, rng)
    return image


def crop(image: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Keep a part of 45 to 95 % of the area."""
    wide, high = (max(8, round(n * rng.uniform(0.67, 0.98))) for n in image.size)
    left = int(rng.integers(0, max(1, image.width - wide + 1)))
    top = int(rng.integers(0, max(1, image.height - high + 1)))
    return image.crop((left, top, left + wide, top + high))


def turn(image: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Turn by up to 12 degrees, and mirror half of the time."""
    if rng.random() < 0.5:
        image = image.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    return image.rotate(float(rng.uniform(-12, 12)), Pillow.Resampling.BILINEAR)


def frame(image: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Put a border around it, black, white or grey."""
    wide, high = (round(n * rng.uniform(1.0, 1.35)) for n in image.size)
    ground = Pillow.new("RGB", (wide, high), (int(rng.choice([0, 0, 0, 255, 90])),) * 3)
    ground.paste(image, ((wide - image.width) // 2, (high - image.height) // 2))
    return ground


def tone(image: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Change brightness, contrast and gamma."""
    image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.65, 1.4)))
    image = ImageEnhance.Contrast(image).enhance(float(rng.uniform(0.65, 1.5)))
    gamma = float(rng.uniform(0.7, 1.4))
    return image.point([round(255 * (n / 255) ** gamma) for n in range(256)] * 3)


def grey(image: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Take the colour away in half of the cases, and half of it in the others."""
    return ImageEnhance.Color(image).enhance(0.0 if rng.random() < 0.5 else 0.5)


def letters(image: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Write one to four short annotations anywhere."""
    image = image.copy()
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 5))):
        size = max(8, int(min(image.size) * rng.uniform(0.03, 0.09)))
        place = (float(rng.uniform(0, image.width * 0.85)), float(rng.uniform(0, image.height * 0.92)))
        ink = ((255, 255, 255), (255, 220, 60), (0, 0, 0))[int(rng.integers(0, 3))]
        pen.text(place, str(rng.choice(_MARKS)), font=ImageFont.load_default(size), fill=ink)
    return image


def coarse(image: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Scale down to 96 to 300 pixels on the longer side."""
    image = image.copy()
    side = int(rng.integers(96, 300))
    image.thumbnail((side, side), Pillow.Resampling.BICUBIC)
    return image


def jpeg(image: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Compress as JPEG of quality 25 to 90."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=int(rng.integers(25, 91)))
    with Pillow.open(out) as back:
        return back.convert("RGB")


_WAYS: tuple[Change, ...] = (crop, turn, frame, tone, grey, letters, coarse, jpeg)
