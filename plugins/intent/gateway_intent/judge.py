"""From text to verdict: tokens, windows, the encoder in onnxruntime, and the calibrated head."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gateway_intent.loading import Weights
from gateway_intent.together import Ids, Together, Vector, cores

CACHE = 4096
"""How many windows are remembered; assistant and system turns come back with each request of a conversation."""
MAX_UNKNOWN = 0.3
"""The share of unknown tokens above which a text is not read."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What one window was judged to be.

    `risk` and `clinical` are probabilities; `categories` sums to 1 over the head's labels, `techniques` over its
    techniques.
    """

    risk: float
    categories: tuple[float, ...]
    clinical: float
    techniques: tuple[float, ...]


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(value, -60, 60))))


def _softmax(logits: npt.NDArray[np.float32]) -> tuple[float, ...]:
    shifted = np.exp(logits - logits.max())
    return tuple(float(value) for value in shifted / shifted.sum())


class Judge:
    """A loaded encoder and head. Safe to share between threads, whose windows of one length run in one batch."""

    def __init__(self, weights: Weights, *, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self.head = weights.head
        self.labels = weights.head.labels
        self.digest = weights.digest
        try:
            self._tokenizer = Tokenizer.from_str(weights.tokenizer.decode())
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            # Threads that spin while they wait would take the cores from the requests beside this one.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = onnxruntime.InferenceSession(weights.encoder, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # both libraries raise kinds of their own
            raise ValueError(
                "the encoder or its tokenizer can not be loaded: restore the weights or train them again"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._first, self._last, self._unknown = self._special("[CLS]"), self._special("[SEP]"), self._special("[UNK]")
        heads = (self.head.risk, self.head.clinical, self.head.category, self.head.technique)
        self._weight = np.concatenate([np.asarray(head.weight, np.float32) for head in heads]).T
        self._bias = np.concatenate([np.asarray(head.bias, np.float32) for head in heads])
        self._cache: OrderedDict[Ids, Verdict] = OrderedDict()
        self._lock = threading.Lock()
        self._together = Together(self.encode, runs=max(1, cores() // threads))

    def _special(self, token: str) -> int:
        number: int | None = self._tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(f"the tokenizer has no `{token}`: restore the weights or train them again")
        return number

    def warm(self) -> None:
        """Run once at each of a few lengths, so that the first request does not pay for allocation."""
        for length in (8, 32, self.head.window):
            self.embed((self._first,) * length)

    def tokens(self, text: str) -> Ids:
        """Give the token ids of `text` without special tokens. Unpaired surrogates are replaced."""
        clean = text.encode("utf-8", "replace").decode()
        return tuple(self._tokenizer.encode(clean, add_special_tokens=False).ids)

    def knows(self, ids: Ids) -> bool:
        """Say whether the tokens are mostly ones that the encoder has a vector for."""
        return ids.count(self._unknown) <= MAX_UNKNOWN * len(ids)

    def windows(self, ids: Ids) -> Iterator[Ids]:
        """Cut tokens into overlapping windows of the encoder's length, special tokens added."""
        body = self.head.window - 2
        step = body - self.head.overlap
        for start in range(0, max(1, len(ids) - self.head.overlap), step):
            yield (self._first, *ids[start : start + body], self._last)

    def count(self, ids: Ids) -> int:
        """Give the number of windows that `ids` would take."""
        step = self.head.window - 2 - self.head.overlap
        return max(1, -(-(len(ids) - self.head.overlap) // step))

    def encode(self, windows: Sequence[Ids]) -> list[Vector]:
        """Run the encoder on windows of one length: a unit vector for each, the same whatever runs beside it."""
        ids = np.asarray(windows, np.int64)
        (vectors,) = self._session.run(None, {"input_ids": ids})
        return list(vectors)

    def embed(self, window: Ids) -> Vector:
        """Run the encoder on one window, together with others of its length that wait: a unit vector."""
        return self._together.run(window)

    def verdict(self, window: Ids) -> Verdict:
        """Judge one window, from the cache if it was judged before."""
        with self._lock:
            known = self._cache.get(window)
            if known is not None:
                self._cache.move_to_end(window)
                return known
        logits = self.embed(window) @ self._weight + self._bias
        head, last = self.head, 2 + len(self.labels)
        found = Verdict(
            risk=_sigmoid(head.slope * float(logits[0]) + head.offset),
            clinical=_sigmoid(head.clinical_slope * float(logits[1]) + head.clinical_offset),
            categories=_softmax(logits[2:last]),
            techniques=_softmax(logits[last:]),
        )
        with self._lock:
            self._cache[window] = found
            while len(self._cache) > CACHE:
                self._cache.popitem(last=False)
        return found

    def risk(self, text: str) -> float:
        """Give the probability of harm of `text` as it stands: the worst of its windows."""
        return max(self.verdict(window).risk for window in self.windows(self.tokens(text)))
