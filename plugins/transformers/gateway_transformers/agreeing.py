"""Whether a model agrees with itself: the batched way is tried against the model's own, on a few tokens and images."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import torch
from msgspec import Struct

from gateway.plugin import Demonstration, Image, Prompt, Request, Text, Turn
from gateway_transformers.forwarding import forward, set_attention, use_rows
from gateway_transformers.load import Loaded
from gateway_transformers.reading import Reader
from gateway_transformers.rows import Row, cuts
from gateway_transformers.sightline import TYPES, Sight, placed, stretches

STEPS = 3
"""Tokens that are written after a prompt with images, to see that positions go on alike."""


class Fit(Struct, frozen=True, kw_only=True):
    """How a model can be run over rows. `joined` are the tokens that see one another in both directions.

    `split` says that the leading turns may be read apart from the rest, images included.
    """

    joined: frozenset[int] = frozenset()
    split: bool = True


def fits(loaded: Loaded, reader: Reader) -> Fit | None:
    """Try the batched way against the model's own; give None where they do not agree.

    A model with attention of another kind (own masks, biases, recurrent layers) does not, and is then run its own way.
    Where it fits, the model is set up for it.
    """
    model = loaded.model
    own = model.config.get_text_config()._attn_implementation
    with torch.inference_mode():
        wanted = _wanted(loaded, reader) if reader.sees else None
        if (reader.sees and wanted is None) or not _agrees(model):
            set_attention(model, own)
            reader.split = False
            return None
        if wanted is None:
            return Fit()
        both = frozenset(reader.image_tokens()) if wanted.joined else frozenset()
        for split in (True, False):
            fit = Fit(joined=both, split=split)
            if _sees_alike(loaded, reader, fit, wanted):
                reader.split = split
                return fit
    set_attention(model, own)
    reader.split = False
    return None


class _Wanted(Struct, frozen=True, kw_only=True):
    """What the model itself makes of the example: `tokens` it writes, and the logits of each."""

    ids: list[int]
    tokens: list[int]
    logits: list[torch.Tensor]
    joined: bool


def _wanted(loaded: Loaded, reader: Reader) -> _Wanted | None:
    from transformers import GenerationConfig

    reader.split = False
    pad = loaded.tokenizer.pad_token_id
    try:
        read = reader.read(_example())
        inputs = Sight(read).inputs
        out = loaded.model.generate(
            **placed(loaded.model, inputs),
            generation_config=GenerationConfig(
                max_new_tokens=STEPS,
                min_new_tokens=STEPS,
                do_sample=False,
                pad_token_id=pad if pad is not None else 0,
                return_dict_in_generate=True,
                output_logits=True,
            ),
        )
    except Exception:  # noqa: BLE001  such as one that takes a single image: a request will say what it raises
        return None
    tokens = out.sequences[0, len(read.ids) :].tolist()
    return _Wanted(
        ids=list(read.ids), tokens=tokens, logits=[step[0].float() for step in out.logits], joined=TYPES in inputs
    )


def _sees_alike(loaded: Loaded, reader: Reader, fit: Fit, wanted: _Wanted) -> bool:
    model = loaded.model
    reader.split = fit.split
    try:
        read = reader.read(_example())
        if list(read.ids) != wanted.ids or (fit.split and len(read.segments) < 2):
            return False
        sight, row = Sight(read), Row(len(read.ids) + STEPS)
        for end in cuts(len(read.ids), read.mark, stretches(read.ids, fit.joined)):
            logits = sight.read(model, row, end, fit.joined)
        got = [logits[0], *(forward(model, [[token]], [row])[0] for token in wanted.tokens[:-1])]
    except Exception:  # noqa: BLE001  whatever it raises, this model does not run this way
        return False
    return all(_near(model, one, other) for one, other in zip(got, wanted.logits, strict=True))


def _near(model: Any, got: torch.Tensor, wanted: torch.Tensor) -> bool:
    apart = float((got.float() - wanted.float()).norm() / wanted.float().norm())
    return apart <= (1e-3 if model.dtype == torch.float32 else 5e-2)


def _example() -> Prompt:
    """Make a prompt with a demonstration and a question, each with an image."""
    shown = Demonstration(
        id="x", pair="x", modality="ct", question="What is shown?", answer="A CT.", refuses=False, image=_drawn(40, 56)
    )
    turn = Turn(role="user", parts=(_drawn(64, 48), Text(id="x", text="And what is shown here?")))
    return Prompt(request=Request(id="x", department="x", model="x", turns=(turn,)), demonstrations=(shown,))


def _drawn(width: int, height: int) -> Image:
    from PIL import Image as Pillow

    across = Pillow.linear_gradient("L").resize((width, height))
    made = BytesIO()
    Pillow.merge("RGB", (across, across.rotate(180), across.rotate(90))).save(made, "PNG")
    data = made.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    return Image(id="x", data=data, media_type="image/png", width=width, height=height, digest=digest, source="png")


def _agrees(model: Any) -> bool:
    """Try text alone, two rows of different lengths. Sets the model up for rows."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        return False
    window = getattr(config, "sliding_window", None)
    # long enough that a window closes, where it is short; tokens from the middle of the vocabulary
    long = 24 if not isinstance(window, int) or window > 64 else window + 16
    ids = [(997 * n + 31) % config.vocab_size for n in range(long)]
    try:
        wanted = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]
        use_rows(model)
        one, two = Row(long + 1), Row(long + 1)
        got = {
            long // 2 - 1: forward(model, [ids[: long // 2]], [one])[0],
            long // 2 + 3: forward(model, [ids[long // 2 : long // 2 + 4]], [one])[0],
        }
        forward(model, [ids[:3]], [two])
        for at in range(long // 2 + 4, long):
            lines = forward(model, [[ids[at]], [ids[at - long // 2 - 1]]], [one, two])
            got[at] = lines[0]
        got[two.length - 1] = lines[1]
    except Exception:  # noqa: BLE001  whatever it raises, this model does not run this way
        return False
    return all(_near(model, got[at], wanted[at]) for at in got)
