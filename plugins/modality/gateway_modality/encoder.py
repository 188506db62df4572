"""From the bytes of an image to the encoder's vector."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

Vectors = NDArray[np.float32]
"""Views x dimensions: the encoder's last layer (1280) the means and spreads of three inner ones (352), colours (10)."""

SIDE = 224
MAX_PIXELS = 25_000_000
"""An image of more pixels is not looked at: decoding it alone would take most of a second."""
_NARROW = 2.0  # sides of what is shown to the encoder: of a longer strip only the middle is
COLOURS = 10
_TINT, _DARK, _LIGHT = 0.12, 0.06, 0.94  # a pixel is coloured, black or white from here on
_INNER = 0.8  # the second view: the middle of the first, without borders and most annotations


class TooLarge(Exception):
    """The image has more than `MAX_PIXELS` pixels."""


class Encoder:
    """Runs the encoder. One instance serves several threads."""

    def __init__(self, model: bytes, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def encode(self, pixels: NDArray[np.float32]) -> Vectors:
        """Encode `pixels`, (views, 3, SIDE, SIDE) in 0..255, one view at a time so that neighbours change nothing."""
        found = []
        for view in pixels:
            deep, middle = self._session.run(None, {"pixels": view[None]})
            found.append(np.concatenate([deep[0], middle[0], colours(view)]))
        return np.asarray(found, np.float32)


def colours(view: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum up the colours of a view, (3, SIDE, SIDE) in 0..255, in `COLOURS` numbers of 0..1; the first is their share.

    The encoder was taught to see a cat in a grey picture too, so colour, which tells an endoscopy from an X-ray at a
    glance, hardly reaches its last layers.
    """
    scaled = view / np.float32(255)
    high, low = scaled.max(0), scaled.min(0)
    spread = high - low
    red, green, blue = scaled.mean((1, 2))
    values = (
        (spread > _TINT).mean(), spread.mean(), red, green, blue,
        np.maximum(scaled[0] - scaled[2], 0).mean(), np.maximum(scaled[2] - scaled[1], 0).mean(),
        high.std(), (high < _DARK).mean(), (low > _LIGHT).mean(),
    )  # fmt: skip
    return np.asarray(values, np.float32)


def views(data: bytes) -> NDArray[np.float32]:
    """Decode the PNG or JPEG file `data` to the two views that are encoded: the whole, and its middle.

    Raises:
        TooLarge: it has too many pixels.
        OSError, ValueError: it is no image.
    """
    with Pillow.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        if image.width * image.height > MAX_PIXELS:
            raise TooLarge
        image.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG is decoded smaller, and faster
        return two_views(image.convert("RGB"))


def two_views(image: Pillow.Image) -> NDArray[np.float32]:
    """Give the two views of an RGB image: (2, 3, SIDE, SIDE), samples in 0..255."""
    box = _middle(image.width, image.height)
    left, top, right, bottom = box
    across, down = (right - left) * (1 - _INNER) / 2, (bottom - top) * (1 - _INNER) / 2
    inner = (left + across, top + down, right - across, bottom - down)
    shown = [image.resize((SIDE, SIDE), Pillow.Resampling.BICUBIC, box=part, reducing_gap=3.0) for part in (box, inner)]
    return np.stack([np.asarray(one, np.float32).transpose(2, 0, 1) for one in shown])


def _middle(width: int, height: int) -> tuple[float, float, float, float]:
    wide, high = min(width, height * _NARROW), min(height, width * _NARROW)
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high
