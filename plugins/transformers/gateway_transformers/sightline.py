"""What a model that sees makes of a stretch of a prompt before its language model reads it.

The model's own forward runs up to its language model and no further: its vision tower, its projector, and its way to
put the features among the embeddings and to number their positions all stay the family's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from msgspec import Struct

from gateway_transformers.forwarding import forward, forward_seen
from gateway_transformers.prompts import Read
from gateway_transformers.rows import Row

TYPES = "token_type_ids"
"""The input by which a family says which tokens are images whose tokens see one another in both directions."""


class View(Struct, frozen=True, kw_only=True):
    """A stretch ready for the language model.

    `embeds` is `[1, tokens, width]`, `places` are positions, `[1, tokens]` or `[planes, 1, tokens]`.
    """

    embeds: torch.Tensor
    places: torch.Tensor


class _ReachedError(Exception):
    """The language model was reached."""


def look(model: Any, inputs: dict[str, Any], base: int) -> View:
    """Run `model` on `inputs` up to its language model. Positions begin at `base`.

    Raises:
        NotImplementedError: the language model is given something that a view does not hold.
    """
    decoder = model.get_decoder()
    caught: dict[str, Any] = {}

    def stop(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args:
            raise NotImplementedError("the language model is called by position")
        caught.update(kwargs)
        raise _ReachedError

    hook = decoder.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(**placed(model, inputs, without=("attention_mask",)), use_cache=False)
    except _ReachedError:
        pass
    finally:
        hook.remove()
    embeds, places = caught.pop("inputs_embeds"), caught.pop("position_ids", None)
    extra = [name for name, value in caught.items() if isinstance(value, torch.Tensor | list | tuple)]
    if extra:
        raise NotImplementedError("the language model is given more than embeddings and positions")
    if places is None or places.ndim < 2:
        places = torch.arange(embeds.shape[1], device=embeds.device)[None]
    return View(embeds=embeds, places=places + base)


class Sight:
    """A prompt's way to the language model, block by block; its answers share what was seen."""

    def __init__(self, read: Read) -> None:
        self._ids = read.ids
        self._segments = read.segments
        self._views: dict[int, View] = {}

    @property
    def inputs(self) -> dict[str, Any]:
        """The tensors of a prompt that is read whole."""
        made = self._segments[0].inputs if self._segments else None
        return {"input_ids": torch.tensor([list(self._ids)])} if made is None else made()

    def read(self, model: Any, row: Row, end: int, joined: frozenset[int]) -> torch.Tensor:
        """Read on from what `row` holds up to `end`; give the last logits, `[1, vocabulary]`.

        `joined` are the tokens whose runs see themselves in both directions, as images do in some families.
        """
        start = row.length
        ids = list(self._ids[start:end])
        found = self._view(model, row, start)
        if found is None:
            return forward(model, [ids], [row])
        first, view = found
        part = slice(start - first, end - first)
        together = groups(ids, joined)
        row.groups = None if together is None else together.to(model.device)
        try:
            return forward_seen(model, view.embeds[:, part], view.places[..., part], row)
        finally:
            row.groups = None

    def _view(self, model: Any, row: Row, start: int) -> tuple[int, View] | None:
        """Give the view of the stretch that holds `start`, and where it begins; None for a prompt without images."""
        for number, segment in enumerate(self._segments):
            if not segment.start <= start < segment.end:
                continue
            if number not in self._views:
                base = row.place if segment.start else 0
                if segment.inputs is not None:
                    self._views[number] = look(model, segment.inputs(), base)
                    segment.inputs = None  # the pixels are not needed any more
                else:
                    self._views[number] = _told(model, list(self._ids[segment.start : segment.end]), base)
            return segment.start, self._views[number]
        return None


def _told(model: Any, ids: list[int], base: int) -> View:
    places = torch.arange(base, base + len(ids), device=model.device)[None]
    return View(embeds=model.get_input_embeddings()(torch.tensor([ids], device=model.device)), places=places)


def placed(model: Any, inputs: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give `inputs` on the model's device, numbers in its own precision."""
    return {name: _place(value, model) for name, value in inputs.items() if name not in without}


def stretches(ids: Sequence[int], images: frozenset[int]) -> tuple[tuple[int, int], ...]:
    """Give start and end of each run of tokens of `ids` that are in `images`."""
    found: list[tuple[int, int]] = []
    for place, token in enumerate(ids):
        if token in images:
            start = found.pop()[0] if found and found[-1][1] == place else place
            found.append((start, place + 1))
    return tuple(found)


def groups(ids: Sequence[int], images: frozenset[int]) -> torch.Tensor | None:
    """Number the tokens of `ids` by the run of `images` they are in, -1 for others; None where there is no run."""
    runs = stretches(ids, images)
    if not runs:
        return None
    numbers = torch.full((len(ids),), -1)
    for number, (start, end) in enumerate(runs):
        numbers[start:end] = number
    return numbers


def _place(value: Any, model: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
