"""Records that are no decisions, told in plain words: each kind, to the letter."""

import datetime as dt

import pytest

from gateway.records import (
    AccessV1,
    BreakGlassV1,
    CallerV1,
    ChangeV1,
    ErasureV1,
    HoldScopeV1,
    HoldV1,
    ReauditV1,
    ReviewV1,
    canonical,
    explain,
    parse,
)

AT = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
LATER = AT + dt.timedelta(hours=1)
OFFICER = CallerV1(key="k2", department="radiology", roles=("officer",), person="o.mertens", via="oidc")
START = (
    "On 01 March 2026 at 12:00:00 UTC the key k2 of the department radiology (roles: officer), used by o.mertens, "
    "signed in with a token (OIDC), "
)


def told(record) -> str:
    assert parse(canonical(record)) == record
    text = explain(record)
    assert max(map(len, text.splitlines())) <= 110
    flat = " ".join(text.split())
    assert flat.startswith(START)
    return flat.removeprefix(START)


def access(**more) -> AccessV1:
    base = {"endpoint": "/decisions", "action": "read", "decisions": ("dec_1",), "why": None}
    return AccessV1(id="acc_1", at=AT, caller=OFFICER, **base | more)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (access(), "read by /decisions, and saw dec_1. No reason was given."),
        (
            access(action="search", decisions=("dec_1", "dec_2"), filter="outcome=refused", rows=2, why="weekly look."),
            "searched the log by /decisions, and saw dec_1 and dec_2. What was searched for: outcome=refused. "
            "2 records came of it. The reason given: weekly look.",
        ),
        (
            access(action="search", decisions=(), filter="", rows=0),
            "searched the log by /decisions, and saw no decision. What was searched for: everything. "
            "0 records came of it. No reason was given.",
        ),
        (
            access(action="reveal", until=LATER, why="complaint 17"),
            "was shown sealed content by /decisions, and saw dec_1. It was to be seen until 01 March 2026 at 13:00:00 "
            "UTC. The reason given: complaint 17.",
        ),
        (
            access(action="export", decisions=tuple(f"dec_{i}" for i in range(30)), rows=30),
            "took records away by /decisions, and saw 30 decisions (dec_0, dec_1, dec_2, …). 30 records came of it. "
            "No reason was given.",
        ),
        (
            access(action="verify", decisions=()),
            "checked the log by /decisions, and saw no decision. No reason was given.",
        ),
        (
            access(action="pseudonym", decisions=(), filter="patient=ab12", why="complaint 17"),
            "looked up the pseudonym of a number by /decisions, and saw no decision. What was searched for: "
            "patient=ab12. The reason given: complaint 17.",
        ),
        (access(action="peek"), "did `peek` by /decisions, and saw dec_1. No reason was given."),
    ],
)
def test_looks(record, words):
    assert told(record) == f"{words} This look at the log is itself a record, acc_1."


def review(action, **more) -> ReviewV1:
    base = dict.fromkeys(("assignee", "verdict", "confirms", "reason", "meaning", "refers"))
    named = {"id": "rev_1", "at": AT, "caller": OFFICER, "decision": "dec_1", "department": "radiology"}
    return ReviewV1(**named, action=action, **base | more)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            review("assigned", assignee="a.claes"),
            "gave the review of dec_1 of the department radiology to a.claes. No reason was given.",
        ),
        (
            review("released", reason="on leave"),
            "gave up the review of dec_1 of the department radiology, so that another may take it. "
            "The reason given: on leave.",
        ),
        (
            review("verdict", verdict="agree", reason="It asked for fraud.", meaning="I have read it whole."),
            "judged dec_1 of the department radiology: `agree`, the decision was right. The reason given: It asked for "
            "fraud. The signature means: I have read it whole.",
        ),
        (
            review("verdict", verdict="false_positive", reason="a plain question", meaning="reviewed"),
            "judged dec_1 of the department radiology: `false_positive`, it stopped what was to be answered. "
            "The reason given: a plain question. The signature means: reviewed.",
        ),
        (
            review("seconded", confirms=True, refers="rev_0", reason="so do I", meaning="second reading"),
            "read dec_1 of the department radiology as second reader, and confirmed the review rev_0. The reason "
            "given: so do I. The signature means: second reading.",
        ),
        (
            review("seconded", confirms=False, verdict="escalate", refers="rev_0", reason="unclear"),
            "read dec_1 of the department radiology as second reader, and did NOT confirm the review rev_0, and judged "
            "`escalate`, others have to look at it. The reason given: unclear.",
        ),
    ],
)
def test_reviews(record, words):
    assert told(record) == f"{words} This is the record rev_1."


def hold(action, scope=None) -> HoldV1:
    return HoldV1(id="hld_1", at=AT, caller=OFFICER, action=action, hold="hld_0", scope=scope, reason="case 4/26")


def scope(**more) -> HoldScopeV1:
    return HoldScopeV1(**{"decisions": (), "department": None, "patient": None, "since": None, "until": None} | more)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (hold("placed", scope()), "placed the legal hold hld_0: it covers everything, and none of that is erased."),
        (
            hold("placed", scope(decisions=("dec_1", "dec_2"))),
            "placed the legal hold hld_0: it covers the decisions dec_1 and dec_2, and none of that is erased.",
        ),
        (
            hold("placed", scope(department="radiology", patient="ab" * 32, since=AT, until=LATER)),
            "placed the legal hold hld_0: it covers the department radiology, the patient with the pseudonym "
            "abababababababab…, what came from 01 March 2026 at 12:00:00 UTC on and what came before 01 March 2026 at "
            "13:00:00 UTC at once, and none of that is erased.",
        ),
        (hold("requested"), "asked that the legal hold hld_0 be released, which takes another person."),
        (hold("released"), "released the legal hold hld_0, as another person had asked."),
    ],
)
def test_holds(record, words):
    assert told(record) == f"{words} The reason given: case 4/26. This is the record hld_1."


@pytest.mark.parametrize(("cause", "words"), [("retention", "because its time was over"), ("request", "on request")])
def test_erasures(cause, words):
    record = ErasureV1(id="era_1", at=AT, caller=OFFICER, cause=cause, decisions=("dec_1",), reason=None)
    assert told(record) == (
        f"erased the sealed content of dec_1 for ever, by destroying its keys, {words}. The records of the decisions "
        "stay. No reason was given. This is the record era_1."
    )


def test_changes():
    record = ChangeV1(
        id="chg_1",
        at=AT,
        caller=OFFICER,
        what="policy-loaded",
        subject="radiology",
        before="a1",
        after="b2",
        reason=None,
    )
    assert told(record) == (
        "changed something (policy loaded) of radiology. Before: a1. After: b2. No reason was given. "
        "This is the record chg_1."
    )


@pytest.mark.parametrize(
    ("claimed", "words"), [(None, ""), ("Jane Roe", " as Jane Roe, a name that no sign-in shows,")]
)
def test_break_glass(claimed, words):
    record = BreakGlassV1(
        id="brk_1",
        at=AT,
        caller=OFFICER,
        department="cardiology",
        reason="cardiac arrest",
        until=LATER,
        claimed=claimed,
    )
    assert told(record) == (
        f"BROKE THE GLASS{words} to read decisions of the department cardiology until 01 March 2026 at 13:00:00 UTC. "
        "The reason given: cardiac arrest. It has to be reviewed. This is the record brk_1."
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"after": "refused", "rule": "tiers", "reasons": ("risk:self-harm", "stage-failed:intent")},
            "under that policy the request would have been refused by rule `tiers` (risk:self-harm and "
            "stage-failed:intent).",
        ),
        (
            {"after": "unknown", "rule": None, "reasons": ()},
            "under that policy what is kept does not tell what would have become of it.",
        ),
        (
            {"after": "later", "rule": None, "reasons": (), "source": "content"},
            "under that policy it would have been `later`.",
        ),
    ],
)
def test_a_re_audit(more, words):
    base = {"batch": "batch_1", "line": 3, "decision": "dec_1", "department": "radiology", "policy": "ab" * 32}
    record = ReauditV1(id="rea_1", at=AT, caller=OFFICER, **{**base, "source": "evidence", "before": "released"} | more)
    by = "its sealed content" if record.source == "content" else "what its record says the checks found"
    assert told(record) == (
        f"had dec_1 of the department radiology judged again by {by}, as line 3 of the batch batch_1, under the "
        f"policy with the SHA-256 abababababababab…. Then it was released; {words} What was decided then stays. "
        "This is the record rea_1."
    )


@pytest.mark.parametrize(
    ("caller", "words"),
    [
        (CallerV1(key="k", department="*", roles=()), "the key k for all departments (roles: none) read"),
        (
            CallerV1(key="os-account:0", department="*", roles=("officer", "operator"), via="os"),
            "the key os-account:0 for all departments (roles: officer and operator), at the command line of the "
            "gateway's machine, read",
        ),
        (
            CallerV1(key="k", department="icu", roles=("caller",), application="ris", via="session", grant="brk_1"),
            "the key k of the department icu (roles: caller), in the application ris, signed in to the console, with "
            "what the break-glass brk_1 lent, read",
        ),
        (CallerV1(key="k", department="icu", roles=(), via="mtls"), "(roles: none), signed in by `mtls`, read"),
    ],
)
def test_who_it_was(caller, words):
    record = AccessV1(
        id="acc_1", at=AT, caller=caller, endpoint="/decisions", action="read", decisions=("dec_1",), why=None
    )
    assert words in " ".join(explain(record).split())


def test_what_people_write_does_not_steer_a_terminal():
    text = explain(access(why="look\x1b[2J\x07 here\x00\u202e"))
    assert "look�[2J� here��" in text
    assert text.replace("\n", "").isprintable()
