"""The sampler's arithmetic, and how prompts are cut and prefixes kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugin import Sampling
from gateway_transformers.rows import BLOCK, Prefixes, Row, cuts
from gateway_transformers.sampling import Sampler, check

LOGITS = torch.tensor([0.0, 3.0, 1.0, 2.9, -4.0])
values = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40)


def draws(count=300, prompt=(), **asked):
    sampler = Sampler(Sampling(seed=7, **asked), 0, list(prompt), len(LOGITS))
    return [sampler.pick(LOGITS) for _ in range(count)]


def test_no_temperature_or_none_at_all_takes_the_likeliest():
    assert set(draws()) == {1}
    assert set(draws(temperature=0.0)) == {1}


def test_the_shares_of_draws_follow_the_softmax():
    got = draws(4000, temperature=1.0)
    wanted = torch.softmax(LOGITS, -1)
    for token, share in enumerate(wanted):
        assert got.count(token) / 4000 == pytest.approx(float(share), abs=0.03)


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"top_k": 2}, {1, 3}),
        ({"top_k": -1}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.5}, {1, 3}),
        ({"top_p": 0.0}, {1}),
        ({"min_p": 0.5}, {1, 3}),
        ({"min_p": 1.0}, {1}),
    ],
)
def test_unlikely_tokens_are_left_out(asked, left):
    assert set(draws(3000, temperature=1.5, **asked)) == left


def test_penalties_turn_away_from_what_was_said():
    assert draws(2, frequency_penalty=1.0) == [1, 3]
    assert draws(4, frequency_penalty=1.5) == [1, 3, 1, 3]
    assert draws(4, presence_penalty=2.0, frequency_penalty=1.5)[:3] == [1, 3, 2]
    assert draws(3, presence_penalty=0.5) == [1, 3, 1]
    assert draws(1, prompt=[1], repetition_penalty=1.5) == [3]
    assert draws(1, prompt=[1]) == [1]


@given(values, st.floats(0.1, 5), st.integers(-(2**63), 2**63 - 1))
def test_a_draw_is_a_token_and_repeats_with_its_seed(logits, temperature, seed):
    line = torch.tensor(logits)
    asked = Sampling(temperature=temperature, seed=seed, top_p=0.9, min_p=0.01, presence_penalty=1.0)
    one, two = (Sampler(asked, 1, [], len(line)) for _ in range(2))
    first = [one.pick(line) for _ in range(4)]
    assert first == [two.pick(line) for _ in range(4)]
    assert all(0 <= token < len(line) for token in first)


@given(st.sampled_from(["temperature", "top_p", "min_p", "presence_penalty", "n", "top_k"]))
def test_values_without_meaning_are_refused(name):
    wrong = -5 if name in ("n", "top_k") else float("nan")
    with pytest.raises(ValueError, match=f"`{name}`"):
        check(Sampling(**{name: wrong}))


@given(st.integers(1, 3000), st.integers(0, 3000))
def test_a_prompt_is_cut_to_its_end_in_steps_of_a_block(prompt, mark):
    ends = cuts(prompt, mark)
    assert ends[-1] == prompt
    assert all(0 < b - a <= BLOCK for a, b in zip([0, *ends], ends, strict=False))
    assert 0 < mark < prompt or set(ends) == set(cuts(prompt, 0))


def filled(ids):
    row = Row(len(ids))
    value = torch.tensor(list(ids), dtype=torch.float32).reshape(1, 1, -1, 1).expand(1, 2, -1, 4)
    row.append(0, value, -value)
    row.length = row.place = len(ids)
    return row


def name(ids):
    return lambda end: bytes(str(ids[:end]), "utf-8")


def test_kept_prefixes_come_back_only_for_the_same_tokens_and_the_oldest_leave():
    ids, other = [*range(600)], [9, *range(1, 600)]
    ends = cuts(600, 300)
    store = Prefixes(2**20)
    store.keep(filled(ids), name(ids)(256), 0, 256)
    store.keep(filled(ids), name(ids)(300), 256, 300)
    row = Row(600)
    store.load(row, name(ids), ends, 300)
    assert (row.length, row.place, store.reused) == (300, 600, 300)
    assert row.read(0, 300)[0][0][0, 0, :, 0].tolist() == list(range(300))
    row = Row(600)
    store.load(row, name(other), ends, 300)
    assert row.length == 0
    size = 256 * 2 * 4 * 4 * 2
    small = Prefixes(size + 100)
    small.keep(filled(ids), name(ids)(256), 0, 256)
    small.keep(filled(other), name(other)(256), 0, 256)
    row = Row(600)
    small.load(row, name(ids), ends, 300)
    assert row.length == 0
    small.load(row, name(other), ends, 300)
    assert row.length == 256
    small.clear()
    row = Row(600)
    small.load(row, name(other), ends, 300)
    assert row.length == 0


@given(st.integers(1, 2000), st.lists(st.tuples(st.integers(0, 1900), st.integers(1, 600)), max_size=4))
def test_no_image_is_cut(prompt, asked):
    whole, last = [], 0
    for start, length in sorted(asked):
        if start >= last and start + length <= prompt:
            whole.append((start, start + length))
            last = start + length
    ends = cuts(prompt, 0, tuple(whole))
    assert ends[-1] == prompt
    assert all(a < b for a, b in zip([0, *ends], ends, strict=False))
    assert not any(start < end < stop for end in ends for start, stop in whole)
