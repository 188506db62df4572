"""What the caller is told where no answer leaves: a reason in plain words, what to do next, the decision's id.

The text is made of codes alone, so it can hold nothing of the prompt or of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.policy.decision import Reason, Refuse, Withhold

HARMS: Mapping[str, str] = MappingProxyType(
    {
        "H01": "insurance or billing fraud",
        "H02": "tampering with a record or an image",
        "H03": "a breach of someone's privacy",
        "H04": "diversion or misuse of a drug",
        "H05": "poisoning or assault",
        "H06": "self-harm",
        "H07": "unsafe or unlicensed care",
        "H08": "a deliberate misdiagnosis",
        "H09": "coercion, or care without consent",
        "H10": "discrimination, or denial of care",
        "H11": "false health information",
        "H12": "a biological or public-health threat",
        "H13": "research misconduct",
        "H14": "trafficking in organs or tissue",
        "H15": "an attack on a device, an archive or a model",
        "H16": "passing off a model's output as a clinician's judgement",
        "H17": "harm to someone",
    }
)
"""The harm categories that screenings may name in their scores, in words."""

_ASKED: Mapping[str, str] = MappingProxyType(
    {
        "jailbreak": "it carries words that are meant to switch safety rules off",
        "mismatch": "an image in it is of another kind than the request says",
        "adversarial-noise": "an image in it carries a pattern that looks made to mislead a model",
    }
)
_FINDINGS: Mapping[str, str] = MappingProxyType(
    {
        "harmful-compliance": "the answer could have helped to cause harm",
        "phi": "the answer may have held details that identify a patient",
        "demonstration-leak": "the answer repeated internal material of the gateway",
    }
)
_SELF_HARM = "H06"

_REPHRASE = (
    "If you asked in good faith, rephrase the question and say what it is for, "
    "or contact your department's gateway operator."
)
_RETRY = "Please try again in a moment; if this happens again, contact your department's gateway operator."
_SPLIT = "Send it again without that part, or contact your department's gateway operator."
_SHORTEN = "Please shorten the question or the conversation."
_CLINICAL = (
    "If it is about clinical work, say what for, or contact your department's gateway operator; "
    "for anything else use another service."
)
_URGENT = "If someone is in danger now, call your local emergency number."


def refusal_text(final: Refuse | Withhold, decision_id: str) -> str:
    """Tell the user, in a few sentences, that and why nothing was answered, and what to do next.

    The worst reason speaks, since the record holds the rest.
    """
    opening = (
        "This request was not answered" if isinstance(final, Refuse) else "The answer to this request was held back"
    )
    worst = final.reasons[0] if final.reasons else Reason(code="unknown")
    why, then = _told(worst, asked=isinstance(final, Refuse))
    urgent = f" {_URGENT}" if any(reason.label == _SELF_HARM for reason in final.reasons) else ""
    return f"{opening}: {why}.{urgent} {then} Decision {decision_id}."


def _told(reason: Reason, *, asked: bool) -> tuple[str, str]:
    """Give the reason in words and what to do next. `asked`: it is about the request, not about an answer."""
    match reason.code:
        case "risk":
            harm = HARMS.get((reason.label or "").upper()[:3])
            what = f"it appears to concern {harm}" if harm else "answering it could help to cause harm"
            return what, _REPHRASE
        case "finding" if asked:
            return _ASKED.get(reason.label or "", "a safety check found a problem in it"), _REPHRASE
        case "out-of-scope":
            return "this department's models answer questions about clinical work only", _CLINICAL
        case "scope-unknown":
            return "it could not be checked whether it is about clinical work", _RETRY
        case "finding":
            return _FINDINGS.get(reason.label or "", "a safety check found a problem in the answer"), _REPHRASE
        case "uninspected":
            return "a part of it could not be checked for safety", _SPLIT
        case "stage-failed" | "stage-missing":
            return "a safety check that this department requires was not available", _RETRY
        case "demonstrations-failed" if reason.cause == "context":
            return "it is too long for the model beside the safety examples that this department requires", _SHORTEN
        case "demonstrations-failed":
            return "the safety examples that this department requires were not available", _RETRY
        case "caller-gone":
            return "the caller had gone before the answer was ready", "Please send it again, and wait for the answer."
        case "model-failed":
            return "the model gave no usable answer in time", _RETRY
        case "nothing-to-answer":
            return "there was nothing in it to answer", "Please send a question."
        case _:
            return "this department's policy does not allow it", _REPHRASE
