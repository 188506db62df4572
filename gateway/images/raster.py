"""Decode a checked file with Pillow, bring it to 8 bits of grey or RGB, and encode it anew."""

from __future__ import annotations

import hashlib
import io
import logging
from typing import Literal

from PIL import Image as Pillow
from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from gateway.images.containers import Container
from gateway.images.limits import broken
from gateway.values import Image

logging.getLogger("PIL").setLevel(logging.WARNING)  # at debug level it tells the values of EXIF tags

_QUALITY = 95
_BAND = 256  # rows
_TURN = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
_FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
# Naming the modules registers these three formats and no others.
_PLUGINS = (PngImagePlugin, JpegImagePlugin, WebPImagePlugin)


def _narrow(picture: Pillow.Image) -> Pillow.Image:
    """Bring 16-bit grey to 8 bits by dropping low bits: those that the brightest pixel's width leaves over.

    So a 12-bit scan in a 16-bit file is shown as bright as its 8-bit twin, and no contrast is invented.
    """
    wide = picture.convert("I")
    top = wide.getextrema()[1]
    shift = max(int(top).bit_length() - 8, 0) if isinstance(top, int | float) else 8
    return wide.point(lambda value: value * (1 / (1 << shift))).convert("L")


def _plain(picture: Pillow.Image) -> Pillow.Image:
    """Bring any mode to L or RGB; what is transparent lies on white, as in a report or a browser."""
    if picture.mode in ("L", "RGB"):
        see_through = "transparency" in picture.info
    elif picture.mode == "1":
        return picture.convert("L")
    elif picture.mode.startswith("I") or picture.mode == "F":
        return _narrow(picture)
    else:
        see_through = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    if not see_through:
        return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    grey = picture.mode in ("L", "LA", "La")
    white = Pillow.new("L" if grey else "RGB", picture.size, "white")
    for top in range(0, picture.height, _BAND):  # in bands, because each step is a copy
        band = picture.crop((0, top, picture.width, min(top + _BAND, picture.height)))
        band.info = picture.info
        over = band.convert("RGBA")
        white.paste(over.convert(white.mode), (0, top), over.getchannel("A"))
    return white


def decode(container: Container, kind: Literal["png", "jpeg", "webp"]) -> Pillow.Image:
    """Decode the first frame to L or RGB, upright.

    Raises:
        InvalidImage: Pillow can not decode it.
    """
    try:
        with Pillow.open(io.BytesIO(container.data), formats=[_FORMATS[kind]]) as opened:
            size = opened.size
            opened.load()
            picture = _plain(opened)
    except Exception:  # noqa: BLE001 -- Pillow raises what it likes on hostile bytes, and its messages quote them
        name = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP"}[kind]
        raise broken(f"the {name} is truncated or damaged; send the whole file, or save the image anew") from None
    if size != (container.width, container.height):
        raise broken("the image has another size than its header says; save the image anew")
    turn = _TURN.get(container.orientation)
    return picture if turn is None else picture.transpose(turn)


def encode(picture: Pillow.Image, *, lossy: bool) -> tuple[bytes, Literal["image/png", "image/jpeg"]]:
    """Encode pixels and nothing else: PNG, or JPEG of quality 95 with full colour where the source was lossy."""
    out = io.BytesIO()
    picture.info.clear()
    if lossy:
        picture.save(out, format="JPEG", quality=_QUALITY, subsampling=0)
        return out.getvalue(), "image/jpeg"
    picture.save(out, format="PNG", compress_level=1)
    return out.getvalue(), "image/png"


def decode_raster(container: Container, kind: Literal["png", "jpeg", "webp"], *, id: str) -> Image:
    """Decode and re-encode a checked file.

    Raises:
        InvalidImage: Pillow can not decode it.
    """
    picture = decode(container, kind)
    data, media_type = encode(picture, lossy=container.lossy)
    return Image(
        id=id,
        data=data,
        media_type=media_type,
        width=picture.width,
        height=picture.height,
        digest=hashlib.sha256(data).hexdigest(),
        source=kind,
        frames=container.frames,
    )
