"""Decisions told in plain words, from their records alone."""

import datetime as dt

import msgspec
import pytest
from store.kit import SECRET, outcomes

from gateway.policy.decision import Admit
from gateway.policy.evidence import Inspected, StageFailed
from gateway.records import BatchLine, Caller, Context, Digester, explain, record_of
from gateway.records.record import SealedV1

DIGESTER = Digester(SECRET)


def told(outcome, **changes) -> str:
    return " ".join(explain(msgspec.structs.replace(record_of(outcome, DIGESTER), **changes)).split())


def test_a_refusal_is_told_in_plain_words():
    record = record_of(outcomes.refused(), DIGESTER)
    told = explain(record)
    assert len(told) > 200
    assert max(map(len, told.splitlines())) <= 110
    flat = " ".join(told.split())
    for said in (
        "REFUSED: the model was not asked",
        "The key 0123456789ab of the department radiology (roles: caller)",
        "The policy of radiology, revision 3",
        "risk 0.97 of 1 (very high)",
        "insurance fraud 0.97",
        "once it was read as base64",
        "image-text 0.1.0 FAILED: it broke with an error of the type ValueError",
        "`intent` saw too high a risk of insurance fraud in messages[0].content[0]",
        "Rule `tiers`",
        "The model never saw the request",
        "the words of the request",
    ):
        assert said in flat


def test_the_line_of_a_batch_is_told_in_a_sentence():
    outcome = msgspec.structs.replace(
        outcomes.refused(), batch=BatchLine(batch="batch_1", line=7, tries=2, patience=2.5)
    )
    said = (
        "It was line 7 of the batch batch_1, decided at try 2; checks and model had 2.5 times as long as for a live "
        "request."
    )
    assert said in told(outcome)
    assert "of the batch" not in told(outcomes.refused())


def test_a_release_after_a_retry_is_told_in_plain_words():
    flat = " ".join(explain(record_of(outcomes.released(image=b"\x89PNG"), DIGESTER)).split())
    for said in (
        "RELEASED",
        "one CT image (DICOM, 512 by 512 pixels",
        "It found 1 piece of text inside images",
        "judged the text found in images",
        "Nothing: each of the 3 parts",
        "up to 2 demonstrations, a share of 0.5 of them refusing",
        "over-defense",
        "The model, asked once more",
        "put 4 demonstrations before the question",
        "asked the model `SmolLM2-135M-Instruct`",
        "has NOT seen the images",
        "phi (name), score 0.8, in choices[0].content, characters 0 to 4",
        "after 1 redaction: name",
    ):
        assert said in flat


def test_a_withheld_answer_and_weaknesses_are_told():
    base = outcomes.withheld("a question", "an answer")
    words = " ".join(explain(record_of(base, DIGESTER)).split())
    assert "WITHHELD" in words
    assert "`harmful-compliance` found harmful compliance in choices[0].content" in words
    admission = Admit(
        budget=outcomes.SMALL, tier=0, risk=0.1, rule="tiers[0]", excused=("image-text",), waived=("tools",)
    )
    late = StageFailed(stage="clinical", version="1", kind="injector", cause="deadline", ms=300.0)
    attempt = msgspec.structs.replace(base.attempts[0], injected=late, completed=None)
    weak = msgspec.structs.replace(
        base, admission=admission, attempts=(attempt,), coverage=(Inspected(part="tools", kind="text"),)
    )
    words = " ".join(explain(record_of(weak, DIGESTER)).split())
    for said in (
        "1 part of 1: tools (text). The policy let them pass uninspected",
        "excused failed checks by name (`allow_if_unavailable`): image-text",
        "clinical 1 FAILED: it did not answer within its deadline (after 300 ms)",
        "The model was not asked.",
    ):
        assert said in words


def test_what_was_in_force_is_told_with_what_it_led_to():
    flat = told(outcomes.released(answer="Mary has no displaced fracture."))
    config = {stage: digest[:16] for (_, stage), digest in outcomes.CONFIGS.items()}
    for said in (
        "The thresholds in force: below 0.9 tier 0, and from 0.9 on a refusal.",
        f"It looked at messages[0].content[0]. Configuration {config['intent']}…; findings counted from a score of 0.5",
        f"phi 0.1.0 audited answer 1 (1.1 ms): nothing found. Configuration {config['phi']}…; findings counted",
        f"Configuration {config['clinical']}…. ",
        f"61 written. Configuration {config['transformers']}….",
        "(over-defense), so it was to be asked once more",
        "The clock of its host was synchronised, as the system said.",
        f"The gateway of the data folder {outcomes.WHERE.instance[:16]}…, on the host with the digest "
        f"{outcomes.WHERE.host[:16]}…, in the process started as {outcomes.WHERE.process}.",
        "The record itself is to be kept at least six years.",
        "The caller did not say.",
    ):
        assert said in flat


def test_several_tiers_and_a_clinical_scope_are_told():
    admission = msgspec.structs.replace(
        record_of(outcomes.released(), DIGESTER).admission, bounds=(0.2, 0.5, 0.9), clinical_at_least=0.4
    )
    flat = told(outcomes.released(), admission=admission)
    assert (
        "The thresholds in force: below 0.2 tier 0, below 0.5 tier 1 and below 0.9 tier 2, and from 0.9 on a refusal. "
        "The request had to be clinical by at least 0.4 of 1."
    ) in flat
    refused = record_of(outcomes.refused(), DIGESTER)
    assert refused.final.bounds == (0.9,)
    assert "from 0.9 on a refusal" in told(outcomes.refused())


def test_how_much_left_is_told():
    whole = msgspec.structs.replace(outcomes.released(), answer=None)
    record = record_of(outcomes.released(), DIGESTER)
    assert record.left == len(outcomes.released().answer.choices[0].text.text)
    assert f"{record.left} characters of it were handed over." in told(outcomes.released())
    assert "1 character of it was handed over." in told(outcomes.released(), left=1)
    assert record_of(whole, DIGESTER).left == 0
    assert record_of(outcomes.refused(), DIGESTER).left == 0
    assert "handed over" not in told(outcomes.refused())


SAID = Context(
    purpose="ETREAT",
    on_behalf_of="dr.peeters",
    patient="MRN 0042",
    study="1.2.840",
    task="report-draft",
    user="u-19",
    claimed_person="nurse-7",
    claimed_application="ris",
)


def test_what_the_caller_said_is_told_without_a_patients_number():
    outcome = msgspec.structs.replace(outcomes.refused(), context=SAID)
    flat = told(outcome)
    pseudonyms = {kind: DIGESTER.digest(kind, value.encode())[:16] for kind, value in
                  (("patient", "MRN 0042"), ("study", "1.2.840"), ("user", "u-19"))}  # fmt: skip
    for said in (
        "Purpose of use: emergency treatment (`ETREAT`).",
        "Task: `report-draft`.",
        "On behalf of dr.peeters.",
        *(f"The {kind} with the pseudonym {value}…." for kind, value in pseudonyms.items()),
        "The caller claimed to be the person nurse-7 and the application ris; no sign-in shows that.",
    ):
        assert said in flat
    for raw in ("0042", "1.2.840", "u-19", "did not say"):
        assert raw not in flat


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        ("unsynchronised", "was NOT synchronised: the time of day may be wrong, durations are not."),
        ("unknown", "Whether the clock of its host was synchronised could not be found out."),
        ("jumped", "had just JUMPED: the time of day may be wrong, durations are not."),
    ],
)
def test_what_the_clock_was_worth_is_told(clock, words):
    assert words in told(msgspec.structs.replace(outcomes.refused(), clock=clock))


def test_a_shadow_decision_is_told_as_such():
    assert "This was a SHADOW decision: it had no effect." in told(outcomes.refused(), mode="shadow")
    assert "SHADOW" not in told(outcomes.refused())


def test_the_person_at_the_key_is_told():
    caller = Caller(key="k1", department="radiology", roles=("caller",), person="dr.x", application="ris", via="oidc")
    assert (
        "The key k1 of the department radiology (roles: caller), used by dr.x, in the application ris, signed in with "
        "a token (OIDC), asked the model `auto` through /v1/chat/completions."
    ) in told(msgspec.structs.replace(outcomes.refused(), caller=caller))


def test_the_vault_and_the_queue_of_reviews_are_told():
    until = dt.datetime(2026, 4, 1, 9, 0, tzinfo=dt.UTC)
    sealed = SealedV1(sha256="ab" * 32, size=4096, kek="k1", until=until)
    flat = told(outcomes.refused(), sealed=sealed, retention="10y", review="refused")
    for said in (
        "Sealed in the vault, until 01 April 2026 at 09:00:00 UTC: the request and the answer, 4096 bytes with the "
        "SHA-256 abababababababab…. To see them takes a role, a reason and a record.",
        "The record itself is to be kept at least ten years.",
        "Due for review by a person: it was drawn as `refused`.",
    ):
        assert said in flat
    assert "with no end set" in told(outcomes.refused(), sealed=msgspec.structs.replace(sealed, until=None))


def test_the_revision_of_a_model_and_what_counts_as_benign_are_told():
    record = record_of(outcomes.released(), DIGESTER)
    first, last = record.attempts
    done = msgspec.structs.replace(first.completed, revision="fp_44709d6fcb")
    again = msgspec.structs.replace(first.verdict, below=0.2)
    flat = told(outcomes.released(), attempts=(msgspec.structs.replace(first, completed=done, verdict=again), last))
    assert "asked the model `SmolLM2-135M-Instruct` in its revision fp_44709d6fcb (812 ms)" in flat
    assert "a question that the checks called benign, below 0.2 (over-defense), so it was to be asked" in flat
