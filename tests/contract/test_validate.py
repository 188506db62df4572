"""What stages return is checked to the last field, and whatever it is, the check gives a code and never raises."""

import enum
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, structs

from gateway.plugin import Budget, Choice, Completion, Finding, Score, Screening, Text, ToolCall, Usage
from gateway.policy.validate import (
    completion_problem,
    demonstrations_problem,
    findings_problem,
    is_code,
    screening_problem,
)
from gateway.testing import completion, demonstration, image

PARTS, IMAGES = frozenset({"a", "i"}), frozenset({"i"})
SCREENING = Screening(
    risk=0.25,
    inspected=("a", "i"),
    scores=(Score(label="H01", value=1.0),),
    found=(Text(id="i#ocr", text="SE: 3"), Text(id="i#qr", text="")),
    part="i#ocr",
    view="base64+rot13",
    notes=("unreadable",),
)
CALL = ToolCall(
    id="call_1",
    name=Text(id="choices[0].tool_calls[0].name", text="f"),
    arguments=Text(id="choices[0].tool_calls[0].arguments", text="{}"),
)
CHOICE = Choice(index=0, text=Text(id="choices[0].content", text="yes"), tool_calls=(CALL,))
COMPLETION = Completion(model="google/medgemma-1.5-4b-it", choices=(CHOICE,), usage=Usage(prompt_tokens=3))
FINDING = Finding(kind="phi", score=0.5, part="t", start=0, end=3, label="name", replacement="[name]")
TEXTS = {"t": "Jane Roe", "empty": ""}
BUDGET = Budget(demonstrations=2, mix=0.5, tokens=100, images=1)
DEMONSTRATIONS = (demonstration(0, refuses=True), demonstration(0, image=image(8, 8)))


class Level(enum.IntEnum):
    HIGH = 1


class Word(str):
    __slots__ = ()


class Wider(Screening, frozen=True, kw_only=True):
    prompt: str = "text of a patient"


def test_good_values_pass() -> None:
    assert screening_problem(SCREENING, PARTS, IMAGES) is None
    assert screening_problem(Screening(risk=0, inspected=()), (), ()) is None
    assert completion_problem(COMPLETION, 1) is None
    assert completion_problem(completion("a", "b", "c"), 3) is None
    assert findings_problem((FINDING, structs.replace(FINDING, start=None, end=None)), TEXTS) is None
    assert findings_problem((), TEXTS) is None
    assert demonstrations_problem(DEMONSTRATIONS, BUDGET) is None
    assert demonstrations_problem((), BUDGET) is None


@pytest.mark.parametrize("value", [None])
def test_nothing(value: None) -> None:
    assert screening_problem(value, PARTS, IMAGES) == "nothing"
    assert completion_problem(value, 1) == "nothing"
    assert findings_problem(value, TEXTS) == "nothing"
    assert demonstrations_problem(value, BUDGET) == "nothing"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        *[
            ({"risk": risk}, "risk")
            for risk in (math.nan, math.inf, -0.1, 1.1, True, "0.5", None, np.float64(0.5), np.float32(0.5), Level.HIGH)
        ],
        *[({"inspected": ids}, "inspected") for ids in (("b",), ["a"], ("i#ocr",), (1,), None, "a", (Word("a"),))],
        *[
            ({"found": found}, "found")
            for found in (
                (Text(id="a#ocr", text="x"),),
                (Text(id="i", text="x"),),
                (Text(id="i#", text="x"),),
                (Text(id="i#a sentence of text", text="x"),),
                (Text(id="#ocr", text="x"),),
                (Text(id="i#ocr", text="x"), Text(id="i#ocr", text="y")),
                (Text(id="i#ocr", text=None),),
                (Text(id="i#ocr", text="\ud800"),),
                (Text(id=[], text="x"),),
                ("i#ocr",),
                [Text(id="i#ocr", text="x")],
            )
        ],
        ({"scores": (Score(label="two words", value=0.1),)}, "label"),
        ({"scores": (Score(label="x" * 65, value=0.1),)}, "label"),
        ({"scores": (0.1,)}, "label"),
        ({"scores": (Score(label="a", value=math.nan),)}, "score"),
        ({"scores": (Score(label="a", value=False),)}, "score"),
        ({"part": "b"}, "part"),
        ({"part": []}, "part"),
        ({"view": "as the user typed it"}, "view"),
        ({"view": ""}, "view"),
        ({"notes": ("Jane Roe",)}, "notes"),
        ({"notes": ("a\n",)}, "notes"),
        ({"notes": "note"}, "notes"),
    ],
)
def test_screenings(change: dict[str, Any], code: str) -> None:
    assert screening_problem(structs.replace(SCREENING, **change), PARTS, IMAGES) == f"nonsense:{code}"


@pytest.mark.parametrize("value", [{}, "x", 0, (), Screening, Wider(risk=0.0, inspected=())])
def test_other_types_are_no_screening(value: Any) -> None:
    assert screening_problem(value, PARTS, IMAGES) == "nonsense:type"


def choice(**change: Any) -> dict[str, Any]:
    return {"choices": (structs.replace(CHOICE, **change),)}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        *[({"model": name}, "model") for name in (None, "", "a\nb", "m" * 257, 3)],
        *[({"choices": some}, "choices") for some in ((), (CHOICE, CHOICE), [CHOICE], None, ("yes",))],
        (choice(index=1), "choices"),
        (choice(index=False), "choices"),
        (choice(finish_reason="done"), "finish_reason"),
        (choice(finish_reason=[]), "finish_reason"),
        (choice(tool_calls=[CALL]), "tool_calls"),
        (choice(tool_calls=(structs.replace(CALL, id=None),)), "tool_calls"),
        (choice(text="yes"), "text"),
        (choice(text=Text(id="choices[0].content", text=None)), "text"),
        (choice(text=Text(id="choices[0].content", text="\udfff")), "text"),
        (choice(text=Text(id="choices[1].content", text="yes")), "id"),
        (choice(tool_calls=(CALL, CALL)), "id"),
        (choice(tool_calls=(structs.replace(CALL, name=Text(id="name", text="f")),)), "id"),
        ({"usage": None}, "usage"),
        ({"usage": Usage(prompt_tokens=-1)}, "usage"),
        ({"usage": Usage(completion_tokens=1.5)}, "usage"),
        ({"blind": 1}, "blind"),
        ({"revision": 7}, "revision"),
        ({"revision": ""}, "revision"),
        ({"revision": "a\nb"}, "revision"),
    ],
)
def test_completions(change: dict[str, Any], code: str) -> None:
    assert completion_problem(structs.replace(COMPLETION, **change), 1) == f"nonsense:{code}"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kind": "Jane Roe"}, "kind"),
        ({"kind": None}, "kind"),
        *[({"score": score}, "score") for score in (math.nan, 2, True, None, "1")],
        *[({"part": part}, "part") for part in ("u", None, [])],
        ({"label": "Jane Roe"}, "label"),
        ({"replacement": 3}, "replacement"),
        ({"replacement": "\ud800"}, "replacement"),
        *[
            ({"start": start, "end": end}, "span")
            for start, end in ((None, 3), (0, None), (3, 3), (4, 3), (-1, 3), (0, 9), (0.0, 3), (False, True))
        ],
        ({"part": "empty"}, "span"),
    ],
)
def test_findings(change: dict[str, Any], code: str) -> None:
    assert findings_problem((structs.replace(FINDING, **change),), TEXTS) == f"nonsense:{code}"


@pytest.mark.parametrize("value", [[], [FINDING], "phi", FINDING, (None,), ({"kind": "phi"},)])
def test_other_types_are_no_findings(value: Any) -> None:
    assert findings_problem(value, TEXTS) == "nonsense:type"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": "two words"}, "id"),
        ({"pair": None}, "id"),
        ({"modality": "smell"}, "modality"),
        ({"modality": []}, "modality"),
        ({"question": " "}, "text"),
        ({"answer": None}, "text"),
        ({"answer": "\ud800"}, "text"),
        ({"refuses": 1}, "refuses"),
        ({"image": b"png"}, "image"),
        ({"image": structs.replace(image(8, 8), data="png")}, "image"),
        ({"image": structs.replace(image(8, 8), modality=[])}, "image"),
        ({"answer": "word " * 200}, "tokens"),
    ],
)
def test_demonstrations(change: dict[str, Any], code: str) -> None:
    value = (structs.replace(DEMONSTRATIONS[0], **change), DEMONSTRATIONS[1])
    assert demonstrations_problem(value, BUDGET) == f"nonsense:{code}"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ((DEMONSTRATIONS[0], DEMONSTRATIONS[0]), "id"),
        ((*DEMONSTRATIONS, demonstration(1)), "count"),
        ((demonstration(1), demonstration(2)), "mix"),
        ((demonstration(0, refuses=True, image=image()), demonstration(0, image=image())), "images"),
        (list(DEMONSTRATIONS), "type"),
    ],
)
def test_budgets(value: Any, code: str) -> None:
    assert demonstrations_problem(value, BUDGET) == f"nonsense:{code}"


ANY: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers(), max_size=2),
    st.tuples(st.text()),
    st.dictionaries(st.text(), st.integers(), max_size=1),
    st.sampled_from([SCREENING, COMPLETION, FINDING, CHOICE, CALL, CALL.name, DEMONSTRATIONS[1], object(), Level.HIGH]),
)


def garbled(draw: st.DrawFn, value: Any) -> Any:
    """Put something odd in one place of `value`, at some depth."""
    if isinstance(value, Struct) and draw(st.integers(0, 5)):
        field = draw(st.sampled_from(value.__struct_fields__))
        return structs.replace(value, **{field: garbled(draw, getattr(value, field))})
    if type(value) is tuple and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        return (*value[:place], garbled(draw, value[place]), *value[place + 1 :])
    return draw(ANY)


@given(st.data())
def test_never_raises_and_gives_codes(data: st.DataObject) -> None:
    draw = data.draw
    for problem in (
        screening_problem(garbled(draw, SCREENING), PARTS, IMAGES),
        completion_problem(garbled(draw, COMPLETION), 1),
        findings_problem(garbled(draw, (FINDING,)), TEXTS),
        demonstrations_problem(garbled(draw, DEMONSTRATIONS), BUDGET),
    ):
        assert problem is None or re.fullmatch(r"nothing|nonsense:[a-z_]+", problem)


@given(st.text())
def test_codes_are_short_and_hold_no_sentence(text: str) -> None:
    assert is_code(text) == (re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+:-]{0,63}", text) is not None)
