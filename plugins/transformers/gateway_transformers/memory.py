"""How much memory a model takes: its weights, and the keys and values of what it reads and writes.

Counted from shapes and the width of a number. What a forward takes beside that for a moment is not counted, so leave
room for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from msgspec import Struct

from gateway_transformers import Config

MIB = 2**20


class MemoryShort(ValueError):
    """The memory that a configuration allows does not hold its model, or can not be held to."""


class Needs(Struct, frozen=True, kw_only=True):
    """Bytes of a model: `weights`, and `token`, the keys and values of one token of one answer.

    `context` is how many tokens it reads at once, where that is known with them.
    """

    weights: int
    token: int
    context: int | None = None


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Give the bytes of one token's keys and values in all layers, by the configuration of the language part.

    Raises:
        MemoryShort: it does not tell, as the model has layers of another kind.
    """
    text = config.get_text_config()
    if not all(isinstance(getattr(text, name, None), int) for name in ("num_hidden_layers", "num_attention_heads")):
        raise MemoryShort("the configuration does not tell what this model's answers take; leave `memory_mib` out")
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * width * dtype.itemsize)


def of_config(config: Any, auto: Any, dtype: torch.dtype) -> Needs:
    """Give what the model of `config` needs, by making it without its numbers."""
    with torch.device("meta"):
        model = auto.from_config(config)
    weights = sum(parameter.numel() for parameter in model.parameters())
    return Needs(weights=weights * dtype.itemsize, token=token_bytes(config, dtype))


def of_gguf(path: Path, dtype: torch.dtype) -> Needs | None:
    """Give what the model in a gguf file needs, by its header; None where that tells nothing."""
    from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata

    try:
        meta, _ = read_gguf_metadata(str(path))
        tensors = GgufHeader.from_file(str(path)).tensors
        kind = meta["general.architecture"]
        heads, width = meta[f"{kind}.attention.head_count"], meta[f"{kind}.embedding_length"]
        shared = meta.get(f"{kind}.attention.head_count_kv", heads)
        each = meta.get(f"{kind}.attention.key_length", width // heads)
        token = 2 * meta[f"{kind}.block_count"] * shared * each * dtype.itemsize
    except (ValueError, KeyError, TypeError, OSError):
        return None  # reading the file itself will say what is wrong with it
    numbers = sum(int(torch.Size(tensor.shape).numel()) for tensor in tensors)
    return Needs(weights=numbers * dtype.itemsize, token=int(token), context=meta.get(f"{kind}.context_length"))


def of_model(model: Any) -> Needs:
    """Give what a loaded model needs."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return Needs(weights=weights, token=token_bytes(model.config, model.dtype))


def bound(config: Config, needs: Needs, context: int) -> int:
    """Give the bytes that `memory_mib` leaves for keys and values of answers at work.

    Raises:
        MemoryShort: not even one answer that fills the context has room.
    """
    allowed = config.memory_mib or 0
    left = (allowed - config.prefix_mib) * MIB - needs.weights
    if left < needs.token * context:
        weights, one = _mib(needs.weights), _mib(needs.token * context)
        raise MemoryShort(
            f"`memory_mib` of {allowed} is not enough: the weights take {weights} MiB, kept prefixes"
            f" {config.prefix_mib} MiB, and one answer that fills the context of {context} tokens {one} MiB; lower"
            " `context` or `prefix_mib`, take a narrower `dtype` or a smaller model, or raise it to"
            f" {weights + config.prefix_mib + one} or more (for `batch` of {config.batch} that never wait,"
            f" {weights + config.prefix_mib + _mib(needs.token * context * config.batch)})"
        )
    return left


def _mib(size: int) -> int:
    return -(-size // MIB)
