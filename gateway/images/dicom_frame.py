"""Decode one frame of a DICOM image to an array of samples, and no other frame."""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from gateway.images.containers import walk_jpeg
from gateway.images.limits import Limits, broken, check_ratio, check_size

_EXPLICIT, _EXPLICIT_BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_JPEG, _J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
_FRAGMENTS = 65_536
_TILES = 4_096  # of a JPEG 2000 frame; the decoder keeps kilobytes for each
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)


class Frame(Struct, frozen=True, kw_only=True):
    """How a frame is laid out: PS3.3 C.7.6.3. `index` (0-based) is the one of `frames` that is shown."""

    rows: int
    columns: int
    frames: int
    index: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    planar: bool
    photometric: str
    big: bool
    coding: Literal["jpeg", "j2k", "rle"] | None


def _fragments(value: bytes) -> tuple[list[int], list[tuple[int, int]]]:
    """Give the Basic Offset Table, and each fragment's offset and length after it (PS3.5 A.4)."""
    found: list[tuple[int, int]] = []
    place = 0
    while place + 8 <= len(value):
        group, element, length = struct.unpack_from("<HHI", value, place)
        if (group, element) == _END:
            break
        if (group, element) != _ITEM or length > len(value) - place - 8:
            raise broken("a fragment of the compressed pixel data is truncated or lies; send the whole file")
        found.append((place + 8, length))
        if len(found) > _FRAGMENTS:
            raise broken(f"the compressed pixel data has more than {_FRAGMENTS} fragments; send one image")
        place += 8 + length
    if len(found) < 2:
        raise broken("the compressed pixel data holds no fragment; send the whole file")
    start, length = found[0]
    return list(struct.unpack_from(f"<{length // 4}I", value, start)), found[1:]


def _coded_frame(value: bytes, frame: Frame) -> bytes:
    """Give the bytes of the frame that is shown: a fragment each, by the offset table, or where a new image begins."""
    table, parts = _fragments(value)
    base = parts[0][0] - 8
    if frame.frames == 1:
        chosen = parts
    elif len(parts) == frame.frames:
        chosen = parts[frame.index : frame.index + 1]
    else:
        starts = [base + offset for offset in table]
        if len(starts) != frame.frames:
            heads = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
            starts = [start - 8 for start, _ in parts if value[start : start + 4].startswith(heads)]
        if len(starts) != frame.frames:
            raise broken("the compressed pixel data holds another number of frames than the header says")
        end = starts[frame.index + 1] if frame.index + 1 < frame.frames else len(value)
        chosen = [part for part in parts if starts[frame.index] <= part[0] - 8 < end]
    return b"".join(value[start : start + length] for start, length in chosen)


def _check_j2k(coded: bytes, frame: Frame, limits: Limits) -> None:
    """Check the SIZ segment of a JPEG 2000 codestream against the header (ITU-T T.800 A.5.1)."""
    if not coded.startswith(b"\xff\x4f\xff\x51") or len(coded) < 42:
        raise broken("the JPEG 2000 frame is no codestream; send the file as Explicit VR Little Endian")
    check_size(frame.columns, frame.rows, limits, weight=frame.samples)
    check_ratio(frame.columns, frame.rows, len(coded))
    right, low, left, top, wide, high, shift, drop, parts = struct.unpack_from(">8IH", coded, 8)
    if right - left != frame.columns or low - top != frame.rows or parts != frame.samples or not wide or not high:
        raise broken("the JPEG 2000 frame has another size than the DICOM header says; save the image anew")
    if -(-(right - shift) // wide) * -(-(low - drop) // high) > _TILES:
        raise broken(f"the JPEG 2000 frame has more than {_TILES} tiles; save the image anew")
    for place in range(42, 42 + 3 * parts, 3):
        if coded[place : place + 1] and (coded[place] & 0x7F) + 1 > 16:
            raise broken("the JPEG 2000 frame has more than 16 bits for each sample; send one of at most 16")


def _unpack_bits(coded: bytes, size: int) -> bytes:
    """Undo one segment of DICOM's run-length encoding (PS3.5 G.3), and stop at `size` bytes."""
    out, place = bytearray(), 0
    while len(out) < size:
        if place + 1 >= len(coded):
            raise broken("the RLE frame ends before its last pixel; send the whole file")
        mark = coded[place]
        if mark < 128:
            out += coded[place + 1 : place + 2 + mark]
            place += mark + 2
        else:
            if mark > 128:
                out += coded[place + 1 : place + 2] * (257 - mark)
                place += 1
            place += 1
    return bytes(out[:size])


def _unpack_rle(coded: bytes, frame: Frame) -> bytes:
    """Undo run-length encoding to native little-endian planes, colour by plane (PS3.5 G.2)."""
    width = frame.allocated // 8
    if len(coded) < 64 or frame.allocated < 8:
        raise broken("the RLE frame has no header; send the whole file")
    count, *offsets = struct.unpack_from("<16I", coded)
    if count != width * frame.samples:
        raise broken("the RLE frame has another number of segments than the DICOM header says; save the image anew")
    ends = [*offsets[1:count], len(coded)]
    size = frame.rows * frame.columns
    planes = np.empty((frame.samples, size, width), dtype=np.uint8)
    for place in range(count):
        segment = coded[offsets[place] : ends[place]]
        plain = _unpack_bits(segment, size)
        planes[place // width, :, width - 1 - place % width] = np.frombuffer(plain, dtype=np.uint8)
    return planes.tobytes()


def read_frame(data: Any, frame: Frame, limits: Limits) -> NDArray[Any]:
    """Decode the frame that is shown to an array of (rows, columns) or (rows, columns, 3); colour comes as RGB.

    Raises:
        InvalidImage: the pixel data is shorter than the header says, or compressed in another way than it says.
    """
    element = data["PixelData"]
    value: bytes = element.value
    options: dict[str, Any] = {
        "rows": frame.rows,
        "columns": frame.columns,
        "samples_per_pixel": frame.samples,
        "bits_allocated": frame.allocated,
        "bits_stored": frame.stored,
        "pixel_representation": int(frame.signed),
        "photometric_interpretation": frame.photometric,
        "planar_configuration": int(frame.planar),
        "pixel_keyword": "PixelData",
        "number_of_frames": frame.frames,
        "pixel_vr": "OB" if element.VR == "OB" else "OW",
    }
    if frame.coding is None:
        bits = frame.rows * frame.columns * frame.samples * frame.allocated
        if frame.photometric == "YBR_FULL_422":
            bits = bits * 2 // 3
        if len(value) < -(-bits * frame.frames // 8):
            raise broken(
                f"the DICOM header claims {frame.frames} x {frame.rows} x {frame.columns} pixels and the file does not "
                "hold them; send the whole file"
            )
        array, _ = get_decoder(_EXPLICIT_BIG if frame.big else _EXPLICIT).as_array(value, index=frame.index, **options)
        return np.asarray(array)
    coded = _coded_frame(value, frame)
    options["number_of_frames"] = 1
    if frame.coding == "rle":
        options["planar_configuration"] = 1
        array, _ = get_decoder(_EXPLICIT).as_array(_unpack_rle(coded, frame), index=0, **options)
        return np.asarray(array)
    if frame.coding == "jpeg":
        container = walk_jpeg(coded, limits, what="JPEG frame")
        if (container.width, container.height) != (frame.columns, frame.rows):
            raise broken("the JPEG frame has another size than the DICOM header says; save the image anew")
        coded = container.data
    else:
        _check_j2k(coded, frame, limits)
    array, _ = get_decoder(_JPEG if frame.coding == "jpeg" else _J2K).as_array(encapsulate([coded]), index=0, **options)
    return np.asarray(array)
