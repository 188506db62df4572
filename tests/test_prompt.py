"""How demonstrations are shown to a model: as turns, or packed into one message, with a role before them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.testing.builders import demonstration, image, request
from gateway.values import Demonstration, Prompt, Request, Text, Turn

DEMOS = (demonstration(0, refuses=True), demonstration(1))


def chat(
    text: str, *, name: str = "dec_1", form: str = "turns", role: str | None = None, demos=DEMOS
) -> tuple[Turn, ...]:
    asked = Request(
        id=name, department="d", model="m",
        turns=(
            Turn(role="system", parts=(Text(id="messages[0].content", text="Be brief."),)),
            Turn(role="user", parts=(Text(id="messages[1].content", text=text),)),
        ),
    )  # fmt: skip
    return Prompt(request=asked, demonstrations=demos, form=form, role=role).chat()


def told(turn: Turn) -> str:
    return "\n".join(part.text for part in turn.parts if isinstance(part, Text))


def test_turns_stand_between_the_systems_words_and_the_callers() -> None:
    turns = chat("Is there a fracture?")
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert told(turns[-1]) == "Is there a fracture?"


def test_the_role_stands_first_and_only_with_demonstrations() -> None:
    turns = chat("Is there a fracture?", role="You are a careful radiologist.")
    assert [told(turn) for turn in turns[:2]] == ["You are a careful radiologist.", "Be brief."]
    bare = chat("Is there a fracture?", role="You are a careful radiologist.", demos=())
    assert [turn.role for turn in bare] == ["system", "user"]
    assert "radiologist" not in told(bare[0])


def test_packed_is_one_message_whose_beginning_does_not_change() -> None:
    one, two = chat("Is there a fracture?", form="packed"), chat("Which plane?", form="packed", name="dec_2")
    assert [turn.role for turn in one] == ["system", "user"]
    first, second = ([part.text for part in turns[1].parts] for turns in (one, two))
    assert first[:3] == second[:3], "what a server may keep is the same for every request"
    assert DEMOS[0].answer in first[1] and DEMOS[1].question in first[2]
    assert first[-2] == "Is there a fracture?" and first[3] != second[3]


def test_packed_keeps_pictures_before_their_questions() -> None:
    shown = Demonstration(
        id="a", pair="a", modality="ct", question="What is this?", answer="A CT.", refuses=False,
        image=image(),
    )  # fmt: skip
    parts = chat("Which plane?", form="packed", demos=(shown,))[1].parts
    assert parts[1] is shown.image and "What is this?" in parts[2].text


def test_packed_before_a_turn_that_is_not_the_users() -> None:
    asked = Request(id="dec_3", department="d", model="m", turns=(Turn(role="assistant", parts=()),))
    turns = Prompt(request=asked, demonstrations=DEMOS, form="packed").chat()
    assert [turn.role for turn in turns] == ["user", "assistant"]


@given(st.text(max_size=400))
def test_a_caller_can_not_close_what_is_packed(text: str) -> None:
    """Whatever is asked, it stands whole between two marks that it can not know."""
    turns = chat(text, form="packed")
    mark = turns[1].parts[-1].text
    assert re.fullmatch(r"q-[0-9a-f]{12}", mark)
    assert told(turns[1]).count(mark) == 3 and mark not in text
    assert turns[1].parts[-2].text == text


def test_nothing_shown_is_nothing_added() -> None:
    asked = request("Is there a fracture?")
    assert Prompt(request=asked, form="packed", role="x").chat() == asked.turns
