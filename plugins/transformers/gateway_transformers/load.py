"""Loading a model from a folder, a GGUF file or a hub id, quietly and onto the right device."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct

from gateway_transformers import EMBEDDED, Config
from gateway_transformers.embedded import SHA256, embedded_weights
from gateway_transformers.memory import MemoryShort, bound, of_config, of_gguf, of_model
from gateway_transformers.processors import load_processor
from gateway_transformers.sight import FOLDER, MARK
from gateway_transformers.sight import NAME as SIGHT


class Loaded(Struct, frozen=True, kw_only=True):
    """A model ready to run. `processor` is there where it takes images; `ends` are the tokens that end an answer.

    `revision` names the weights: ``sha256:…`` of their file or manifest, or a hub id's commit; None where neither is.
    `model` is None while it is unloaded. `token_bytes` is what the keys and values of one token take, and `memory` how
    many bytes of those may be held at once, None for no bound.
    """

    model: Any
    tokenizer: Any
    processor: Any | None
    context: int
    ends: frozenset[int]
    revision: str | None = None
    token_bytes: int = 0
    memory: int | None = None


def hush() -> None:
    """Keep prompts and progress bars of third parties out of the process's output, and telemetry off."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # its warnings quote what a tokenizer was given; errors come to us as exceptions
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    for name in ("huggingface_hub", "gguf", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)


def load(config: Config) -> Loaded:
    """Load what `config` names.

    Raises:
        ValueError: there is no such model, it is not one that writes text, or memory does not suffice.
    """
    hush()
    from transformers import GenerationConfig

    device = _device(config.device)
    dtype = _dtype(config.dtype, device)
    found: tuple[Any, Any, Any | None]
    commit: str | None = None
    sighted = FOLDER if config.path is None and config.model == SIGHT else config.path
    if sighted is not None and (Path(sighted) / MARK).is_file():
        from gateway_transformers.sight.loading import load as load_sight

        found = load_sight(Path(sighted), dtype)
    elif config.path is None:
        if config.model != EMBEDDED:
            raise ValueError(
                f"`{config.model}` is not an embedded model (`{EMBEDDED}`, `{SIGHT}`); give its folder or hub id as"
                " `path`"
            )
        found = _gguf(embedded_weights(), dtype, config)
    elif config.path.endswith(".gguf"):
        path = Path(config.path)
        if not path.is_file():
            raise ValueError(f"there is no file `{config.path}`; give the path of a gguf file")
        found = _gguf(path, dtype, config)
    else:
        commit = _commit(config.path)
        found = _pretrained(config.path, dtype, config, commit)
    model, tokenizer, processor = found
    revision = _revision(sighted, commit)
    if config.chat_template is not None:
        for reader in (tokenizer, *(() if processor is None else (processor,))):
            reader.chat_template = _template(config.chat_template)
    context = _context(model.config, config.context)
    needs = None if config.memory_mib is None else of_model(model)
    memory = None if needs is None else bound(config, needs, context)
    model = model.to(device).eval().requires_grad_(requires_grad=False)
    ends = _ends(model, tokenizer)
    # only the request says how to sample: a checkpoint's own temperatures and penalties must not slip in
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=tokenizer.pad_token_id)
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        processor=processor,
        context=context,
        ends=ends,
        revision=revision,
        token_bytes=0 if needs is None else needs.token,
        memory=memory,
    )


def _revision(sighted: str | Path | None, commit: str | None) -> str | None:
    if sighted is None:
        return f"sha256:{SHA256}"  # the embedded weights, verified while they were found
    manifest = Path(sighted) / MARK  # it names the digests of all that the model is made of
    for file in (manifest, Path(sighted)):
        if file.is_file():
            with file.open("rb") as opened:
                return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    return commit


def _commit(path: str) -> str | None:
    """Give the commit that a hub id stands for now; None for a folder, and where the hub does not tell."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    if Path(path).exists():
        return None
    try:
        commit: str | None = extract_commit_hash(cached_file(path, "config.json"), None)
    except (OSError, ValueError):
        return None  # loading will say what is wrong
    return commit


def _template(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"the `chat_template` `{path}` can not be read ({type(exc).__name__})") from exc


def _device(asked: str) -> torch.device:
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if (asked == "cuda" and not torch.cuda.is_available()) or (
        asked == "mps" and not torch.backends.mps.is_available()
    ):
        raise ValueError(f"there is no device `{asked}` on this machine; set `device` to `auto` or `cpu`")
    return torch.device(asked)


def _dtype(asked: str, device: torch.device) -> torch.dtype:
    if asked == "auto":
        if device.type == "cuda":
            asked = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        else:
            asked = "bfloat16" if device.type == "cpu" and _fast_bfloat16() else "float32"
    kind: torch.dtype = getattr(torch, asked)
    return kind


def _fast_bfloat16() -> bool:
    # elsewhere bfloat16 is emulated, and slower than float32; asked of the processor and not timed, so that a machine
    # always answers alike
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def _gguf(path: Path, dtype: torch.dtype, asked: Config) -> tuple[Any, Any, None]:
    from gateway_transformers.gguf import load_llama

    needs = None if asked.memory_mib is None else of_gguf(path, dtype)
    if needs is not None:  # before the weights are read
        bound(asked, needs, min(needs.context or _SHORT, asked.context or needs.context or _SHORT))
    try:
        quick = load_llama(path, dtype)
    except (ValueError, KeyError, RuntimeError):  # a block type or a key that the quick way does not know
        quick = None
    if quick is not None:
        return (*quick, None)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **where)
        model = AutoModelForCausalLM.from_pretrained(str(path.parent), dtype=dtype, **where)
    except (OSError, ValueError, KeyError, ImportError) as exc:
        raise ValueError(f"`{path}` can not be read as a language model ({type(exc).__name__})") from exc
    return model, tokenizer, None


def _pretrained(path: str, dtype: torch.dtype, asked: Config, commit: str | None) -> tuple[Any, Any, Any | None]:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoTokenizer,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    local: dict[str, Any] = {"local_files_only": Path(path).exists(), "trust_remote_code": False}
    if commit is not None:
        local["revision"] = commit  # all files of one state, which the answers name
    try:
        config = AutoConfig.from_pretrained(path, **local)
        if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            processor = load_processor(path, config, **local)
            if getattr(processor, "image_processor", None) is not None:
                _measure(asked, config, AutoModelForImageTextToText, dtype)
                model = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, **local)
                return model, processor.tokenizer, processor
        tokenizer = AutoTokenizer.from_pretrained(path, **local)
        _measure(asked, config, AutoModelForCausalLM, dtype)
        return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **local), tokenizer, None
    except MemoryShort:
        raise
    except (OSError, ValueError, KeyError, ImportError) as exc:
        hint = (
            "give a folder that holds a model and its tokenizer, a gguf file, or a hub id that this machine can reach"
        )
        raise ValueError(f"`{path}` can not be loaded ({type(exc).__name__}); {hint}") from exc


_SHORT = 2048
"""The context of a model that names none, in tokens."""


def _measure(asked: Config, config: Any, auto: Any, dtype: torch.dtype) -> None:
    if asked.memory_mib is not None:
        bound(asked, of_config(config, auto, dtype), _context(config, asked.context))


def _context(config: Any, asked: int | None) -> int:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    most = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or _SHORT
    return min(int(most), asked) if asked else int(most)


_ENDS = ("<end_of_turn>", "<|im_end|>", "<|eot_id|>")
"""Tokens that end a turn in the families' chat templates; a base model's file does not say that they end an answer."""


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    known = tokenizer.get_vocab()
    ends: set[int] = {known[token] for token in _ENDS if token in known}
    for value in (getattr(model.generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        if value is not None:
            ends.update([value] if isinstance(value, int) else value)
    return frozenset(ends)
