"""The stage `clinical`: it holds the library and answers each request and budget with a choice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.plugin import Budget, Demonstration, Modality, Request, Text, in_thread
from gateway_clinical.library import HOME, Library, Pair, load
from gateway_clinical.manifest import PUBLIC_KEY
from gateway_clinical.nearest import Nearest
from gateway_clinical.pictures import with_picture
from gateway_clinical.selection import End, Reading, closing_last, nearest_last, needed, select


class ClinicalConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How demonstrations are chosen.

    ``fixed`` gives the same demonstrations to every request of a budget, so that a server's prefix cache hits;
    ``random`` draws them by the request's id; ``same-modality`` takes the ones of the image's modality first, where
    DICOM names it; ``nearest`` takes those whose questions are nearest to the user's; ``hybrid`` takes the first
    `fixed_pairs` pairs of the library and then the nearest. `diversity`, 0..1, weighs how unlike each other near ones
    are to be.

    `order` says which kind stands last. With `images` each demonstration shows a drawn picture, and pairs that can be
    pictured come first under ``fixed`` and ``same-modality``. `library` is a folder
    with another library, signed by the holder of `public_key` (32 bytes in base64; None: this package's key).
    """

    strategy: Literal["fixed", "random", "same-modality", "nearest", "hybrid"] = "fixed"
    order: End = "answering-last"
    images: bool = False
    fixed_pairs: Annotated[int, Meta(ge=1, le=16)] = 2
    diversity: Annotated[float, Meta(ge=0, le=1)] = 0.3
    library: str | None = None
    public_key: str | None = None


class Clinical:
    """Chooses demonstrations from a library.

    The user's text takes part under ``nearest`` and ``hybrid`` alone, and only to choose: what is shown is the
    library's. Both twins of a pair are chosen together, so a text can not choose the refusing ones away.
    """

    def __init__(self, library: Library, config: ClinicalConfig, nearest: Nearest | None = None) -> None:
        self.library = library
        self.config = config
        self._nearest = nearest
        self._settled = lru_cache(maxsize=1024)(self._settle)

    async def inject(self, request: Request, budget: Budget) -> tuple[Demonstration, ...]:
        """Give at most `budget.demonstrations` demonstrations, in the order the model shall read them."""
        if budget.demonstrations == 0:
            return ()
        if self._nearest is not None:
            return await in_thread(self._near, question_of(request), budget)
        if self.config.strategy == "random":
            choose = partial(self._drawn, request.id, budget)
        else:
            modality = _modality(request) if self.config.strategy == "same-modality" else None
            choose = partial(self._settled, modality, budget)
        return await in_thread(choose) if self.config.images else choose()

    async def illustrate(self, ids: tuple[str, ...]) -> tuple[Demonstration, ...]:
        """Give the demonstrations with these ids that the library has, each with its picture where one can be drawn."""
        wanted = set(ids)
        pairs = [pair for pair in self.library.pairs if {pair.harmful.id, pair.benign.id} & wanted]
        drawn = await in_thread(lambda: [with_picture(pair) for pair in pairs])
        known = {demo.id: demo for pair in drawn for demo in (pair.harmful, pair.benign)}
        return tuple(known[id_] for id_ in ids if id_ in known)

    def _settle(self, modality: Modality | None, budget: Budget) -> tuple[Demonstration, ...]:
        pairs = self.library.pairs
        if self.config.images and budget.images != 0:  # for a model that sees, a pair without a picture comes later
            pairs = tuple(sorted(pairs, key=lambda pair: not pair.pictured))
        if modality is not None:
            pairs = tuple(sorted(pairs, key=lambda pair: pair.modality != modality))
        return self._select(pairs[: needed(budget, len(pairs))], budget, closing_last)

    def _drawn(self, seed: str, budget: Budget) -> tuple[Demonstration, ...]:
        pairs = self.library.pairs
        draw = random.Random(seed).sample  # noqa: S311 -- no secret hangs on it, and the log can be checked with it
        return self._select(draw(pairs, needed(budget, len(pairs))), budget, closing_last)

    def _near(self, text: str, budget: Budget) -> tuple[Demonstration, ...]:
        pairs = self.library.pairs
        count = needed(budget, len(pairs))
        fixed = range(min(self.config.fixed_pairs, count) if self.config.strategy == "hybrid" else 0)
        if text and self._nearest is not None:
            ranked = self._nearest.rank(text, count - len(fixed), fixed)
        else:  # an image alone: there is nothing to be near to
            ranked = tuple(range(len(fixed), count))
        return self._select([pairs[i] for i in (*fixed, *ranked)], budget, nearest_last(len(fixed)))

    def _select(self, pairs: Sequence[Pair], budget: Budget, reading: Reading) -> tuple[Demonstration, ...]:
        if self.config.images and budget.images != 0:
            pairs = [with_picture(pair) for pair in pairs]
        return select(pairs, budget, end=self.config.order, reading=reading)


def build(config: ClinicalConfig) -> Clinical:
    """Load and check the library, and the encoder where the strategy asks for it; ValueError with a hint."""
    folder = HOME if config.library is None else Path(config.library)
    library = load(folder, PUBLIC_KEY if config.public_key is None else config.public_key)
    if config.images:
        for pair in library.pairs:
            with_picture(pair)  # so that the first requests do not miss their deadline
    if config.strategy not in ("nearest", "hybrid"):
        return Clinical(library, config)
    from gateway_clinical.encoder import Encoder

    encoder = Encoder()
    nearest = Nearest(folder, library, encoder, diversity=config.diversity)
    encoder.encode("warm up " * 64)  # so that the first request does not pay for allocation
    return Clinical(library, config, nearest)


def question_of(request: Request) -> str:
    """Give the text of the last user turn that has any; an empty string where none has."""
    for turn in reversed(request.turns):
        texts = (part.text for part in turn.parts if isinstance(part, Text) and part.text.strip())
        if turn.role == "user" and (text := "\n".join(texts)):
            return text
    return ""


def _modality(request: Request) -> Modality | None:
    """Give the modality of the last image that has one: what a question is about stands last."""
    known = [image.modality for image in request.images() if image.modality is not None]
    return known[-1] if known else None
