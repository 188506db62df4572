"""llama.cpp's own C interface (``llama.h``), called in the shared library that the package ``xllamacpp`` brings.

The package's own `Server` is not used: it opens a port on which whoever reaches it asks the model past every check,
and it can not tell how likely a given answer is. Its library has all of ``llama.h``; the structs that are passed by
value are spelled here for the one version that is installed, and compared with that build's own defaults before use.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import CFUNCTYPE, POINTER, Structure, c_bool, c_char_p, c_float, c_int, c_int8, c_int32, c_size_t, c_uint32
from ctypes import c_void_p as void
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

PACKAGE = "xllamacpp"
VERSION = "2026.10.11549"
"""The version of the package whose structs stand here."""


class ModelParams(Structure):
    """How a model is loaded (``llama_model_params``)."""

    _fields_: ClassVar = [
        ("devices", void),
        ("tensor_buft_overrides", void),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int),
        ("load_mode", c_int),
        ("lazy_mode", c_int),
        ("main_gpu", c_int32),
        ("tensor_split", void),
        ("progress_callback", void),
        ("progress_callback_user_data", void),
        ("kv_overrides", void),
        *((name, c_bool) for name in ("vocab_only", "check_tensors", "use_extra_bufts", "no_host", "no_alloc")),
        ("load_mtp", c_bool),
    ]


class ContextParams(Structure):
    """How a model is run (``llama_context_params``)."""

    _fields_: ClassVar = [
        *((name, c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max")),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        *((name, c_int) for name in ("ctx_type", "rope_scaling_type", "pooling_type", "attention_type")),
        ("flash_attn_type", c_int),
        *((name, c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor")),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", void),
        ("cb_eval_user_data", void),
        ("type_k", c_int),
        ("type_v", c_int),
        ("moe_cache_size", c_size_t),
        ("abort_callback", void),
        ("abort_callback_data", void),
        *((name, c_bool) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")),
        ("samplers", void),
        ("n_samplers", c_size_t),
        ("ctx_other", void),
    ]


class Batch(Structure):
    """Tokens to run, each with its place and its sequence (``llama_batch``)."""

    _fields_: ClassVar = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


_DEFAULTS: tuple[tuple[str, dict[str, float]], ...] = (
    ("llama_model_default_params", {"n_gpu_layers": -1, "split_mode": 1, "main_gpu": 0, "use_extra_bufts": 1}),
    (
        "llama_context_default_params",
        {
            "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_outputs_max_per_seq": 1, "n_threads": 4,
            "pooling_type": -1, "flash_attn_type": -1, "yarn_ext_factor": -1, "yarn_beta_slow": -1, "yarn_orig_ctx": 0,
            "defrag_thold": -1, "type_k": 1, "type_v": 1, "moe_cache_size": 0, "embeddings": 0, "offload_kqv": 1,
            "no_perf": 1, "op_offload": 1, "swa_full": 1, "kv_unified": 0, "n_samplers": 0,
        },
    ),
)  # fmt: skip
"""Values that this version gives, at the head, in the middle and at the end of each struct."""

_CALLS: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [void, void]),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (void, [c_char_p, ModelParams]),
    "llama_model_free": (None, [void]),
    "llama_model_get_vocab": (void, [void]),
    "llama_model_n_ctx_train": (c_int32, [void]),
    "llama_model_has_encoder": (c_bool, [void]),
    "llama_model_has_decoder": (c_bool, [void]),
    "llama_model_chat_template": (c_char_p, [void, c_char_p]),
    "llama_init_from_model": (void, [void, ContextParams]),
    "llama_free": (None, [void]),
    "llama_n_ctx_seq": (c_uint32, [void]),
    "llama_get_memory": (void, [void]),
    "llama_memory_clear": (None, [void, c_bool]),
    "llama_memory_seq_rm": (c_bool, [void, c_int32, c_int32, c_int32]),
    "llama_state_seq_get_size": (c_size_t, [void, c_int32]),
    "llama_state_seq_get_data": (c_size_t, [void, c_char_p, c_size_t, c_int32]),
    "llama_state_seq_set_data": (c_size_t, [void, c_char_p, c_size_t, c_int32]),
    "llama_decode": (c_int32, [void, Batch]),
    "llama_get_logits_ith": (POINTER(c_float), [void, c_int32]),
    "llama_vocab_n_tokens": (c_int32, [void]),
    "llama_vocab_get_text": (c_char_p, [void, c_int32]),
    "llama_vocab_get_attr": (c_int, [void, c_int32]),
    "llama_vocab_is_eog": (c_bool, [void, c_int32]),
    "llama_vocab_bos": (c_int32, [void]),
    "llama_vocab_eos": (c_int32, [void]),
    "llama_tokenize": (c_int32, [void, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_token_to_piece": (c_int32, [void, c_int32, c_char_p, c_int32, c_int32, c_bool]),
}


def _drop(_: int, __: bytes, ___: int) -> None:
    """Drop a line of llama.cpp's log: some of them quote prompts."""


_SWALLOW = CFUNCTYPE(None, c_int, c_char_p, void)(_drop)

_loaded: Any = None


def library() -> Any:
    """Give the library, loaded once and made silent.

    Raises:
        ValueError: it is not installed, is another version, or does not load on this machine.
    """
    global _loaded  # one library in a process, and one log
    if _loaded is None:
        _loaded = _load()
    return _loaded


def _load() -> Any:
    again = f"install `{PACKAGE}=={VERSION}` again"
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        version = ""
    # a find_spec of the package does not run it: only the library in it is wanted
    folders = (spec.submodule_search_locations or () if (spec := find_spec(PACKAGE)) else ()) if version else ()
    files = [file for folder in folders for file in Path(folder).glob(f"{PACKAGE}*.so")]
    if version != VERSION or not files:
        raise ValueError(f"llama.cpp is not there in the version this stage is written for; {again}")
    # OpenMP's threads spin while they wait for one another, which makes a busy machine fifty times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        found = _open(files[0])
        for name, (gives, takes) in _CALLS.items():
            function = getattr(found, name)
            function.restype, function.argtypes = gives, takes
    except (OSError, AttributeError) as exc:
        raise ValueError(f"llama.cpp does not load on this machine ({type(exc).__name__}); {again}") from exc
    for name, values in _DEFAULTS:
        given = getattr(found, name)()
        if any(getattr(given, field) != value for field, value in values.items()):
            raise ValueError(f"llama.cpp is not built as this stage expects it (`{name}`); {again}")
    found.llama_log_set(_SWALLOW, None)
    found.llama_backend_init()
    return found


def _open(file: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(file))
    except OSError:
        # the one library that a bare system may lack is OpenMP's; torch brings it, under the same name
        spec = find_spec("torch")
        for folder in (spec.submodule_search_locations if spec else None) or ():
            for openmp in Path(folder, "lib").glob("libgomp.so*"):
                ctypes.CDLL(str(openmp), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(file))
