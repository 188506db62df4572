"""Read a DICOM file within limits: its data elements, which frame to show, and what the header says of it.

pydicom parses; every number that decides how much is read, inflated or decoded is checked before. Source: PS3.3, PS3.5
and PS3.10 of the DICOM standard.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import warnings
import zlib
from typing import Any, Literal

import pydicom.config
from PIL import Image as Pillow
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from gateway.errors import InvalidImage
from gateway.images.dicom_frame import Frame, read_frame
from gateway.images.dicom_texts import Reader, free_texts, number
from gateway.images.dicom_tone import to_8_bits
from gateway.images.limits import Limits, broken, check_frames, check_size
from gateway.images.raster import encode
from gateway.values import Image, Modality

# pydicom's warnings and log lines quote the values of tags. Its validation, which writes most of them, is off: what the
# gateway relies on it checks itself.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

_IMPLICIT, _BIG, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_NATIVE = (_IMPLICIT, "1.2.840.10008.1.2.1", _BIG, _DEFLATED)
_CODED: dict[str, Literal["jpeg", "j2k", "rle"]] = {
    "1.2.840.10008.1.2.4.50": "jpeg",
    "1.2.840.10008.1.2.4.51": "jpeg",
    "1.2.840.10008.1.2.4.90": "j2k",
    "1.2.840.10008.1.2.4.91": "j2k",
    "1.2.840.10008.1.2.5": "rle",
}
_MODALITIES: dict[str, Modality] = {
    "CT": "ct",
    "MR": "mri",
    "US": "ultrasound",
    "CR": "xray",
    "DX": "xray",
    "RF": "xray",
    "XA": "xray",
    "IO": "xray",
    "PX": "xray",
    "MG": "mammography",
    "OP": "fundus",
    "OPT": "oct",
    "ES": "endoscopy",
    "SM": "histopathology",
    "GM": "histopathology",
    "DMS": "dermoscopy",
}
_DERMOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.7"  # Dermoscopic Photography Image Storage
_PIXELS = 0x7FE00010
_PHOTOMETRIC = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
_PYDICOM = r"pydicom(\.|$)"
_TRAILER = 8  # bytes; some writers put a checksum and a length behind a deflated data set
_TAIL = "the DICOM data set is cut off, or bytes that are no DICOM follow it; send the whole file and nothing behind it"
_UID = re.compile(r"[0-9.]{1,64}")


def _silence() -> None:
    """Keep pydicom's warnings quiet, whoever has reset the filters since."""
    action, _, _, module, _ = next(iter(warnings.filters), (None, None, None, None, 0))
    if action != "ignore" or getattr(module, "pattern", "") != _PYDICOM:
        warnings.filterwarnings("ignore", module=_PYDICOM)


def _inflate(raw: bytes, start: int, limits: Limits) -> bytes:
    """Inflate a deflated data set, measuring it first in constant memory."""
    for keep in (False, True):
        stream, size, data, out = zlib.decompressobj(-zlib.MAX_WBITS), 0, raw[start:], io.BytesIO()
        while data and not stream.eof:
            piece = stream.decompress(data, 1 << 16)
            size += len(piece)
            if size > limits.dicom:
                raise broken(f"the DICOM file inflates to more than {limits.dicom} bytes", code="image_too_large")
            if keep:
                out.write(piece)
            data = stream.unconsumed_tail
    if not stream.eof or len(stream.unused_data.rstrip(b"\x00")) > _TRAILER:
        raise broken("the deflated DICOM data set is truncated, or bytes follow it; send the whole file")
    return out.getvalue()


def _transfer_syntax(meta: Any) -> str:
    uid = str(meta.get("TransferSyntaxUID", "")).strip("\x00 ")
    if uid in _NATIVE or uid in _CODED:
        return uid
    if not _UID.fullmatch(uid):
        raise broken("the DICOM file names no transfer syntax; send it with its file meta information")
    known = UID(uid).name
    name = uid if known == uid else f"{known} ({uid})"
    raise broken(
        f"the transfer syntax `{name}` is not taken; send the file as Explicit VR Little Endian, RLE, JPEG baseline or "
        "JPEG 2000"
    )


def _check_whole(data: Any, raw: bytes, end: int) -> None:
    """Refuse a data set that is cut off, or has something else behind it."""
    last = -1
    for tag in data.keys():  # noqa: SIM118 -- iterating the data set would convert every element
        element = data.get_item(tag, keep_deferred=True)
        length = getattr(element, "length", 0xFFFFFFFF)
        if tag == 0 and not raw[element.value_tell - 8 :].strip(b"\x00"):
            del data[tag]
            return
        if tag <= last:
            raise broken(_TAIL)
        last = int(tag)
        if length != 0xFFFFFFFF and length != len(element.value or b""):
            raise broken(
                f"a data element claims {length} bytes where {len(element.value or b'')} are left: the DICOM file is "
                "truncated or lies; send the whole file"
            )
        if tag > _PIXELS and getattr(element, "VR", "OB") is None and not element.is_implicit_VR:
            raise broken(_TAIL)
    if raw[end:].strip(b"\x00"):
        raise broken(_TAIL)


def _read(raw: bytes, limits: Limits) -> tuple[Any, str]:
    """Parse the file to a pydicom ``Dataset``, and give its transfer syntax."""
    reader = Reader(raw, limits.elements)
    reader.seek(132)
    meta = read_dataset(reader, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    syntax = _transfer_syntax(meta)
    if syntax == _DEFLATED:
        raw = _inflate(raw, reader.tell(), limits)
        reader = Reader(raw, limits.elements)
    data = read_dataset(reader, syntax == _IMPLICIT, syntax != _BIG)
    _check_whole(data, raw, reader.tell())
    return data, syntax


def _frame_of(data: Any, syntax: str, limits: Limits) -> Frame:
    """Read and check what decides the size and layout of a frame; the middle one is shown."""
    if "PixelData" not in data:
        kind = "floating-point" if "FloatPixelData" in data or "DoubleFloatPixelData" in data else "no"
        raise broken(f"the DICOM file holds {kind} pixel data; send an image of 1 to 32 bits for each sample")
    rows, columns = number(data, "Rows", 0), number(data, "Columns", 0)
    check_size(columns, rows, limits)
    frames = number(data, "NumberOfFrames", 1) if data.get("NumberOfFrames") not in (None, "") else 1
    if frames < 1:
        raise broken("the DICOM file claims to hold no frame; send one that holds an image")
    check_frames(frames, limits)
    photometric = str(data.get("PhotometricInterpretation", "")).strip()
    samples = number(data, "SamplesPerPixel", 1)
    allocated = number(data, "BitsAllocated", 0)
    stored = number(data, "BitsStored", allocated)
    if _PHOTOMETRIC.get(photometric) != samples:
        raise broken("the DICOM file's photometric interpretation is not taken, or contradicts its samples per pixel")
    if allocated not in (1, 8, 16, 32) or not 1 <= stored <= allocated or (samples == 3 and allocated not in (8, 16)):
        raise broken("the DICOM file's bits per sample are not taken; send 1, 8, 16 or 32, of colour 8 or 16")
    return Frame(
        rows=rows,
        columns=columns,
        frames=frames,
        index=frames // 2,
        samples=samples,
        allocated=allocated,
        stored=stored,
        signed=number(data, "PixelRepresentation", 0) == 1,
        planar=number(data, "PlanarConfiguration", 0) == 1,
        photometric=photometric,
        big=syntax == _BIG,
        coding=_CODED.get(syntax),
    )


def _modality(data: Any) -> Modality | None:
    """Read the Modality tag. Photographs (XC) count as dermoscopy only in the dermoscopic storage class."""
    if str(data.get("SOPClassUID", "")) == _DERMOSCOPIC:
        return "dermoscopy"
    return _MODALITIES.get(str(data.get("Modality", "")).strip().upper())


def _burned_in(data: Any) -> Literal["yes", "no", "unknown"]:
    said = str(data.get("BurnedInAnnotation", "")).strip().upper()
    return "yes" if said == "YES" else "no" if said == "NO" else "unknown"


def _decode(raw: bytes, id: str, limits: Limits) -> Image:
    data, syntax = _read(raw, limits)
    frame = _frame_of(data, syntax, limits)
    texts = free_texts(data, id=id, limits=limits)
    shown = to_8_bits(read_frame(data, frame, limits), data, frame)
    picture = Pillow.fromarray(shown)
    coded, media_type = encode(picture, lossy=False)
    return Image(
        id=id,
        data=coded,
        media_type=media_type,
        width=picture.width,
        height=picture.height,
        digest=hashlib.sha256(coded).hexdigest(),
        source="dicom",
        modality=_modality(data),
        burned_in=_burned_in(data),
        frames=frame.frames,
        frame=frame.index,
        texts=texts,
    )


def decode_dicom(raw: bytes, *, id: str, limits: Limits) -> Image:
    """Decode one frame of a DICOM file, the middle one of several, to 8 bits of grey or RGB.

    Raises:
        InvalidImage: it is broken, hostile, over a limit or of a kind that is not taken.
    """
    _silence()
    try:
        return _decode(raw, id, limits)
    except InvalidImage:
        raise
    except Exception:  # noqa: BLE001 -- pydicom raises what it likes on hostile bytes, and its messages quote them
        raise broken("the DICOM file is damaged, or not what its header says; send the whole file") from None
