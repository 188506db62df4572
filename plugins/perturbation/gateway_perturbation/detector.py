"""From the bytes of an image to the score of adversarial noise in it."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway_perturbation.loading import Rules, Weights
from gateway_perturbation.signs import SMALLEST, signs

MAX_PIXELS = 25_000_000
"""An image of more pixels is not judged: decoding it alone would take most of a second."""
_FAR = 6.0  # standard deviations beyond which a sign says no more


class Unfit(Exception):
    """The image is too small or too large to be judged. `args[0]` is the note that says so."""


class Detector:
    """Judges one image at a time. One instance serves several threads."""

    def __init__(self, weights: Weights, *, threads: int) -> None:
        self._session = session(weights.encoder, threads)
        self._arrays = weights.arrays
        self._rules = weights.rules
        cv2.setNumThreads(threads)

    def score(self, data: bytes, size: tuple[int, int]) -> float:
        """Judge the PNG or JPEG file `data` of `size` (width, height): a score in 0..1.

        Raises:
            Unfit: the image is too small or too large.
            ValueError: it is no image.
        """
        if size[0] * size[1] > MAX_PIXELS:
            raise Unfit("too-large")
        if min(size) < SMALLEST:
            raise Unfit("too-small")
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise ValueError("not an image")
        pixels = np.ascontiguousarray(decoded[..., ::-1])
        if min(pixels.shape[:2]) < SMALLEST:
            raise Unfit("too-small")
        return scored(float(sums(signs(pixels, self._session)[None], self._arrays)[0]), self._rules)


def session(model: bytes, threads: int) -> Any:
    """Load the encoder."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def sums(found: NDArray[np.float64], arrays: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Give the detector's sum for each row of signs: (samples, SIGNS) to (samples,).

    A standardised sign beyond `_FAR` counts as `_FAR`: no single number may decide by being absurd.
    """
    scaled = np.clip((found - arrays["centre"]) / arrays["spread"], -_FAR, _FAR)
    hidden = np.tanh(scaled @ arrays["first"] + arrays["first_bias"])
    return np.asarray(hidden @ arrays["second"] + arrays["second_bias"], np.float64)


def scored(value: float, rules: Rules) -> float:
    """Turn the detector's sum into a score in 0..1."""
    return 1 / (1 + math.exp(-min(60.0, max(-60.0, rules.slope * (value - rules.cut)))))
