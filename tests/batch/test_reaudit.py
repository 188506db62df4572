"""Re-audits: past decisions judged again as a batch, with the report checked by a computation of its own."""

import datetime as dt
import json
import random
import sqlite3
from pathlib import Path

import msgspec
import pytest
from batch.reauditing import OFFICER, POLICY, SEALED, Judge, world
from store.kit import SECRET, outcomes

from gateway.batch.reaudit_plan import Options, configs_of
from gateway.batch.reaudit_start import ENDPOINT, begin, report_of, work_off
from gateway.errors import NotPermitted
from gateway.pipeline import Built
from gateway.policy.load import read_policy
from gateway.policy.replay import replay
from gateway.records import AccessV1, Caller, ChangeV1, Digester, ReauditV1, explain, record_of
from gateway.records.restore import restored
from gateway.records.shapes import AdmitV1, FindingV1, ReasonV1, RefuseV1, WithholdV1
from gateway.store import parse_filter
from gateway.store.engine import writer
from gateway.store.tables import decision_log
from gateway.store.writer import row_of
from gateway.testing import FixedAuditor, image
from gateway.values import Turn

DIGESTER = Digester(SECRET)
START = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/log.sqlite3"


def _after(lines):
    return {line["decision"]: line["after"] for line in lines}


async def test_a_re_audit_from_evidence_on_both_databases(url, tmp_path):
    async with world(url, tmp_path) as here:
        ids = await here.decide("what is it", "a fraud", "poison please", "calm down")
        asked = len(here.words.asked)
        same, lines, errors, _ = await here.judge(POLICY)
        assert (same.total.decisions, same.total.unchanged.hits, same.changed, errors) == (4, 4, (), [])
        assert [line["decision"] for line in lines] == ids  # in the order of the log
        strict = POLICY.replace("0.8", "0.4").replace("revision: 1", "revision: 2")
        looser = POLICY.replace("0.8", "1.0").replace("{stage: harm}", "{stage: harm, on_finding: note}")
        report, lines, _, _ = await here.judge(looser, why="the thresholds of spring")
        assert _after(lines) == dict(zip(ids, ("released", "asked", "released", "released"), strict=True))
        assert report.total.matrix == {
            "refused": {"asked": 1}, "released": {"released": 2}, "withheld": {"released": 1}
        }  # fmt: skip
        assert (report.total.newly_released.hits, report.changed) == (2, (ids[1], ids[2]))
        assert [(one.name, one.decisions) for one in report.rules] == [("audit", 1), ("tiers[0]", 1)]
        report, lines, _, batch = await here.judge(strict, ("outcome", "refused"), limit=1)
        assert [line["reasons"] for line in lines] == [["risk:words"]]
        assert report.total.unchanged.hits == 1
        assert len(here.words.asked) == asked  # evidence alone: nobody was asked

        # What was done is in the log, and refers to the decision.
        made = await here.events(ReauditV1)
        assert len(made) == 9
        last = made[-1]
        assert (last.batch, last.line, last.decision, last.before, last.after) == (
            batch.id, 1, ids[1], "refused", "refused"
        )  # fmt: skip
        assert last.policy == here.candidate(strict)["radiology"].digest
        await here.store.sequencer.catch_up()
        about = [row.stored.record for row in await here.store.search.about(ids[1])]
        assert [one.batch for one in about if isinstance(one, ReauditV1)] == [
            one.batch for one in made if one.decision == ids[1]
        ]
        found = await here.store.search.count(parse_filter([("kind", "reaudit.v1"), ("department", "radiology")]))
        assert found == 9
        searches = [one for one in await here.events(AccessV1) if one.action == "search"]
        assert [one.rows for one in searches] == [4, 4, 1]
        assert (searches[1].endpoint, searches[1].why) == (ENDPOINT, "the thresholds of spring")
        assert "outcome=refused" in searches[2].filter
        assert [one.what for one in await here.events(ChangeV1)].count("batch-created") == 3
        assert "judged again by what its record says the checks found" in " ".join(explain(last).split())
        assert (await here.store.decisions.check()).ok


async def test_what_the_record_has_no_word_of_is_unknown_until_content_is_looked_at(sqlite_url, tmp_path):
    sealed = SEALED
    candidate = sealed.replace("{stage: words}", "{stage: words}, {stage: second}").replace(
        "{stage: harm}", "{stage: harm}, {stage: strict}"
    )
    async with world(sqlite_url, tmp_path) as here:
        kept = await here.decide(
            "what is it", "a fraud", "tricky one", "calm down", policy=sealed, images=[image(8, 8)]
        )
        (bare,) = await here.decide("what was it")
        report, lines, _, _ = await here.judge(candidate)
        assert set(_after(lines).values()) == {"unknown", "refused"}
        assert (report.total.unknown.hits, report.changed) == (4, ())
        assert {one.name: one.decisions for one in report.why_unknown} == {"stage-missing:second": 4}
        before, words = len(await here.events(AccessV1)), len(here.words.asked)
        assert here.second.asked == []

        report, lines, _, batch = await here.judge(candidate, content=True, why="is the new check good")
        assert _after(lines) == dict(
            zip((*kept, bare), ("released", "refused", "refused", "withheld", "unknown"), strict=True)
        )
        assert report.sources == {"content": 3, "evidence": 2}
        assert report.caveats == {"content-not-kept": 1}
        assert len(here.words.asked) == words  # of whom the record has a word nobody is asked again
        assert {one.id for one in here.second.asked} == set(kept) - {kept[1]}
        assert [len(one.images()) for one in here.second.asked] == [1, 1, 1]
        looks = [one for one in (await here.events(AccessV1))[before:] if one.action == "reaudit"]
        assert sorted(look.decisions[0] for look in looks) == sorted(set(kept) - {kept[1]})
        assert {(look.filter, look.why, look.caller.key) for look in looks} == {
            (f"batch={batch.id}", "is the new check good", "os-account:7")
        }
        assert "had sealed content judged again" in " ".join(explain(looks[0]).split())

        # An auditor that is named looks at each answer; all stages look at everything.
        report, lines, _, _ = await here.judge(sealed, content=True, auditors=("harm",), why="look again")
        assert report.sources == {"content": 3, "evidence": 2}
        here.words.risks = {"what is": 0.85}
        report, lines, _, _ = await here.judge(sealed, content=True, all_stages=True, why="look again")
        assert _after(lines) == dict(
            zip((*kept, bare), ("refused", "asked", "released", "released", "released"), strict=True)
        )
        assert len(here.words.asked) == words + 4


async def test_text_that_a_new_stage_finds_in_an_image_is_judged_by_the_others(sqlite_url, tmp_path):
    candidate = SEALED.replace("{stage: words}", "{stage: words}, {stage: reader}")
    async with world(sqlite_url, tmp_path) as here:
        ids = await here.decide("what is it", policy=SEALED, images=[image(8, 8)])
        asked = len(here.words.asked)
        _, (line,), _, _ = await here.judge(candidate, content=True, why="is the new check good")
        assert (line["decision"], line["after"], line["reasons"]) == (ids[0], "refused", ["risk:words"])
        assert [[text.text for text in one.texts()] for one in here.words.asked[asked:]] == [
            ["what is it"],
            ["a fraud"],
        ]


async def test_an_auditor_sees_the_demonstrations_that_were_there_where_they_can_be_had(sqlite_url, tmp_path):
    async with world(sqlite_url, tmp_path) as here:
        for name, seen in (("shows", 2), ("plain", 0)):
            before = SEALED.replace("{demonstrations: 0}", "{demonstrations: 2}")
            before += f"demonstrations: {{stage: {name}}}\n"
            (made,) = await here.decide(f"what is {name}", policy=before)
            candidate = before.replace("{stage: harm}", "{stage: harm}, {stage: watching}")
            _, lines, _, _ = await here.judge(candidate, content=True, why="is the new check good")
            line = next(line for line in lines if line["decision"] == made)
            assert (line["after"], here.seen.demonstrations[-1]) == ("released", seen)
            assert line["caveats"] == ([] if seen else ["demonstrations-unseen"])


async def test_content_that_does_not_fit_its_record_is_not_judged(sqlite_url, tmp_path):
    candidate = SEALED.replace("{stage: words}", "{stage: words}, {stage: second}")
    async with world(sqlite_url, tmp_path) as here:
        empty = Turn(role="assistant", parts=())  # a turn without text leaves no trace in what is sealed
        (odd,) = await here.decide("what is it", policy=SEALED, turns=(empty,))
        report, lines, _, _ = await here.judge(candidate, content=True, why="is the new check good")
        assert _after(lines) == {odd: "unknown"}
        assert report.caveats == {"content-unlike": 1}
        assert here.second.asked == []


async def test_a_stage_of_the_gateway_that_is_configured_the_same_is_asked_and_no_other_is_built(sqlite_url, tmp_path):
    candidate = SEALED.replace("{stage: words}", "{stage: words}, {stage: second}")
    async with world(sqlite_url, tmp_path) as here:
        await here.decide("what is it", policy=SEALED)
        loaded = read_policy(candidate.encode(), Path("c.yaml"), here.registry.configs())
        digest = configs_of(loaded, here.registry)["prescreener", "second"]
        own, unlike = Judge({"what": 0.99}), Judge({})
        built = [Built(name="second", version="1", stage=stage, config=config)
                 for stage, config in ((FixedAuditor(), digest), (unlike, "another"), (own, digest))]  # fmt: skip
        here.runtime = msgspec.structs.replace(here.runtime, stages=tuple(built))
        _, (line,), _, _ = await here.judge(candidate, content=True, why="is the new check good")
        assert (line["after"], len(own.asked), unlike.asked, here.second.asked) == ("refused", 1, [], [])


async def test_content_that_is_erased_is_told_of_and_not_looked_at(sqlite_url, tmp_path):
    sealed = POLICY + "content: {keep: sealed, for: 1s}\n"
    candidate = sealed.replace("{stage: words}", "{stage: words}, {stage: second}")
    async with world(sqlite_url, tmp_path) as here:
        (gone,) = await here.decide("what is it", policy=sealed)
        await here.store.retention.run(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
        report, lines, _, _ = await here.judge(candidate, content=True, why="look again")
        assert _after(lines) == {gone: "unknown"}
        assert report.caveats == {"content-erased": 1}
        assert not [one for one in await here.events(AccessV1) if one.action == "reaudit"]


async def test_a_stage_configured_otherwise_is_not_taken_for_the_candidates(sqlite_url, tmp_path):
    other = POLICY.replace("{stage: words}", "{stage: words, config: {level: 2}}")
    async with world(sqlite_url, tmp_path) as here:
        ids = await here.decide("what is it", "a fraud")
        report, lines, _, _ = await here.judge(other)
        assert set(_after(lines).values()) == {"unknown"}
        assert {one.name for one in report.why_unknown} == {"other-config:words"}
        report, lines, _, _ = await here.judge(other, other_config=True)
        assert _after(lines) == dict(zip(ids, ("released", "refused"), strict=True))
        assert report.caveats == {"other-config": 2}


async def test_a_decision_is_judged_as_the_candidate_holds_for_the_model_that_was_asked(sqlite_url, tmp_path):
    big = "models: {big: {stage: echo, config: {level: 2}, form: packed, cap: {demonstrations: 2}}}\n"
    policy = SEALED.replace("demonstrations: 0", "demonstrations: 4") + "demonstrations: {stage: shows}\n" + big
    async with world(sqlite_url, tmp_path) as here:
        ids = [
            *await here.decide("what is it", policy=policy, model="big"),
            *await here.decide("and this", policy=policy),
        ]
        assert [prompt.form for prompt in here.echo.prompts] == ["packed", "turns"]
        assert [len(prompt.demonstrations) for prompt in here.echo.prompts] == [2, 4]

        async def caveats(candidate, **options):
            report, lines, errors, _ = await here.judge(candidate, **options)
            assert _after(lines) == dict.fromkeys(ids, "released") and errors == []
            assert report.total.unchanged.hits == 2
            return {line["decision"]: line["caveats"] for line in lines}

        assert await caveats(policy) == {ids[0]: [], ids[1]: []}
        assert await caveats(policy.replace("level: 2", "level: 3")) == {ids[0]: ["model"], ids[1]: []}
        assert await caveats(policy.replace("demonstrations: 2", "demonstrations: 3")) == {
            ids[0]: ["budget"],
            ids[1]: [],
        }
        without = policy.replace(big, "")
        assert await caveats(without) == {ids[0]: ["budget", "model"], ids[1]: []}, "it is judged as for the default"
        watched = policy.replace("{stage: harm}", "{stage: harm}, {stage: watching}")
        assert await caveats(watched, content=True, why="look again") == {ids[0]: [], ids[1]: []}
        assert sorted(here.seen.forms) == ["packed", "turns"]


async def test_lines_that_can_not_be_judged_are_told_and_the_rest_is_judged(sqlite_url, tmp_path):
    async with world(sqlite_url, tmp_path) as here:
        ids = await here.decide("what is it", "a fraud", policy=SEALED)
        store, named = here.store, (ids[0], "dec_nobody", "acc_1", ids[1])
        lines = [json.dumps({"custom_id": id_, "decision": id_}) for id_ in named]
        lines += ['{"custom_id": "x"}', "{", json.dumps({"custom_id": "y", "decision": "z"})]
        async with store.files.create("radiology", OFFICER.key, "reaudit", "in.jsonl", None) as file:
            await file.write("\n".join(lines).encode())
            stored = await file.finish()

        async def run(options, caller=OFFICER):
            batch = await store.batches.create(
                kind="reaudit", caller=caller, department="radiology", said=outcomes.released().context,
                endpoint=ENDPOINT, input_file=stored.id, options=options,
            )  # fmt: skip
            ended = await work_off(here.runtime, batch)
            return (
                await report_of(store, ended),
                await here.lines(ended.output_file),
                await here.lines(ended.error_file),
            )

        options = Options(candidates=here.candidate(POLICY)).plain()
        report, good, bad = await run(options)
        assert [line["decision"] for line in good] == ids
        assert [(line["custom_id"], line["error"]["code"]) for line in bad] == [
            ("dec_nobody", "unknown_decision"), ("acc_1", "unknown_decision"), ("x", "invalid_line"),
            (None, "invalid_line"), ("y", "invalid_line"),
        ]  # fmt: skip
        assert (report.total.decisions, report.failed) == (2, 5)
        elsewhere = msgspec.structs.replace(OFFICER, department="pathology")
        _, good, bad = await run(options, elsewhere)
        assert good == []
        assert {line["error"]["code"] for line in bad} == {"unknown_decision", "invalid_line"}
        broken = {**options, "candidates": {"radiology": {**options["candidates"]["radiology"], "digest": "0" * 64}}}
        _, good, bad = await run(broken)
        assert (good, bad[0]["error"]["code"]) == ([], "candidate_unusable")
        none = {**options, "candidates": {"pathology": options["candidates"]["radiology"]}}
        assert (await run(none))[2][0]["error"]["code"] == "candidate_unusable"

        # Who may not see content has none opened, also where the batch was made past the command.
        looking = Options(candidates=here.candidate(POLICY), content=True, all_stages=True, why="look again").plain()
        _, good, bad = await run(looking, msgspec.structs.replace(OFFICER, roles=("auditor",)))
        assert (good, [line["error"]["code"] for line in bad].count("not_permitted")) == ([], 2)
        assert not [one for one in await here.events(AccessV1) if one.action == "reaudit"]

        _damage(sqlite_url, ids[0])
        _, good, bad = await run(options)
        assert [line["decision"] for line in good] == ids[1:]
        assert (bad[0]["custom_id"], bad[0]["error"]["code"]) == (ids[0], "damaged_record")


def _damage(url, id_):
    """Change a byte of a record, as whoever holds the file can."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    (body,) = connection.execute("SELECT body FROM decision_log WHERE id = ?", (id_,)).fetchone()
    changed = bytes(body).replace(b'"stream":false', b'"stream":true ')
    connection.execute("UPDATE decision_log SET body = ? WHERE id = ?", (changed, id_))
    connection.commit()
    connection.close()


async def test_the_command_works_for_its_own_batch_and_for_no_other(url, tmp_path):
    async with world(url, tmp_path) as here:
        await here.decide("what is it", "a fraud")
        await here.store.sequencer.catch_up()
        filter_ = parse_filter([("kind", "decision.v1"), ("since", "2026-01-01")])
        wanted = Options(candidates=here.candidate(POLICY))
        first, _ = await begin(here.store, here.runtime.settings, filter_, OFFICER, wanted)
        second, _ = await begin(here.store, here.runtime.settings, filter_, OFFICER, wanted)
        seen = []
        ended = await work_off(here.runtime, second, seen.append)
        assert ended.status == "completed"
        assert (seen[-1].total, seen[-1].completed, seen[-1].by_outcome) == (2, 2, {"judged": 2})
        left = await here.store.batches.get(first.id)
        assert (left.status, left.total) == ("validating", None)
        assert (await work_off(here.runtime, first)).status == "completed"


async def test_who_may_not_has_none_made(sqlite_url, tmp_path):
    async with world(sqlite_url, tmp_path) as here:
        await here.decide("what is it")
        for roles in (("auditor",), ("operator",), ("admin",)):
            caller = Caller(key="k", department="*", roles=roles)
            with pytest.raises(NotPermitted, match="needs a key with the role"):
                await here.judge(POLICY, caller=caller)
        assert await here.store.batches.list("*") == ()


def _made(number):
    """Make records of three kinds: their risk and what an auditor found differ from one to the next."""
    rng = random.Random(7)
    refused, released = record_of(outcomes.refused(), DIGESTER), record_of(outcomes.released(), DIGESTER)
    screened, last = refused.screening[:1], released.attempts[1]
    for i in range(number):
        risk = round(rng.random() ** 2, 6)
        head = {
            "id": f"dec_{i:026d}",
            "at": START + dt.timedelta(minutes=i),
            "screening": (msgspec.structs.replace(screened[0], stage="words", config=None, risk=risk),),
            "coverage": tuple(msgspec.structs.replace(row, by=("words",)) for row in refused.coverage),
            "images": (),
            "review": None,
        }
        if risk >= 0.8:
            why = (ReasonV1(code="risk", stage="words", label="insurance-fraud", part=None, cause=None),)
            final = RefuseV1(reasons=why, rule="tiers", risk=risk)
            yield msgspec.structs.replace(refused, **head, admission=final, final=final)
            continue
        harm = rng.random() ** 3
        found = FindingV1(kind="harm", score=harm, part="choices[0].content", start=None, end=None, label=None)
        word = msgspec.structs.replace(last.audits[0], stage="harm", config=None, findings=(found,), threshold=0.5)
        verdict = msgspec.structs.replace(last.verdict, redactions=(), noted=("harm",))
        if harm >= 0.5:
            reason = ReasonV1(code="finding", stage="harm", label="harm", part="choices[0].content", cause=None)
            verdict = WithholdV1(reasons=(reason,), rule="audit[0]")
        attempt = msgspec.structs.replace(last, audits=(word,), verdict=verdict)
        admission = AdmitV1(
            budget=last.budget, tier=0, risk=risk, rule="tiers[0]", excused=(), waived=(), bounds=(0.8,)
        )
        yield msgspec.structs.replace(
            released, **head, admission=admission, attempts=(attempt,), final=verdict,
            outcome="withheld" if harm >= 0.5 else "released",
        )  # fmt: skip


def _computed(path, below, harm):
    """Tell what becomes of each decision under a stricter policy, from the bytes in the database alone."""
    rows = sqlite3.connect(path).execute("SELECT body FROM decision_log WHERE kind = 'decision.v1' ORDER BY sequence")
    found = {}
    for (body,) in rows:
        record = json.loads(body)
        after = record["outcome"]
        if max(word["risk"] for word in record["screening"]) >= below:
            after = "refused"
        elif any(f["score"] >= harm for a in record["attempts"] for w in a["audits"] for f in w["findings"]):
            after = "withheld"
        found[record["id"]] = (record["outcome"], after)
    return found


async def test_ten_thousand_decisions_change_exactly_as_an_independent_computation_says(sqlite_url, tmp_path):
    async with world(sqlite_url, tmp_path) as here:
        rows = [row_of(record).values() for record in _made(10_000)]
        async with writer(here.store._engine).begin() as connection:
            await connection.execute(decision_log.insert(), rows)
        strict = POLICY.replace("below: 0.8", "below: 0.55").replace("{stage: harm}", "{stage: harm, threshold: 0.4}")
        report, lines, errors, _ = await here.judge(strict)
        truth = _computed(sqlite_url.removeprefix("sqlite:///"), 0.55, 0.4)
        assert errors == []
        assert {line["decision"]: (line["before"], line["after"]) for line in lines} == truth
        assert [line["decision"] for line in lines] == sorted(truth)
        changed = [id_ for id_, (before, after) in sorted(truth.items()) if before != after]
        assert [line["decision"] for line in lines if line["changed"]] == changed
        refused = sum(before != after == "refused" for before, after in truth.values())
        withheld = sum(before != after == "withheld" for before, after in truth.values())
        assert min(refused, withheld) > 300  # the policy does change something of each kind
        total = report.total
        assert (total.decisions, total.unknown.hits, total.newly_released.hits) == (10_000, 0, 0)
        assert (total.newly_refused.hits, total.newly_withheld.hits) == (refused, withheld)
        assert total.unchanged.hits == 10_000 - refused - withheld
        assert total.newly_refused.low < refused / 10_000 < total.newly_refused.high
        assert report.changed == tuple(changed[:100])
        matrix = {}
        for before, after in truth.values():
            matrix.setdefault(before, {}).setdefault(after, 0)
            matrix[before][after] += 1
        assert total.matrix == report.departments["radiology"].matrix == matrix
        assert len(await here.events(ReauditV1)) == 1000  # the latest thousand of them
    policy = read_policy(POLICY.encode(), Path("radiology.yaml"), here.registry.configs()).policy
    records = list(_made(2000))
    assert [replay(policy, restored(record)).after for record in records] == [record.outcome for record in records]
