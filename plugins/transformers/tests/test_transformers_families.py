"""Tiny models made from configs: rows agree with `generate`, odd attention falls back, and pixels reach the model."""

import asyncio
import hashlib
import io

import pytest
import torch
from PIL import Image as Pillow
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gateway.plugin import Image, Prompt, Request, Sampling, Text, Turn
from gateway_transformers import Config, build
from gateway_transformers.batched import Batched
from gateway_transformers.load import hush
from gateway_transformers.single import Single

CONTROLS = ["<pad>", "<s>", "</s>", "<image>", "<unk>"]
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}"
)


@pytest.fixture(scope="module", autouse=True)
def quiet():
    hush()


def tokenizer(template=TEMPLATE):
    from transformers import PreTrainedTokenizerFast

    words = CONTROLS + sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, extra_special_tokens=["<image>"], chat_template=template, **named
    )


SMALL = {
    "vocab_size": 261,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}


def family(name):
    import transformers as tr

    # layer types that alternate, and a window shorter than the prompts
    window = {"head_dim": 16, "sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}
    if name == "llama":
        return tr.LlamaForCausalLM(tr.LlamaConfig(**SMALL))
    if name == "qwen3":
        return tr.Qwen3ForCausalLM(tr.Qwen3Config(**SMALL, head_dim=16))
    if name == "gemma3":
        return tr.Gemma3ForCausalLM(tr.Gemma3TextConfig(**SMALL, **window))
    return tr.Gemma2ForCausalLM(tr.Gemma2Config(**SMALL, **window, attn_logit_softcapping=5.0))


def saved(folder, name, template=TEMPLATE):
    torch.manual_seed(1)
    model = family(name)
    model.save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    return model.eval()


def ask(*parts, role="user", **sampling):
    turns = (Turn(role=role, parts=tuple(Text(id="t", text=p) if isinstance(p, str) else p for p in parts)),)
    request = Request(id="d", department="d", model="m", turns=turns, sampling=Sampling(**sampling))
    return Prompt(request=request)


def words(completion):
    return [choice.text.text for choice in completion.choices]


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "gemma2"])
async def test_a_family_writes_what_its_own_generate_writes(tmp_path, name):
    model = saved(tmp_path, name)
    backend = build(Config(path=str(tmp_path), model=name, dtype="float32", batch=3))
    try:
        # gemma2 caps its attention's logits, which rows do not do, so it must have been found out
        assert type(backend.worker) is (Single if name == "gemma2" else Batched)
        asked = [f"question {n}, " + "and on " * (5 * n + 1) for n in range(5)]
        got = await asyncio.gather(*(backend.complete(ask(a, max_tokens=20)) for a in asked))
        for text, completion in zip(asked, got, strict=True):
            ids = backend._loaded.tokenizer(f"[user]{text}</s>[assistant]", add_special_tokens=False)["input_ids"]
            wanted = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=20)[0, len(ids) :]
            assert words(completion)[0] == backend._loaded.tokenizer.decode(wanted, skip_special_tokens=True)
            assert completion.usage.prompt_tokens == len(ids)
            assert completion.usage.completion_tokens == len(wanted)
        several = await backend.complete(ask("hello", n=2, temperature=1.0, seed=3, max_tokens=9, stop=("zzz",)))
        again = await backend.complete(ask("hello", n=2, temperature=1.0, seed=3, max_tokens=9))
        assert words(several) == words(again)
        assert words(several)[0] != words(several)[1]
    finally:
        await backend.aclose()


def likelihood(model, before, answer):
    """Give the log-probability of `answer` after `before` by the model's own forward, all tokens at once."""
    ids, spelt = [tokenizer()(t, add_special_tokens=False)["input_ids"] for t in (before, answer)]
    with torch.inference_mode():
        told = torch.log_softmax(model(input_ids=torch.tensor([ids + spelt])).logits[0].float(), dim=-1)
    return sum(float(told[len(ids) - 1 + n, token]) for n, token in enumerate(spelt))


@pytest.mark.parametrize("name", ["llama", "gemma3", "gemma2"])
async def test_a_family_scores_answers_as_its_own_forward_does(tmp_path, name):
    model = saved(tmp_path, name)
    backend = build(Config(path=str(tmp_path), model=name, dtype="float32", batch=3))
    try:
        asked = [f"question {n}, " + "and on " * (60 * n) for n in range(3)]
        for answers in (("yes", "no", "perhaps"), ("y",), ("y", "no")):
            got = await asyncio.gather(*(backend.score(ask(text), answers) for text in asked))
            for text, scores in zip(asked, got, strict=True):
                wanted = [likelihood(model, f"[user]{text}</s>[assistant]", answer) for answer in answers]
                assert scores == pytest.approx(wanted, abs=1e-3)
        written, scores = await asyncio.gather(
            backend.complete(ask("hello", max_tokens=9)), backend.score(ask("hello"), ("yes", "no"))
        )
        assert written == await backend.complete(ask("hello", max_tokens=9))
        assert scores == await backend.score(ask("hello"), ("yes", "no"))
    finally:
        await backend.aclose()


async def test_a_long_prompt_read_in_blocks_is_the_same_prompt(tmp_path):
    model = saved(tmp_path, "llama")
    backend = build(Config(path=str(tmp_path), model="m", dtype="float32"))
    try:
        text = "long " * 130  # three blocks
        completion = await backend.complete(ask(text, max_tokens=12))
        ids = backend._loaded.tokenizer(f"[user]{text}</s>[assistant]", add_special_tokens=False)["input_ids"]
        wanted = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12)[0, len(ids) :]
        assert words(completion)[0] == backend._loaded.tokenizer.decode(wanted, skip_special_tokens=True)
    finally:
        await backend.aclose()


async def test_a_checkpoints_own_sampling_does_not_slip_in(tmp_path):
    model = saved(tmp_path, "gemma2")
    ids = tokenizer()("[user]hello</s>[assistant]", add_special_tokens=False)["input_ids"]
    wanted = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12)[0, len(ids) :]
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=9.0)
    model.generation_config.save_pretrained(tmp_path)
    backend = build(Config(path=str(tmp_path), model="m", dtype="float32"))
    try:
        got = [words(await backend.complete(ask("hello", max_tokens=12))) for _ in range(2)]
        assert got[0] == got[1] == [backend._loaded.tokenizer.decode(wanted, skip_special_tokens=True)]
    finally:
        await backend.aclose()


async def test_a_template_that_takes_no_system_turn_gets_its_words_in_the_users(tmp_path):
    saved(tmp_path, "llama", STRICT)
    backend = build(Config(path=str(tmp_path), model="m", dtype="float32"))
    try:
        turns = tuple(
            Turn(role=role, parts=(Text(id="t", text=said),))
            for role, said in (("system", "rule"), ("user", "one"), ("user", "two"), ("assistant", "three"))
        )
        late = (*turns, Turn(role="system", parts=(Text(id="t", text="late"),)))
        prompt = Prompt(request=Request(id="d", department="d", model="m", turns=late))
        text = backend._loaded.tokenizer.decode(backend._read(prompt).ids)
        assert text == "[user]rule\none\ntwo</s>[assistant]three</s>[user]late</s>"
    finally:
        await backend.aclose()


def test_a_model_without_a_chat_template_stops_the_start(tmp_path):
    saved(tmp_path, "llama", None)
    with pytest.raises(ValueError, match="chat template"):
        build(Config(path=str(tmp_path), model="m", dtype="float32"))


def picture(colour):
    made = io.BytesIO()
    Pillow.new("RGB", (40, 40), colour).save(made, "PNG")
    data = made.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    return Image(id="i", data=data, media_type="image/png", width=40, height=40, digest=digest, source="png")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(1)
    sides = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sides, image_size=32, patch_size=8, initializer_range=0.5),
        text_config=LlamaConfig(**SMALL),
        image_token_index=CONTROLS.index("<image>"),
        vision_feature_layer=-1,
        image_seq_length=16,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    backend = build(Config(path=str(folder), model="tiny-llava", dtype="float32", max_new_tokens=16))
    yield backend
    backend.worker.close()


async def test_pixels_reach_a_model_that_sees(seeing):
    black, white = [await seeing.complete(ask("what?", picture(c))) for c in ("black", "white")]
    again = await seeing.complete(ask("what?", picture("black")))
    none = await seeing.complete(ask("what?"))
    assert words(black) == words(again)
    assert words(black) != words(white)
    assert words(black) != words(none)
    assert not black.blind
    assert "Note:" not in words(black)[0]
    assert black.usage.prompt_tokens == none.usage.prompt_tokens + 16
    read = seeing._read(ask("what?", picture("white")))
    assert tuple(read.segments[-1].inputs()["pixel_values"].shape) == (1, 3, 32, 32)
    both = await seeing.complete(ask(picture("black"), picture("white"), "which?", n=2, temperature=1.0, seed=4))
    assert len(both.choices) == 2
    assert both.usage.prompt_tokens > black.usage.prompt_tokens + 15


async def test_a_seeing_model_scores_with_and_without_pixels(seeing):
    from transformers import LlavaForConditionalGeneration

    none, black, white = [
        await seeing.score(ask("what?", *shown), ("yes", "no"))
        for shown in ((), (picture("black"),), (picture("white"),))
    ]
    own = LlavaForConditionalGeneration.from_pretrained(seeing._config.path)
    wanted = [likelihood(own, "[user]what?</s>[assistant]", answer) for answer in ("yes", "no")]
    assert none == pytest.approx(wanted, abs=1e-3)
    assert len({none, black, white}) == 3


async def until(true):
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  the worker's thread sets no asyncio event
            await asyncio.sleep(0.005)


async def test_text_can_not_stand_for_an_image(seeing):
    read = seeing._read(ask("what is <image> here?", picture("black")))
    assert read.ids.count(CONTROLS.index("<image>")) == 16
    plain = seeing._read(ask("what is <image> here?"))
    assert plain.ids.count(CONTROLS.index("<image>")) == 0


async def test_a_seeing_model_stops_when_the_caller_gives_up(seeing):
    task = asyncio.create_task(seeing.complete(ask("what?", picture("black"), max_tokens=900, temperature=9.0, seed=1)))
    await until(seeing.worker.active)
    task.cancel()
    await until(lambda: not seeing.worker.active())


def test_a_file_that_is_no_gguf_stops_the_start(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ValueError, match="can not be read as a language model"):
        build(Config(path=str(path), model="m"))
