"""The two neural networks of PP-OCR on onnxruntime: where there are letters, and which.

Detection is DB (arXiv 1911.08947), recognition SVTR with CTC (arXiv 2205.00159). The models are files in rapidocr's
wheel; of its code nothing runs, so nothing is fetched, and no log speaks of what is read.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Height x width x 3, blue first."""
Floats = NDArray[np.float32]

HEIGHT = 48
"""Pixels of a line of text as the recogniser takes it."""
STRIDE = 32
"""The detector takes multiples of so many pixels."""
_DETECTOR, _RECOGNISER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"


def _models() -> Path:
    """Find the folder of models in the installed rapidocr, without importing it."""
    spec = importlib.util.find_spec("rapidocr")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        models = Path(folder) / "models"
        if (models / _DETECTOR).is_file() and (models / _RECOGNISER).is_file():
            return models
    raise ValueError(
        f"`{_DETECTOR}` or `{_RECOGNISER}` is not in the installed rapidocr: install `rapidocr>=3.10,<4` again"
    )


class Engine:
    """Both models, loaded. One instance serves several threads: onnxruntime's sessions may be run at the same time."""

    def __init__(self, *, threads: int) -> None:
        models = _models()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # an arena would keep the scratch memory of the largest image
        # Threads that spin while they wait would take the cores from the requests beside this one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._detector = self._load(models / _DETECTOR, options)
        self._recogniser = self._load(models / _RECOGNISER, options)
        letters = self._recogniser.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._letters = ("", *letters, " ")  # CTC's blank first
        self.detect(np.zeros((64, 64, 3), np.uint8))
        self.recognise(np.zeros((HEIGHT, 64, 3), np.uint8))

    @staticmethod
    def _load(file: Path, options: Any) -> Any:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def _run(session: Any, pixels: Pixels) -> Floats:
        batch = pixels.transpose(2, 0, 1)[np.newaxis].astype(np.float32) / np.float32(127.5) - np.float32(1)
        (result,) = session.run(None, {session.get_inputs()[0].name: batch})
        floats: Floats = result
        return floats

    def detect(self, pixels: Pixels) -> Floats:
        """Give for each pixel the probability, in 0..1, that it is in the core of a line of text: height x width."""
        height, width = pixels.shape[:2]
        padded = np.pad(pixels, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), mode="edge")
        return self._run(self._detector, padded)[0, 0, :height, :width]

    def recognise(self, line: Pixels) -> tuple[str, float]:
        """Read one line, `HEIGHT` pixels high; give its text and the mean probability of its letters, in 0..1."""
        steps = self._run(self._recogniser, line)[0]
        best = steps.argmax(axis=1)
        fresh = (best > 0) & np.concatenate(([True], best[1:] != best[:-1]))
        if not fresh.any():
            return "", 0.0
        chosen = best[fresh]
        return "".join(self._letters[n] for n in chosen), float(steps[fresh, chosen].mean())
