"""Reading the text off one image: a look at the whole, then one at its full size, within a bound of time.

Imported only when the stage is built, because it brings in OpenCV and onnxruntime.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway_image_text.annotations import part
from gateway_image_text.engine import STRIDE, Engine, Pixels
from gateway_image_text.layout import Line, blocks
from gateway_image_text.regions import Region, even, find, straighten

MAX_BOXES = 400
"""Lines of one image that are read; with more the image counts as not read. A dense page has about 200."""

_MIN_SCORE = 0.5  # below it the recogniser is guessing
_SURE = 0.85  # below it a line is also tried upside down
_LONGEST = 2.5  # sides of a tile: a longer strip would lose its text when it is scaled down
_OUTLINE = 0.04  # share of the image: a single "letter" larger than this is the outline of a head or a vessel
_ENLARGE = 3.0
_THIN = 32  # pixels: a thinner strip is cut as if it were as wide, or there would be thousands of tiles
_LEGIBLE = 10  # pixels: letters of this font size are found
_SMALLER = 0.8  # an image in which letters are smaller by more than this is looked at closely too
_OVERLAP = 64  # pixels that neighbouring tiles share; of each, the half at the rim is not used
_FLAT = 3  # grey levels: a tile of less contrast holds no letters that a person could read


class Reading(NamedTuple):
    """The text of an image, what a scanner writes kept apart, lines parted by newlines, and what could not be read.

    `crowded` says that there were more lines than are read, `late` that the time was up; `unreadable` counts the lines
    that made no sense.
    """

    text: str = ""
    annotations: str = ""
    crowded: bool = False
    late: bool = False
    unreadable: int = 0

    @property
    def complete(self) -> bool:
        """Say whether all of the image was looked at."""
        return not (self.crowded or self.late)


class Stopped(Exception):
    """The request was given up while its image was being read."""


class _Late(Exception):
    """The time for this image is up."""


class Reader:
    """Finds and reads text. One instance serves several threads."""

    def __init__(self, *, threads: int, max_side: int, smallest: int = 10, seconds: float = math.inf) -> None:
        self._engine = Engine(threads=threads)
        cv2.setNumThreads(threads)
        self._max_side = max_side
        self._scale = min(1.0, _LEGIBLE / smallest)
        self._seconds = seconds
        self._give_back = _trimmer()

    def read(self, data: bytes, stopped: Callable[[], bool] = lambda: False) -> Reading:
        """Read the PNG or JPEG file `data`; raises `Stopped` once `stopped` says so, ValueError for other bytes."""
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError("not an image")
        visit = _Visit(self._engine, np.asarray(pixels, np.uint8), self._max_side, self._scale, self._seconds, stopped)
        try:
            reading = visit.read()
        finally:
            self._give_back(0)  # else the C library keeps some 120 MB of the models' scratch memory
        return reading


class _Visit:
    """One image being read."""

    def __init__(
        self, engine: Engine, pixels: Pixels, side: int, scale: float, seconds: float, stopped: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._pixels = pixels
        self._side = side
        self._scale = scale
        self._end = time.monotonic() + seconds
        self._stopped = stopped
        self._lines: list[Line] = []
        self._turned = {False: False, True: False}  # by `tall`: which way round the last sure line was
        self._unread: list[Region] = []
        self._boxes = 0
        self._crowded = False

    def read(self) -> Reading:
        late = False
        try:
            self._whole()
            if self._side < _SMALLER * self._scale * max(self._pixels.shape[:2]):
                self._closely()
        except _Late:
            late = True
        text, annotations = part(blocks(_without_strays(self._lines)))
        return Reading(text, annotations, self._crowded, late, len(self._unread))

    def _check(self) -> None:
        if self._stopped():
            raise Stopped
        if time.monotonic() > self._end:
            raise _Late

    def _whole(self) -> None:
        """Look at the image scaled to `side`, a strip of it at a time if it is long."""
        for left, top, tile in strips(self._pixels):
            if _flat(tile):
                continue
            self._check()
            view = even(fit(tile, self._side))
            probability = (self._engine.detect(view) * 255).astype(np.uint8)
            at = np.array([left, top], np.float32)
            self._recognise(find(probability, tile.shape[1] / view.shape[1], MAX_BOXES), at)

    def _closely(self) -> None:
        """Look at the image in its full size, tile by tile; their maps are put together, so that no line is cut."""
        pixels = scaled(self._pixels, self._scale)
        height, width = pixels.shape[:2]
        probability = np.zeros((height, width), np.uint8)
        half = _OVERLAP // 2
        for up, down in _spans(height, self._side):
            for left, right in _spans(width, self._side):
                tile = pixels[up:down, left:right]
                if _flat(tile):
                    continue
                self._check()
                seen = (self._engine.detect(even(tile)) * 255).astype(np.uint8)
                y = slice(half * (up > 0), down - up - half * (down < height))
                x = slice(half * (left > 0), right - left - half * (right < width))
                probability[up:down, left:right][y, x] = seen[y, x]
        self._recognise(find(probability, self._pixels.shape[1] / width, MAX_BOXES), np.zeros(2, np.float32))

    def _recognise(self, regions: list[Region], at: NDArray[np.float32]) -> None:
        """Read what stands in `regions`, which lie at `at` in the image, except where it was read before."""
        before = list(self._lines)
        for region in regions:
            moved = region.moved(at)
            known = [line for line in before if _covers(line.box, moved.box)]
            if any(line.score >= _SURE and moved.high > 0.5 * line.sides[1] for line in known):
                continue
            if self._boxes >= MAX_BOXES:
                self._crowded = True
                return
            self._check()
            self._boxes += 1
            line = self._read_line(moved)
            if self._outline(line):
                continue
            if line.score < _MIN_SCORE or not line.text.strip():
                self._unread.append(moved)
                continue
            # Only what an earlier look saw is the same text: bent lines of one look may well overlap.
            twice = [old for old in before if _covers(line.box, old.box) or any(old is one for one in known)]
            if any(old.score >= line.score for old in twice):
                continue
            self._lines = [old for old in self._lines if not any(old is worse for worse in twice)]
            self._lines.append(line)

    def _outline(self, line: Line) -> bool:
        height, width = self._pixels.shape[:2]
        return len(line.text.strip()) == 1 and cv2.contourArea(line.box) > _OUTLINE * height * width

    def _read_line(self, region: Region) -> Line:
        cut = straighten(self._pixels, region)
        first = self._turned[region.tall]
        readings = {}
        for turned in (first, not first):
            way = np.ascontiguousarray(cut[::-1, ::-1]) if turned else cut
            readings[turned] = self._engine.recognise(way)
            if readings[turned][1] >= _SURE or cut.shape[1] < 2 * cut.shape[0]:
                break
        turned = max(readings, key=lambda way: readings[way][1])
        text, score = readings[turned]
        if score >= _SURE and len(text) > 3:
            self._turned[region.tall] = turned
        return Line(region.box, text, score, turned, region.tall)


def _flat(tile: Pixels) -> bool:
    return bool(np.ptp(cv2.blur(tile, (3, 3)), axis=(0, 1)).max() < _FLAT)


def _covers(outer: NDArray[np.float32], inner: NDArray[np.float32]) -> bool:
    """Say whether most of `inner` lies in `outer`, both four corners."""
    if (outer.min(axis=0) > inner.max(axis=0)).any() or (inner.min(axis=0) > outer.max(axis=0)).any():
        return False
    shared, _ = cv2.intersectConvexConvex(outer, inner)
    return shared > 0.6 * cv2.contourArea(inner)


def _without_strays(lines: list[Line]) -> list[Line]:
    """Leave out ideographs that stand alone: a recogniser of many scripts sees them in vessels and bones."""
    alone = [line for line in lines if len(line.text.strip()) == 1 and not line.text.strip().isascii()]
    return [line for line in lines if not any(line is stray for stray in alone)] if len(alone) < 3 else lines


def _trimmer() -> Callable[[int], int]:
    """Give glibc's `malloc_trim`, or nothing to do where the C library is another."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _pad: 0
    return trim


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    """Cut `length` into spans of about `side` pixels that share about `_OVERLAP` with the next: (start, end)."""
    count = max(1, math.ceil((length - _OVERLAP) / (side - _OVERLAP)))
    size = min(length, -(-(length + (count - 1) * _OVERLAP) // count // STRIDE) * STRIDE)
    starts = [round(number * (length - size) / max(1, count - 1)) for number in range(count)]
    return [(start, start + size) for start in starts]


def strips(pixels: Pixels) -> Iterator[tuple[int, int, Pixels]]:
    """Cut a long strip into overlapping pieces, at most `_LONGEST` times as long as wide: (left, top, piece) each."""
    height, width = pixels.shape[:2]
    short, long = max(_THIN, min(height, width)), max(height, width)
    if long <= _LONGEST * short:
        yield 0, 0, pixels
        return
    size = int(_LONGEST * short)
    step = int((_LONGEST - 1) * short)
    for start in range(0, max(1, long - short), step):
        if width > height:
            yield start, 0, pixels[:, start : start + size]
        else:
            yield 0, start, pixels[start : start + size]


def fit(pixels: Pixels, side: int) -> Pixels:
    """Scale so that the longer side is `side` pixels, enlarging at most three times: small letters need it."""
    return scaled(pixels, min(side / max(pixels.shape[:2]), _ENLARGE))


def scaled(pixels: Pixels, factor: float) -> Pixels:
    """Scale both sides by `factor`."""
    if math.isclose(factor, 1.0):
        return pixels
    height, width = (max(1, round(n * factor)) for n in pixels.shape[:2])
    how = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)
