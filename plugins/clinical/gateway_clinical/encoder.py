"""The sentence encoder that finds near demonstrations: all-MiniLM-L6-v2 (Apache-2.0), as published, in int8 ONNX.

It is the encoder before any training on intent: what a question is about, not what it wants, decides what is near.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent / "weights"
FILES = ("encoder.onnx", "tokenizer.json")
TOKENS = 128
"""A longer text is read by its last `TOKENS` tokens: the question stands at the end."""
CHARACTERS = 4096
"""Characters from the end of a text that are cut into tokens; ordinary prose has four or five in a token."""

Vectors = npt.NDArray[np.float32]


class Encoder:
    """Turns a text into a unit vector of 384 dimensions. Safe to share between threads."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Load the encoder; ValueError where it can not be."""
        import onnxruntime
        from tokenizers import Tokenizer

        hint = "install the package again, or make the files with `python -m gateway_intent.export`"
        try:
            weights, words = ((folder / name).read_bytes() for name in FILES)
            self._tokenizer = Tokenizer.from_str(words.decode())
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            # Threads that spin while they wait would take the cores from the requests beside this one.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise ValueError(f"`{error.filename}` can not be read: {hint}") from error
        except Exception as error:  # both libraries raise kinds of their own
            raise ValueError(f"the encoder in `{folder}` can not be loaded: {hint}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._first, self._last = (self._tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        self.sha256 = hashlib.sha256(weights + words).hexdigest()

    def encode(self, text: str) -> Vectors:
        """Give the vector of `text`, (384,). Unpaired surrogates are replaced."""
        clean = text.encode("utf-8", "replace").decode()
        tail = " ".join(clean.split())[-CHARACTERS:]
        body = self._tokenizer.encode(tail, add_special_tokens=False).ids[-TOKENS:]
        ids = np.asarray([[self._first, *body, self._last]], np.int64)
        vector: Vectors = self._session.run(None, {"input_ids": ids})[0][0]
        return vector
