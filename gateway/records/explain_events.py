"""What happened to the log after a decision, told in plain words: looks, reviews, holds, erasures, changes."""

from __future__ import annotations

from gateway.records.events import (
    AccessV1,
    BreakGlassV1,
    ChangeV1,
    ErasureV1,
    Event,
    HoldScopeV1,
    HoldV1,
    ReauditV1,
    ReviewV1,
)
from gateway.records.explain_context import moment, who
from gateway.records.words import count, listed, plain, short

_NAMED = 20  # ids told one by one; above, their number is told, and the record has all

_DID = {
    "read": "read",
    "search": "searched the log",
    "reveal": "was shown sealed content",
    "export": "took records away",
    "download": "took a file of a batch away",
    "verify": "checked the log",
    "pseudonym": "looked up the pseudonym of a number",
    "reaudit": "had sealed content judged again",
}

_VERDICTS = {
    "agree": "the decision was right",
    "false_positive": "it stopped what was to be answered",
    "false_negative": "it let pass what was to be stopped",
    "escalate": "others have to look at it",
}


def told(record: Event) -> str:
    """Tell a record that is no decision, in a paragraph."""
    start = f"On {moment(record.at)} {who(record.caller)}"
    match record:
        case AccessV1():
            return f"{start} {_access(record)} This look at the log is itself a record, {record.id}."
        case ReviewV1():
            text = _review(record)
        case HoldV1():
            text = _hold(record)
        case ErasureV1():
            text = _erasure(record)
        case ChangeV1():
            text = _change(record)
        case BreakGlassV1():
            text = _break_glass(record)
        case ReauditV1():
            text = _reaudit(record)
    return f"{start} {text} This is the record {record.id}."


def _ids(ids: tuple[str, ...], none: str = "no decision") -> str:
    if len(ids) > _NAMED:
        return f"{len(ids)} decisions ({', '.join(ids[:3])}, …)"
    return listed(ids) or none


def _why(reason: str | None) -> str:
    return f"The reason given: {reason.rstrip('.')}." if reason else "No reason was given."


def _access(record: AccessV1) -> str:
    did = _DID.get(record.action, f"did `{record.action}`")
    text = f"{did} by {record.endpoint}, and saw {_ids(record.decisions)}."
    if record.filter is not None:
        text += f" What was searched for: {record.filter or 'everything'}."
    if record.rows is not None:
        text += f" {count(record.rows, 'record')} came of it."
    if record.until is not None:
        text += f" It was to be seen until {moment(record.until)}."
    return f"{text} {_why(record.why)}"


def _review(record: ReviewV1) -> str:
    of = f"{record.decision} of the department {record.department}"
    if record.action == "assigned":
        return f"gave the review of {of} to {record.assignee}. {_why(record.reason)}"
    if record.action == "released":
        return f"gave up the review of {of}, so that another may take it. {_why(record.reason)}"
    verdict = "no verdict" if record.verdict is None else f"`{record.verdict}`, {_VERDICTS[record.verdict]}"
    if record.action == "verdict":
        text = f"judged {of}: {verdict}."
    else:
        agreed = "confirmed" if record.confirms else "did NOT confirm"
        own = "" if record.verdict is None else f", and judged {verdict}"
        text = f"read {of} as second reader, and {agreed} the review {record.refers}{own}."
    meaning = f" The signature means: {record.meaning.rstrip('.')}." if record.meaning else ""
    return f"{text} {_why(record.reason)}{meaning}"


def _scope(scope: HoldScopeV1 | None) -> str:
    if scope is None:
        return "what it covers stands in the record that placed it"
    parts = [
        f"the decisions {_ids(scope.decisions)}" if scope.decisions else "",
        f"the department {scope.department}" if scope.department is not None else "",
        f"the patient with the pseudonym {short(scope.patient)}" if scope.patient is not None else "",
        f"what came from {moment(scope.since)} on" if scope.since is not None else "",
        f"what came before {moment(scope.until)}" if scope.until is not None else "",
    ]
    given = tuple(part for part in parts if part)
    meets = " at once" if len(given) > 1 else ""
    return f"it covers {listed(given)}{meets}" if given else "it covers everything"


def _hold(record: HoldV1) -> str:
    why = _why(record.reason)
    if record.action == "placed":
        return f"placed the legal hold {record.hold}: {_scope(record.scope)}, and none of that is erased. {why}"
    if record.action == "requested":
        return f"asked that the legal hold {record.hold} be released, which takes another person. {why}"
    return f"released the legal hold {record.hold}, as another person had asked. {why}"


def _erasure(record: ErasureV1) -> str:
    cause = "because its time was over" if record.cause == "retention" else "on request"
    return (
        f"erased the sealed content of {_ids(record.decisions)} for ever, by destroying its keys, {cause}. "
        f"The records of the decisions stay. {_why(record.reason)}"
    )


def _change(record: ChangeV1) -> str:
    states = [
        "" if record.before is None else f" Before: {record.before}.",
        "" if record.after is None else f" After: {record.after}.",
    ]
    return f"changed something ({plain(record.what)}) of {record.subject}.{''.join(states)} {_why(record.reason)}"


def _break_glass(record: BreakGlassV1) -> str:
    claimed = f" as {record.claimed}, a name that no sign-in shows," if record.claimed else ""
    return (
        f"BROKE THE GLASS{claimed} to read decisions of the department {record.department} until "
        f"{moment(record.until)}. {_why(record.reason)} It has to be reviewed."
    )


_AFTER = {
    "released": "the answer would have left",
    "refused": "the request would have been refused",
    "withheld": "the answer would have been withheld",
    "screened": "the request would have passed the screening",
    "asked": "the model would have been asked, and nobody knows what it would have said",
    "unknown": "what is kept does not tell what would have become of it",
}


def _reaudit(record: ReauditV1) -> str:
    by = "what its record says the checks found" if record.source == "evidence" else "its sealed content"
    after = _AFTER.get(record.after, f"it would have been `{record.after}`")
    rule = "" if record.rule is None else f" by rule `{record.rule}`"
    why = f" ({listed(record.reasons)})" if record.reasons else ""
    return (
        f"had {record.decision} of the department {record.department} judged again by {by}, as line {record.line} of "
        f"the batch {record.batch}, under the policy with the SHA-256 {short(record.policy)}. Then it was "
        f"{record.before}; under that policy {after}{rule}{why}. What was decided then stays."
    )
