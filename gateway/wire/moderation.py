"""The body of `POST /v1/moderations` and its answer: one text, several texts, or text with images.

A string, or each string of a list, is one input with a result of its own; a list of parts (``text``, ``image_url``) is
one input together, as OpenAI has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.policy.decision import Refuse
from gateway.policy.evidence import Screened
from gateway.policy.words import HARMS
from gateway.records import Outcome
from gateway.values import Request, Text
from gateway.wire.decode import Decoder
from gateway.wire.fields import Body, bad, items, known, wrong
from gateway.wire.ids import new_decision_id
from gateway.wire.messages import MAX_TEXT, Draft, characters, read_parts

PATH = "/v1/moderations"
MODEL = "medvlm-gateway-prescreen"
"""The name in answers and records: a department has one pre-screen, whatever name was asked for."""
MAX_INPUTS = 256
"""The most inputs in one call."""

OPENAI: Mapping[str, str | None] = MappingProxyType(
    {
        "harassment": None,
        "harassment/threatening": None,
        "hate": None,
        "hate/threatening": None,
        "illicit": None,
        "illicit/violent": None,
        "self-harm": "H06",
        "self-harm/intent": None,
        "self-harm/instructions": None,
        "sexual": None,
        "sexual/minors": None,
        "violence": "H05",
        "violence/graphic": None,
    }
)
"""OpenAI's categories, and the harm that stands for each; None: no stage judges it, so its place holds null."""

_INPUT = "a string, a list of strings, or a list of parts of type `text` and `image_url`"


def read_inputs(body: Body) -> tuple[Draft, ...]:
    """Read the inputs of a body. Raises InvalidRequest with the field at fault."""
    known(body, ("input", "model"), "")
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        wrong("model", model, "a string; every name stands for the department's pre-screen")
    given = body.get("input")
    if given is None:
        bad("input", f"`input` is missing; give {_INPUT}", "missing_parameter")
    if isinstance(given, str):
        drafts: tuple[Draft, ...] = (_text(given, "input"),)
    else:
        entries = items(given, "input", 4 * MAX_INPUTS, _INPUT)
        if not entries:
            bad("input", f"`input` is empty; give {_INPUT}", "empty_content")
        if all(isinstance(entry, str) for entry in entries):
            drafts = tuple(_text(entry, f"input[{place}]") for place, entry in enumerate(entries))
        else:
            drafts = (read_parts(entries, "input"),)
    if len(drafts) > MAX_INPUTS:
        bad("input", f"there are {len(drafts)} inputs; send at most {MAX_INPUTS} in one call", "too_many_items")
    size = characters(drafts)
    if size > MAX_TEXT:
        bad("input", f"there are {size} characters of text; send at most {MAX_TEXT}", "context_length_exceeded")
    return drafts


def _text(text: str, place: str) -> Draft:
    if not text.strip():
        bad(place, f"`{place}` is empty; give the text to be judged, or leave it out", "empty_content")
    return Draft(role="user", parts=(Text(id=place, text=text),))


def result_of(outcome: Outcome, decision: str) -> dict[str, Any]:
    """Give the result of one input: OpenAI's fields, and what the evidence and the decision were."""
    refused = outcome.final if isinstance(outcome.final, Refuse) else None
    scores, seen = _scores(outcome)
    flagged = {reason.label for reason in refused.reasons if reason.code == "risk"} if refused else set()
    categories: dict[str, bool | None] = {code: code in flagged for code in HARMS}
    values: dict[str, float | None] = {code: scores.get(code, 0.0) for code in HARMS}
    for name, code in OPENAI.items():
        categories[name] = None if code is None else code in flagged
        values[name] = None if code is None else scores.get(code, 0.0)
    return {
        "flagged": refused is not None,
        "categories": categories,
        "category_scores": values,
        "category_applied_input_types": {name: seen.get(OPENAI.get(name) or name, []) for name in categories},
        "decision": decision,
        "risk": outcome.admission.risk,
        "clinical": min(_clinical(outcome), default=None),
        "reasons": [
            {"code": r.code, "stage": r.stage, "label": r.label, "part": r.part}
            for r in (refused.reasons if refused else ())
        ],
        "findings": [
            {"kind": f.kind, "label": f.label, "score": f.score, "part": f.part, "stage": word.stage}
            for word in _screened(outcome)
            for f in word.screening.findings
        ],
        "coverage": [{"part": row.part, "kind": row.kind, "inspected_by": list(row.by)} for row in outcome.coverage],
    }


def _screened(outcome: Outcome) -> Iterable[Screened]:
    return (word for word in outcome.screening if isinstance(word, Screened))


def _clinical(outcome: Outcome) -> Iterable[float]:
    return (word.screening.clinical for word in _screened(outcome) if word.screening.clinical is not None)


def _scores(outcome: Outcome) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Give the worst score of each category, and the kinds of input that it was found in: ``text``, ``image``."""
    scores: dict[str, float] = {}
    seen: dict[str, list[str]] = {}
    for word in _screened(outcome):
        part = word.screening.part or ""
        kind = "image" if "#" in part else "text"
        for score in word.screening.scores:
            scores[score.label] = max(score.value, scores.get(score.label, 0.0))
            if kind not in seen.setdefault(score.label, []):
                seen[score.label].append(kind)
    return scores, seen


def moderation_body(results: Sequence[tuple[Outcome, str]]) -> bytes:
    """Write the answer: one result for each outcome and the id of its decision."""
    body = {"id": f"modr-{results[0][1]}", "model": MODEL, "results": [result_of(*each) for each in results]}
    return msgspec.json.encode(body)


async def moderation_requests(body: Body, decoder: Decoder, department: str) -> tuple[Request, ...]:
    """Make a request of each input of `body`, with an id of its own. Raises InvalidRequest."""
    made = []
    for draft in read_inputs(body):
        turn = draft.turn(await decoder.images(draft.links()))
        made.append(Request(id=new_decision_id(), department=department, model=MODEL, turns=(turn,)))
    return tuple(made)
