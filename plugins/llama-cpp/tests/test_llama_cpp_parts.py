"""The parts without a model: sampling, growing answers, cut prompts and kept prefixes, and chat templates."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugin import Sampling, Text, TokenLogprob, Turn
from gateway_llama_cpp.answer import Answer
from gateway_llama_cpp.prefixes import BLOCK, Prefixes, cuts
from gateway_llama_cpp.render import Renderer
from gateway_llama_cpp.sampling import Sampler, likeliest, told

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRICT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}"
    "<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
)
CONTROLS = re.compile(r"<\|im_start\|>|<\|im_end\|>|<start_of_turn>|<end_of_turn>")


def logits(*values):
    return np.array(values, dtype=np.float32)


def picks(sampling, values, count=2000, prompt=()):
    drawn = np.zeros(len(values))
    for seed in range(count):
        drawn[Sampler(sampling(seed), 0, prompt).pick(values)] += 1
    return drawn / count


def test_no_temperature_takes_the_likeliest_and_leaves_the_logits_alone():
    values = logits(0.1, 2.0, 1.9)
    for temperature in (None, 0.0):
        assert Sampler(Sampling(temperature=temperature), 0, ()).pick(values) == 1
    Sampler(Sampling(temperature=0.7, frequency_penalty=1.0, seed=1), 0, ()).pick(values)
    assert values.tolist() == logits(0.1, 2.0, 1.9).tolist()


def test_chances_are_those_of_the_softmax_at_a_temperature():
    values = logits(0.0, 1.0, 2.0)
    got = picks(lambda seed: Sampling(temperature=0.5, seed=seed), values)
    wanted = np.exp(values / 0.5) / np.exp(values / 0.5).sum()
    assert np.abs(got - wanted).max() < 0.04


@pytest.mark.parametrize("cut", [{"top_k": 2}, {"top_p": 0.85}, {"min_p": 0.3}])
def test_unlikely_tokens_are_cut_off(cut):
    values = np.log(np.array([0.1, 0.5, 0.02, 0.38], dtype=np.float32))
    got = picks(lambda seed: Sampling(temperature=1.0, seed=seed, **cut), values, 400)
    assert got[[0, 2]].tolist() == [0, 0]
    assert got[1] > 0.4
    assert got[3] > 0.3


def test_penalties_move_on_from_what_was_written():
    for penalty in ({"frequency_penalty": 0.3}, {"presence_penalty": 0.3}, {"repetition_penalty": 1.5}):
        sampler = Sampler(Sampling(**penalty), 0, ())
        assert [sampler.pick(logits(1.0, 0.9)) for _ in range(2)] == [0, 1]
    assert Sampler(Sampling(repetition_penalty=1.5), 0, (0,)).pick(logits(1.0, 0.9)) == 1
    assert Sampler(Sampling(presence_penalty=0.3), 0, (0,)).pick(logits(1.0, 0.9)) == 0


def test_seeds_repeat_and_choices_have_their_own():
    def draw(seed, choice):
        sampler = Sampler(Sampling(temperature=1.0, seed=seed), choice, ())
        return [sampler.pick(np.zeros(1000, dtype=np.float32)) for _ in range(4)]

    assert draw(7, 0) == draw(7, 0)
    assert draw(-7, 0) == draw(-7, 0)
    assert len({tuple(draw(7, n)) for n in range(3)} | {tuple(draw(8, 0))}) == 4


def test_log_probabilities_are_normal_and_the_likeliest_come_first():
    values = told(logits(3.0, 1.0, 2.0, -50.0))
    assert np.exp(values).sum() == pytest.approx(1.0)
    assert likeliest(values, 2) == [0, 2]
    assert likeliest(values, 4) == [0, 2, 1, 3]
    assert likeliest(values, 0) == []


@given(st.text(max_size=30), st.integers(1, 4), st.lists(st.text(min_size=1, max_size=4), max_size=2))
def test_what_is_taken_adds_up_however_the_bytes_are_cut(text, width, stops):
    data = text.encode("utf-8", "replace")
    text = data.decode("utf-8")
    pieces = [data[at : at + width] for at in range(0, len(data), width)]
    answer, taken = Answer(Sampling(stop=tuple(stops), logprobs=0), len(pieces) + 2), ""
    for piece in [*pieces, None]:
        done = answer.add(piece, lambda: TokenLogprob(token="", logprob=-1.0))
        taken += answer.take()
        if done:
            break
    ends = [at for at in map(text.find, stops) if at >= 0]
    wanted = text[: min(ends)] if ends else text
    assert taken == answer.written.text == wanted
    assert answer.written.ended
    assert "".join(place.token for place in answer.written.logprobs) == wanted


def test_a_beginning_of_a_stop_string_is_held_back():
    answer = Answer(Sampling(stop=("STOP",)), 9)
    given = []
    for piece in (b"say ST", b"AR ST", b"O", b"P now"):
        answer.add(piece)
        given.append(answer.take())
    assert given == ["say ", "STAR ", "", ""]
    assert answer.written.text == "say STAR "


def test_half_a_character_at_the_limit_is_told_as_one_that_broke():
    answer = Answer(Sampling(), 2)
    answer.add("ü".encode()[:1])
    assert answer.take() == ""
    assert answer.add("é".encode()[:1])
    assert answer.written.text == answer.take() == "��"
    assert not answer.written.ended


def test_prompts_are_cut_at_blocks_and_after_their_prefix():
    assert cuts(10, 0) == [10]
    assert cuts(10, 4) == [4, 10]
    assert cuts(2 * BLOCK, 2 * BLOCK) == [BLOCK, 2 * BLOCK]
    assert cuts(2 * BLOCK + 1, BLOCK + 5) == [BLOCK, BLOCK + 5, 2 * BLOCK, 2 * BLOCK + 1]


def test_a_prefix_serves_to_a_place_where_the_prompt_is_cut_anyway():
    prefixes = Prefixes(1000)
    kept = tuple(range(BLOCK + 50))
    prefixes.add(kept, b"kept")
    assert prefixes.best((*kept, 1, 2), cuts(len(kept) + 2, len(kept))) == (b"kept", len(kept))
    other = (*kept[: BLOCK + 20], 9, 9, 9)
    assert prefixes.best(other, cuts(len(other), 0)) == (b"kept", BLOCK)
    assert prefixes.best((7, *kept), cuts(len(kept) + 1, 0)) is None
    assert prefixes.best(kept[:BLOCK], cuts(BLOCK, 0)) is None, "the last stretch is read, for its logits"


def said(role, text):
    return Turn(role=role, parts=(Text(id="m", text=text),))


def renderer(template):
    return Renderer(template, controls=CONTROLS, bos="<s>", eos="</s>")


def test_a_template_that_takes_all_gets_turns_as_they_are():
    made = renderer(CHATML)
    turns = (said("system", "a"), said("user", "b"), said("system", "c"), said("user", "d"))
    assert made.text(made.messages(turns)) == (
        "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>system\nc<|im_end|>\n"
        "<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_without_system_turns_gets_them_in_the_next_of_the_user():
    made = renderer(STRICT)
    turns = (said("system", "a"), said("user", "b"), said("user", "c"))
    assert made.text(made.messages(turns)) == "<s><start_of_turn>user\na\nb\nc<end_of_turn>\n"
    alone = made.text(made.messages((said("system", "a"),)))
    assert alone == "<s><start_of_turn>user\na<end_of_turn>\n"


@given(st.text(alphabet="<|im_startend>o fur", max_size=60))
def test_no_text_spells_a_control_token_once_it_is_safe(text):
    made = renderer(CHATML)
    assert not CONTROLS.search(made.safe(text))
    assert made.safe(text).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("template", ["", "{% for", "no message in it", "{{ raise_exception('never') }}"])
def test_a_template_that_can_not_serve_stops_the_start(template):
    with pytest.raises(ValueError, match="chat template"):
        renderer(template)


def test_a_template_can_not_leave_its_sandbox():
    with pytest.raises(ValueError, match="no usable chat template"):
        renderer("{{ messages.__class__.__mro__[1].__subclasses__() }}{{ messages[0].content }}")
