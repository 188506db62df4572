"""One forward of a model over rows, and how a model is set up for it."""

from __future__ import annotations

from typing import Any

import torch

from gateway_transformers.rows import NAME, Row, attend


def use_rows(model: Any) -> None:
    """Let the attention of the model's language part run over rows; its vision tower keeps its own."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    set_attention(model, NAME)


def set_attention(model: Any, name: str) -> None:
    """Set the attention of the language part."""
    text = model.config.get_text_config()
    parts = [part for part in model.config.sub_configs if getattr(model.config, part, None) is text]
    model.set_attn_implementation({parts[0]: name} if parts else name)


def forward(model: Any, tokens: list[list[int]], rows: list[Row]) -> torch.Tensor:
    """Run `tokens` (as many for each row) after what each row holds; give the last logits, `[rows, vocabulary]`."""
    return run(model, tokens, rows, keep=1)[:, -1]


def run(model: Any, tokens: list[list[int]], rows: list[Row], *, keep: int) -> torch.Tensor:
    """Run `tokens` as `forward` does; give the last `keep` logits of each row, `[rows, keep, vocabulary]`."""
    count = len(tokens[0])
    starts = torch.tensor([[row.place] for row in rows], device=model.device)
    places = starts + torch.arange(count, device=model.device)
    asked = {"input_ids": torch.tensor(tokens, device=model.device), "position_ids": places}
    return _run(model, asked, rows, count, keep, [row.place + count for row in rows])


def forward_seen(model: Any, embeds: torch.Tensor, places: torch.Tensor, row: Row) -> torch.Tensor:
    """Run embeddings, `[1, tokens, width]`, at `places` after what `row` holds; give the last logits.

    They are `[1, vocabulary]`.
    """
    asked = {"inputs_embeds": embeds, "position_ids": places}
    return _run(model, asked, [row], embeds.shape[1], 1, [int(places.max()) + 1])[:, -1]


def _run(
    model: Any, asked: dict[str, torch.Tensor], rows: list[Row], count: int, keep: int, after: list[int]
) -> torch.Tensor:
    out = model(**asked, use_cache=False, logits_to_keep=keep, rows=tuple(rows))
    for row, place in zip(rows, after, strict=True):
        row.length += count
        row.place = place
    logits: torch.Tensor = out.logits[:, -keep:]
    return logits
