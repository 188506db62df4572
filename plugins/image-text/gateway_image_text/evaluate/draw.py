"""Drawing text on grounds: phantoms of its own, or images from a folder."""

from __future__ import annotations

import functools
import io
import itertools
import math
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFilter, ImageFont

Layout = Literal["block", "tiled", "corners", "stacked", "curved", "spaced", "scattered"]
Colour = tuple[int, int, int]
FAINT = 60
"""Up to this `delta` the ink follows the ground, so that the contrast is the same all over."""
READABLE = 45.0
"""Grey levels: with less contrast, other ink or another place is tried."""
TRIES = 8
_SYSTEM = Path("/usr/share/fonts/truetype/dejavu")


class Style(Struct, frozen=True, kw_only=True):
    """How a sentence is drawn.

    `side` of the square image and `size` of the font are in pixels, `turn` in degrees counter-clockwise, `shear` in
    pixels to the right for each pixel upwards. `delta` in grey levels is the letters' distance from the ground;
    `colour` stands instead of it, on a plain ground of colour `on` if given. `alpha` is the letters' opacity;
    `quality` is JPEG's, None for PNG.
    """

    side: int = 512
    size: int = 20
    font: str = "sans"
    layout: Layout = "block"
    ground: str = "phantom"
    delta: int = 150
    colour: Colour | None = None
    on: Colour | None = None
    outline: int = 0
    alpha: float = 1.0
    turn: float = 0.0
    shear: float = 0.0
    quality: int | None = None
    annotated: bool = False


@functools.cache
def font(name: str, size: int) -> Any:
    """Load a font: DejaVu where it is installed, else Pillow's own."""
    file = _SYSTEM / {
        "sans": "DejaVuSans.ttf", "bold": "DejaVuSans-Bold.ttf", "serif": "DejaVuSerif.ttf",
        "mono": "DejaVuSansMono.ttf", "condensed": "DejaVuSansCondensed.ttf", "italic": "DejaVuSerif-Italic.ttf",
    }.get(name, "-")  # fmt: skip
    return ImageFont.truetype(str(file), size) if file.is_file() else ImageFont.load_default(size)


def ground(kind: str, side: int, rng: random.Random, files: tuple[Path, ...] = ()) -> Picture.Image:
    """Make an RGB picture to draw on: ``phantom``, ``noise``, ``gradient``, ``plain``, or ``clinical`` from `files`."""
    if kind == "clinical" and files:
        with Picture.open(rng.choice(files)) as picture:
            return picture.convert("RGB").resize((side, side), Picture.Resampling.LANCZOS)
    noise = np.random.default_rng(rng.getrandbits(32))
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    grey = np.full((side, side), float(rng.randint(20, 90)))
    if kind in ("phantom", "clinical"):
        grey[:] = 0
        grey[(x / 0.42) ** 2 + (y / 0.46) ** 2 < 1] = 180
        grey[(x / 0.38) ** 2 + (y / 0.42) ** 2 < 1] = rng.randint(50, 100)
        for _ in range(6):
            cx, cy, rx, ry = (rng.uniform(*span) for span in ((-0.25, 0.25), (-0.25, 0.25), (0.03, 0.12), (0.03, 0.12)))
            grey[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] += rng.randint(-40, 60)
        grey += noise.normal(0, 5, grey.shape)
    elif kind == "noise":
        grey += noise.normal(0, 12, grey.shape)
    elif kind == "gradient":
        turn = rng.uniform(0, 2 * math.pi)
        grey = 110 + 150 * (x * math.cos(turn) + y * math.sin(turn))
    return Picture.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


def wrap(text: str, face: Any, width: float) -> list[str]:
    """Break `text` into lines of at most `width` pixels; a longer word stands alone."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or face.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _block(lines: list[str], face: Any, size: int, stroke: int, gap: int = 0) -> Picture.Image:
    """Draw lines one below the other, tightly cropped: letters 255, their outline 128; `gap` pixels between letters."""
    widths = [face.getlength(line) + gap * len(line) for line in lines]
    mask = Picture.new("L", (int(max(widths)) + 8 + 2 * stroke, int(len(lines) * size * 1.3) + 8 + 2 * stroke))
    pen = ImageDraw.Draw(mask)
    for number, line in enumerate(lines):
        left, top = 4.0 + stroke, 4 + stroke + number * size * 1.3
        for piece in line if gap else [line]:
            pen.text((left, top), piece, font=face, fill=255, stroke_width=stroke, stroke_fill=128)
            left += face.getlength(piece) + gap
    box = mask.getbbox()
    return mask.crop(box) if box else mask


def _stacked(text: str, face: Any, size: int, height: float) -> Picture.Image:
    """Draw letters upright one below the other, words column by column from left to right."""
    step = size * 1.05
    rows = max(1, int(height / step))
    packed = [""]
    for word in text.split():
        longer = f"{packed[-1]} {word}".strip()
        if not packed[-1] or len(longer) <= rows:
            packed[-1] = longer
        else:
            packed.append(word)
    mask = Picture.new("L", (int(len(packed) * size * 1.8) + 8, int(max(map(len, packed)) * step) + 16))
    pen = ImageDraw.Draw(mask)
    for column, letters in enumerate(packed):
        for row, letter in enumerate(letters):
            pen.text((column * size * 1.8 + size * 0.8, 4 + row * step), letter, font=face, fill=255, anchor="mt")
    return mask.crop(mask.getbbox())


def _curved(lines: list[str], face: Any, size: int, side: int) -> Picture.Image:
    """Draw lines on concentric arcs, letter by letter."""
    mask = Picture.new("L", (side, side))
    radius = side * 0.8
    for number, line in enumerate(lines):
        length = face.getlength(line)
        reach = radius - number * size * 1.4
        angle = -length / 2 / reach
        for letter in line:
            wide = face.getlength(letter)
            angle += wide / 2 / reach
            tile = Picture.new("L", (2 * size, 2 * size))
            ImageDraw.Draw(tile).text((size, size), letter, font=face, fill=255, anchor="mm")
            tile = tile.rotate(-math.degrees(angle), Picture.Resampling.BICUBIC)
            x, y = side / 2 + reach * math.sin(angle), side * 1.0 - reach * math.cos(angle)
            mask.paste(255, (int(x - size), int(y - size)), tile)
            angle += wide / 2 / reach
    box = mask.getbbox()
    return mask.crop(box) if box else mask


def _bent(mask: Picture.Image, turn: float, shear: float) -> Picture.Image:
    if shear:
        wide, high = mask.size
        extra = int(abs(shear) * high)
        mask = mask.transform(
            (wide + extra, high), Picture.Transform.AFFINE,
            (1, shear, -extra if shear > 0 else 0, 0, 1, 0), Picture.Resampling.BICUBIC,
        )  # fmt: skip
    if turn:
        mask = mask.rotate(turn, Picture.Resampling.BICUBIC, expand=True)
    box = mask.getbbox()
    return mask.crop(box) if box else mask


def _fitted(text: str, style: Style, face: Any) -> Picture.Image:
    """Lay `text` out as narrow as it takes to fit the image, turned as it is."""
    mask = Picture.new("L", (1, 1))
    room = 0.94 * style.side
    for share in (0.94, 0.85, 0.75, 0.65, 0.5, 0.4):
        width = share * style.side
        gap = style.size // 3 if style.layout == "spaced" else 0
        if style.layout == "stacked":
            mask = _stacked(text, face, style.size, width)
        elif style.layout == "curved":
            mask = _curved(wrap(text, face, 0.8 * width), face, style.size, style.side)
        else:
            scale = face.getlength(text) / (face.getlength(text) + gap * len(text))
            mask = _block(wrap(text, face, width * scale), face, style.size, style.outline, gap)
        mask = _bent(mask, style.turn, style.shear)
        if mask.width <= room and mask.height <= room:
            break
    return mask


def _places(text: str, style: Style, face: Any, rng: random.Random) -> list[tuple[Picture.Image, int, int]]:
    """Give masks with the left and top edge at which each stands."""
    side, margin = style.side, int(0.03 * style.side)
    if style.layout in ("corners", "scattered"):
        words = text.split()
        count = 4 if style.layout == "corners" else 6
        cuts = [round(number * len(words) / count) for number in range(count + 1)]
        parts = [" ".join(words[a:b]) for a, b in itertools.pairwise(cuts) if a < b]
        found = []
        for number, part in enumerate(parts):
            mask = _bent(
                _block(wrap(part, face, 0.45 * side), face, style.size, style.outline), style.turn, style.shear
            )
            columns, row_height = 2, side / math.ceil(count / 2)
            left = margin if number % columns == 0 else side - margin - mask.width
            found.append((mask, left, int(number // columns * row_height + margin)))
        return found
    mask = _fitted(text, style, face)
    if style.layout == "tiled":
        high = mask.height + style.size
        return [(mask, margin, top) for top in range(margin, max(margin + 1, side - mask.height), high)]
    high = side // 4 if style.annotated else 0  # a scanner's own lines stand in the corners
    left = rng.randint(margin // 2, max(margin // 2, side - mask.width - margin // 2))
    top = rng.randint(margin // 2 + high, max(margin // 2 + high, side - mask.height - margin // 2 - high))
    return [(mask, left, top)]


def _contrast(ink: NDArray[np.float64], local: NDArray[np.float64]) -> float:
    """Give the contrast, in grey levels, that all but a twentieth of the letters' pixels have."""
    return float(np.percentile(np.abs(local - ink).max(axis=-1), 5)) if len(local) else 0.0


def _ink(style: Style, local: NDArray[np.float64]) -> NDArray[np.float64]:
    """Choose the ink for the letters over `local`, the smoothed ground under their pixels: what stands out there."""
    if style.colour is not None:
        return np.array(style.colour, np.float64)
    if abs(style.delta) <= FAINT:
        return np.asarray(np.clip(local + style.delta, 0, 255))
    mean = local.mean(axis=0)
    inks = [np.full(3, np.clip(mean.mean() + sign * abs(style.delta), 0, 255)) for sign in (1, -1)]
    inks += [np.full(3, 255.0), np.zeros(3)] if max(_contrast(ink, local) for ink in inks) < READABLE else []
    return max(inks, key=lambda ink: _contrast(ink, local))


def _write(pixels: NDArray[np.float64], mask: NDArray[np.float64], style: Style) -> tuple[NDArray[np.float64], float]:
    """Put letters on `pixels`; give the result and the contrast that they have."""
    smooth = ImageFilter.GaussianBlur(style.size / 3)
    ground_ = np.asarray(Picture.fromarray(pixels.astype(np.uint8)).filter(smooth), np.float64)
    inside = mask > 0.3
    local = ground_[inside]
    chosen = _ink(style, local)
    shade = np.zeros_like(pixels)
    shade[mask > 0] = chosen if chosen.ndim == 1 else np.clip(ground_[mask > 0] + style.delta, 0, 255)
    cover = mask[..., None]
    if style.outline:
        shade = np.where(cover > 0.75, shade, np.where(cover > 0, 255.0 - shade, 0))
        cover = np.clip(2 * cover, 0, 1)
    return pixels * (1 - cover * style.alpha) + shade * cover * style.alpha, _contrast(chosen, local)


def draw(text: str, style: Style, rng: random.Random, files: tuple[Path, ...] = ()) -> Picture.Image:
    """Draw `text` in `style` on a ground of its own or one of `files`, where a person could read it."""
    best, most = Picture.new("RGB", (style.side, style.side)), -1.0
    face = font(style.font, style.size)
    for _ in range(TRIES):
        picture = ground(style.ground, style.side, rng, files)
        if style.on is not None:
            picture.paste(style.on, (0, 0, style.side, style.side))
        pixels, least = np.asarray(picture, np.float64), 255.0
        for mask, left, top in _places(text, style, face, rng):
            full = Picture.new("L", picture.size)
            full.paste(mask, (left, top))
            pixels, contrast = _write(pixels, np.asarray(full, np.float64) / 255, style)
            least = min(least, contrast)
        if least > most:
            best, most = Picture.fromarray(pixels.clip(0, 255).round().astype(np.uint8)), least
        if style.colour is not None or abs(style.delta) <= FAINT or style.outline or least >= READABLE:
            break
    return best


def annotate(picture: Picture.Image, columns: tuple[tuple[str, ...], ...], rng: random.Random) -> Picture.Image:
    """Write what a scanner writes into the corners: small, white or yellow."""
    pen = ImageDraw.Draw(picture)
    side = picture.width
    size = max(9, rng.randint(side * 10 // 512, side * 16 // 512))
    face = font(rng.choice(("sans", "mono", "condensed")), size)
    fill = rng.choice(((255, 255, 255), (230, 230, 230), (255, 255, 0)))
    for corner, lines in zip(rng.sample(range(4), len(columns)), columns, strict=True):
        for number, line in enumerate(lines):
            wide = face.getlength(line)
            left = 4.0 if corner % 2 == 0 else side - 4 - wide
            top = 4 + number * size * 1.25 if corner < 2 else side - 4 - (len(lines) - number) * size * 1.25
            pen.text((left, top), line, font=face, fill=fill)
    return picture


def encode(picture: Picture.Image, quality: int | None) -> bytes:
    """Give the file: JPEG of this quality, or PNG."""
    out = io.BytesIO()
    if quality is None:
        picture.save(out, "PNG")
    else:
        picture.save(out, "JPEG", quality=quality)
    return out.getvalue()
