"""How an answer was streamed, told in plain words; and a stream that was opened, with or without its decision."""

from __future__ import annotations

from gateway.records.explain_context import moment, who
from gateway.records.record import DecisionV1, OpenedV1, StreamedV1
from gateway.records.words import count, ms, share

_WHOLE = {
    "auditor": "the check `{}` judges nothing but whole answers",
    "backend": "the model stage `{}` gives nothing but whole answers",
    "logprobs": "the caller asked for the probabilities of tokens (`logprobs`), which leave with a whole answer alone",
    "retry": "the model refused at first and was asked once more (`over_defense`)",
}

_ENDED = {
    "whole": "It was whole when it ended.",
    "finding": "It ENDED EARLY: a check found something after {} had left, and the stream was closed with the policy's "
    "closing line.",
    "check-failed": "It ENDED EARLY: a check failed, or was late, after {} had left, and the stream was closed with "
    "the policy's closing line.",
    "model-failed": "It ENDED EARLY: the model failed after {} had left.",
    "caller-gone": "It ENDED EARLY: the caller had gone after {} had left, and the model was stopped.",
}


def stream_lines(record: DecisionV1) -> list[str]:
    """Tell how the answer was streamed, a line each; nothing where its policy does not stream by windows."""
    streamed = record.streamed
    if streamed is None:
        return []
    if streamed.mode == "held":
        return [_held(streamed)]
    return [_windowed(streamed), _end(record, streamed)]


def part_left(record: DecisionV1) -> bool:
    """Tell whether a part of an answer left that was withheld in the end."""
    return record.outcome == "withheld" and bool(record.left)


def part(record: DecisionV1) -> str:
    """Count what has left."""
    return "a part of it" if record.left is None else count(record.left, "character")


def _held(streamed: StreamedV1) -> str:
    if streamed.why is None:
        return (
            "The policy lets answers leave as they grow (`stream: windowed`); this one had ended, or was stopped, "
            "before anything of it could leave."
        )
    what, _, stage = streamed.why.partition(":")
    why = _WHOLE[what].format(stage) if what in _WHOLE else f"the reason is recorded as `{streamed.why}`"
    return (
        "It was HELD until the whole answer was judged, although the policy lets answers leave as they grow "
        f"(`stream: windowed`), because {why}."
    )


def _windowed(streamed: StreamedV1) -> str:
    held = "" if streamed.hold_back is None else f", the last {count(streamed.hold_back, 'character')} held back"
    text = f"The policy lets answers leave as they grow (`stream: windowed`): text leaves once it was audited{held}."
    if streamed.opened is None:
        return f"{text} Nothing of this one left before it had ended."
    when = "" if streamed.first_ms is None else f", {ms(streamed.first_ms)} after the request came"
    return f"{text} The record {streamed.opened} was made before the first of it could leave{when}."


def _end(record: DecisionV1, streamed: StreamedV1) -> str:
    if record.outcome == "withheld" and not part_left(record) and record.left is not None:
        return "It was stopped before any of it had left."
    return _ENDED[streamed.ended].format(part(record))


def opened_text(record: OpenedV1, *, closed: bool | None = None) -> str:
    """Tell in a paragraph that a stream was opened.

    `closed`: whether its decision has a record, None where that is not known.
    """
    policy, asker = record.policy, who(record.caller)
    ends = {
        True: f"How it ended stands in the record of the decision, {record.decision}.",
        False: "It was NEVER CLOSED: the process ended meanwhile, unless the answer is being written just now. How "
        "much of it left is not known.",
        None: f"How it ended stands in the record of the decision, {record.decision}; where there is none, the process "
        "ended meanwhile, and how much of it left is not known.",
    }[closed]
    return (
        f"On {moment(record.at)} a stream was opened, in which the first of the answer to the decision "
        f"{record.decision} was about to leave, audited, with {count(record.hold_back, 'character')} held back. "
        f"{asker[0].upper()}{asker[1:]} had asked the model `{record.model}` through {record.endpoint}; by rule "
        f"`{record.admission.rule}` of the policy of {policy.department}, revision {policy.revision} (SHA-256 of its "
        f"file: {policy.digest}), with a worst risk of {share(record.admission.risk)}, it might be asked. {ends} "
        f"This is the record {record.id}."
    )
