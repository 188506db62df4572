"""Bring the samples of a DICOM frame to 8 bits as a viewer would: modality LUT, then VOI LUT or window (PS3.3 C.11)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.images.dicom_frame import Frame
from gateway.images.dicom_texts import items
from gateway.images.limits import broken

_CHUNK = 1 << 20  # samples at a time, so that indices of 8 bytes take no memory to speak of
_LOW, _HIGH = 0.5, 99.5  # percentiles that are shown as black and white where the file names no window
_Tone = Callable[[NDArray[Any]], NDArray[np.float64]]


def _first(value: Any) -> float | None:
    """Give the first number of a tag, None where it is none."""
    if value is not None and not isinstance(value, str | bytes | int | float) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _groups(data: Any, frame: Frame, keyword: str) -> list[Any]:
    """Give the data sets that may hold an attribute of the frame, the most specific first (PS3.3 C.7.6.16)."""
    found: list[Any] = []
    for place, item in enumerate(items(data, "PerFrameFunctionalGroupsSequence")):
        if place == frame.index:
            found += items(item, keyword)
            break
    for item in items(data, "SharedFunctionalGroupsSequence"):
        found += items(item, keyword)
    return [*found, data]


def _table(descriptor: Any, entries: Any, frame: Frame) -> tuple[int, int, NDArray[Any]]:
    """Read a lookup table: first value mapped, bits of an entry, entries (PS3.3 C.7.6.3.1.5, C.11.1.1)."""
    count, first, bits = (int(value) for value in descriptor)
    count = count or 1 << 16
    if frame.signed and first >= 1 << 15:
        first -= 1 << 16
    if isinstance(entries, bytes):
        kind = "u1" if len(entries) < 2 * count else (">u2" if frame.big else "<u2")
        table = np.frombuffer(entries, dtype=kind)
    else:
        table = np.atleast_1d(np.asarray(entries, dtype=np.int64)) & 0xFFFF
    if not 0 < count <= min(len(table), 1 << 16) or not 8 <= bits <= 16:
        raise broken("a lookup table of the DICOM file is truncated or lies; save the image anew")
    return first, bits, table[:count]


def _look_up(values: NDArray[Any], first: int, table: NDArray[Any]) -> NDArray[np.float64]:
    places = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)
    return np.asarray(table[places], dtype=np.float64)


def _modality(data: Any, frame: Frame) -> _Tone:
    """Make the modality transformation: stored values to the modality's units."""
    for group in _groups(data, frame, "PixelValueTransformationSequence"):
        for item in items(group, "ModalityLUTSequence"):
            first, _, table = _table(item.LUTDescriptor, item.LUTData, frame)
            return lambda values: _look_up(values, first, table)
        slope, intercept = _first(group.get("RescaleSlope")), _first(group.get("RescaleIntercept"))
        if slope is not None and intercept is not None and slope != 0:
            return lambda values: values * slope + intercept
    return lambda values: values.astype(np.float64)


def _window(centre: float, width: float, function: str) -> _Tone:
    """Make a window to 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return lambda values: 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    if function == "LINEAR_EXACT":
        return lambda values: np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    span = max(width - 1.0, 1e-6)
    return lambda values: np.clip((values - (centre - 0.5)) / span + 0.5, 0.0, 1.0)


def _voi(data: Any, frame: Frame) -> _Tone | None:
    """Make the values-of-interest transformation to 0..1; None where the file names none that can work."""
    for group in _groups(data, frame, "FrameVOILUTSequence"):
        for item in items(group, "VOILUTSequence"):
            first, bits, table = _table(item.LUTDescriptor, item.LUTData, frame)
            top = float(max((1 << bits) - 1, 1))
            return lambda values: np.clip(_look_up(values, first, table) / top, 0.0, 1.0)
        centre, width = _first(group.get("WindowCenter")), _first(group.get("WindowWidth"))
        function = str(group.get("VOILUTFunction", "") or "LINEAR").strip().upper()
        if centre is not None and width is not None and width >= (1.0 if function == "LINEAR" else 1e-9):
            return _window(centre, width, function)
    return None


def _percentiles(values: NDArray[Any], data: Any, modality: _Tone) -> _Tone:
    """Make a window from the frame's own values, its padding left out."""
    padding = data.get("PixelPaddingValue")
    flat = values.reshape(-1)
    if isinstance(padding, int):
        kept = flat[flat != padding]
        flat = kept if kept.size else flat
    step = max(flat.size // (4 * _CHUNK), 1)
    low, high = (float(value) for value in np.percentile(modality(flat[::step]), (_LOW, _HIGH)))
    if high <= low:
        low, high = float(modality(flat.min()[None])[0]), float(modality(flat.max()[None])[0])
        low, high = min(low, high), max(low, high)
    span = max(high - low, 1e-12)
    return lambda shown: np.clip((shown - low) / span, 0.0, 1.0)


def _map(values: NDArray[Any], tone: Callable[[NDArray[Any]], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Apply `tone` to each sample, by a table where there are few distinct ones."""
    out = np.empty(values.size, dtype=np.uint8)
    flat = values.reshape(-1)
    low, high = int(flat.min()), int(flat.max())
    table = tone(np.arange(low, high + 1)) if high - low < 1 << 17 else None
    for start in range(0, flat.size, _CHUNK):
        piece = flat[start : start + _CHUNK].astype(np.int64)
        out[start : start + _CHUNK] = tone(piece) if table is None else table[piece - low]
    return out.reshape(values.shape)


def _pick(first: int, table: NDArray[np.uint8], values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(table[np.clip(values - first, 0, len(table) - 1)], dtype=np.uint8)


def _palette(values: NDArray[Any], data: Any, frame: Frame) -> NDArray[np.uint8]:
    """Look up PALETTE COLOR (PS3.3 C.7.9)."""
    if "RedPaletteColorLookupTableData" not in data:
        raise broken("the DICOM file's palette is segmented or absent; send the image as RGB")
    out = np.empty((*values.shape, 3), dtype=np.uint8)
    for place, colour in enumerate(("Red", "Green", "Blue")):
        descriptor = data[f"{colour}PaletteColorLookupTableDescriptor"].value
        first, bits, table = _table(descriptor, data[f"{colour}PaletteColorLookupTableData"].value, frame)
        wide = table.astype(np.int64)
        shift = 8 if bits > 8 and int(wide.max()) > 0xFF else 0
        narrow = (wide >> shift).astype(np.uint8)
        out[..., place] = _map(values, functools.partial(_pick, first, narrow))
    return out


def to_8_bits(values: NDArray[Any], data: Any, frame: Frame) -> NDArray[np.uint8]:
    """Give the frame in 8 bits of grey, or RGB.

    Grey goes through the modality LUT and then the VOI LUT or, failing that, the first window. Where the file names
    neither, 8-bit samples without a rescale stay as they are, and others are stretched between their 0.5th and 99.5th
    percentile, padding left out. MONOCHROME1 is inverted last, so that more is always brighter.

    Raises:
        InvalidImage: a lookup table is broken.
    """
    if frame.samples == 3:
        shift = max(frame.stored - 8, 0)
        return np.ascontiguousarray(values if not shift else (values >> shift), dtype=np.uint8)
    if frame.photometric == "PALETTE COLOR":
        return _palette(values, data, frame)
    modality, voi = _modality(data, frame), _voi(data, frame)
    if voi is None:
        rescaled = any(_first(group.get("RescaleSlope")) is not None for group in _groups(data, frame, ""))
        if frame.stored <= 8 and not frame.signed and not rescaled and "ModalityLUTSequence" not in data:
            top = float((1 << frame.stored) - 1)
            modality, voi = (lambda shown: shown.astype(np.float64)), (lambda shown: np.clip(shown / top, 0.0, 1.0))
        else:
            voi = _percentiles(values, data, modality)
    invert = frame.photometric == "MONOCHROME1"

    def tone(stored: NDArray[Any]) -> NDArray[np.uint8]:
        grey = np.rint(np.nan_to_num(voi(modality(stored))) * 255.0).astype(np.uint8)
        return 255 - grey if invert else grey

    with np.errstate(all="ignore"):  # a hostile slope overflows
        return _map(values, tone)
