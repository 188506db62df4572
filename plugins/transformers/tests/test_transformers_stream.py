"""Answers in pieces: settled text only, the same text as the whole, and an end to the writing where nobody reads."""

import asyncio
import contextlib
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gateway.plugin import (
    UNSEEN_NOTE,
    Ended,
    Image,
    Prompt,
    Request,
    Sampling,
    StreamingBackend,
    Text,
    Turn,
    UnseenNoting,
    with_unseen_note,
)
from gateway_transformers import Config, build
from gateway_transformers.answer import WINDOW, Answer
from gateway_transformers.errors import GenerationFailed, PromptTooLong, QueueLate, RequestRefused
from gateway_transformers.load import hush

MARKER = "zebra-4711-marker"
CONTROLS = ["<pad>", "<s>", "</s>", "<unk>"]
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}[assistant]"
NAMED = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def by_bytes():
    """Make a tokenizer with a token for each byte, as of GPT-2's kind."""
    from transformers import PreTrainedTokenizerFast

    words = CONTROLS + sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATE, **NAMED)


def by_pieces():
    """Make a tokenizer of SentencePiece's kind: a space before a word, strange letters by their bytes."""
    from transformers import PreTrainedTokenizerFast

    words = [*CONTROLS, *(f"<0x{n:02X}>" for n in range(256)), "▁", *"abcdefgh", "▁ab"]
    made = Tokenizer(
        models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(parts)
    return PreTrainedTokenizerFast(tokenizer_object=made, **NAMED)


BYTES, PIECES = by_bytes(), by_pieces()


def grown(reader, tokens, stop=(), most=10_000):
    """Write `tokens`; give what `take` gave after each, and the whole."""
    answer = Answer(reader, Sampling(stop=tuple(stop)), most, frozenset({2}))
    given = []
    for token in tokens:
        done = answer.add(token)
        given.append(answer.take())
        if done:
            break
    return given, answer.written


texts = st.text(st.sampled_from("ab é€🩻\n � "), max_size=30)


@given(texts, st.lists(st.text(st.sampled_from("ab é€"), min_size=1, max_size=4), max_size=3), st.booleans())
def test_pieces_add_up_and_stop_before_a_stop_string(text, stop, ends):
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    given, written = grown(BYTES, [*ids, 2] if ends else ids, stop, most=len(ids) + ends or 1)
    if written is None:  # nothing was written at all
        assert ids == []
        return
    # the stop string that is complete first counts, wherever others begin: it ends the writing
    whole = next((text[:end] for end in range(1, len(text) + 1) if any(s in text[:end] for s in stop)), text)
    cuts = [whole.find(s) for s in stop if s in whole]
    assert written.text == (text[: min(cuts)] if cuts else text)
    assert "".join(given) == written.text
    assert written.ended == (ends or bool(cuts))


@given(st.lists(st.integers(4, 259), min_size=1, max_size=WINDOW // 2))
def test_bytes_that_make_no_text_are_told_in_the_end_and_as_the_tokenizer_tells_them(ids):
    given, written = grown(BYTES, [*ids, 2])
    assert "".join(given) == written.text == BYTES.decode(ids)


@given(st.lists(st.integers(4, len(PIECES) - 1), min_size=1, max_size=3 * WINDOW))
def test_pieces_add_up_whatever_a_decoder_makes_of_its_tokens(ids):
    for reader in (BYTES, PIECES):
        ids = [min(token, len(reader) - 1) for token in ids]
        given, written = grown(reader, [*ids, 2])
        assert "".join(given) == written.text
        assert written.tokens == len(ids) + 1


@given(st.text(st.sampled_from("abh é🩻"), min_size=1, max_size=40))
def test_spaces_and_letters_of_many_bytes_come_whole(text):
    ids = PIECES(text, add_special_tokens=False)["input_ids"]
    given, written = grown(PIECES, [*ids, 2])
    assert "".join(given) == written.text == PIECES.decode(ids)
    assert not any("�" in piece for piece in given)


def test_only_what_may_be_the_beginning_of_a_stop_string_is_held_back():
    given, _ = grown(BYTES, BYTES("so END or EN", add_special_tokens=False)["input_ids"], ["ENOUGH"])
    assert given == ["s", "o", " ", "", "", "END", " ", "o", "r", " ", "", ""]


@given(st.lists(st.text(st.sampled_from("ab \n"), max_size=4), min_size=1, max_size=6))
def test_the_note_of_a_blind_model_comes_last(pieces):
    noting = UnseenNoting()
    told = [noting.add(piece, last=number == len(pieces) - 1) for number, piece in enumerate(pieces)]
    assert "".join(told) == with_unseen_note("".join(pieces))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import transformers as tr

    hush()
    torch.manual_seed(1)
    made = tmp_path_factory.mktemp("llama")
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = tr.LlamaConfig(vocab_size=260, max_position_embeddings=1024, initializer_range=0.2, **sizes, **ids)
    tr.LlamaForCausalLM(config).save_pretrained(made)
    BYTES.save_pretrained(made)
    return made


@pytest.fixture
def backend(folder):
    made = build(Config(path=str(folder), model="tiny", dtype="float32", threads=1, batch=4))
    yield made
    made.worker.close()


class Gate:
    """Lets a model run only as many times as it is told to."""

    def __init__(self, backend, *, fails_at=None):
        self.calls = 0
        self._fails_at = fails_at
        self._pass = threading.Semaphore(0)
        self._inner = backend._loaded.model.forward
        backend._loaded.model.forward = self._forward

    def _forward(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self._fails_at:
            raise RuntimeError(MARKER)
        assert self._pass.acquire(timeout=30)
        return self._inner(*args, **kwargs)

    def open(self, times):
        self._pass.release(times)


def ask(text, image=None, **sampling):
    parts = (Text(id="t", text=text), *(() if image is None else (image,)))
    turn = Turn(role="user", parts=parts)
    return Prompt(request=Request(id="d", department="d", model="m", turns=(turn,), sampling=Sampling(**sampling)))


async def until(true):
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  the worker's thread sets no asyncio event
            await asyncio.sleep(0.002)


async def read(stream):
    items = [item async for item in stream]
    assert type(items[-1]) is Ended
    assert not any(type(item) is Ended for item in items[:-1])
    texts = {}
    for piece in items[:-1]:
        texts[piece.choice] = texts.get(piece.choice, "") + piece.text
    return texts, items


@pytest.mark.parametrize("blind", [False, True])
async def test_a_stream_gives_what_complete_gives(backend, blind):
    assert isinstance(backend, StreamingBackend)
    image = Image(
        id="i", data=b"never opened", media_type="image/png", width=9, height=9, digest="0" * 64, source="png"
    )
    for seed in range(3):
        asked = ask("hello", image if blind else None, n=3, temperature=1.5, seed=seed, max_tokens=30, stop=("e", "qq"))
        whole = await backend.complete(asked)
        texts, items = await read(backend.stream(asked))
        assert [texts[n] for n in range(3)] == [choice.text.text for choice in whole.choices]
        assert all(text.endswith(UNSEEN_NOTE) for text in texts.values()) == blind
        assert items[-1] == Ended(model="tiny", usage=whole.usage, blind=blind, revision=whole.revision)
        ends = {piece.choice: piece.finish_reason for piece in items[:-1] if piece.finish_reason}
        assert ends == {choice.index: choice.finish_reason for choice in whole.choices}


async def test_pieces_come_while_the_model_still_writes_and_closing_stops_it_before_the_next_token(backend):
    gate = Gate(backend)
    gate.open(8)
    stream = backend.stream(ask("hello", max_tokens=900))
    async with contextlib.aclosing(stream):
        first = await asyncio.wait_for(anext(stream), 20)
        assert first.text
        await until(lambda: gate.calls == 9)
    gate.open(1000)
    await until(lambda: not backend.worker.active())
    assert gate.calls == 9


async def test_a_slow_reader_finds_all_that_was_written_meanwhile_in_one_piece(backend):
    asked = ask("hello", max_tokens=400)
    whole = await backend.complete(asked)
    async with contextlib.aclosing(backend.stream(asked)) as stream:
        first = await anext(stream)
        await until(lambda: not backend.worker.active())
        texts, items = await read(stream)
    assert first.text + texts[0] == whole.choices[0].text.text
    assert len(items) <= 3


async def test_a_fault_ends_the_stream_after_what_was_written(backend):
    gate = Gate(backend, fails_at=9)
    gate.open(8)
    async with contextlib.aclosing(backend.stream(ask("hello", max_tokens=900))) as stream:
        assert (await anext(stream)).text
        with pytest.raises(GenerationFailed) as caught:
            await read(stream)
    assert MARKER not in str(caught.value)


async def test_a_request_that_waits_too_long_fails_by_name_and_is_never_begun(folder):
    backend = build(Config(path=str(folder), model="m", dtype="float32", threads=1, batch=1, queue_seconds=0.05))
    try:
        gate = Gate(backend)
        running = asyncio.create_task(backend.complete(ask("one", max_tokens=2)))
        await until(lambda: gate.calls == 1)
        for late in (backend.complete(ask("two")), read(backend.stream(ask("two"))), backend.score(ask("two"), ("y",))):
            with pytest.raises(QueueLate):
                await late
        gate.open(1000)
        assert (await running).usage.completion_tokens <= 2
        assert gate.calls == (await running).usage.completion_tokens
    finally:
        await backend.aclose()


@pytest.mark.parametrize(
    ("asked", "kind", "named"),
    [
        (ask("x " * 900 + MARKER), PromptTooLong, "context"),
        (ask(MARKER, temperature=-1.0), RequestRefused, "`temperature`"),
        (ask(MARKER, logprobs=2), RequestRefused, "`logprobs`"),
    ],
)
async def test_what_can_not_be_done_is_refused_before_the_first_piece(backend, asked, kind, named):
    with pytest.raises(kind, match=named) as caught:
        await anext(backend.stream(asked))
    assert MARKER not in str(caught.value)
    with pytest.raises(kind):
        await backend.complete(asked)
