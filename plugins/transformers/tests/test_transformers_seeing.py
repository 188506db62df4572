"""Tiny models of four families that see, from their configs: pixels, batches, kept prefixes and streams.

Each is written to a folder, as a checkpoint is, and loaded from there. What comes out is compared with the family's own
`generate`, and what goes in with arithmetic of our own. Over 300 lines because every test runs on each of the families,
whose making is a third of it.
"""

import asyncio
import hashlib
import io

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gateway.plugin import Demonstration, Ended, Image, Prompt, Request, Sampling, Text, Turn
from gateway_transformers import Config, build
from gateway_transformers.batched import Batched
from gateway_transformers.load import hush
from gateway_transformers.processors import load_processor, still
from gateway_transformers.single import Single

FAMILIES = ("gemma3", "qwen2.5-vl", "llava", "internvl")
RED, BLUE = (200, 30, 60), (10, 120, 240)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
TOKENS = {
    "gemma3": {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    "qwen2.5-vl": {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    },
    "llava": {"image_token": "<image>"},
    "internvl": {
        "context_image_token": "<IMG_CONTEXT>",
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "video_token": "<video>",
    },
}
PLACEHOLDERS = {
    "gemma3": "<start_of_image>",
    "qwen2.5-vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "llava": "<image>",
    "internvl": "<IMG_CONTEXT>\\n",
}
TEXT = {
    "vocab_size": 272,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
EYE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module", autouse=True)
def quiet():
    hush()


def tokenizer(name):
    from transformers import PreTrainedTokenizerFast

    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    words = ["<pad>", "<s>", "</s>", "<unk>", *TOKENS[name].values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, extra_special_tokens=TOKENS[name], **named)


def number(name, token):
    return 4 + list(TOKENS[name]).index(token)


def model_of(name):
    import transformers as tr

    if name == "gemma3":
        window = {"head_dim": 16, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}
        made = tr.Gemma3ForConditionalGeneration(
            tr.Gemma3Config(
                text_config=tr.Gemma3TextConfig(**TEXT, **window),
                vision_config=tr.SiglipVisionConfig(**EYE, image_size=32, patch_size=8),
                mm_tokens_per_image=4,
                boi_token_index=number(name, "boi_token"),
                eoi_token_index=number(name, "eoi_token"),
                image_token_index=number(name, "image_token"),
                initializer_range=0.3,
                tie_word_embeddings=False,
            )
        )
        # a new projector is all zeros, and would show nothing of a picture
        torch.nn.init.normal_(made.model.multi_modal_projector.mm_input_projection_weight, std=0.5)
        return made
    if name == "qwen2.5-vl":
        rope = {"rope_type": "default", "mrope_section": [2, 3, 3]}
        return tr.Qwen2_5_VLForConditionalGeneration(
            tr.Qwen2_5_VLConfig(
                text_config={**TEXT, "rope_parameters": rope},
                vision_config={
                    "depth": 2,
                    "hidden_size": 32,
                    "intermediate_size": 64,
                    "num_heads": 2,
                    "patch_size": 4,
                    "window_size": 16,
                    "out_hidden_size": 64,
                    "fullatt_block_indexes": [1],
                    "initializer_range": 0.3,
                },
                image_token_id=number(name, "image_token"),
                video_token_id=number(name, "video_token"),
                vision_start_token_id=number(name, "vision_start_token"),
                vision_end_token_id=number(name, "vision_end_token"),
            )
        )
    if name == "llava":  # with the language model of HuatuoGPT-Vision
        return tr.LlavaForConditionalGeneration(
            tr.LlavaConfig(
                vision_config=tr.CLIPVisionConfig(**EYE, image_size=32, patch_size=8, initializer_range=0.5),
                text_config=tr.Qwen2Config(**TEXT),
                image_token_index=number(name, "image_token"),
                vision_feature_layer=-1,
                image_seq_length=16,
            )
        )
    return tr.InternVLForConditionalGeneration(
        tr.InternVLConfig(
            vision_config=tr.InternVLVisionConfig(**EYE, image_size=32, patch_size=8, initializer_range=0.3),
            text_config=tr.Qwen2Config(**TEXT),
            image_token_id=number(name, "context_image_token"),
            image_seq_length=4,
        )
    )


def processor_of(name):
    import transformers as tr

    side = {"height": 32, "width": 32}
    told = {"tokenizer": tokenizer(name), "chat_template": TEMPLATE.replace("IMAGE", PLACEHOLDERS[name])}
    if name == "gemma3":
        return tr.Gemma3Processor(image_processor=tr.Gemma3ImageProcessorPil(size=side), image_seq_length=4, **told)
    if name == "qwen2.5-vl":
        eye = tr.Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 256, "longest_edge": 4096})
        return still(tr.Qwen2_5_VLProcessor)(image_processor=eye, **told)
    if name == "llava":
        return tr.LlavaProcessor(
            image_processor=tr.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side),
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            **told,
        )
    eye = tr.GotOcr2ImageProcessorPil(size=side)
    return still(tr.InternVLProcessor)(image_processor=eye, image_seq_length=4, **told)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name in FAMILIES:
        made[name] = folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(1)
        model_of(name).save_pretrained(folder)
        processor_of(name).save_pretrained(folder)
    return made


def built(folders, name, **config):
    return build(Config(path=str(folders[name]), model=name, dtype="float32", threads=1, **config))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, folders):
    backend = built(folders, request.param, batch=4)
    yield backend
    backend.worker.close()


def picture(left=RED, right=BLUE, width=32, height=32):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    made = io.BytesIO()
    Pillow.fromarray(pixels).save(made, "PNG")
    data = made.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    return Image(id="i", data=data, media_type="image/png", width=width, height=height, digest=digest, source="png")


def ask(*parts, shown=(), **sampling):
    parts = tuple(Text(id="t", text=p) if isinstance(p, str) else p for p in parts)
    turns = (Turn(role="user", parts=parts),)
    request = Request(id="d", department="d", model="m", turns=turns, sampling=Sampling(**sampling))
    return Prompt(request=request, demonstrations=tuple(shown))


def demonstration(place, image=None):
    return Demonstration(
        id=str(place), pair=str(place), modality="ct", question=f"What is {place}?", answer="A CT of the chest. " * 8,
        refuses=False, image=image,
    )  # fmt: skip


def words(completion):
    return [choice.text.text for choice in completion.choices]


def own_answer(folder, prompt, tokens):
    """Answer by transformers alone: its processor over the whole chat, its model, its `generate`."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    chat, images = [], []
    for turn in prompt.chat():
        content = []
        for part in turn.parts:
            if isinstance(part, Image):
                images.append(Pillow.open(io.BytesIO(part.data)).convert("RGB"))
            content.append({"type": "image"} if isinstance(part, Image) else {"type": "text", "text": part.text})
        chat.append({"role": turn.role, "content": content})
    processor = load_processor(str(folder), AutoConfig.from_pretrained(folder))
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    made = processor(text=[text], images=images or None, return_tensors="pt", add_special_tokens=False)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    ids = model.generate(**made, do_sample=False, max_new_tokens=tokens)[0, made["input_ids"].shape[1] :]
    return processor.tokenizer.decode(ids, skip_special_tokens=True)


def watched(backend):
    """Note the pixels that reach the vision tower."""
    inner, seen = backend._loaded.model.model, []
    tower = getattr(inner, "visual", None) or inner.vision_tower

    def note(_, args, kwargs):
        seen.append((args[0] if args else kwargs["pixel_values"]).clone())

    return seen, tower.register_forward_pre_hook(note, with_kwargs=True)


def normalised(pixels, mean, std):
    """Scale `[h, w, 3]` of 0..255 by hand, to `[3, h, w]`."""
    return ((np.asarray(pixels, np.float64) / 255 - mean) / std).transpose(2, 0, 1)


def halves(width=32, height=32, left=RED, right=BLUE):
    return np.array([[left] * (width // 2) + [right] * (width // 2)] * height)


def patches(image, size, merge):
    """Lay `[3, h, w]` out as Qwen2-VL reads it: patches, those of one token after one another, each twice."""
    _, height, width = image.shape
    rows = []
    for y in range(0, height, size * merge):
        for x in range(0, width, size * merge):
            for dy in range(merge):
                for dx in range(merge):
                    top, left = y + dy * size, x + dx * size
                    one = image[:, top : top + size, left : left + size]
                    rows.append(np.stack([one, one], 1).reshape(-1))
    return np.stack(rows)


async def test_the_pixels_that_reach_the_model_are_those_of_the_picture(family, monkeypatch):
    name = family.models()[0]
    seen, hook = watched(family)
    try:
        completion = await family.complete(ask(picture(), "what?", max_tokens=2))
        await family.complete(ask(picture(width=64), "what?", max_tokens=2))
    finally:
        hook.remove()
    square, wide = (pixels.numpy().astype(np.float64) for pixels in seen)
    token = 4 + list(TOKENS[name]).index("context_image_token" if name == "internvl" else "image_token")
    ids = [family._read(ask(picture(width=width), "what?")).ids for width in (32, 64)]
    mean, std = HALF if name == "gemma3" else CLIP
    wanted = normalised(halves(), mean, std)
    if name == "qwen2.5-vl":
        assert square == pytest.approx(patches(wanted, 4, 2), abs=1e-5)
        assert wide == pytest.approx(patches(normalised(halves(64), mean, std), 4, 2), abs=1e-5)
        assert [one.count(token) for one in ids] == [16, 32]
    elif name == "internvl":  # two tiles, then the whole in small
        assert square == pytest.approx(wanted[None], abs=1e-5)
        tiles = [normalised(halves(left=c, right=c), mean, std) for c in (RED, BLUE)]
        assert wide[:2] == pytest.approx(np.stack(tiles), abs=1e-5)
        assert wide[2][:, :, :12] == pytest.approx(wanted[:, :, :12], abs=1e-5)
        assert [one.count(token) for one in ids] == [4, 12]
    else:
        assert square == pytest.approx(wanted[None], abs=1e-5)
        assert wide.shape == (1, 3, 32, 32)
        assert wide[0][:, :, :12] == pytest.approx(wanted[:, :, :12], abs=1e-5)
        assert [one.count(token) for one in ids] == [4 if name == "gemma3" else 16] * 2
    assert completion.usage.prompt_tokens == len(ids[0])
    several = ask(*(picture(width=w, height=h) for w, h in ((32, 32), (64, 32), (200, 90), (33, 70))), "what?")
    counted = family._reader.image_sizes(several.request.images())
    read = len(family._read(several).ids)
    assert 0 < read - len("[user]what?</s>[assistant]") <= counted < 400
    assert await family.room(several) == 1024 - read
    monkeypatch.setattr("gateway_transformers.backend.PLENTY", 100)
    assert 1024 - read - 300 < await family.room(several) <= 1024 - read
    assert not completion.blind


async def test_answers_are_those_of_the_familys_own_generate_alone_and_side_by_side(family, folders):
    name = family.models()[0]
    assert type(family.worker) is Batched
    assert family._reader.split
    asked = [
        ask(picture(), "what?", max_tokens=12),
        ask(picture(BLUE, RED, 64, 48), "and on " * 20, max_tokens=12),
        ask("no picture " * 9, max_tokens=12),
        ask(picture(RED, RED), "which ", picture(BLUE, BLUE, 40, 64), "of the two?", max_tokens=12),
        ask(picture(BLUE, BLUE), "this?", shown=(demonstration(0, picture(RED, RED)), demonstration(1)), max_tokens=12),
    ]
    wanted = [own_answer(folders[name], one, 12) for one in asked]
    assert [words(await family.complete(one))[0] for one in asked] == wanted
    sizes = []
    write = family.worker._write

    def counted(rows):
        sizes.append(len(rows))
        write(rows)

    family.worker._write = counted
    try:
        assert [words(one)[0] for one in await asyncio.gather(*map(family.complete, asked))] == wanted
    finally:
        family.worker._write = write
    assert max(sizes) >= 3


async def test_another_picture_gets_another_answer(family):
    asked = [ask(picture(c, c), "what?", max_tokens=16) for c in ((0, 0, 0), RED, (255, 255, 255))]
    got = [words(await family.complete(one))[0] for one in (*asked, asked[0], ask("what?", max_tokens=16))]
    assert got[3] == got[0]
    assert len(set(got)) == 4


async def streamed(backend, prompt):
    """Give the pieces of each choice, and the end."""
    pieces, ended = {}, None
    async for piece in backend.stream(prompt):
        assert ended is None
        if isinstance(piece, Ended):
            ended = piece
        else:
            pieces.setdefault(piece.choice, []).append(piece)
    return pieces, ended


async def test_a_stream_adds_up_to_the_whole_answer(family):
    asked = ask(picture(), "what?", n=3, temperature=1.0, seed=5, max_tokens=20)
    whole = words(await family.complete(asked))
    stop = whole[1][4:6]
    asked = ask(picture(), "what?", n=3, temperature=1.0, seed=5, max_tokens=20, stop=(stop, "never written"))
    completion = await family.complete(asked)
    pieces, ended = await streamed(family, asked)
    assert ["".join(p.text for p in pieces[n]) for n in range(3)] == words(completion)
    assert [pieces[n][-1].finish_reason for n in range(3)] == [c.finish_reason for c in completion.choices]
    assert words(completion)[1] == whole[1][: whole[1].index(stop)]
    assert (ended.usage, ended.model, ended.blind) == (completion.usage, completion.model, False)


async def test_a_kept_prefix_with_pictures_is_neither_read_nor_seen_again(family, folders):
    shown = (demonstration(0, picture(RED, RED)), demonstration(1), demonstration(2, picture(BLUE, RED, 64, 64)))
    other = (demonstration(0, picture(BLUE, BLUE)), *shown[1:])
    asked = [ask(picture(BLUE, RED), f"question {n}", shown=shown, max_tokens=10) for n in range(2)]
    asked.append(ask(picture(BLUE, RED), "question 1", shown=other, max_tokens=10))
    anew = built(folders, family.models()[0], prefix_mib=0)
    try:
        wanted = [await anew.complete(one) for one in asked]
        assert anew.worker.prefixes.reused == 0
    finally:
        await anew.aclose()
    mark = family._read(asked[0]).mark
    assert mark > 300
    await family.complete(asked[0])
    seen, hook = watched(family)
    before = family.worker.prefixes.reused
    try:
        second = await family.complete(asked[1])
        assert len(seen) == 1
        rest = family._read(asked[1]).segments[1].inputs()
        assert torch.equal(seen[0], rest["pixel_values"])
        assert family.worker.prefixes.reused - before == mark
        third = await family.complete(asked[2])
        assert len(seen) == 3
        assert family.worker.prefixes.reused - before == mark  # the same tokens, but of another picture
    finally:
        hook.remove()
    assert [second, third] == wanted[1:]


async def test_packed_demonstrations_are_kept_without_a_word_of_the_caller(family, folders):
    shown = (demonstration(0, picture(RED, RED)), demonstration(1))
    asked = [ask(picture(BLUE, RED), f"question {n}", shown=shown, max_tokens=10) for n in range(2)]
    asked = [
        Prompt(
            request=msgspec.structs.replace(a.request, id=str(n)), demonstrations=shown, form="packed", role="Be safe."
        )
        for n, a in enumerate(asked)
    ]
    first = family._read(asked[0])
    kept = family._loaded.tokenizer.decode(first.ids[: first.mark])
    assert "Be safe." in kept
    assert kept.rstrip().endswith("Answer: " + ("A CT of the chest. " * 8).rstrip())
    await family.complete(asked[0])
    before = family.worker.prefixes.reused
    got = words(await family.complete(asked[1]))[0]
    assert family.worker.prefixes.reused - before == first.mark
    assert got == own_answer(folders[family.models()[0]], asked[1], 10)


async def test_text_can_not_stand_for_a_picture(family):
    name = family.models()[0]
    forged = "what is " + " ".join(TOKENS[name].values()) + " here?"
    for token in range(4, 4 + len(TOKENS[name])):
        assert family._read(ask(forged)).ids.count(token) == 0
        honest, read = (family._read(ask(picture(), text)) for text in ("what?", forged))
        assert read.ids.count(token) == honest.ids.count(token)


@pytest.mark.parametrize("name", ["llava", "gemma3"])
async def test_a_model_whose_rows_disagree_runs_alone_and_answers_alike(folders, monkeypatch, name):
    monkeypatch.setattr("gateway_transformers.agreeing._sees_alike", lambda *_: False)
    alone = built(folders, name, batch=2)
    try:
        assert type(alone.worker) is Single
        asked = [
            ask(picture(), "what?", max_tokens=9),
            ask(picture(BLUE, RED), "and?", shown=(demonstration(0, picture()),), max_tokens=9),
        ]
        got = await asyncio.gather(*map(alone.complete, asked))
        assert [words(one)[0] for one in got] == [own_answer(folders[name], one, 9) for one in asked]
        several = ask(picture(), "what?", n=3, temperature=1.0, seed=5, max_tokens=8)
        pieces, _ = await streamed(alone, several)
        assert ["".join(p.text for p in pieces[n]) for n in range(3)] == words(await alone.complete(several))
        scores = await alone.score(ask(picture(), "what?"), ("yes", "no", "maybe"))
    finally:
        await alone.aclose()
    monkeypatch.undo()
    rows = built(folders, name)
    try:
        assert type(rows.worker) is Batched
        assert await rows.score(ask(picture(), "what?"), ("yes", "no", "maybe")) == pytest.approx(scores, abs=1e-3)
    finally:
        await rows.aclose()
