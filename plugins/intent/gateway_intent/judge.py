"""From text to verdict: tokens, windows, the encoder in onnxruntime, and the calibrated head."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gateway_intent.loading import Weights

CACHE = 4096
"""How many windows are remembered; assistant and system turns come back with each request of a conversation."""
MAX_UNKNOWN = 0.3
"""The share of unknown tokens above which a text is not read."""

Ids = tuple[int, ...]


class Verdict(Struct, frozen=True, kw_only=True):
    """What one window was judged to be. `risk` is a probability; `categories` sums to 1 over the head's labels."""

    risk: float
    categories: tuple[float, ...]


class Judge:
    """A loaded encoder and head. Safe to share between threads.

    Each window runs alone, not in a padded batch: int8 activations are scaled over the whole batch, so a verdict would
    depend on the texts beside it, and on one core a batch gains next to nothing (figures in the card).
    """

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
        self._weight = np.asarray(self.head.risk.weight + self.head.category.weight, np.float32).T
        self._bias = np.asarray(self.head.risk.bias + self.head.category.bias, np.float32)
        self._cache: OrderedDict[Ids, Verdict] = OrderedDict()
        self._lock = threading.Lock()

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

    def embed(self, window: Ids) -> npt.NDArray[np.float32]:
        """Run the encoder on one window: a unit vector of the encoder's dimensions."""
        ids = np.asarray([window], np.int64)
        (vectors,) = self._session.run(None, {"input_ids": ids})
        vector: npt.NDArray[np.float32] = vectors[0]
        return vector

    def verdict(self, window: Ids) -> Verdict:
        """Judge one window, from the cache if it was judged before."""
        with self._lock:
            known = self._cache.get(window)
            if known is not None:
                self._cache.move_to_end(window)
                return known
        logits = self.embed(window) @ self._weight + self._bias
        scaled = self.head.slope * float(logits[0]) + self.head.offset
        shifted = np.exp(logits[1:] - logits[1:].max())
        found = Verdict(
            risk=float(1 / (1 + np.exp(-np.clip(scaled, -60, 60)))),
            categories=tuple(float(value) for value in shifted / shifted.sum()),
        )
        with self._lock:
            self._cache[window] = found
            while len(self._cache) > CACHE:
                self._cache.popitem(last=False)
        return found

    def risk(self, text: str) -> float:
        """Give the probability of harm of `text` as it stands: the worst of its windows."""
        return max(self.verdict(window).risk for window in self.windows(self.tokens(text)))
