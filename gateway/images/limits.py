"""What an image may cost, and how one over a limit is refused."""

from __future__ import annotations

from msgspec import Struct

from gateway.errors import InvalidImage


class Limits(Struct, frozen=True, kw_only=True):
    """What one image may cost.

    `encoded` and `dicom` are bytes of the file as it arrives (PNG, JPEG and WebP; DICOM, also after inflating),
    `pixels` counts those of one frame, `side` is the longest side in pixels, `frames` the frames of a file. `scans`
    bounds the passes of a progressive JPEG, `elements` the data elements of a DICOM file, `texts` and `characters` its
    free text. Decoding takes up to 8 bytes of memory for each pixel; WebP and colour in JPEG 2000 take 20, so of
    them only a quarter, and a third, of `pixels` are allowed.
    """

    encoded: int = 20 << 20
    dicom: int = 64 << 20
    pixels: int = 50_000_000
    side: int = 16_384
    frames: int = 4_096
    scans: int = 64
    elements: int = 100_000
    texts: int = 1_024
    characters: int = 65_536


_LARGE = 1 << 22  # pixels; a smaller frame is no bomb
_RATIO = 2_048  # pixels for each byte; a blank picture has a few hundred


def broken(why: str, *, code: str = "image_parse_error") -> InvalidImage:
    """Make the error for a file that is broken, hostile or of a kind that is not taken."""
    return InvalidImage(why, code=code)


def check_size(width: int, height: int, limits: Limits, *, weight: int = 1) -> None:
    """Refuse a frame of `width` x `height` pixels that is empty or over `limits`, each pixel counted `weight` times.

    Raises:
        InvalidImage: it is.
    """
    if width < 1 or height < 1:
        raise broken(f"the image claims to be {width} x {height} pixels; send one that is at least 1 x 1")
    if width > limits.side or height > limits.side or width * height * weight > limits.pixels:
        raise broken(
            f"the image claims to be {width} x {height} pixels; send one of at most "
            f"{limits.pixels // weight} pixels and "
            f"{limits.side} on a side",
            code="image_too_large",
        )


def check_ratio(width: int, height: int, size: int) -> None:
    """Refuse a large frame that `size` bytes hold, where these are fewer than any true picture takes.

    Raises:
        InvalidImage: they are.
    """
    if width * height > _LARGE and width * height > size * _RATIO:
        raise broken(f"the image claims {width} x {height} pixels in {size} bytes, as a bomb does; save the image anew")


def check_frames(frames: int, limits: Limits) -> None:
    """Refuse a file of more frames than `limits` allow.

    Raises:
        InvalidImage: there are more.
    """
    if frames > limits.frames:
        raise broken(
            f"the file holds {frames} frames; send one of at most {limits.frames}, or the frame that is asked about",
            code="image_too_large",
        )
