"""Reading text off one image: detection and recognition by rapidocr's PP-OCR models on onnxruntime.

Imported only when the stage is built, because it brings in OpenCV and onnxruntime. Detection is DB (arXiv 1911.08947),
recognition SVTR with CTC (arXiv 2205.00159), as rapidocr packages them; its wheel holds the models, nothing is fetched.
"""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import rapidocr
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Height x width x 3, blue first."""

MAX_BOXES = 400
"""Boxes of one image that are read; with more the image counts as not read. A dense page has about 200."""

_MIN_SCORE = 0.5  # below it the recogniser is guessing
_SURE = 0.85  # below it a line is also tried upside down
_LONGEST = 2.5  # sides of a tile: a longer strip would lose its text when it is scaled down
_OUTLINE = 0.04  # share of the view: a single "letter" larger than this is the outline of a head or a vessel
_ENLARGE = 3.0
_THIN = 32  # pixels: a thinner strip is cut as if it were as wide, or there would be thousands of tiles


class Reading(NamedTuple):
    """The text of an image, lines parted by newlines, and whether everything that was detected has been read."""

    text: str
    complete: bool
    unreadable: int = 0


class Stopped(Exception):
    """The request was given up while its image was being read."""


class Line(NamedTuple):
    """One recognised box: corners clockwise from the top left, in pixels of the view; `turned` counts half turns."""

    box: NDArray[np.float32]
    text: str
    score: float
    turned: bool
    tall: bool


class Reader:
    """Finds and reads text. One instance serves several threads: onnxruntime's sessions may be run at the same time."""

    def __init__(self, *, threads: int, max_side: int) -> None:
        models = Path(rapidocr.__file__).parent / "models"
        detector, recogniser = models / "PP-OCRv6_det_small.onnx", models / "PP-OCRv6_rec_small.onnx"
        for file in (detector, recogniser):
            if not file.is_file():
                raise ValueError(f"`{file.name}` is not in the installed rapidocr: install `rapidocr>=3.10,<4` again")
        logger = logging.getLogger("RapidOCR")
        engine: Any = rapidocr.RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.use_cls": False,
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Det.model_path": str(detector),  # a path given is never fetched
                "Det.limit_type": "max",
                "Det.limit_side_len": max_side,
                "Det.max_candidates": 10 * MAX_BOXES,
                "Rec.model_path": str(recogniser),
                "Rec.rec_batch_num": 1,  # on a CPU no slower than six at once, and a sixth of the memory
            }
        )
        logger.handlers.clear()  # it brings its own handler, and may speak of what it reads
        logger.disabled = True
        cv2.setNumThreads(threads)
        self._max_side = max_side
        self._give_back = _trimmer()
        self._crop: Callable[[Pixels, NDArray[np.float32]], list[Pixels]] = engine.crop_text_regions
        sample = np.full((96, 320, 3), 255, np.uint8)
        cv2.putText(sample, "warm up", (20, 64), cv2.FONT_HERSHEY_SIMPLEX, 1.6, (0, 0, 0), 3)
        engine(sample)  # loads both models
        self._detect: Any = engine.text_det
        self._recognise: Any = engine.text_rec

    def read(self, data: bytes, stopped: Callable[[], bool] = lambda: False) -> Reading:
        """Read the PNG or JPEG file `data`; raises `Stopped` once `stopped` says so, ValueError for other bytes."""
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError("not an image")
        blocks, complete, unreadable = [], True, 0
        for tile in _tiles(np.asarray(pixels, np.uint8)):
            reading = self._read_tile(tile, stopped)
            complete &= reading.complete
            unreadable += reading.unreadable
            if reading.text and reading.text not in blocks:
                blocks.append(reading.text)
        self._give_back(0)  # else the C library keeps some 120 MB of the models' scratch memory
        return Reading("\n".join(blocks), complete, unreadable)

    def _read_tile(self, tile: Pixels, stopped: Callable[[], bool]) -> Reading:
        view = even(fit(tile, self._max_side))
        if stopped():
            raise Stopped
        boxes = self._detect(view).boxes
        if boxes is None:
            return Reading("", True)
        complete = len(boxes) <= MAX_BOXES
        lines, unreadable = [], 0
        for box, crop in zip(boxes[:MAX_BOXES], self._crop(view, boxes[:MAX_BOXES]), strict=True):
            if stopped():
                raise Stopped
            line = self._read_line(box, crop)
            if len(line.text.strip()) == 1 and cv2.contourArea(box) > _OUTLINE * view.shape[0] * view.shape[1]:
                continue
            if line.score >= _MIN_SCORE and line.text.strip():
                lines.append(line)
            else:
                unreadable += 1
        return Reading(in_order(lines), complete, unreadable)

    def _read_line(self, box: NDArray[np.float32], crop: Pixels) -> Line:
        tall = np.linalg.norm(box[0] - box[3]) >= 1.5 * np.linalg.norm(box[0] - box[1])
        text, score = self._recognised(crop)
        if score < _SURE and crop.shape[1] >= 2 * crop.shape[0]:
            other, better = self._recognised(np.ascontiguousarray(np.rot90(crop, 2)))
            if better > score:
                return Line(box, other, better, True, bool(tall))
        return Line(box, text, score, False, bool(tall))

    def _recognised(self, crop: Pixels) -> tuple[str, float]:
        from rapidocr.ch_ppocr_rec import TextRecInput

        result = self._recognise(TextRecInput(img=[crop]))
        return str(result.txts[0]), float(result.scores[0])


def _trimmer() -> Callable[[int], int]:
    """Give glibc's `malloc_trim`, or nothing to do where the C library is another."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _pad: 0
    return trim


def _tiles(pixels: Pixels) -> list[Pixels]:
    """Cut a long strip into overlapping pieces that are at most `_LONGEST` times as long as wide."""
    height, width = pixels.shape[:2]
    short, long = max(_THIN, min(height, width)), max(height, width)
    if long <= _LONGEST * short:
        return [pixels]
    size = int(_LONGEST * short)
    step = int((_LONGEST - 1) * short)
    starts = range(0, max(1, long - short), step)
    return [pixels[:, s : s + size] if width > height else pixels[s : s + size] for s in starts]


def fit(pixels: Pixels, side: int) -> Pixels:
    """Scale so that the longer side is `side` pixels, enlarging at most three times: small letters need it."""
    factor = min(side / max(pixels.shape[:2]), _ENLARGE)
    if math.isclose(factor, 1.0):
        return pixels
    height, width = (max(1, round(n * factor)) for n in pixels.shape[:2])
    how = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)


def even(pixels: Pixels, window: int = 41, floor: float = 8.0, gain: float = 60.0) -> Pixels:
    """Even out brightness and contrast around each pixel, channel by channel, so that faint text stands out.

    Each value becomes its distance from the local mean in local standard deviations over `window` pixels; `floor`, in
    grey levels, keeps noise on plain ground from being blown up.
    """
    values = pixels.astype(np.float32)
    mean = cv2.blur(values, (window, window))
    spread = np.sqrt(np.maximum(cv2.blur(values * values, (window, window)) - mean * mean, 0.0)) + floor
    evened: Pixels = np.clip(128.0 + (values - mean) * (gain / spread), 0, 255).astype(np.uint8)
    return evened


def in_order(lines: list[Line]) -> str:
    """Join recognised boxes in reading order, as the direction of most letters has it; newlines between lines."""
    if not lines:
        return ""
    letters = {(tall, turned): 0 for tall in (False, True) for turned in (False, True)}
    for line in lines:
        letters[line.tall, line.turned] += len(line.text)
    tall, turned = max(letters, key=letters.__getitem__)
    centres = np.array([line.box.mean(axis=0) for line in lines])
    x, y = centres[:, 0], centres[:, 1]
    # (along, down): the direction of reading and of following lines. A tall crop is turned a quarter counter-clockwise
    # before it is read, so text that then stands upright runs downwards, its lines from right to left.
    along, down = {
        (False, False): (x, y),
        (False, True): (-x, -y),
        (True, False): (y, -x),
        (True, True): (-y, x),
    }[tall, turned]
    sizes = [float(np.linalg.norm(line.box[0] - line.box[1 if line.tall else 3])) for line in lines]
    order = np.argsort(down, kind="stable")
    rows: list[list[int]] = []
    for index in order:
        if rows and down[index] - down[rows[-1][0]] < 0.5 * sizes[rows[-1][0]]:
            rows[-1].append(int(index))
        else:
            rows.append([int(index)])
    return "\n".join(" ".join(lines[i].text for i in sorted(row, key=lambda i: along[i])) for row in rows)
