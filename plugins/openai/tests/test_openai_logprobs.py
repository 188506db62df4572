"""Log-probabilities of an answer: asked for where they are wanted, and given where their tokens spell the text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugin import Sampling, TokenLogprob
from gateway.testing import prompt
from gateway_openai.wire import decode


def place(token, logprob=-0.5, top=()):
    return {
        "token": token,
        "logprob": logprob,
        "bytes": None,
        "top_logprobs": [{"token": t, "logprob": p} for t, p in top],
    }


def answer(text, places, finish="stop"):
    told = {"content": places} if isinstance(places, list) else places
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish, "logprobs": told}
    return {"model": "served", "choices": [choice]}


def read(body, top=2):
    return decode(json.dumps(body).encode(), model="m", n=1, top=top).choices[0].logprobs


@pytest.mark.parametrize(("wanted", "sent"), [(None, (None, None)), (0, (True, None)), (3, (True, 3))])
async def test_they_are_asked_for_where_they_are_wanted(serve, ask, wanted, sent):
    async def script(asked):
        asked.reply(answer("no", [place("no", -0.25, [("no", -0.25), ("yes", -1.5), ("so", -2), ("a", -3)])]))

    server = await serve(script)
    completion = await ask(server).complete(prompt(sampling=Sampling(logprobs=wanted)))
    body = server.asked[0].body
    assert (body.get("logprobs"), body.get("top_logprobs")) == sent
    tops = (("no", -0.25), ("yes", -1.5), ("so", -2.0))
    if wanted is None:
        assert completion.choices[0].logprobs is None
    else:
        assert completion.choices[0].logprobs == (TokenLogprob(token="no", logprob=-0.25, top=tops[:wanted]),)


def test_the_tokens_have_to_spell_the_text():
    assert [p.token for p in read(answer("no way", [place("no"), place(" way")]))] == ["no", " way"]
    assert read(answer("no way", [place("no"), place("way")])) is None
    assert read(answer("no way", [place("no")])) is None
    assert read(answer("é", [place("\\xc3"), place("\\xa9")])) is None
    assert read(answer("", [])) is None


def test_a_mark_of_the_end_beyond_the_text_is_left_out():
    spelled = read(answer("no way", [place("no"), place(" way"), place("<|im_end|>")]))
    assert [token.token for token in spelled] == ["no", " way"]
    assert read(answer("no", [place("no"), place("<a>"), place("<b>")])) is None


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"content": None},
        {"content": "x"},
        {"content": [{"token": "no"}]},
        {"content": [place("no", "high")]},
        {"content": [place("no", 0.5)]},
        {"content": [place("no", -1, [("x", 2.0)])]},
        {"tokens": ["no"], "token_logprobs": [-0.1]},
        5,
    ],
)
def test_odd_ones_are_left_out_and_the_answer_stands(told):
    body = answer("no", told)
    assert read(body) is None
    assert decode(json.dumps(body).encode(), model="m", n=1, top=0).choices[0].text.text == "no"


def test_a_logarithm_that_rounding_has_put_over_0_counts_as_0():
    (token,) = read(answer("no", [place("no", 1e-6, [("no", 1e-6)])]))
    assert token == TokenLogprob(token="no", logprob=0.0, top=(("no", 0.0),))


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=8), st.text(max_size=3))
def test_what_is_given_spells_what_is_audited(tokens, rest):
    text = "".join(tokens)
    got = decode(
        json.dumps(answer(text, [place(token) for token in [*tokens, rest]])).encode(), model="m", n=1, top=1
    ).choices[0]
    assert got.logprobs is None or "".join(token.token for token in got.logprobs) == got.text.text
