"""Fine-tune the encoder with its heads on a CPU (or a GPU, if torch sees one)."""

from __future__ import annotations

import copy
import os
from random import Random
from typing import Any

import torch
from tqdm import tqdm

from gateway_intent.training.generate import Example
from gateway_intent.training.model import IntentModel, Logits, Targets, base_encoder, loss_of
from gateway_intent.training.slots import seeded
from gateway_intent.training.templates import HARMS, TECHNIQUES

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


def targets(rows: list[Example], number: dict[str, int], device: str) -> Targets:
    """Give what is known of a batch; `number` numbers the pairs."""
    return Targets(
        harmful=torch.tensor([float(row.harmful) for row in rows], device=device),
        category=torch.tensor([HARMS.index(row.label) if row.label in HARMS else -1 for row in rows], device=device),
        clinical=torch.tensor([-1.0 if row.clinical is None else float(row.clinical) for row in rows], device=device),
        technique=torch.tensor(
            [-1 if row.technique is None else TECHNIQUES.index(row.technique) for row in rows], device=device
        ),
        pair=torch.tensor([number[row.pair] if row.pair else -1 for row in rows], device=device),
    )


RATE = 6e-5
"""The encoder's learning rate."""
AVERAGE = 0.998
"""The weights that are given are a running average of the steps', each counting so much of the one after it."""


def quick(device: str) -> bool:
    """Say whether the processor multiplies bfloat16 by itself; one that does not is three times slower with it."""
    return device == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def tune(
    examples: list[Example], tokenizer: Any, *, epochs: float, seed: int, batch: int = 32, rate: float = RATE,
    start: IntentModel | None = None,
) -> IntentModel:  # fmt: skip
    """Fine-tune on `examples`. `tokenizer` is a `tokenizers.Tokenizer`; word vectors stay as they were published.

    `rate` is the encoder's learning rate; `start` a model to go on from, which is left as it is.
    """
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    half = quick(device)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1)
    model = IntentModel(base_encoder()) if start is None else copy.deepcopy(start)
    torch.manual_seed(seed)
    rng = seeded(seed)
    model.to(device).train()
    for parameter in model.encoder.bert.embeddings.parameters():
        parameter.requires_grad_(False)
    body = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
    mean = copy.deepcopy(model)
    both = zip(mean.parameters(), model.parameters(), strict=True)
    followed = [(theirs, ours) for theirs, ours in both if ours.requires_grad]
    heads = [parameter for layer in model.layers() for parameter in layer.parameters()]
    groups = [{"params": body, "lr": rate}, {"params": heads, "lr": 2e-3}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
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
    for step, chosen in enumerate(bar):
        width = max(sizes[index] for index in chosen)
        tokens = torch.tensor([ids[index] + [0] * (width - sizes[index]) for index in chosen], device=device)
        mask = torch.tensor([[1] * sizes[index] + [0] * (width - sizes[index]) for index in chosen], device=device)
        known = targets([examples[index] for index in chosen], number, device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            logits = model(tokens, mask)
        loss = loss_of(Logits(*(each.float() for each in logits)), known)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for theirs, ours in followed:
                theirs.lerp_(ours, 1 - min(AVERAGE, (step + 1) / (step + 10)))
        average = 0.98 * average + 0.02 * float(loss.detach()) if average else float(loss.detach())
        bar.set_postfix(loss=f"{average:.3f}", refresh=False)
    mean.to("cpu").eval()
    return mean


def average(models: list[IntentModel]) -> IntentModel:
    """Average the weights of models of one descent (Wortsman et al., 2022): together they err less on what is new."""
    mixed = copy.deepcopy(models[0])
    with torch.no_grad():
        for mean, *all_of_them in zip(mixed.parameters(), *(model.parameters() for model in models), strict=True):
            mean.copy_(torch.stack(all_of_them).mean(0))
    return mixed
