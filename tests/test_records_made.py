"""What the record of a decision keeps of its outcome: evidence, digests, thresholds, context."""

import msgspec
import pytest
from store.kit import SECRET, outcomes

from gateway.policy.evidence import Inspected, Screened, StageFailed
from gateway.policy.model import OverDefense
from gateway.records import (
    NOTHING_SAID,
    PURPOSES,
    Completed,
    Context,
    ContextV1,
    Digester,
    canonical,
    parse,
    pseudonym,
    record_of,
)
from gateway.records.context import context_of
from gateway.records.shapes import AdmitV1, FailedV1, InjectedV1, RetryV1, SkippedV1
from gateway.values import Completion

DIGESTER = Digester(SECRET)


def test_what_a_decision_needs_is_kept():
    outcome = outcomes.released(image=b"\x89PNG")
    record = record_of(outcome, DIGESTER)
    assert record.caller.key == outcome.caller.key
    assert record.at == outcome.started
    assert (record.policy.revision, record.policy.digest) == (3, outcome.policy.digest)
    assert [word.stage for word in record.screening] == ["intent", "image-text", "intent"]
    assert record.screening[2].round == "found"
    assert record.screening[0].risk == 0.031
    assert record.screening[1].found == ("messages[0].content[1]#ocr",)
    assert [row.part for row in record.coverage] == [part.id for part in outcome.request.parts()]
    first, second = record.attempts
    assert isinstance(first.verdict, RetryV1)
    assert isinstance(second.injected, InjectedV1)
    assert second.injected.demonstrations == ("ct-00", "ct-01", "ct-02", "ct-03")
    assert second.injected.refusing == 2
    assert second.completed.blind is True
    assert second.completed.choices[0].characters == len("Mary has no displaced fracture.")
    (finding,) = second.audits[1].findings
    assert (finding.kind, finding.start, finding.end, finding.label) == ("phi", 0, 4, "name")
    assert record.final.redactions[0].label == "name"
    assert record.outcome == "released"


def test_digests_tell_same_from_other_and_need_the_secret():
    def digests(prompt, answer="yes", image=b"i", key=SECRET):
        record = record_of(outcomes.released(prompt, answer, image=image), Digester(key))
        return record.prompt, record.answer, record.images[0].digest

    same = digests("why?")
    assert digests("why?") == same
    assert digests("why!")[0] != same[0]
    assert digests("why?", answer="no")[1] != same[1]
    assert digests("why?", image=b"j")[2] != same[2]
    assert not set(digests("why?", key=bytes(32))) & set(same)
    assert DIGESTER.digest("prompt", b"x") != DIGESTER.digest("answer", b"x")
    assert "…" in repr(DIGESTER)
    with pytest.raises(ValueError, match="32 bytes"):
        Digester(bytes(31))


def test_the_digest_of_demonstrations_is_over_all_of_them():
    def digest(*demos):
        base = outcomes.released()
        first = base.attempts[0]
        shown = msgspec.structs.replace(first.injected, demonstrations=demos)
        attempt = msgspec.structs.replace(first, injected=shown)
        outcome = msgspec.structs.replace(base, attempts=(attempt, base.attempts[1]))
        return record_of(outcome, DIGESTER).attempts[0].injected.digest

    one, two = outcomes.demonstrations(2)
    assert digest(one, two) == digest(*outcomes.demonstrations(2))
    others = {
        digest(two, one),
        digest(one),
        digest(one, msgspec.structs.replace(two, answer="another")),
        digest(one, msgspec.structs.replace(two, refuses=not two.refuses)),
    }
    assert len(others) == 4
    assert digest(one, two) not in others


def test_failures_keep_their_kind_and_cause():
    failed = StageFailed(
        stage="phi", version="2", kind="auditor", cause="nonsense:span", ms=1.23456, choice=1, attempt=1
    )
    base = outcomes.released()
    attempt = msgspec.structs.replace(base.attempts[1], audits=(failed,))
    record = record_of(msgspec.structs.replace(base, attempts=(base.attempts[0], attempt)), DIGESTER)
    assert record.attempts[1].audits == (
        FailedV1(
            stage="phi",
            version="2",
            kind="auditor",
            cause="nonsense:span",
            ms=1.235,
            round="request",
            choice=1,
            config=outcomes.CONFIGS["auditor", "phi"],
        ),
    )
    assert isinstance(base.attempts[1].completed, Completed)
    assert isinstance(base.answer, Completion)
    assert isinstance(base.screening[0], Screened)


def under(**changes):
    """Give a released outcome under a policy with `changes`."""
    base = outcomes.released(image=b"i")
    policy = msgspec.structs.replace(base.policy.policy, **changes)
    return msgspec.structs.replace(base, policy=msgspec.structs.replace(base.policy, policy=policy))


def test_every_word_of_a_stage_stands_with_its_configuration_and_threshold():
    base = under()
    prescreen = tuple(
        msgspec.structs.replace(spec, threshold=0.25 * (n + 1)) for n, spec in enumerate(base.policy.policy.prescreen)
    )
    audit = tuple(msgspec.structs.replace(spec, threshold=0.125) for spec in base.policy.policy.audit)
    record = record_of(under(prescreen=prescreen, audit=audit), DIGESTER)
    config = {stage: digest for (_, stage), digest in outcomes.CONFIGS.items()}
    assert [(w.stage, w.config, w.threshold) for w in record.screening] == [
        ("intent", config["intent"], 0.25),
        ("image-text", config["image-text"], 0.5),
        ("intent", config["intent"], 0.25),
    ]
    for attempt in record.attempts:
        assert attempt.injected.config == config["clinical"]
        assert attempt.completed.config == config["transformers"]
        assert {(w.stage, w.config, w.threshold) for w in attempt.audits} == {
            ("refusal", config["refusal"], 0.125),
            ("phi", config["phi"], 0.125),
        }


def test_a_whole_number_in_a_policy_is_kept_as_a_share():
    prescreen = tuple(msgspec.structs.replace(spec, threshold=1) for spec in under().policy.policy.prescreen)
    record = record_of(under(prescreen=prescreen), DIGESTER)
    assert parse(canonical(record)) == record
    assert b'"threshold":1.0' in canonical(record)


def test_the_bounds_in_force_stand_in_every_decision():
    tier = outcomes.POLICY.policy.tiers[0]
    tiers = tuple(msgspec.structs.replace(tier, below=below) for below in (0.25, 0.5, 1))
    record = record_of(under(tiers=tiers, scope="clinical", clinical_at_least=0.375), DIGESTER)
    assert isinstance(record.admission, AdmitV1)
    assert (record.admission.bounds, record.admission.clinical_at_least) == ((0.25, 0.5, 1.0), 0.375)
    assert record_of(under(scope="any"), DIGESTER).admission.clinical_at_least is None
    refused = record_of(outcomes.refused(), DIGESTER)
    assert refused.admission.bounds == refused.final.bounds == (0.9,)


@pytest.mark.parametrize(("benign", "below"), [(None, 0.9), (0.125, 0.125)])
def test_what_counted_as_benign_stands_with_a_retry(benign, below):
    again = OverDefense(retry=outcomes.POLICY.policy.tiers[0].budget, benign_below=benign)
    record = record_of(under(over_defense=again), DIGESTER)
    assert record.attempts[0].verdict.below == below


def test_words_without_a_known_configuration_say_none():
    record = record_of(msgspec.structs.replace(under(), configs={}), DIGESTER)
    assert {w.config for w in record.screening} == {None}
    assert b'"config"' not in canonical(record)


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ("messages[0].content[1]#dicom/ImageComments", True),
        ("messages[0].content[1]#dicom/00090010", True),
        ("choices[0].tool_calls[0].arguments", True),
        ("no part but a sentence", False),
    ],
)
def test_the_id_of_a_part_is_kept_and_a_sentence_is_not(part, kept):
    covered = (Inspected(part=part, kind="text", by=("intent",)),)
    row = record_of(msgspec.structs.replace(under(), coverage=covered), DIGESTER).coverage[0]
    assert (row.part == part) is kept
    assert row.part.startswith("unfit:") is not kept


def test_a_skipped_second_opinion_has_its_configuration():
    from gateway.policy.evidence import Skipped

    base = under()
    skipped = Skipped(stage="intent", version="0.1.0")
    record = record_of(msgspec.structs.replace(base, screening=(skipped,)), DIGESTER)
    assert record.screening == (
        SkippedV1(stage="intent", version="0.1.0", config=base.configs["prescreener", "intent"]),
    )


def test_a_pseudonym_is_the_same_for_the_same_number_alone():
    def of(kind, value, key=SECRET):
        return pseudonym(Digester(key), kind, value)

    same = of("patient", "MRN 0042")
    assert len(same) == 64
    assert of("patient", " MRN 0042\t") == same, "a scanner's spaces make no other patient"
    assert of("patient", "Zoe\u0308") == of("patient", "Zo\u00eb"), "nor does another spelling of the same letters"
    others = {of("patient", "MRN 42"), of("patient", "mrn 0042"), of("study", "MRN 0042"), of("user", "MRN 0042")}
    others.add(of("patient", "MRN 0042", bytes(32)))
    assert len(others | {same}) == 6
    assert of("patient", "\ud800") != same


def test_what_was_said_is_kept_only_in_the_form_of_codes_and_ids():
    kept = context_of(Context(purpose="TREAT", task="triage", on_behalf_of="dr.x"), DIGESTER)
    assert kept == ContextV1(purpose="TREAT", task="triage", on_behalf_of="dr.x")
    assert context_of(NOTHING_SAID, DIGESTER) is None
    sentence = "Jane Roe has pneumonia"
    kept = context_of(Context(**dict.fromkeys(Context.__struct_fields__, sentence)), DIGESTER)
    given = {name: getattr(kept, name) for name in ContextV1.__struct_fields__}
    assert {name for name, value in given.items() if value == "unfit"} == {
        "purpose", "task", "on_behalf_of", "claimed_person", "claimed_application",
    }  # fmt: skip
    assert {name for name, value in given.items() if len(value) == 64} == {"patient", "study", "user"}


def test_every_purpose_fits_its_column():
    assert all(code.isascii() and code.isupper() and len(code) <= 16 for code in PURPOSES)
    assert len(PURPOSES) == 59
