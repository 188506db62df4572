"""Which pairs are near a question, and unlike each other.

Nearness of a pair is the higher cosine of its two questions with the user's. Pairs are taken one by one by maximal
marginal relevance (Carbonell and Goldstein, 1998): near to the question, less `diversity` times the likeness to the
nearest pair that was taken before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gateway_clinical.encoder import Vectors
from gateway_clinical.library import Library

FILE = "vectors.npz"
"""The vectors of a library's questions, beside its manifest."""

_HINT = "make it again with `python -m gateway_clinical.embed`, or choose another `strategy`"


class Encodes(Protocol):
    """Turns texts into unit vectors. `sha256` names what it is."""

    sha256: str

    def encode(self, text: str) -> Vectors:
        """Give the vector of `text`."""
        ...


def write(folder: Path, library: Library, encoder: Encodes) -> int:
    """Write the vectors of `library` into `folder`, and give the size of the file in bytes."""
    ids = np.asarray([pair.id for pair in library.pairs])
    harmful, benign = (
        np.stack([encoder.encode(text) for text in texts]).astype(np.float16)
        for texts in (
            [pair.harmful.question for pair in library.pairs],
            [pair.benign.question for pair in library.pairs],
        )
    )
    np.savez_compressed(
        folder / FILE,
        library=np.asarray(library.sha256),
        encoder=np.asarray(encoder.sha256),
        ids=ids,
        harmful=harmful,
        benign=benign,
    )
    return (folder / FILE).stat().st_size


class Nearest:
    """Ranks the pairs of a library by a question. `diversity` in 0..1 weighs unlikeness; 0 asks for nearness alone."""

    def __init__(self, folder: Path, library: Library, encoder: Encodes, *, diversity: float) -> None:
        """Read the vectors of `library`; ValueError where they are missing, broken or those of another library."""
        try:
            with np.load(folder / FILE, allow_pickle=False) as file:
                whose = (str(file["library"]), str(file["encoder"]))
                row = {str(name): index for index, name in enumerate(file["ids"])}
                rows = [row[pair.id] for pair in library.pairs] if whose[0] == library.sha256 else []
                harmful, benign = (file[name].astype(np.float32)[rows] for name in ("harmful", "benign"))
        except FileNotFoundError:
            raise ValueError(f"the demonstration library has no `{FILE}`: {_HINT}") from None
        except Exception as exc:  # NumPy and zipfile raise kinds of their own on a broken file
            raise ValueError(f"`{FILE}` of the demonstration library can not be read: {_HINT}") from exc
        if whose != (library.sha256, encoder.sha256):
            raise ValueError(f"`{FILE}` was made from another library or encoder: {_HINT}")
        self._encoder = encoder
        self._diversity = diversity
        self._questions = np.stack([harmful, benign])
        both = harmful + benign
        both /= np.linalg.norm(both, axis=1, keepdims=True)
        self._alike: Vectors = both @ both.T

    def rank(self, text: str, count: int, taken: Sequence[int] = ()) -> tuple[int, ...]:
        """Give the indices of at most `count` pairs, in the order in which they are taken, none of `taken` among them.

        `taken` are pairs that stand before the question anyway; what is chosen is to be unlike them too.
        """
        near = (self._questions @ self._encoder.encode(text)).max(axis=0)
        free = np.zeros(len(near), np.float32)  # minus infinity where a pair is taken
        likeness = np.zeros(len(near), np.float32)
        chosen: list[int] = []

        def take(index: int) -> None:
            free[index] = -np.inf
            np.maximum(likeness, self._alike[index], out=likeness)

        for index in taken:
            take(index)
        for _ in range(min(count, len(near) - len(taken))):
            best = int(np.argmax((1 - self._diversity) * near - self._diversity * likeness + free))
            chosen.append(best)
            take(best)
        return tuple(chosen)
