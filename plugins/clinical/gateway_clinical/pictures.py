"""The pictures of the pairs: a phantom each, made once, as the gateway would have decoded it from a request."""

from __future__ import annotations

import base64
from functools import lru_cache

from msgspec.structs import replace

from gateway.plugin import Image, decode_image
from gateway_clinical.library import Pair


def image_id(pair: Pair) -> str:
    """Give the id of the picture that both twins of `pair` show."""
    return f"demonstrations.{pair.id}.image"


@lru_cache(maxsize=1024)  # a picture weighs about 25 kB and takes about 20 ms
def picture(pair: Pair) -> Image:
    """Draw the picture of `pair`, 224 x 224 pixels. The same pair gives the same picture on every machine."""
    from gateway_clinical.phantoms import draw

    png = draw(pair.modality, pair.id, pair.view)
    return decode_image(f"data:image/png;base64,{base64.b64encode(png).decode()}", id=image_id(pair))


def with_picture(pair: Pair) -> Pair:
    """Give `pair` with its picture on both twins; as it is where the phantoms can not draw it."""
    if not pair.pictured:
        return pair
    shown = picture(pair)
    return replace(pair, harmful=replace(pair.harmful, image=shown), benign=replace(pair.benign, image=shown))
