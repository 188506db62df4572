"""A loaded model: its words, and its memory of sequences of tokens. Everything here blocks."""

from __future__ import annotations

import ctypes
import re
from ctypes import c_int32
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway_llama_cpp.library import Batch, library

LONGEST = 512
"""The most tokens of one `Model.run`."""

MOST_CONTEXT = 8192
"""Tokens of a sequence where a configuration does not say: memory for them is taken at once."""

_UNKNOWN, _CONTROL, _USER = 1, 8, 16
"""Attributes of tokens that llama.cpp reads out of a text as one (``llama_token_attr``)."""


class DecodeFailed(Exception):
    """llama.cpp could not run a batch. The message has its code."""


class Place(Struct, frozen=True, kw_only=True):
    """A token to run: after `at` others of the sequence `sequence`. `told` asks for what may come after it."""

    token: int
    at: int
    sequence: int
    told: bool = False


class Model:
    """A GGUF file, ready to run. `context` is how many tokens each of its `sequences` (numbered from 0) may have."""

    def __init__(self, path: Path, *, context: int | None, sequences: int, threads: int) -> None:
        self._lib = library()
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self._model: int | None = self._lib.llama_model_load_from_file(str(path).encode(), params)
        self._context: int | None = None
        if not self._model:
            raise ValueError(f"`{path}` can not be read as a gguf file of a model that llama.cpp knows")
        try:
            self._begin(path, context or MOST_CONTEXT, sequences, threads)
        except BaseException:
            self.close()
            raise

    def _begin(self, path: Path, context: int, sequences: int, threads: int) -> None:
        lib, model = self._lib, self._model
        if lib.llama_model_has_encoder(model) or not lib.llama_model_has_decoder(model):
            raise ValueError(f"`{path}` is not a model that writes text; give one that was tuned for chat")
        self._vocab = lib.llama_model_get_vocab(model)
        self.words: int = lib.llama_vocab_n_tokens(self._vocab)
        self.context: int = min(lib.llama_model_n_ctx_train(model), context)
        params = lib.llama_context_default_params()
        params.n_ctx = self.context * sequences
        params.n_batch = params.n_ubatch = params.n_outputs_max_per_seq = LONGEST
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        # each sequence has cells of its own: what it computes then does not depend on where its neighbours' cells lie
        params.kv_unified = False
        self._context = lib.llama_init_from_model(model, params)
        if not self._context or lib.llama_n_ctx_seq(self._context) < self.context:
            raise ValueError(f"there is no memory to run `{path}`; lower `context` or `batch`")
        self._memory = lib.llama_get_memory(self._context)
        self._batch = _Batch(LONGEST)

    def close(self) -> None:
        """Free all memory. May be called twice."""
        if self._context:
            self._lib.llama_free(self._context)
        if self._model:
            self._lib.llama_model_free(self._model)
        self._context = self._model = None

    @property
    def template(self) -> str:
        """Give the chat template that the file brings, empty where it brings none."""
        found: bytes | None = self._lib.llama_model_chat_template(self._model, None)
        return (found or b"").decode("utf-8", "replace")

    def word(self, kind: str) -> str:
        """Give the text of the token that begins (`bos`) or ends (`eos`) a text, empty where there is none."""
        token: int = getattr(self._lib, f"llama_vocab_{kind}")(self._vocab)
        return self._text(token) if token >= 0 else ""

    def controls(self) -> re.Pattern[str]:
        """Make the pattern of every text that would be read as one control token."""
        marks = set()
        for token in range(self.words):
            kind = self._lib.llama_vocab_get_attr(self._vocab, token)
            if kind & (_CONTROL | _UNKNOWN | _USER):
                text = self._text(token)
                # runs of spaces and the like are words of their own in some vocabularies, and control nothing
                if kind & (_CONTROL | _UNKNOWN) or (len(text) > 2 and text[0] in "<[" and text[-1] in ">]"):
                    marks.add(text)
        # a single character can not be broken by a space, and is no marker that text could be mistaken for
        escaped = sorted((re.escape(mark) for mark in marks if len(mark.strip()) > 1), key=len, reverse=True)
        return re.compile("|".join(escaped) if escaped else r"(?!)")

    def tokens(self, text: str) -> list[int]:
        """Give the tokens of `text`; what spells a control token becomes one. Safe in every thread."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        while True:
            out = (c_int32 * room)()
            count: int = self._lib.llama_tokenize(self._vocab, data, len(data), out, room, False, True)
            if count >= 0:
                return list(out[:count])
            room = -count

    def piece(self, token: int) -> bytes:
        """Give the bytes that `token` writes; a control token writes none."""
        room = 64
        while True:
            out = ctypes.create_string_buffer(room)
            count: int = self._lib.llama_token_to_piece(self._vocab, token, out, room, 0, False)
            if count >= 0:
                return out.raw[:count]
            room = -count

    def ends(self, token: int) -> bool:
        """Say whether `token` ends an answer."""
        found: bool = self._lib.llama_vocab_is_eog(self._vocab, token)
        return found

    def run(self, places: list[Place]) -> list[NDArray[np.float32]]:
        """Run at most `LONGEST` tokens; give the logits, `[words]`, of each that is `told`, valid until the next run.

        Raises:
            DecodeFailed: nothing of it may be used, and the memory should be forgotten.
        """
        code: int = self._lib.llama_decode(self._context, self._batch.fill(places))
        if code:
            raise DecodeFailed(str(code))
        return [
            np.ctypeslib.as_array(self._lib.llama_get_logits_ith(self._context, number), (self.words,))
            for number, place in enumerate(places)
            if place.told
        ]

    def save(self, sequence: int) -> bytes:
        """Copy all that the model remembers of a sequence."""
        size: int = self._lib.llama_state_seq_get_size(self._context, sequence)
        out = ctypes.create_string_buffer(size)
        written: int = self._lib.llama_state_seq_get_data(self._context, out, size, sequence)
        return out.raw[:written]

    def restore(self, sequence: int, saved: bytes, *, end: int) -> bool:
        """Make an empty sequence what was saved, up to `end` tokens; false, and empty, where this model can not."""
        good: int = self._lib.llama_state_seq_set_data(self._context, saved, len(saved), sequence)
        if good and self._lib.llama_memory_seq_rm(self._memory, sequence, end, -1):
            return True
        self.forget(sequence)
        return False

    def forget(self, sequence: int | None = None) -> None:
        """Empty a sequence, or all."""
        if sequence is None:
            self._lib.llama_memory_clear(self._memory, True)
        else:
            self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def _text(self, token: int) -> str:
        text: bytes = self._lib.llama_vocab_get_text(self._vocab, token) or b""
        return text.decode("utf-8", "replace")


class _Batch:
    """The arrays of a ``llama_batch``, used again and again."""

    def __init__(self, room: int) -> None:
        self._tokens, self._at, self._counts = ((c_int32 * room)() for _ in range(3))
        self._sequences = (c_int32 * room)()
        self._told = (ctypes.c_int8 * room)()
        self._pointers = (ctypes.POINTER(c_int32) * room)()
        for number in range(room):
            self._counts[number] = 1
            self._pointers[number] = ctypes.cast(ctypes.byref(self._sequences, 4 * number), ctypes.POINTER(c_int32))

    def fill(self, places: list[Place]) -> Any:
        for number, place in enumerate(places):
            self._tokens[number], self._at[number] = place.token, place.at
            self._sequences[number], self._told[number] = place.sequence, place.told
        cast = ctypes.POINTER(c_int32)
        return Batch(
            n_tokens=len(places),
            token=ctypes.cast(self._tokens, cast),
            embd=None,
            pos=ctypes.cast(self._at, cast),
            n_seq_id=ctypes.cast(self._counts, cast),
            seq_id=ctypes.cast(self._pointers, ctypes.POINTER(ctypes.POINTER(c_int32))),
            logits=ctypes.cast(self._told, ctypes.POINTER(ctypes.c_int8)),
        )
