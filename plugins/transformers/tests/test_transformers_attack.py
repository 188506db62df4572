"""The attack by gradients: within its bound it makes the wanted opening likelier. On a tiny model from a config."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gateway_transformers.attack.__main__ import lines, rows_of, run
from gateway_transformers.attack.pgd import Aim, Attacker
from gateway_transformers.load import Loaded

WORDS = ["<pad>", "<s>", "</s>", "<image>", "<unk>"]
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)


@pytest.fixture(scope="module")
def loaded():
    import transformers as tr

    torch.manual_seed(1)
    vocabulary = WORDS + sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={w: n for n, w in enumerate(vocabulary)}, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = tr.PreTrainedTokenizerFast(
        tokenizer_object=made, extra_special_tokens=["<image>"], chat_template=TEMPLATE, **named
    )
    sides = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = tr.LlavaConfig(
        vision_config=tr.CLIPVisionConfig(**sides, hidden_size=32, image_size=32, patch_size=8, initializer_range=0.5),
        text_config=tr.LlamaConfig(**sides, vocab_size=261, hidden_size=64, initializer_range=0.3),
        image_token_index=3,
        vision_feature_layer=-1,
        image_seq_length=16,
    )
    processor = tr.LlavaProcessor(
        image_processor=tr.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    model = tr.LlavaForConditionalGeneration(config).eval().requires_grad_(False)
    return Loaded(model=model, tokenizer=tokenizer, processor=processor, context=512, ends=frozenset([2]))


def noisy(width=50, height=40):
    return Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_the_wanted_opening_grows_likelier_within_the_bound(loaded):
    attacker, aim = Attacker(loaded), Aim(target="Ok", eps=8, step=2, steps=12)
    picture = attacker.native(noisy())
    assert picture.size == (32, 32)
    made = attacker.attack("[user]why?<image></s>[a]", [picture], aim)
    moved = np.asarray(made.picture, int) - np.asarray(picture, int)
    assert 0 < np.abs(moved).max() <= 8
    assert made.attacked > max(made.clean, made.noise) + 0.05
    again = attacker.attack("[user]why?<image></s>[a]", [picture], aim)
    assert again.picture.tobytes() == made.picture.tobytes()


def test_what_is_kept_before_the_picture_changes_nothing(loaded, monkeypatch):
    attacker, aim = Attacker(loaded), Aim(target="Ok", steps=1)
    picture = attacker.native(noisy())
    kept = attacker.attack("[user]why?<image></s>[a]", [picture], aim)
    monkeypatch.setattr(Attacker, "_lead", lambda *_: 0)
    whole = attacker.attack("[user]why?<image></s>[a]", [picture], aim)
    assert kept.clean == pytest.approx(whole.clean, abs=1e-4)


def test_a_processor_that_cuts_tiles_is_refused(loaded):
    def tiles(**_):
        return {"pixel_values": torch.zeros(1, 4, 3, 32, 32)}

    tiles.image_mean, tiles.image_std = [0.5] * 3, [0.5] * 3
    odd = SimpleNamespace(image_processor=tiles)
    cut = Attacker(Loaded(model=None, tokenizer=None, processor=odd, context=1, ends=frozenset()))
    with pytest.raises(ValueError, match="more than scale"):
        cut.native(noisy())


def test_a_model_without_sight_is_refused():
    with pytest.raises(ValueError, match="reads text only"):
        Attacker(Loaded(model=None, tokenizer=None, processor=None, context=1, ends=frozenset()))


def test_rows_are_written_for_the_gateway_to_measure(loaded, tmp_path):
    noisy().save(tmp_path / "in.png")
    row = {"id": "1", "source": "s", "split": "test", "label": "harmful", "category": "H02", "text": "Alter it"}
    out = tmp_path / "out"
    shown = [{"text": "Forge it", "answer": "I can not do that."}]
    told = run(loaded, [{**row, "image": str(tmp_path / "in.png")}], shown, Aim(target="Ok", steps=2), out)
    (attacked,) = lines(out / "rows.jsonl")
    (clean,) = lines(out / "clean.jsonl")
    assert attacked == {**row, "image": "images/0000.png", "attack": "J11"}
    assert "attack" not in clean
    assert (out / attacked["image"]).is_file()
    assert (out / clean["image"]).is_file()
    assert told["rows"] == 1
    assert json.dumps(told)


def test_bad_rows_are_named_by_their_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError, match="can not be read"):
        lines(file)
    file.write_text('{"id": "1", "text": "a"}\n\n{broken\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:3: is no JSON object with a `text`"):
        lines(file)
    file.write_text('{"id": "1", "text": "a"}\n')
    with pytest.raises(ValueError, match=r"row `1`: has no `image`; name one for such rows with --image"):
        rows_of(file, 10, None)
    with pytest.raises(ValueError, match="no file"):
        rows_of(file, 10, tmp_path / "none.png")
