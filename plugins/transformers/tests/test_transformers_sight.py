"""The model of our own that sees, in tiny; and once, whole, as it is shipped."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from gateway_transformers import Config
from gateway_transformers.load import load
from gateway_transformers.sight import FOLDER, MARK, NAME
from gateway_transformers.sight.loading import PICTURE
from gateway_transformers.sight.loading import load as load_sight
from gateway_transformers.sight.network import TOKENS, SightVisionConfig, SightVisionModel
from gateway_transformers.sight.words import ASKED, CAPTIONS, KINDS, dialogue, named

STAGES = [[1, 3, 1, 1, 4], [2, 3, 2, 2, 8]]


def tower():
    torch.manual_seed(0)
    return SightVisionModel(SightVisionConfig(stages=STAGES, stem=4, head=16, taps=[2])).eval()


def test_a_picture_becomes_tokens_that_know_their_place():
    net = tower()
    tokens = net(torch.rand(2, 3, 32, 32)).last_hidden_state
    assert tokens.shape == (2, TOKENS, net.config.hidden_size) == (2, 5, 16 + 2 * 8 + 5)
    assert torch.equal(tokens[0, :, -TOKENS:], torch.eye(TOKENS))


def test_the_first_token_is_of_the_whole_and_the_others_of_its_parts():
    tokens = tower()(torch.rand(1, 3, 32, 32)).last_hidden_state[0, :, :16]
    assert torch.allclose(tokens[0], tokens[1:].mean(0), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_names_its_modality_alone(kind):
    assert named(f"This is {KINDS[kind]}.") == kind
    rng = np.random.default_rng(0)
    drawn = [dialogue(kind, "the chest", rng) for _ in range(60)]
    assert all(question != ASKED for question, _ in drawn)
    assert {named(answer) for _, answer in drawn} <= {kind, None}
    assert set(CAPTIONS) == set(KINDS)


def test_an_answer_that_names_two_or_none_names_nothing():
    assert named("It could be a CT or an MRI scan.") is None
    assert named("I see a picture of the factory.") is None


@pytest.mark.parametrize("harm", ["projector", "manifest", "encoder"])
def test_a_folder_that_is_not_whole_is_refused(tmp_path, harm):
    folder = tmp_path / "w"
    shutil.copytree(FOLDER, folder)
    if harm == "projector":
        with (folder / "projector.safetensors").open("ab") as file:
            file.write(b"\0")
    elif harm == "manifest":
        (folder / MARK).write_text("{}")
    else:
        text = (folder / MARK).read_text()
        (folder / MARK).write_text(text.replace('"encoder": "', '"encoder": "0'))
    with pytest.raises(ValueError, match=r"sha256|can not be read|train it again"):
        load_sight(folder, torch.float32)


def test_the_shipped_model_loads_and_without_pictures_is_the_language_model():
    loaded = load(Config(model=NAME, dtype="float32"))
    assert loaded.context == 8192
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a CT?\nAnd an MRI?"}]
    parts = [
        {"role": m["role"], "content": [{"type": "text", "text": t} for t in m["content"].split("\n")]} for m in chat
    ]
    for turns, told in ((chat, parts), (chat[1:], parts[1:])):
        wanted = loaded.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert loaded.processor.apply_chat_template(told, tokenize=False, add_generation_prompt=True) == wanted
    ids = loaded.tokenizer(wanted, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        inner = loaded.model.model.language_model(input_ids=ids).last_hidden_state
        assert torch.equal(loaded.model(input_ids=ids).logits, loaded.model.lm_head(inner))
        picture = Pillow.fromarray(np.arange(256, dtype=np.uint8).repeat(256).reshape(256, 256)).convert("RGB")
        ask = f"<|im_start|>user\n[image:{PICTURE}]\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"
        made = loaded.processor(text=[ask], images=[picture], return_tensors="pt", add_special_tokens=False)
        assert int((made["input_ids"] == loaded.model.config.image_token_id).sum()) == TOKENS
        said = loaded.model.generate(**made, max_new_tokens=10, do_sample=False)
    assert "This is" in loaded.tokenizer.decode(said[0, made["input_ids"].shape[1] :])
