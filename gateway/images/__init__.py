"""Decode, check and re-encode the images of a request: PNG, JPEG, WebP and DICOM.

What comes out holds pixels and nothing else: no metadata, no profile, no second format behind the first. Profiles of
colour are dropped and sample values kept. Everything here is synchronous, thread-safe and bound by the processor:
callers run it in a thread. pydicom and NumPy are imported when the first DICOM file comes.
"""

from __future__ import annotations

import base64
import binascii
import re

from gateway.errors import InvalidImage
from gateway.images.containers import JPEG, PNG, walk_jpeg, walk_png, walk_webp
from gateway.images.limits import Limits, broken
from gateway.images.raster import decode_raster
from gateway.values import Image

__all__ = ["Limits", "decode_bytes", "decode_image"]

_DECLARED = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/webp": "webp",
    "application/dicom": "dicom",
    "image/dicom": "dicom",
    "application/octet-stream": "dicom",
}
_NAMES = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP", "dicom": "DICOM"}
_TAKEN = "send a PNG, JPEG, WebP or DICOM file"
_FOREIGN = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
    (b"II+\x00", "a TIFF"),
    (b"MM\x00+", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"8BPS", "a Photoshop file"),
)
DEFAULT = Limits()
"""The limits where a caller names none."""

_HEADER = 256  # characters before the comma; a media type with its parameters is far shorter
_TYPE = re.compile(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}")
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,15}):")


def decode_image(url: str, *, id: str, limits: Limits = DEFAULT) -> Image:
    """Decode the image in a base64 data URL, as OpenAI's ``image_url`` gives it.

    What the file is, its content says; a declared media type that contradicts it is refused. `id` is the part's place
    in the request.

    Raises:
        InvalidImage: the URL is no base64 data URL, or the file is refused by `decode_bytes`.
    """
    try:
        declared, raw = _open_url(url, limits)
    except InvalidImage as exc:
        exc.param = id
        raise
    return _decode(raw, declared, id, limits)


def decode_bytes(raw: bytes, *, id: str, limits: Limits = DEFAULT) -> Image:
    """Decode the file `raw` within `limits`.

    Raises:
        InvalidImage: it is none of the four formats, broken, hostile or over a limit; the message says why.
    """
    return _decode(raw, None, id, limits)


def _open_url(url: str, limits: Limits) -> tuple[str, bytes]:
    """Give the format that a data URL declares, and its bytes."""
    if url[:5].lower() != "data:":
        found = _SCHEME.match(url[:32])
        scheme = f"`{found[1].lower()}` URLs are not fetched" if found else "this is no URL of an image"
        raise broken(f"{scheme}; send the image as a base64 data URL", code="invalid_image_url")
    comma = url.find(",", 5, 5 + _HEADER)
    if comma < 0:
        raise broken("the data URL has no comma after its media type; send `data:image/png;base64,…`")
    media, *rest = (word.strip().lower() for word in url[5:comma].split(";"))
    if not rest or rest[-1] != "base64":
        raise broken("the data URL is not base64; send `data:image/png;base64,…`")
    declared = _DECLARED.get(media)
    if declared is None:
        shown = f"`{media}` is not taken" if _TYPE.fullmatch(media) else "the data URL names no media type"
        raise broken(f"{shown}; {_TAKEN}", code="invalid_image_format")
    most = max(limits.encoded, limits.dicom)
    if (len(url) - comma) * 3 // 4 > most + most // 32:  # base64 in lines of 76 grows by one part in 38
        raise _too_big(most)
    try:
        coded = url[comma + 1 :].encode("ascii")
        try:
            return declared, base64.b64decode(coded, validate=True)
        except binascii.Error:
            return declared, base64.b64decode(b"".join(coded.split()), validate=True)  # `base64` writes lines
    except ValueError:
        raise broken(
            "the data URL is not valid base64; encode the whole file with the standard alphabet and padding",
            code="invalid_base64_image",
        ) from None


def _too_big(most: int) -> InvalidImage:
    return broken(f"the file is over the limit of {most} bytes; send a smaller one", code="image_too_large")


def _decode(raw: bytes, declared: str | None, id: str, limits: Limits) -> Image:
    try:
        kind = _sniff(raw)
        if declared is not None and declared != kind:
            raise broken(
                f"the data URL declares {_NAMES[declared]} and holds {_NAMES[kind]}; declare what the file is",
                code="invalid_image_format",
            )
        if len(raw) > (limits.dicom if kind == "dicom" else limits.encoded):
            raise _too_big(limits.dicom if kind == "dicom" else limits.encoded)
        if kind == "png":
            return decode_raster(walk_png(raw, limits), "png", id=id)
        if kind == "jpeg":
            return decode_raster(walk_jpeg(raw, limits), "jpeg", id=id)
        if kind == "webp":
            return decode_raster(walk_webp(raw, limits), "webp", id=id)
        from gateway.images.dicom import decode_dicom  # pydicom and NumPy cost a start 0.3 s

        return decode_dicom(raw, id=id, limits=limits)
    except InvalidImage as exc:
        exc.param = id
        raise


def _sniff(raw: bytes) -> str:
    """Tell the format by content."""
    found = None
    if raw.startswith(PNG):
        found = "png"
    elif raw.startswith(JPEG):
        found = "jpeg"
    elif raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        found = "webp"
    if raw[128:132] == b"DICM":
        if found is not None or any(raw.startswith(magic) for magic, name in _FOREIGN if name != "a TIFF"):
            raise broken("the file is DICOM and another format at once; save the image anew")
        return "dicom"  # a TIFF header in the preamble is allowed by PS3.10 section 7.1
    if found is not None:
        return found
    head = raw[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<"):
        what = "an SVG" if b"<svg" in raw[:4096].lower() else "a text with markup"
    elif raw[4:8] == b"ftyp":
        what = "a HEIC, AVIF or video file"
    else:
        what = next((name for magic, name in _FOREIGN if raw.startswith(magic)), "")
    why = f"the file is {what}" if what else ("the file is empty" if not raw else "the file is no image that is known")
    raise broken(f"{why}; {_TAKEN}", code="invalid_image_format")
