"""What a model takes is told before it is loaded, held to while it writes, and given back."""

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import weakref

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gateway.plugin import Prompt, Request, Sampling, Text, Turn
from gateway_transformers import Config, build
from gateway_transformers.errors import GenerationFailed
from gateway_transformers.load import hush
from gateway_transformers.memory import MIB
from gateway_transformers.single import Single

TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}[assistant]"
TOKEN = 2 * 2 * 4 * 16 * 4
"""Bytes of one token: keys and values, two layers, four heads of sixteen, float32."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import transformers as tr

    hush()
    torch.manual_seed(1)
    made = tmp_path_factory.mktemp("llama")
    words = ["<pad>", "<s>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
    config = tr.LlamaConfig(vocab_size=260, max_position_embeddings=1024, initializer_range=0.2, **sizes, **ids)
    tr.LlamaForCausalLM(config).save_pretrained(made)
    tr.PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=TEMPLATE, pad_token="<pad>").save_pretrained(made)
    return made


def config(folder, **more):
    return Config(path=str(folder), model="tiny", dtype="float32", threads=1, **more)


def ask(text, **sampling):
    turn = Turn(role="user", parts=(Text(id="t", text=text),))
    return Prompt(request=Request(id="d", department="d", model="m", turns=(turn,), sampling=Sampling(**sampling)))


def words(completion):
    return [choice.text.text for choice in completion.choices]


async def until(true):
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  the worker's thread sets no asyncio event
            await asyncio.sleep(0.002)


def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(folder, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    (bare / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="`memory_mib` of 3 is not enough") as caught:
        build(config(bare, memory_mib=3, prefix_mib=2))
    for told in ("the weights take 1 MiB", "prefixes 2 MiB", "context of 1024 tokens 1 MiB", "raise it to 4 or more"):
        assert told in str(caught.value)
    with pytest.raises(ValueError, match="can not be loaded"):
        build(config(bare, memory_mib=3, prefix_mib=1))


def test_the_embedded_model_is_measured_by_its_header():
    with pytest.raises(ValueError, match=r"the weights take 5\d\d MiB, .* lower `context`"):
        build(Config(dtype="float32", memory_mib=600))


@pytest.mark.parametrize("alone", [False, True])
async def test_answers_at_work_stay_within_the_memory_and_the_rest_waits(folder, monkeypatch, alone):
    if alone:
        monkeypatch.setattr("gateway_transformers.agreeing._agrees", lambda _: False)
    backend = build(config(folder, memory_mib=2, prefix_mib=0, batch=8))
    free = build(config(folder, batch=8))
    try:
        assert backend._loaded.token_bytes == TOKEN
        weights = sum(p.numel() * p.element_size() for p in backend._loaded.model.parameters())
        most = backend._loaded.memory
        assert most == 2 * MIB - weights
        held = []
        inner = backend._loaded.model.forward

        def watched(*args, **kwargs):
            if alone:
                held.append(len(kwargs["input_ids"]) * 340 * TOKEN)
            else:
                held.append(sum(line.tokens for line in backend.worker._rows) * TOKEN)
            return inner(*args, **kwargs)

        backend._loaded.model.forward = watched
        asked = [ask(f"{n} " + "x" * 300, max_tokens=20, n=n) for n in (9, 1, 2)]
        small = ask("hello", max_tokens=4)
        got = await asyncio.gather(*map(backend.complete, (*asked, small)))
        assert got == await asyncio.gather(*map(free.complete, (*asked, small)))
        assert max(held) <= most
        assert max(held) >= (4 if alone else 3) * 320 * TOKEN
    finally:
        await backend.aclose()
        await free.aclose()


async def test_closing_frees_the_model_and_what_was_kept(folder):
    backend = build(config(folder))
    await backend.complete(ask("hello", max_tokens=4))
    gone = weakref.ref(backend._loaded.model)
    assert gone() is backend._loaded.model
    await backend.aclose()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("alone", [False, True])
async def test_an_idle_model_is_unloaded_and_loaded_again_for_the_next_request(folder, monkeypatch, alone):
    if alone:
        monkeypatch.setattr("gateway_transformers.agreeing._agrees", lambda _: False)
    backend = build(config(folder, unload_after=0.02))
    try:
        assert isinstance(backend.worker, Single) is alone
        asked = ask("hello", max_tokens=8)
        for _ in range(2):
            first = await backend.complete(asked)
            await until(lambda: backend._loaded.model is None)
            assert await backend.room(asked) > 0
            assert await backend.complete(asked) == first
    finally:
        await backend.aclose()


async def test_a_model_that_can_not_be_loaded_again_fails_the_request_and_may_come_back(folder, tmp_path):
    moved, away = tmp_path / "model", tmp_path / "away"
    shutil.copytree(folder, moved)
    backend = build(config(moved, unload_after=0.02))
    try:
        first = await backend.complete(ask("hello", max_tokens=8))
        await until(lambda: backend._loaded.model is None)
        moved.rename(away)
        with pytest.raises(GenerationFailed, match="loaded again"):
            await backend.complete(ask("hello", max_tokens=8))
        away.rename(moved)
        assert words(await backend.complete(ask("hello", max_tokens=8))) == words(first)
    finally:
        await backend.aclose()


def test_a_hub_id_is_found_in_the_hubs_cache_and_its_commit_is_told(folder, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--acme--tiny"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    code = (
        "from gateway_transformers import Config; from gateway_transformers.load import load;"
        "print(load(Config(path='acme/tiny', model='m', dtype='float32')).revision)"
    )
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == commit
