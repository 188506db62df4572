"""The stage `clinical`: it holds the library and answers each budget with a fixed choice."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from msgspec import Struct

from gateway.plugin import Budget, Demonstration, Modality, Request
from gateway_clinical.library import Library, load
from gateway_clinical.selection import select


class ClinicalConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How demonstrations are chosen.

    ``fixed`` gives the same demonstrations to every request of a budget, so that a server's prefix cache hits;
    ``same-modality`` takes the ones of the image's modality first, where DICOM names it.
    """

    strategy: Literal["fixed", "same-modality"] = "fixed"


class Clinical:
    """Chooses demonstrations from a library. Nothing of the user's text takes part in the choice."""

    def __init__(self, library: Library, config: ClinicalConfig) -> None:
        self.library = library
        self.config = config
        self._choose = lru_cache(maxsize=1024)(self._choose_anew)

    async def inject(self, request: Request, budget: Budget) -> tuple[Demonstration, ...]:
        """Give at most `budget.demonstrations` demonstrations, in the order the model shall read them."""
        modality = _modality(request) if self.config.strategy == "same-modality" else None
        return self._choose(modality, budget)

    def _choose_anew(self, modality: Modality | None, budget: Budget) -> tuple[Demonstration, ...]:
        pairs = self.library.pairs
        if modality is not None:
            pairs = tuple(sorted(pairs, key=lambda pair: pair.modality != modality))
        return select(pairs, budget)


def build(config: ClinicalConfig) -> Clinical:
    """Load and check the library of this package; ValueError with a hint where it was changed."""
    return Clinical(load(), config)


def _modality(request: Request) -> Modality | None:
    """Give the modality of the last image that has one: what a question is about stands last."""
    known = [image.modality for image in request.images() if image.modality is not None]
    return known[-1] if known else None
