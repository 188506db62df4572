"""Log-probabilities of tokens on the wire, in OpenAI's shape."""

from __future__ import annotations

import math

import msgspec

from gateway.values import Choice, Text, TokenLogprob, Usage
from gateway.wire.render import Answer, completion_body, logprobs_body


def body(choice: Choice) -> dict[str, object]:
    answer = Answer(decision="dec_1", created=1, model="m", choices=(choice,), usage=Usage())
    return msgspec.json.decode(completion_body(answer))["choices"][0]


def test_tokens_go_out_with_their_bytes_and_alternatives():
    tokens = (
        TokenLogprob(token="Größe", logprob=-0.25, top=(("Größe", -0.25), ("脾", -1.5))),
        TokenLogprob(token=".", logprob=0.0),
    )
    told = body(Choice(index=0, text=Text(id="choices[0].content", text="Größe."), logprobs=tokens))
    size = list("Größe".encode())
    assert told["logprobs"] == {
        "content": [
            {
                "token": "Größe",
                "logprob": -0.25,
                "bytes": size,
                "top_logprobs": [
                    {"token": "Größe", "logprob": -0.25, "bytes": size},
                    {"token": "脾", "logprob": -1.5, "bytes": [232, 132, 190]},
                ],
            },
            {"token": ".", "logprob": 0.0, "bytes": [46], "top_logprobs": []},
        ],
        "refusal": None,
    }


def test_a_choice_without_any_says_null():
    assert body(Choice(index=0, text=Text(id="choices[0].content", text="Fine.")))["logprobs"] is None


def test_an_empty_answer_has_an_empty_list():
    told = body(Choice(index=0, text=Text(id="choices[0].content", text=""), logprobs=()))
    assert told["logprobs"] == {"content": [], "refusal": None}


def test_a_token_without_any_probability_is_a_number_in_json():
    told = logprobs_body((TokenLogprob(token="a", logprob=-math.inf, top=(("b", -math.inf),)),))
    assert told["content"][0]["logprob"] == -9999.0
    assert msgspec.json.decode(msgspec.json.encode(told)) == told
