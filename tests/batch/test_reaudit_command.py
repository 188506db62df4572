"""`gateway batch reaudit` as it is called: candidates are checked, the report is printed, and nothing is changed."""

import asyncio
import json

import msgspec
import pytest
from click.testing import CliRunner
from store.kit import outcomes
from support import policy

from gateway.cli.batch_reaudit import reaudit
from gateway.errors import ConfigurationError, GatewayError
from gateway.opening import open_store
from gateway.records import Digester, ReauditV1, record_of
from gateway.settings import read_settings
from gateway.store import load_secret
from gateway.store.engine import writer
from gateway.store.tables import decision_log
from gateway.store.writer import row_of

PLAIN = policy(
    "http://127.0.0.1:9/v1", demonstrations="", over_defense="", prescreen="[{stage: intent}]",
    audit="[{stage: refusal}, {stage: phi, on_finding: redact}]", tiers="[{below: 0.98, budget: {demonstrations: 0}}]",
)  # fmt: skip


def _decision(number, risk, digester):
    """Make a record that was released, and of which `intent` saw this risk."""
    outcome = outcomes.released(id=f"dec_{number:026d}")
    record = record_of(msgspec.structs.replace(outcome, attempts=outcome.attempts[1:]), digester)
    word = msgspec.structs.replace(record.screening[0], risk=risk, config=None)
    audits = tuple(msgspec.structs.replace(one, config=None) for one in record.attempts[0].audits)
    attempt = msgspec.structs.replace(record.attempts[0], audits=audits)
    return msgspec.structs.replace(record, screening=(word,), attempts=(attempt,))


async def _filled(settings, risks):
    store = await open_store(settings)
    try:
        digester = Digester(load_secret(settings.data_dir, settings.secret))
        rows = [row_of(_decision(number, risk, digester)).values() for number, risk in enumerate(risks)]
        async with writer(store._engine).begin() as connection:
            await connection.execute(decision_log.insert(), rows)
    finally:
        await store.close()


async def _log(settings):
    store = await open_store(settings, must_sign=False)
    try:
        records = [row.record for row in await store.decisions.recent(100, kind="reaudit.v1")]
        return records, await store.batches.list("*")
    finally:
        await store.close()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A data folder with four decisions, and the words that every call begins with."""
    monkeypatch.setenv("COLUMNS", "200")
    settings = read_settings(data_dir=str(tmp_path / "data"))
    settings.data_dir.mkdir()
    asyncio.run(_filled(settings, (0.1, 0.5, 0.7, 0.9)))
    (tmp_path / "strict.yaml").write_text(PLAIN.replace("0.98", "0.6"))
    return settings, ["--data-dir", str(tmp_path / "data"), "--since", "2026-01-01"], tmp_path


def call(words, *more):
    return CliRunner().invoke(reaudit, [*words, *map(str, more)])


def test_the_report_is_printed_and_is_in_the_log(place):
    settings, words, folder = place
    done = call(words, "--policy", folder / "strict.yaml", "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    report = json.loads(done.stdout)
    assert report["total"]["newly_refused"]["hits"] == 2
    assert report["changed"] == [f"dec_{number:026d}" for number in (2, 3)]
    table = call(words, "--policy", folder / "strict.yaml", "--limit", 3)
    assert table.exit_code == 0
    flat = " ".join(table.stdout.split())
    assert "1 (33.3%; 6.1% to 79.2%)" in flat
    assert "risk:insurance-fraud" in flat
    assert f"those that change: dec_{2:026d}" in flat
    records, batches = asyncio.run(_log(settings))
    assert [one.batch for one in records].count(report["batch"]) == 4
    assert all(isinstance(one, ReauditV1) for one in records)
    assert {batch.status for batch in batches} == {"completed"}
    assert {batch.department for batch in batches} == {"radiology"}


def test_what_is_detached_waits_for_a_worker(place):
    settings, words, folder = place
    (folder / "all").mkdir()
    (folder / "all" / "radiology.yaml").write_text(PLAIN)
    (folder / "all" / "pathology.yaml").write_text(PLAIN.replace("radiology", "pathology"))
    done = call(words, "--policy", folder / "all", "--detach", "--json", "--why", "before the audit")
    assert done.exit_code == 0, (done.output, done.exception)
    told = json.loads(done.stdout)
    records, (batch,) = asyncio.run(_log(settings))
    assert (told, batch.status, batch.department, records) == (
        {"batch": batch.id, "decisions": 4}, "validating", "*", []
    )  # fmt: skip
    assert sorted(batch.options["candidates"]) == ["pathology", "radiology"]
    assert batch.options["why"] == "before the audit"
    none = call(words, "--policy", folder / "all", "--outcome", "withheld")
    assert (none.exit_code, none.stderr) == (0, "no decision meets this; nothing was judged\n")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--auditor", "phi"), "give --content with them"),
        (("--all-stages",), "give --content with them"),
        (("--content",), "--content needs --why"),
    ],
)
def test_what_does_not_go_together_is_told(place, more, told):
    _, words, folder = place
    done = call(words, "--policy", folder / "strict.yaml", *more)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--department", "pathology"), r"--department pathology: no candidate is for it; there are: radiology"),
        (("--content", "--why", "look again", "--auditor", "leak"), r"--auditor leak: no candidate names it"),
        (("--content", "--why", "no"), r"a reason has 5 to 1000"),
        (("--until", "yesterday"), r"`until`: expected"),
    ],
)
def test_what_can_not_be_done_is_told(place, more, told):
    _, words, folder = place
    done = call(words, "--policy", folder / "strict.yaml", *more)
    assert isinstance(done.exception, GatewayError)
    assert told in str(done.exception)


def test_every_mistake_of_every_candidate_is_told_with_file_and_path(place):
    _, words, folder = place
    (folder / "bad.yaml").write_text(PLAIN.replace("intent", "intents").replace("revision: 1", "revision: none"))
    (folder / "empty").mkdir()
    (folder / "again.yaml").write_text(PLAIN)
    places = (folder / "bad.yaml", folder / "empty", folder / "strict.yaml", folder / "again.yaml")
    done = call(words, *(word for place in places for word in ("--policy", place)))
    assert isinstance(done.exception, ConfigurationError)
    problems = done.exception.problems
    assert len(problems) == 4
    for begins, holds in (
        (f"{folder / 'bad.yaml'}:2: revision:", "expected a whole number"),
        (f"{folder / 'bad.yaml'}:4: prescreen[0].stage:", "did you mean `intent`?"),
        (f"{folder / 'empty'}:", "holds no policy"),
        (f"{folder / 'again.yaml'}:", f"is for `radiology`, as is {folder / 'strict.yaml'}; give one of the two"),
    ):
        assert any(problem.startswith(begins) and holds in problem for problem in problems), (begins, problems)
