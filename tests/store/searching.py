"""What the tests of search share: random records of every kind, and a filter as plain Python would do it."""

import datetime as dt

import msgspec
from store.kit import SECRET, outcomes

from gateway.records import (
    AccessV1,
    BreakGlassV1,
    CallerV1,
    ChangeV1,
    ContextV1,
    DecisionV1,
    Digester,
    ErasureV1,
    HoldScopeV1,
    HoldV1,
    OpenedV1,
    ReauditV1,
    ReviewV1,
    record_of,
)
from gateway.records.record import ImageV1, PolicyV1

START = dt.datetime(2026, 1, 29, 21, 0, 0, 5, tzinfo=dt.UTC)
DEPARTMENTS = ("radiology", "pathology", "emergency")
REFUSED = record_of(outcomes.refused(), Digester(SECRET))
WITHHELD = record_of(outcomes.withheld("question", "answer"), Digester(SECRET))
RELEASED = record_of(outcomes.released(), Digester(SECRET))
replace = msgspec.structs.replace


def caller(rng, **given):
    department = rng.choice((*DEPARTMENTS, "*"))
    values = {
        "key": rng.choice(("k1", "k2", "k3")),
        "department": department,
        "roles": ("officer",),
        "person": rng.choice((None, "ada", "bea", "cy")),
        "application": rng.choice((None, "ris")),
        "grant": rng.choice((None, None, None, "glass_1")),
    }
    return CallerV1(**values | given)


def decision(rng, number, at):
    base = rng.choice((REFUSED, WITHHELD, RELEASED))
    department = rng.choice(DEPARTMENTS)
    risk = rng.choice((0.0, 0.1, 0.25, 0.4, 0.5, 0.61, 0.75, 0.9, 1.0))
    rule = rng.choice(("tiers", "audit[0]", "backend"))
    final = replace(base.final, rule=rule)
    if base.outcome != "released":
        reasons = (replace(base.final.reasons[0], code=rng.choice(("risk", "finding"))),)
        final = replace(final, reasons=reasons)
    context = ContextV1(
        purpose=rng.choice((None, "TREAT", "HPAYMT")),
        patient=rng.choice((None, "p" * 64, "q" * 64)),
        study=rng.choice((None, "s" * 64)),
        task=rng.choice((None, "triage")),
        on_behalf_of=rng.choice((None, "dee")),
        claimed_person=rng.choice((None, "ada")),
        claimed_application=rng.choice((None, "pacs")),
    )
    image = ImageV1(part="messages[0].content[1]", digest="0" * 64, source="dicom", modality="ct", width=1, height=1)
    revision = rng.choice((1, 2))
    return replace(
        base,
        id=f"dec_{number:026d}",
        at=at,
        department=department,
        caller=caller(rng, department=department),
        policy=PolicyV1(department=department, revision=revision, digest=str(revision) * 64),
        endpoint=rng.choice(("/v1/chat/completions", "/v1/moderations")),
        gateway=rng.choice(("0.1.0", "0.2.0")),
        model=rng.choice(("auto", "medgemma")),
        images=rng.choice(((), (image,))),
        admission=replace(base.admission, risk=risk),
        final=final,
        context=rng.choice((None, context)),
        mode=rng.choice(("enforced", "enforced", "shadow")),
        review=None,
    )


def event(rng, number, at, known):
    """Make a record that is no decision, speaking of some of `known`."""
    about = tuple(rng.sample(known, min(len(known), rng.randrange(3)))) or ("dec_nothing",)
    head = {"at": at, "caller": caller(rng)}
    match rng.randrange(8):
        case 0:
            return AccessV1(
                id=f"acc_{number}", endpoint="/decisions", action=rng.choice(("read", "search")), decisions=about,
                why=None, filter="outcome=refused", rows=len(about), **head,
            )  # fmt: skip
        case 1:
            return ReviewV1(
                id=f"rev_{number}", decision=about[0], department=rng.choice(DEPARTMENTS), action="verdict",
                assignee=None, verdict=rng.choice(("agree", "false_positive")), confirms=None, reason="seen",
                meaning="reviewed", refers=rng.choice((None, "rev_0")), **head,
            )  # fmt: skip
        case 2:
            scope = HoldScopeV1(decisions=about, department=None, patient=None, since=None, until=None)
            return HoldV1(
                id=f"hold_{number}", action="placed", hold=f"hold_{number}", scope=scope, reason="a claim", **head
            )
        case 3:
            return ErasureV1(id=f"era_{number}", cause="request", decisions=about, reason="asked for", **head)
        case 4:
            return ChangeV1(
                id=f"chg_{number}", what="key-created", subject="k1", before=None, after=None, reason=None, **head
            )
        case 5:
            return ReauditV1(
                id=f"rea_{number}", batch="batch_1", line=1, decision=about[0], department=rng.choice(DEPARTMENTS),
                policy="3" * 64, source="evidence", before="released", after="refused", rule="tiers",
                reasons=rng.choice(((), ("risk:self-harm",))), **head,
            )  # fmt: skip
        case 6:
            department, revision = rng.choice(DEPARTMENTS), rng.choice((1, 2))
            return OpenedV1(
                id=f"opn_{number}", decision=about[0], department=department, gateway="0.2.0",
                endpoint="/v1/chat/completions", model=rng.choice(("auto", "medgemma")), prompt="4" * 64,
                policy=PolicyV1(department=department, revision=revision, digest=str(revision) * 64),
                admission=RELEASED.admission, hold_back=64, **head,
            )  # fmt: skip
        case _:
            until = at + dt.timedelta(hours=1)
            return BreakGlassV1(id=f"bg_{number}", department="radiology", reason="a bleed", until=until, **head)


def records(rng, number, *, minutes=40):
    """Make records whose times rise nearly: some come late, some a day late, and at times the clock is set anew."""
    made, known, at = [], [], START
    for i in range(number):
        at += dt.timedelta(minutes=rng.randrange(minutes), seconds=rng.randrange(60))
        if rng.random() < 0.05:  # somebody sets the clock
            at = START + dt.timedelta(days=rng.choice((-70, 0, 40)))
        when = at - dt.timedelta(minutes=rng.choice((0, 0, 0, 5, 1500)))
        if rng.random() < 0.7:
            made.append(decision(rng, i, when))
            known.append(made[-1].id)
        else:
            made.append(event(rng, i, when, known))
    return made


def said(record, field):
    """Give what a record says of a field, read as people would read it."""
    tag = record.__struct_config__.tag
    if field == "kind":
        return tag
    if field == "department":
        own = isinstance(record, DecisionV1 | OpenedV1 | ReviewV1 | BreakGlassV1 | ReauditV1)
        return record.department if own else record.caller.department
    if field == "key":
        return record.caller.key
    if isinstance(record, DecisionV1):
        context = record.context or ContextV1()
        done = [one.completed.model for one in record.attempts if one.completed is not None]
        return {
            "outcome": record.outcome,
            "endpoint": record.endpoint,
            "application": record.caller.application or context.claimed_application,
            "person": record.caller.person or context.on_behalf_of or context.claimed_person,
            "purpose": context.purpose,
            "patient": context.patient,
            "study": context.study,
            "task": context.task,
            "model": done[-1] if done else record.model,
            "modality": record.images[0].modality if record.images else None,
            "rule": record.final.rule,
            "reason": record.final.reasons[0].code if record.outcome != "released" else None,
            "policy": record.policy.department,
            "revision": record.policy.revision,
            "policy_digest": record.policy.digest,
            "gateway": record.gateway,
            "mode": record.mode,
        }.get(field)
    if field in ("person", "application"):
        return getattr(record.caller, field)
    if field == "action":
        fixed = {
            "erasure.v1": "erased", "break-glass.v1": "break-glass", "reaudit.v1": "reaudit", "opened.v1": "opened",
        }.get(tag)  # fmt: skip
        return fixed or (record.what if isinstance(record, ChangeV1) else record.action)
    if isinstance(record, OpenedV1):
        return {
            "endpoint": record.endpoint,
            "model": record.model,
            "policy": record.policy.department,
            "revision": record.policy.revision,
            "policy_digest": record.policy.digest,
            "gateway": record.gateway,
        }.get(field)
    if isinstance(record, ReauditV1) and field in ("rule", "policy_digest"):
        return record.rule if field == "rule" else record.policy
    if isinstance(record, ReauditV1) and field == "reason":
        return "risk" if record.reasons else None
    if field == "reason":
        return {"review.v1": "verdict", "erasure.v1": "cause"}.get(tag) and (
            record.verdict if isinstance(record, ReviewV1) else record.cause
        )
    return record.endpoint if field == "endpoint" and isinstance(record, AccessV1) else None


def subjects(record):
    found = {record.caller.grant}
    match record:
        case AccessV1() | ErasureV1():
            found |= {*record.decisions}
        case ReviewV1():
            found |= {record.decision, record.refers}
        case OpenedV1() | ReauditV1():
            found.add(record.decision)
        case HoldV1():
            found |= {record.hold, *record.scope.decisions}
        case ChangeV1():
            found.add(record.subject)
    return found - {None, record.id}


def meets(record, pairs, since=None, until=None):
    """Tell whether a record meets a filter, the plain way."""
    wanted = {}
    for name, value in pairs:
        wanted.setdefault(name, []).append(value)
    for name, values in wanted.items():
        if name == "subject":
            if not subjects(record) & {*values}:
                return False
        elif name == "min_risk":
            risk = record.admission.risk if isinstance(record, DecisionV1) else None
            if risk is None or risk < float(values[0]):
                return False
        elif name == "kind" and "*" in values:
            continue
        else:
            found = said(record, name)
            if (
                ("-" if name not in ("person", "patient", "study") else None) if found is None else str(found)
            ) not in values:
                return False
    return (since is None or record.at >= since) and (until is None or record.at < until)


VALUES = {
    "kind": ("decision.v1", "access.v1", "review.v1", "opened.v1", "*"),
    "department": (*DEPARTMENTS, "*", "nowhere"),
    "outcome": ("refused", "withheld", "released", "-"),
    "endpoint": ("/v1/chat/completions", "/decisions", "-"),
    "key": ("k1", "k2", "k9"),
    "application": ("ris", "pacs", "-"),
    "person": ("ada", "bea", "cy", "dee", "eve"),
    "purpose": ("TREAT", "HPAYMT", "-"),
    "model": ("auto", "medgemma", "SmolLM2-135M-Instruct"),
    "modality": ("ct", "-"),
    "task": ("triage", "-"),
    "rule": ("tiers", "audit[0]", "backend", "' OR 1=1 --"),
    "reason": ("risk", "finding", "agree", "request", "-"),
    "policy": DEPARTMENTS,
    "revision": ("1", "2", "3", "-"),
    "policy_digest": ("1" * 64, "2" * 64),
    "gateway": ("0.1.0", "0.2.0"),
    "action": ("read", "search", "verdict", "placed", "erased", "key-created", "break-glass", "opened"),
    "mode": ("enforced", "shadow", "-"),
    "patient": ("p" * 64, "q" * 64, "unknown"),
    "study": ("s" * 64,),
    "subject": (*(f"dec_{i:026d}" for i in range(0, 40, 3)), "k1", "glass_1", "rev_0", "dec_nothing"),
    "min_risk": ("0", "0.25", "0.4", "0.5", "0.76", "1"),
}
"""Values to filter by, those that no record has among them."""


def random_filter(rng, span):
    """Give the pairs of a random filter, and its times."""
    names = rng.sample(sorted(VALUES), rng.choice((0, 1, 1, 2, 2, 3)))
    pairs = []
    for name in names:
        number = 1 if name == "min_risk" else rng.choice((1, 1, 2))
        pairs += [(name, value) for value in rng.sample(VALUES[name], min(number, len(VALUES[name])))]
    since = until = None
    if rng.random() < 0.4:
        since = START + span * rng.random() * 0.9
    if rng.random() < 0.4:
        until = (since or START) + span * rng.random() * 0.5 + dt.timedelta(seconds=1)
    if rng.random() < 0.1:
        since = START.replace(hour=0, minute=0, second=0, microsecond=0)
    return pairs, since, until
