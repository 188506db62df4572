from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugin import Choice, Completion, Demonstration, Finding, Prompt, Request, Text, Turn
from gateway_review.leak import ANSWER_RUN, QUESTION_RUN, DemonstrationLeak

DEMOS = (
    Demonstration(
        id="a.harmful",
        pair="a",
        modality="ct",
        question="How do I justify a repeat CT to the insurer when the patient does not need one?",
        answer="I'm sorry, but I can't help with billing for a CT that is not needed: it is insurance fraud.",
        refuses=True,
    ),
    Demonstration(
        id="b.benign",
        pair="b",
        modality="ct",
        question="Which swallowed poisons can an abdominal CT show?",
        answer="Dense ones: iron tablets, lead and other heavy metals, some coated tablets, and drug packets.",
        refuses=False,
    ),
    Demonstration(
        id="c.benign",
        pair="c",
        modality="mri",
        question="Which weighting does this MRI have if the fluid is bright?",
        answer="That is T2 weighting. On T1 the fluid is dark and white matter is brighter than grey.",
        refuses=False,
    ),
)


async def audit(answer: str, asked: str = "What is shown?") -> tuple[Finding, ...]:
    turn = Turn(role="user", parts=(Text(id="messages[0]", text=asked),))
    prompt = Prompt(request=Request(id="1", department="d", model="m", turns=(turn,)), demonstrations=DEMOS)
    choice = Choice(index=0, text=Text(id="choices[0]", text=answer))
    return await DemonstrationLeak().audit(prompt, Completion(model="m", choices=(choice,)))


@pytest.mark.parametrize("demo", DEMOS, ids=lambda d: d.id)
async def test_a_repeated_question_is_a_leak(demo: Demonstration) -> None:
    text = f"Certainly. {demo.question.upper()} And so on."
    (found,) = await audit(text)
    assert (found.kind, found.label, found.part) == ("demonstration-leak", "question", "choices[0]")
    assert found.start == text.index(demo.question.upper())


async def test_a_part_of_a_question_is_a_leak_from_eight_words_on() -> None:
    words = DEMOS[0].question.split()
    assert await audit("He said: " + " ".join(words[2 : 2 + QUESTION_RUN]))
    assert await audit("He said: " + " ".join(words[2 : 1 + QUESTION_RUN])) == ()


async def test_what_the_user_said_is_no_leak() -> None:
    assert await audit(f"You ask: {DEMOS[0].question}", asked=f"Please. {DEMOS[0].question}") == ()


async def test_the_words_of_a_refusal_may_be_imitated() -> None:
    assert await audit(DEMOS[0].answer) == ()


async def test_one_answer_may_be_right_and_two_are_a_leak() -> None:
    assert await audit(DEMOS[1].answer) == ()
    (found,) = await audit(f"{DEMOS[1].answer} {DEMOS[2].answer}")
    assert found.label == "answers"
    assert await audit(" ".join(DEMOS[1].answer.split()[: ANSWER_RUN - 1]) + " x " + DEMOS[2].answer) == ()


@pytest.mark.parametrize(
    "text",
    [
        "No fracture.<|im_end|>\n<|im_start|>user",
        "Fine [/INST] next",
        "No.\nUser: and now?\nAssistant: fine",
        "a <end_of_turn>",
    ],
)
async def test_role_markers_are_a_leak(text: str) -> None:
    (found,) = await audit(text)
    assert found.label == "role-marker"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The user should read the manual.",
        "Response to treatment: good.",
        "T2 weighting.",
        "The assistant: a nurse.",
    ],
)
async def test_clinical_answers_are_clean(text: str) -> None:
    assert [f for f in await audit(text) if f.label != "role-marker"] == []
    assert text.startswith("Response to") or await audit(text) == ()


async def test_a_marker_that_the_user_asked_about_is_no_leak() -> None:
    assert await audit("It is written <|im_start|>.", asked="What is <|im_start|>?") == ()


@given(st.text(max_size=1500), st.text(max_size=300))
async def test_it_never_raises_and_spans_are_valid(answer: str, asked: str) -> None:
    for found in await audit(answer, asked):
        assert found.start is not None
        assert found.end is not None
        assert 0 <= found.start < found.end <= len(answer)


async def test_a_megabyte_takes_linear_time() -> None:
    start = time.perf_counter()
    await audit("how do i justify a repeat " * 40_000)
    assert time.perf_counter() - start < 8
