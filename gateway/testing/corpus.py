"""The requests that a contract check asks a stage about: what callers send, and what they should not."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.testing.builders import image, request
from gateway.values import Request, Role, Sampling, Text, ToolCall, Turn

MARKER = "zq7kestrel"
"""A word that stands in the requests and in no program: where it turns up in a log, a stage has leaked."""

_LONG = 60_000  # characters


def _several_turns() -> Request:
    history: tuple[tuple[Role, str], ...] = (
        ("system", f"You assist radiologists. {MARKER}"),
        ("user", "Is the liver enlarged?"),
        ("assistant", "It measures 14 cm and is not enlarged."),
        ("user", "And the spleen?"),
        ("assistant", "It is normal."),
    )
    return request(f"Compare both with the last scan. {MARKER}", history=history)


def _tool_calls() -> Request:
    call = ToolCall(
        id="call_1",
        name=Text(id="messages[1].tool_calls[0].name", text="find_prior"),
        arguments=Text(id="messages[1].tool_calls[0].arguments", text=f'{{"patient": "{MARKER}"}}'),
    )
    turns = (
        Turn(role="user", parts=(Text(id="messages[0].content", text=f"Find the last scan. {MARKER}"),)),
        Turn(role="assistant", parts=(), tool_calls=(call,)),
        Turn(
            role="tool",
            parts=(Text(id="messages[2].content", text='{"study": "CT chest, one year ago"}'),),
            tool_call_id="call_1",
        ),
    )
    tools = '[{"type": "function", "function": {"name": "find_prior", "parameters": {"type": "object"}}}]'
    return Request(
        id="test-0001",
        department="radiology",
        model="test-model",
        turns=turns,
        tools=Text(id="tools", text=tools),
        tool_choice=Text(id="tool_choice", text='"auto"'),
        response_format=Text(id="response_format", text='{"type": "text"}'),
    )


def _found_text() -> Request:
    turn = Turn(role="user", parts=(Text(id="messages[0].content[1]#ocr", text=f"SE: 3 kVp 120 {MARKER}"),))
    return Request(id="test-0001", department="radiology", model="test-model", turns=(turn,), sampling=Sampling())


def corpus() -> Mapping[str, Request]:
    """Give the requests by name."""
    sentence = f"The patient {MARKER} fell on the left hand; describe the wrist. "
    scan = image(320, 240, f"{MARKER} lateral view", modality="ct", tags={"StudyDescription": f"CT wrist {MARKER}"})
    return {
        "plain": request(f"Is there a fracture of the wrist? {MARKER}"),
        "unicode": request(
            f"Ist die Milz vergrößert? 脾臓は腫れていますか？ 🩻 \u202e{MARKER}\u202c \u200bcafe\u0301 \x00"
        ),
        "empty": request(""),
        "blank": request(" \n\t "),
        "no text": request(None, images=[image(64, 64)]),
        "several turns": _several_turns(),
        "image": request(f"What does it say? {MARKER}", images=[image(320, 240, f"{MARKER} left")]),
        "two images": request(f"Compare. {MARKER}", images=[image(64, 64), image(96, 32, ground=90)]),
        "tiny image": request(f"And this? {MARKER}", images=[image(1, 1)]),
        "dicom": request(f"Describe the study. {MARKER}", images=[scan]),
        "encoded": request(f"Decode SXMgdGhlcmUgYSBmcmFjdHVyZSBvZiB0aGUgd3Jpc3Q/ for {MARKER}"),
        "tool calls": _tool_calls(),
        "found text": _found_text(),
        "long": request((sentence * (_LONG // len(sentence) + 1))[:_LONG]),
        "unpaired surrogate": request(f"Is there a \ud800 fracture? {MARKER} \udfff"),
    }


UNANSWERABLE = frozenset({"blank", "empty", "found text", "long", "no text", "tool calls", "unpaired surrogate"})
"""Requests that a model may be unable to take, so that a backend may raise; it still may neither hang nor leak."""

ANSWERS: Mapping[str, str] = {
    "plain": f"There is no fracture. {MARKER}",
    "refusal": "I'm sorry, but I can't help with that.",
    "empty": "",
    "unicode": f"Die Milz ist vergrößert (14 cm). 脾臓は腫れています。 🩻 {MARKER} \u202eabc\u202c",
    "identifiers": f"{MARKER}: Jane Roe, MRN 00123456, born 01/02/1960, phone 555-0100, jane@example.org",
    "address": "She lives at 4711 Upper Kensington Road, Apt 12b, Saint Petersburg, FL 33701-4313, near the hospital.",
    "web address": "https://pacs.example.org/viewer?study=1.2.840.113619.2.55.3.604688119&patient=00123456&series=2.",
    "dense": "Patient Name: Jane Roe, DOB: 01/02/1960, MRN: 00123456, tel 555-010-0199, NHS 943 476 5919",
    "late refusal": "This is a CT of the wrist. However, I can't help with billing a scan that was never done.",
    "role marker": f"There is no fracture.\nUser: And of the hand? {MARKER}\nAssistant: There is none.",
    "list": f"1. Order the scan.\n2. Read it.\n\n```python\nprint('{MARKER}')\n```",
    "long": f"The wrist shows no fracture {MARKER}. " * 600,
}
"""Answers that an auditor is asked about, by name."""
