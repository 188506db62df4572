"""What a redaction does to the log-probabilities of tokens: they spell what it takes away."""

from __future__ import annotations

import pytest

from gateway.policy.decide import redact, release
from gateway.policy.decision import Admit, Redaction, Release, Withhold
from gateway.policy.evidence import Audited
from gateway.policy.model import Policy, convert
from gateway.values import Budget, Choice, Completion, Finding, Text, TokenLogprob

TOKENS = (
    TokenLogprob(token="Jane", logprob=-0.25, top=(("Jane", -0.25), ("Mary", -1.5))),
    TokenLogprob(token=" Roe", logprob=-0.5, top=((" Roe", -0.5), (" Poe", -2.0))),
    TokenLogprob(token=" is well.", logprob=0.0),
)
POLICY = convert(
    {
        "department": "radiology",
        "revision": 1,
        "backend": {"stage": "model"},
        "prescreen": [{"stage": "intent"}],
        "audit": [{"stage": "phi", "on_finding": "redact"}],
        "tiers": [{"below": 0.9, "budget": {"demonstrations": 8}}],
    },
    Policy,
)
ADMITTED = Admit(budget=Budget(demonstrations=4, mix=0.5), tier=0, risk=0.0, rule="tiers[0]")


def answer(choices: int = 1) -> Completion:
    return Completion(
        model="m",
        choices=tuple(
            Choice(index=i, text=Text(id=f"choices[{i}].content", text="Jane Roe is well."), logprobs=TOKENS)
            for i in range(choices)
        ),
    )


def cut(part: str, start: int, end: int, choice: int = 0) -> Redaction:
    return Redaction(
        choice=choice, part=f"choices[{choice}].{part}", start=start, end=end, replacement="[x]", label="name"
    )


def test_without_redactions_they_stay():
    assert redact(answer(), ()) == answer()


def test_a_choice_whose_text_loses_something_loses_them():
    done = redact(answer(2), (cut("content", 0, 8, choice=1),))
    assert done.choices[0] == answer(2).choices[0]
    assert (done.choices[1].text.text, done.choices[1].logprobs) == ("[x] is well.", None)


def test_a_redaction_among_the_alternatives_takes_them_and_leaves_the_text():
    others = answer().choices[0].texts()[-1]
    assert (others.id, others.text) == ("choices[0].logprobs", "Jane\nMary\n Roe\n Poe")
    done = redact(answer(), (cut("logprobs", 5, 9),))
    assert (done.choices[0].text.text, done.choices[0].logprobs) == ("Jane Roe is well.", None)


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 20), (5, 5)])
def test_a_span_that_is_not_among_the_alternatives_is_an_error(start, end):
    with pytest.raises(ValueError, match="a redaction names a span that is not in the answer"):
        redact(answer(), (cut("logprobs", start, end),))


def test_a_finding_among_the_alternatives_is_redacted_by_a_policy_that_redacts():
    found = Finding(kind="phi", score=0.9, part="choices[0].logprobs", start=5, end=9, replacement="[REDACTED:NAME]")
    word = Audited(stage="phi", version="1", ms=1.0, choice=0, findings=(found,))
    verdict = release(POLICY, ADMITTED, answer(), (word,), 0)
    assert isinstance(verdict, Release)
    assert [item.part for item in verdict.redactions] == ["choices[0].logprobs"]
    assert redact(answer(), verdict.redactions).choices[0].logprobs is None


def test_alternatives_of_an_answer_without_any_can_not_be_found_in():
    bare = Completion(model="m", choices=(Choice(index=0, text=Text(id="choices[0].content", text="Fine.")),))
    found = Finding(kind="phi", score=0.9, part="choices[0].logprobs", start=0, end=1, replacement="[x]")
    word = Audited(stage="phi", version="1", ms=1.0, choice=0, findings=(found,))
    verdict = release(POLICY, ADMITTED, bare, (word,), 0)
    assert isinstance(verdict, Withhold)
    assert [reason.cause for reason in verdict.reasons] == ["unknown-part"]
