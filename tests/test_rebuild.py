"""Requests and answers made again of sealed content; and what a re-audit's report counts."""

import json

import msgspec
import pytest
from batch.kit import picture
from store.kit import SECRET, outcomes

from gateway.images import Limits
from gateway.records import Digester, record_of
from gateway.records.content import answer_bytes, prompt_bytes
from gateway.records.reaudit_report import NAMED, JudgedLine, Tally
from gateway.records.rebuild import completion_of, found_of, request_of
from gateway.records.sealing import SealedTextV1, content_of
from gateway.values import Choice, Text, ToolCall
from gateway.wire.chat import chat_request
from gateway.wire.decode import Decoder
from gateway.wire.moderation import moderation_requests

DIGESTER = Digester(SECRET)


def _said(text):
    return {"type": "text", "text": text}


CALL = {"id": "x", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
TALK = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "You help."},
        {"role": "user", "content": [picture(), _said("this"), picture(), _said("and?")]},
        {"role": "assistant", "content": "So.", "refusal": "no", "tool_calls": [CALL, CALL | {"id": "y"}]},
        {"role": "tool", "tool_call_id": "x", "content": "found"},
        {"role": "user", "content": "go on"},
    ],
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "tool_choice": "auto",
    "response_format": {"type": "json_object"},
    "stop": ["END"],
    "temperature": 0.5,
}  # fmt: skip


async def _requests():
    decoder = Decoder(Limits())
    asked, _ = await chat_request(TALK, decoder, "radiology", ("m",))
    one = await moderation_requests({"input": [{"type": "text", "text": "bad?"}, picture()]}, decoder, "radiology")
    many = await moderation_requests({"input": ["first", "second"]}, decoder, "radiology")
    return (asked, *one, *many)


async def test_a_request_comes_back_as_it_was():
    for asked in await _requests():
        outcome = msgspec.structs.replace(outcomes.released(), request=asked)
        record, content = record_of(outcome, DIGESTER), content_of(outcome)
        again = request_of(content, record)
        assert DIGESTER.digest("prompt", prompt_bytes(again)) == record.prompt
        turns = tuple(
            msgspec.structs.replace(turn, tool_call_id=was.tool_call_id)  # which call a turn answers is not sealed
            for turn, was in zip(again.turns, asked.turns, strict=True)
        )
        assert msgspec.structs.replace(again, turns=turns) == asked


def test_the_text_that_an_image_carries_comes_back_with_it():
    outcome = outcomes.released(image=b"\x89PNG")
    again = request_of(content_of(outcome), record_of(outcome, DIGESTER))
    (image,) = again.images()
    (was,) = outcome.request.images()
    assert (image.texts, image.source, image.modality, image.data) == (was.texts, "dicom", "ct", was.data)
    assert again.texts() == outcome.request.texts()
    assert [text.id for text in found_of(content_of(outcome))] == [f"{was.id}#ocr"]


def test_an_answer_comes_back_as_it_was_before_redaction():
    outcome = outcomes.released()
    name, arguments = (Text(id=f"choices[0].tool_calls[0].{part}", text=part) for part in ("name", "arguments"))
    call = ToolCall(id="call_0", name=name, arguments=arguments)
    choices = (
        Choice(index=0, text=Text(id="choices[0].content", text="so"), tool_calls=(call,), finish_reason="tool_calls"),
        Choice(index=1, text=Text(id="choices[1].content", text="or")),
    )
    last = outcome.attempts[1]
    completion = msgspec.structs.replace(last.completed.completion, choices=choices)
    done = msgspec.structs.replace(last.completed, completion=completion)
    attempts = (outcome.attempts[0], msgspec.structs.replace(last, completed=done))
    outcome = msgspec.structs.replace(outcome, attempts=attempts)
    record, content = record_of(outcome, DIGESTER), content_of(outcome)
    again = completion_of(content, record, 1)
    assert again == completion
    assert DIGESTER.digest("answer", answer_bytes(again)) == record.attempts[1].completed.answer
    refused = outcomes.refused()
    assert refused.attempts == ()
    for answer in (
        None,
        (),
        content.attempts[1].answer[:1],
        content.attempts[1].answer[:2],
        (SealedTextV1(part="x", text="y"),),
    ):
        less = msgspec.structs.replace(content.attempts[1], answer=answer)
        assert completion_of(msgspec.structs.replace(content, attempts=(less, less)), record, 1) is None


@pytest.mark.parametrize("change", [{"role": "judge"}, {"part": "messages[0].tool_calls[0].name"}])
def test_content_that_fits_no_request_is_a_value_error(change):
    outcome = outcomes.refused()
    content = content_of(outcome)
    odd = msgspec.structs.replace(content, texts=(msgspec.structs.replace(content.texts[0], **change),))
    with pytest.raises(ValueError, match="the sealed content"):
        request_of(odd, record_of(outcome, DIGESTER))


def _line(number, before, after, department="radiology", **more):
    fields = {"rule": "tiers", "reasons": ("risk:self-harm",), "source": "evidence"} | more
    return JudgedLine(
        decision=f"dec_{number}", department=department, before=before, after=after, changed=before != after, **fields
    )


def test_a_report_counts_each_decision_once_and_by_department():
    tally = Tally()
    rows = (
        [("released", "refused")] * 3 + [("refused", "asked")] * 2 + [("released", "withheld"), ("refused", "refused")]
    )
    for number, (before, after) in enumerate(rows):
        tally.add(_line(number, before, after, caveats=("model",)))
    tally.add(_line(8, "released", "unknown", "pathology", reasons=("stage-missing:ocr",), rule=None, source="content"))
    tally.failed += 1
    report = tally.report(batch="batch_1", candidates={"radiology": "ab"}, searched=None, content=True)
    whole, other = report.total, report.departments["pathology"]
    shares = (whole.unchanged, whole.newly_refused, whole.newly_withheld, whole.newly_released, whole.unknown)
    assert [share.hits for share in shares] == [1, 3, 1, 2, 1]
    assert (whole.decisions, sum(share.value for share in shares), other.unknown.value) == (8, 1.0, 1.0)
    assert whole.matrix["released"] == {"refused": 3, "unknown": 1, "withheld": 1}
    assert report.departments["radiology"].decisions == 7
    assert report.changed == tuple(f"dec_{number}" for number in range(6))
    assert [(one.name, one.decisions) for one in report.rules] == [("tiers", 6)]
    assert [(one.name, one.decisions) for one in report.why_unknown] == [("stage-missing:ocr", 1)]
    assert (report.sources, report.caveats, report.failed) == ({"content": 1, "evidence": 7}, {"model": 7}, 1)
    assert json.loads(msgspec.json.encode(report))["total"]["newly_refused"]["hits"] == 3


def test_a_report_stays_small():
    tally = Tally()
    for number in range(3000):
        tally.add(_line(number, "released", "refused", reasons=(f"risk:{number}",)))
    report = tally.report(batch="batch_1", candidates={}, searched="", content=False)
    assert len(report.changed) == NAMED
    assert [(one.name, one.decisions) for one in report.reasons[:2]] == [("other", 1000), ("risk:0", 1)]
    assert len(report.reasons) == 20
