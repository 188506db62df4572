"""Fine-tune the encoder with its heads on a CPU (or a GPU, if torch sees one)."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import torch
from tqdm import tqdm

from gateway_intent.training.generate import Example
from gateway_intent.training.model import IntentModel, base_encoder, loss_of
from gateway_intent.training.slots import seeded
from gateway_intent.training.templates import HARMS

MAX_TOKENS = 128
"""Longer training texts are cut: a window of the stage is as long."""


def batches(sizes: list[int], units: list[list[int]], batch: int, rng: Random) -> list[list[int]]:
    """Group `units` (a text, or twins) into batches of about `batch` texts of like length, in random order."""
    order = units[:]
    rng.shuffle(order)
    made: list[list[int]] = []
    stretch = batch * 40
    for start in range(0, len(order), stretch):
        near = sorted(order[start : start + stretch], key=lambda unit: max(sizes[index] for index in unit))
        current: list[int] = []
        for unit in near:
            if len(current) + len(unit) > batch:
                made.append(current)
                current = []
            current += unit
        made.append(current)
    rng.shuffle(made)
    return made


def units_of(examples: list[Example]) -> list[list[int]]:
    """Keep twins together: the indexes of each pair, harmful first, and of each other text."""
    pairs: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        pairs.setdefault(example.pair or f"#{index}", []).append(index)
    return [sorted(unit, key=lambda index: not examples[index].harmful) for unit in pairs.values()]


def tune(
    examples: list[Example], tokenizer: Any, *, epochs: float, seed: int, batch: int = 32, rate: float = 6e-5
) -> IntentModel:
    """Fine-tune on `examples`. `tokenizer` is a `tokenizers.Tokenizer`; word vectors stay as they were published."""
    torch.manual_seed(seed)
    rng = seeded(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1)
    model = IntentModel(base_encoder())
    model.to(device).train()
    for parameter in model.encoder.bert.embeddings.parameters():
        parameter.requires_grad_(False)
    body = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
    heads = [*model.risk.parameters(), *model.category.parameters()]
    optimiser = torch.optim.AdamW([{"params": body, "lr": rate}, {"params": heads, "lr": 2e-3}], weight_decay=0.01)
    ids = [encoding.ids[:MAX_TOKENS] for encoding in tokenizer.encode_batch([e.text for e in examples])]
    sizes = [len(row) for row in ids]
    units = units_of(examples)
    plan: list[list[int]] = []
    while len(plan) < epochs * len(examples) / batch:
        plan += batches(sizes, units, batch, rng)
    plan = plan[: int(epochs * len(examples) / batch) + 1]
    warm = max(1, len(plan) // 12)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, max(0.02, (len(plan) - step) / max(1, len(plan) - warm)))
    )
    number = {pair: place for place, pair in enumerate(dict.fromkeys(e.pair for e in examples if e.pair))}
    bar = tqdm(plan, desc="fine-tuning", unit="batch", mininterval=5)
    average = 0.0
    for chosen in bar:
        width = max(sizes[index] for index in chosen)
        tokens = torch.tensor([ids[index] + [0] * (width - sizes[index]) for index in chosen], device=device)
        mask = torch.tensor([[1] * sizes[index] + [0] * (width - sizes[index]) for index in chosen], device=device)
        rows = [examples[index] for index in chosen]
        harmful = torch.tensor([float(row.harmful) for row in rows], device=device)
        category = torch.tensor([HARMS.index(row.label) if row.label in HARMS else -1 for row in rows], device=device)
        pair = torch.tensor([number[row.pair] if row.pair else -1 for row in rows], device=device)
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = model(tokens, mask)
        loss = loss_of((logits[0].float(), logits[1].float()), harmful, category, pair)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average = 0.98 * average + 0.02 * float(loss.detach()) if average else float(loss.detach())
        bar.set_postfix(loss=f"{average:.3f}", refresh=False)
    model.to("cpu").eval()
    return model
