"""GGUF files of the llama architecture, read in about two seconds.

transformers' own way parses the header three times through numpy and builds a table of names for each module, which
takes over ten seconds for a 135M model. This reads the header directly and maps the names itself; for every other
architecture `load_llama` gives None and the caller takes transformers' way. The values are the same, bit for bit.
Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

_LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}
_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def load_llama(path: Path, dtype: torch.dtype) -> tuple[Any, Any] | None:
    """Give `(model, tokenizer)`, or None where the file is not a plain llama or the readers are not there."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer, get_gguf_tokenizer
        from transformers.integrations.gguf.reader import GgufHeader, load_gguf_state_dict, read_gguf_metadata
    except ImportError:  # a later transformers may move its readers; its public way still works
        return None
    meta, names = read_gguf_metadata(str(path))
    if meta["general.architecture"] != "llama" or not _plain(meta, names):
        return None
    architecture, vocabulary, options = get_gguf_tokenizer(str(path))
    tokenizer = _tokenizer(convert_gguf_tokenizer(architecture, vocabulary)[0], vocabulary, options, meta)
    model = _empty(_config(meta, names, len(vocabulary["tokens"]), vocabulary), dtype)
    header = GgufHeader.from_file(str(path))
    raw = load_gguf_state_dict(header)
    state = {}
    for info in header.tensors:
        weight = _values(raw[info.name][...], info.ggml_type, info.shape)
        heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
        for part, key in heads.items():
            if f".{part}." in info.name:
                weight = _unpermute(weight, int(meta.get(key, meta["llama.attention.head_count"])))
        state[_name(info.name)] = weight.to(dtype)
    if model.config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True, assign=True)
    model.tie_weights()
    return model, tokenizer


def _plain(meta: dict[str, Any], names: tuple[str, ...]) -> bool:
    odd = ("llama.rope.scaling.type", "llama.expert_count")
    if (
        any(meta.get(key) not in (None, 0, "none") for key in odd)
        or "mistral" in str(meta.get("general.name", "")).lower()
    ):
        return False
    try:
        return all(_name(name) for name in names)
    except KeyError:  # a tensor that a plain llama does not have, such as frequency factors
        return False


def _name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("blk."):
        return f"{_NAMES[stem]}.{kind}"
    _, number, part = stem.split(".", 2)
    return f"model.layers.{number}.{_LAYER_NAMES[part]}.{kind}"


def _config(meta: dict[str, Any], names: tuple[str, ...], words: int, vocabulary: dict[str, Any]) -> Any:
    from transformers import LlamaConfig

    heads = meta["llama.attention.head_count"]
    return LlamaConfig(
        vocab_size=words,
        hidden_size=meta["llama.embedding_length"],
        intermediate_size=meta["llama.feed_forward_length"],
        num_hidden_layers=meta["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=meta.get("llama.attention.head_count_kv", heads),
        head_dim=meta.get("llama.attention.key_length", meta["llama.embedding_length"] // heads),
        max_position_embeddings=meta["llama.context_length"],
        rms_norm_eps=meta["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": meta.get("llama.rope.freq_base", 10000.0)},
        tie_word_embeddings="output.weight" not in names,
        bos_token_id=vocabulary.get("bos_token_id"),
        eos_token_id=vocabulary.get("eos_token_id"),
        pad_token_id=vocabulary.get("pad_token_id"),
    )


def _empty(config: Any, dtype: torch.dtype) -> Any:
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    # buffers (rotary frequencies) are computed, not stored; they stay in float32 as transformers keeps them
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    return model.to(dtype) if dtype == torch.float32 else _cast(model, dtype)


def _cast(model: Any, dtype: torch.dtype) -> Any:
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def _values(data: torch.Tensor, kind: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Give a tensor's float32 values from its blocks."""
    from transformers.integrations.gguf.dequant import GGML_BLOCK, dequantize

    if kind not in GGML_BLOCK:
        return data.reshape(shape).float()
    flat: torch.Tensor = dequantize(data.reshape(-1), kind).reshape(shape)
    return flat


def _unpermute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Undo the reordering of rotary dimensions that llama.cpp's converter does to query and key weights."""
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, half, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _tokenizer(backend: Any, vocabulary: dict[str, Any], options: dict[str, Any], meta: dict[str, Any]) -> Any:
    from transformers import PreTrainedTokenizerFast

    def word(key: str) -> str | None:
        number = vocabulary.get(key)
        return None if number is None else str(vocabulary["tokens"][number])

    named = {name: word(f"{name}_id") for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    kept = {key: value for key, value in {**options, **named}.items() if value is not None}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=int(np.int64(meta["llama.context_length"])), **kept
    )
